//! Where blocks lie, and to which of them a tile belongs.
//!
//! Owns: [`placement`], where a block is and which ones a rectangle touches. Must not know: what is in blocks.

use crate::{
    geometry::{Rect, Target},
    model::{BlockAt, Placement},
    tiling::{TilePlan, TileSpec},
};

/// Where a block of `block_px` lies.
pub(super) fn block_rect((column, row, _): BlockAt, block_px: u32) -> Rect<Target> {
    let b = i64::from(block_px);
    Rect::new(i64::from(column) * b, i64::from(row) * b, block_px, block_px)
}

/// The blocks of a strip that `rect`, inside the slide, touches, row by row.
pub(super) fn blocks_touching(rect: Rect<Target>, block_px: u32, strip: u32) -> impl Iterator<Item = BlockAt> {
    let b = i64::from(block_px);
    let span = |from: i64, to: i64| from.div_euclid(b)..(to - 1).div_euclid(b) + 1;
    let columns = span(rect.x, rect.right());
    span(rect.y, rect.bottom())
        .flat_map(move |row| columns.clone().map(move |column| (column as u32, row as u32, strip)))
}

/// Where what is said of a tile of slide `slide` is added, where sums are kept with the model.
///
/// Only blocks in which a region needs a px of this tile: that region waits for the tile, and a block is freed with the
/// last region that touches it, so none of them is gone before the tile has arrived, and none comes into being after.
pub fn placement(plan: &TilePlan, tile: &TileSpec, slide: u64) -> Placement {
    let block_px = plan.tiler.block_px;
    let is_needed = |at: &BlockAt| {
        let part = tile.used.intersect(&block_rect(*at, block_px));
        plan.regions_touching(part, tile.strip).next().is_some()
    };
    let blocks = blocks_touching(tile.used, block_px, tile.strip).filter(is_needed).collect();
    Placement { slide, core: tile.core, used: tile.used, blocks }
}
