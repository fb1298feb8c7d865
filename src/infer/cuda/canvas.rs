//! Overlapping maps on the device: launches that add them to blocks and read blocks' means, and the tables they read.
//!
//! Owns: [`CanvasPass`]. Must not know: devices, which slides there are.

use super::{
    argument::{Argument, Place},
    launch::{Launch, Region},
};
use crate::{
    geometry::{Rect, Target},
    model::Placement,
};

/// Threads of a block.
const THREADS: usize = 256;
/// Bytes of `Spot` in `kernels/canvas.cu`.
const SPOT_BYTES: usize = 24;
/// Stands for a block that is not there.
const NONE: i64 = -1;

/// What all batches of a run have in common whose maps are added to blocks.
///
/// A block is `[block, block]` sums of weights and `[channels, block, block]` of weighted values, in 32 bits. In the
/// region of a batch lie the window, then a spot for each image; in that of what is read, the places of the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanvasPass {
    /// Side of the maps.
    pub core_px: usize,
    /// Side of a block.
    pub block_px: usize,
    /// Channels of all heads.
    pub channels: usize,
}

/// Byte of the [`Region::Canvas`] or address of a block.
pub type PlaceOf<'a> = &'a dyn Fn(i64, i64) -> Option<u64>;

impl CanvasPass {
    /// Blocks along a side that a map can touch.
    fn across(&self) -> usize {
        (self.core_px + self.block_px - 2) / self.block_px + 1
    }

    /// Bytes of a block.
    pub fn block_bytes(&self) -> usize {
        4 * (1 + self.channels) * self.block_px * self.block_px
    }

    fn spots_at(&self) -> usize {
        self.core_px.next_multiple_of(8)
    }

    fn spot_bytes(&self) -> usize {
        SPOT_BYTES + 8 * self.across().pow(2)
    }

    /// Bytes of a batch's tables.
    pub fn table_bytes(&self, images: usize) -> usize {
        self.spots_at() + images * self.spot_bytes()
    }

    /// Writes the window of a batch's tables.
    ///
    /// # Shapes
    /// - `window`: `[core_px]`
    pub fn write_window(&self, tables: &mut [u8], window: &[u8]) {
        tables[..self.core_px].copy_from_slice(window);
    }

    /// Writes where image `image` goes: `place_of` tells where the block of a column and row is, if it is needed.
    pub fn write_spot(&self, tables: &mut [u8], image: usize, placement: &Placement, place_of: PlaceOf<'_>) {
        let (core, used, block) = (placement.core, placement.used, self.block_px as i64);
        let (column, row) = (core.x.div_euclid(block), core.y.div_euclid(block));
        let corners = [
            (core.x, column * block),
            (core.y, row * block),
            (used.x, core.x),
            (used.y, core.y),
            (used.right(), core.x),
            (used.bottom(), core.y),
        ];
        let across = self.across() as i64;
        let blocks = (0..across * across).map(|i| place_of(column + i % across, row + i / across));
        let bytes = corners
            .into_iter()
            .flat_map(|(at, from)| ((at - from) as i32).to_le_bytes())
            .chain(blocks.flat_map(|place| place.map_or(NONE, |place| place as i64).to_le_bytes()));
        let spot = &mut tables[self.spots_at() + image * self.spot_bytes()..][..self.spot_bytes()];
        spot.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
    }

    /// Launches that add the maps of a batch of `images`.
    ///
    /// # Shapes
    /// - `maps`: of each head its channels and the byte of the [`Region::Heads`] at which its `[images, channels, core_px,
    ///   core_px]` begin; together [`CanvasPass::channels`]
    ///
    /// Places are counted from the begin of `blocks`, or are addresses.
    pub fn add(&self, images: usize, maps: &[(usize, usize)], blocks: Option<Region>) -> Vec<Launch> {
        let mut plane = 0;
        let launch = |&(channels, offset): &(usize, usize)| {
            let at = |region, offset: usize| Some(Place { region, offset: offset as u64 });
            let first = plane;
            plane += channels;
            let threads = images * self.core_px.pow(2);
            Argument::new()
                .pointer(at(Region::Heads, offset))
                .pointer(at(Region::Canvas, 0))
                .pointer(at(Region::Canvas, self.spots_at()))
                .pointer(blocks.and_then(|blocks| at(blocks, 0)))
                .ints(&[images, self.core_px, channels, first, self.block_px, self.across(), self.spot_bytes(), 0])
                .launch("canvas_add", [threads.div_ceil(THREADS), 1, 1], THREADS)
        };
        maps.iter().map(launch).collect()
    }

    /// Bytes of the table for what is read of `rect`, and of what comes out.
    pub fn read_bytes(&self, rect: Rect<Target>) -> (usize, usize) {
        let (columns, rows) = self.span(rect);
        let px = rect.w as usize * rect.h as usize;
        (8 * (columns.1 - columns.0) as usize * (rows.1 - rows.0) as usize, (2 * self.channels + 1) * px)
    }

    /// First column and row of blocks that `rect` touches, and those behind the last.
    fn span(&self, rect: Rect<Target>) -> ((i64, i64), (i64, i64)) {
        let block = self.block_px as i64;
        let of = |from: i64, to: i64| (from.div_euclid(block), (to - 1).div_euclid(block) + 1);
        (of(rect.x, rect.right()), of(rect.y, rect.bottom()))
    }

    /// Writes the table for what is read of `rect`; whether there is any block.
    pub fn write_places(&self, table: &mut [u8], rect: Rect<Target>, place_of: PlaceOf<'_>) -> bool {
        let (columns, rows) = self.span(rect);
        let places = (rows.0..rows.1).flat_map(|row| (columns.0..columns.1).map(move |column| (column, row)));
        let mut is_any = false;
        for (to, (column, row)) in table.chunks_exact_mut(8).zip(places) {
            let place = place_of(column, row);
            is_any |= place.is_some();
            to.copy_from_slice(&place.map_or(NONE, |place| place as i64).to_le_bytes());
        }
        is_any
    }

    /// The launch that reads `rect`: `[channels, h, w]` means in 16 bits at the begin of [`Region::Heads`], behind them
    /// `[h, w]` bytes that say where there is something.
    pub fn read(&self, rect: Rect<Target>, blocks: Option<Region>) -> Launch {
        let (columns, rows) = self.span(rect);
        let (w, h) = (rect.w as usize, rect.h as usize);
        let (left, top) = (rect.x - columns.0 * self.block_px as i64, rect.y - rows.0 * self.block_px as i64);
        let at = |region, offset: usize| Some(Place { region, offset: offset as u64 });
        let columns = (columns.1 - columns.0) as usize;
        Argument::new()
            .pointer(at(Region::Canvas, 0))
            .pointer(at(Region::Heads, 0))
            .pointer(at(Region::Heads, 2 * self.channels * w * h))
            .pointer(blocks.and_then(|blocks| at(blocks, 0)))
            .ints(&[w, h, left as usize, top as usize, self.block_px, columns, self.channels, 0])
            .launch("canvas_mean", [(w * h).div_ceil(THREADS), 1, 1], THREADS)
    }
}
