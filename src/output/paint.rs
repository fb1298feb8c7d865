//! Instances painted into the masks: ids into one, classes into the other, block by block.
//!
//! Owns: the painting. Must not know: groups, tables, how instances were found.
//!
//! Each block is one task: it reads the pages whose instances reach into it, one at a time, so a thread holds a block
//! of both masks and a page, whatever the slide's size.

use super::{
    OutputError,
    spool::{ComputedPart, Page, SpoolPages},
    zarr_array::{BlockKey, ZarrArray},
};
use crate::geometry::{Rect, Target};
use rayon::prelude::*;

/// Paints level 0 of both masks: `classes` has 255 where nothing was computed, 0 on computed background and the
/// class inside instances; `ids` has the instances' ids. Both arrays have the same size and chunks.
pub(super) fn paint(pages: &SpoolPages, classes: &ZarrArray<u8>, ids: &ZarrArray<u32>) -> Result<(), OutputError> {
    let index = BlockIndex::new(pages, classes);
    let blocks = classes.layout.blocks();
    blocks.par_iter().zip(&index.blocks).try_for_each(|(&key, content)| {
        if content.pages.is_empty() && content.parts.is_empty() {
            return Ok(());
        }
        paint_block(pages, content, key, classes, ids)
    })
}

/// What reaches into a block, as indices.
#[derive(Debug, Default, Clone)]
struct BlockContent {
    pages: Vec<u32>,
    parts: Vec<u32>,
}

struct BlockIndex {
    blocks: Vec<BlockContent>,
}

impl BlockIndex {
    fn new(spool: &SpoolPages, array: &ZarrArray<u8>) -> Self {
        let (cols, rows) = array.layout.block_grid();
        let mut blocks = vec![BlockContent::default(); (cols * rows) as usize];
        let block_px = i64::from(array.layout.block_px());
        let all = Rect::<Target>::new(0, 0, array.layout.w, array.layout.h);
        let mut add = |rect: Rect<Target>, push: &dyn Fn(&mut BlockContent)| {
            let rect = rect.intersect(&all);
            if rect.is_empty() {
                return;
            }
            for row in rect.y / block_px..=(rect.bottom() - 1) / block_px {
                for col in rect.x / block_px..=(rect.right() - 1) / block_px {
                    push(&mut blocks[(row * i64::from(cols) + col) as usize]);
                }
            }
        };
        for (i, page) in spool.pages.iter().enumerate() {
            add(extent(page), &|block| block.pages.push(i as u32));
        }
        for (i, part) in spool.computed.iter().enumerate() {
            add(part.core, &|block| block.parts.push(i as u32));
        }
        Self { blocks }
    }
}

fn extent(page: &Page) -> Rect<Target> {
    let [left, top, right, bottom] = page.extent.map(i64::from);
    Rect::from_edges(left, top, right, bottom)
}

fn paint_block(
    spool: &SpoolPages,
    content: &BlockContent,
    key: BlockKey,
    classes: &ZarrArray<u8>,
    ids: &ZarrArray<u32>,
) -> Result<(), OutputError> {
    let layout = &classes.layout;
    let side = layout.block_px();
    let (left, top) = (key.2 * side, key.1 * side);
    let (right, bottom) = ((left + side).min(layout.w), (top + side).min(layout.h));
    let block = Rect::from_edges(left.into(), top.into(), right.into(), bottom.into());
    let mut class_px = vec![layout.fill; layout.block_area()];
    for &part in &content.parts {
        let part = &spool.computed[part as usize];
        paint_computed(part, spool.computed_map(part)?.as_deref(), block, side, &mut class_px);
    }
    let mut id_px = vec![ids.layout.fill; layout.block_area()];
    let mut runs = Vec::new();
    for &page in &content.pages {
        runs.clear();
        for painted in spool.painted(&spool.pages[page as usize], &mut runs)? {
            for run in &runs[painted.runs] {
                let (x0, x1) = (run.x0.max(left), run.x1.min(right));
                if run.y < top || run.y >= bottom || x0 >= x1 {
                    continue;
                }
                let line = ((run.y - top) * side) as usize;
                let here = line + (x0 - left) as usize..line + (x1 - left) as usize;
                class_px[here.clone()].fill(painted.class);
                id_px[here].fill(painted.id);
            }
        }
    }
    classes.write_block(key, &class_px, 1)?;
    ids.write_block(key, &id_px, 1)
}

fn paint_computed(part: &ComputedPart, map: Option<&[u8]>, chunk: Rect<Target>, side: u32, px: &mut [u8]) {
    let here = part.core.intersect(&chunk);
    if here.is_empty() {
        return;
    }
    for y in here.y..here.bottom() {
        let to = ((y - chunk.y) * i64::from(side) + here.x - chunk.x) as usize;
        let line = &mut px[to..to + here.w as usize];
        match map {
            None => line.fill(0),
            Some(map) => {
                let from = ((y - part.core.y) * i64::from(part.core.w) + here.x - part.core.x) as usize;
                for (px, &computed) in line.iter_mut().zip(&map[from..]) {
                    if computed != 0 {
                        *px = 0;
                    }
                }
            }
        }
    }
}
