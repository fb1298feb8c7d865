//! Instances painted into the masks: ids into one, classes into the other, chunk by chunk.
//!
//! Owns: the painting. Must not know: groups, tables, how instances were found.
//!
//! Each shard is one task: it reads the pages whose instances reach into it and paints one chunk at a time, so a
//! thread holds two chunks of pixels and the encoded chunks of two shards, whatever the slide's size.

use super::{
    OutputError,
    pyramid::shards_of,
    spool::{ComputedPart, Page, SpoolPages},
    zarr_array::{SHARD_CHUNKS, ShardChunks, ZarrArray},
};
use crate::geometry::{Rect, Target};
use rayon::prelude::*;

/// A run cut to a row of a chunk, in px of the chunk.
struct Stroke {
    y: u32,
    x0: u32,
    x1: u32,
    id: u32,
    class: u8,
}

/// Paints level 0 of both masks: `classes` has 255 where nothing was computed, 0 on computed background and the
/// class inside instances; `ids` has the instances' ids. Both arrays have the same size and chunks.
pub(super) fn paint(pages: &SpoolPages, classes: &ZarrArray<u8>, ids: &ZarrArray<u32>) -> Result<(), OutputError> {
    let index = ShardIndex::new(pages, classes);
    let shards = shards_of(classes);
    shards.par_iter().zip(&index.shards).try_for_each(|(&(_, row, col), content)| {
        if content.pages.is_empty() && content.parts.is_empty() {
            return Ok(());
        }
        let (class_chunks, id_chunks) = paint_shard(pages, content, (row, col), classes, ids)?;
        classes.write_shard(0, row, col, &class_chunks)?;
        ids.write_shard(0, row, col, &id_chunks)
    })
}

/// What reaches into a shard, as indices.
#[derive(Debug, Default, Clone)]
struct ShardContent {
    pages: Vec<u32>,
    parts: Vec<u32>,
}

struct ShardIndex {
    shards: Vec<ShardContent>,
}

impl ShardIndex {
    fn new(spool: &SpoolPages, array: &ZarrArray<u8>) -> Self {
        let (cols, rows) = array.shard_grid();
        let mut shards = vec![ShardContent::default(); (cols * rows) as usize];
        let shard_px = i64::from(array.shard_px());
        let all = Rect::<Target>::new(0, 0, array.w, array.h);
        let mut add = |rect: Rect<Target>, push: &dyn Fn(&mut ShardContent)| {
            let rect = rect.intersect(&all);
            if rect.is_empty() {
                return;
            }
            for row in rect.y / shard_px..=(rect.bottom() - 1) / shard_px {
                for col in rect.x / shard_px..=(rect.right() - 1) / shard_px {
                    push(&mut shards[(row * i64::from(cols) + col) as usize]);
                }
            }
        };
        for (i, page) in spool.pages.iter().enumerate() {
            add(extent(page), &|shard| shard.pages.push(i as u32));
        }
        for (i, part) in spool.computed.iter().enumerate() {
            add(part.core, &|shard| shard.parts.push(i as u32));
        }
        Self { shards }
    }
}

fn extent(page: &Page) -> Rect<Target> {
    let [left, top, right, bottom] = page.extent.map(i64::from);
    Rect::from_edges(left, top, right, bottom)
}

fn paint_shard(
    spool: &SpoolPages,
    content: &ShardContent,
    (row, col): (u32, u32),
    classes: &ZarrArray<u8>,
    ids: &ZarrArray<u32>,
) -> Result<(ShardChunks, ShardChunks), OutputError> {
    let strokes = strokes(spool, content, (row, col), classes)?;
    let parts = content.parts.iter().map(|&i| &spool.computed[i as usize]);
    let parts = parts.map(|part| Ok((part, spool.computed_map(part)?))).collect::<Result<Vec<_>, OutputError>>()?;
    let side = classes.chunk_px;
    let mut class_chunks: ShardChunks = Default::default();
    let mut id_chunks: ShardChunks = Default::default();
    let mut class_px = vec![255_u8; classes.chunk_area()];
    let mut id_px = vec![0_u32; classes.chunk_area()];
    for (slot, strokes) in strokes.iter().enumerate() {
        let x = i64::from(col * SHARD_CHUNKS + slot as u32 % SHARD_CHUNKS) * i64::from(side);
        let y = i64::from(row * SHARD_CHUNKS + slot as u32 / SHARD_CHUNKS) * i64::from(side);
        let all = Rect::new(0, 0, classes.w, classes.h);
        let chunk = Rect::new(x, y, side, side).intersect(&all);
        class_px.fill(255);
        for (part, map) in &parts {
            paint_computed(part, map.as_deref(), chunk, side, &mut class_px);
        }
        if !strokes.is_empty() {
            id_px.fill(0);
            for s in strokes {
                let line = (s.y * side) as usize;
                class_px[line + s.x0 as usize..line + s.x1 as usize].fill(s.class);
                id_px[line + s.x0 as usize..line + s.x1 as usize].fill(s.id);
            }
            id_chunks[slot] = ids.encode(&id_px)?;
        }
        class_chunks[slot] = classes.encode(&class_px)?;
    }
    Ok((class_chunks, id_chunks))
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

/// The runs that reach into a shard, cut at its chunks.
fn strokes(
    spool: &SpoolPages,
    content: &ShardContent,
    (row, col): (u32, u32),
    array: &ZarrArray<u8>,
) -> Result<Vec<Vec<Stroke>>, OutputError> {
    let side = array.chunk_px;
    let (left, top) = (col * array.shard_px(), row * array.shard_px());
    let (right, bottom) = ((left + array.shard_px()).min(array.w), (top + array.shard_px()).min(array.h));
    let mut strokes: Vec<Vec<Stroke>> = (0..SHARD_CHUNKS * SHARD_CHUNKS).map(|_| Vec::new()).collect();
    let mut runs = Vec::new();
    for &page in &content.pages {
        runs.clear();
        for painted in spool.painted(&spool.pages[page as usize], &mut runs)? {
            for run in &runs[painted.runs] {
                let (x0, x1) = (run.x0.max(left), run.x1.min(right));
                if run.y < top || run.y >= bottom || x0 >= x1 {
                    continue;
                }
                let (y, x0, x1) = (run.y - top, x0 - left, x1 - left);
                for chunk_col in x0 / side..=(x1 - 1) / side {
                    let from = chunk_col * side;
                    strokes[(y / side * SHARD_CHUNKS + chunk_col) as usize].push(Stroke {
                        y: y % side,
                        x0: x0.max(from) - from,
                        x1: x1.min(from + side) - from,
                        id: painted.id,
                        class: painted.class,
                    });
                }
            }
        }
    }
    Ok(strokes)
}
