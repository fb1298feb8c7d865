//! Instances painted into the masks: ids into one, classes into the other, block by block.
//!
//! Owns: the painting. Must not know: groups, tables, how instances were found.
//!
//! Each block is one task: it reads the runs of the instances that reach into it, and paints a row of its chunks at a
//! time, first of one mask and then of the other. So a thread holds those runs and a row, whatever the slide's size.

use super::{
    OutputError,
    spool::{ComputedPart, Page, Painted, SpoolPages},
    zarr_array::{BlockKey, ZarrArray},
};
use crate::geometry::{Rect, Target};
use rayon::prelude::*;
use std::ops::Range;

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
    let (side, band_px) = (layout.block_px(), layout.chunk_px);
    let (left, top) = (key.2 * side, key.1 * side);
    let right = (left + side).min(layout.w);
    let mut runs = Vec::new();
    let mut pages = Vec::with_capacity(content.pages.len());
    for &page in &content.pages {
        let page = &spool.pages[page as usize];
        pages.push((page.extent, spool.painted(page, &mut runs)?));
    }
    // Both masks see the same instances; which is made first does not matter.
    let each_run = |y0: u32, paint: &mut dyn FnMut(&Painted, Range<usize>)| {
        let y1 = (y0 + band_px).min(layout.h);
        for (_, painted) in pages.iter().filter(|(extent, _)| extent[1] < y1 && extent[3] > y0) {
            for instance in painted {
                for run in &runs[instance.runs.clone()] {
                    let (x0, x1) = (run.x0.max(left), run.x1.min(right));
                    if (y0..y1).contains(&run.y) && x0 < x1 {
                        let line = ((run.y - y0) * side) as usize;
                        paint(instance, line + (x0 - left) as usize..line + (x1 - left) as usize);
                    }
                }
            }
        }
    };
    let parts: Vec<_> = content.parts.iter().map(|&part| &spool.computed[part as usize]).collect();
    let parts = parts.into_iter().map(|part| Ok((part, spool.computed_map(part)?)));
    let parts = parts.collect::<Result<Vec<_>, OutputError>>()?;
    classes.write_bands(key, 1, &mut |row, px| {
        let y0 = top + row * band_px;
        let band = Rect::from_edges(left.into(), y0.into(), right.into(), (y0 + band_px).min(layout.h).into());
        for (part, map) in &parts {
            paint_computed(part, map.as_deref(), band, side, px);
        }
        each_run(y0, &mut |instance, here| px[here].fill(instance.class));
        Ok(())
    })?;
    ids.write_bands(key, 1, &mut |row, px| {
        each_run(top + row * band_px, &mut |instance, here| px[here].fill(instance.id));
        Ok(())
    })
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
