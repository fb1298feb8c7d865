//! The order in which a strip's tiles and weights are gone through.
//!
//! Owns: [`Walk`]. Must not know: what is in the strip.

use super::{
    band::Instructions,
    blocked::{Blocked, Order},
    mac::{Mac, Word},
    tile::{Finish, Taps, Tile, WORDS},
};
use std::ops::Range;

/// A strip's sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    /// Rows and columns of tiles' pixels; one long row where the strip's rows join.
    size: (usize, usize),
    /// Floats from a row of pixels to the next, from a pixel to the next.
    row: usize,
    pixel: usize,
    /// Blocks, and floats from one to the next.
    blocks: (usize, usize),
    /// Kernel's rows and columns as in [`Taps`].
    kernel: ((usize, usize), (usize, usize)),
    run: usize,
    last_run: usize,
}

impl Walk {
    pub(super) fn new(op: &Blocked, rows: usize, out_w: usize, flat: bool) -> Self {
        let (block, row, _) = op.strip(rows, out_w);
        let spec = op.spec;
        let (taps, values) = op.depth();
        let words = values.div_ceil(op.word().numbers());
        let size = if flat { (1, rows * out_w) } else { (rows, out_w) };
        let (kh, kw) = spec.kernel;
        let blocks = words.div_ceil(WORDS);
        let last_run = words - (blocks - 1) * WORDS;
        let of_blocks =
            |kernel, row, pixel| Self { size, row, pixel, blocks: (blocks, block), kernel, run: WORDS, last_run };
        match op.order {
            Order::Pixels => of_blocks(
                ((kh, spec.dilation * row), (kw, spec.dilation * WORDS)),
                spec.stride * row,
                spec.stride * WORDS,
            ),
            Order::Windows => of_blocks(((1, 0), (1, 0)), row, WORDS),
            Order::Rows => Self {
                size,
                row: spec.stride * row,
                pixel: spec.stride * spec.cin,
                blocks: (1, 0),
                kernel: ((taps, row), (1, 0)),
                run: values,
                last_run: values,
            },
        }
    }

    /// Floats of the strip before the window of a pixel.
    pub(super) fn input(&self, row: usize, x: usize) -> usize {
        row * self.row + x * self.pixel
    }

    /// Floats of a panel `width` channels wide before the weights of a block.
    pub(super) fn weights(&self, block: usize, width: usize) -> usize {
        block * self.kernel.0.0 * self.kernel.1.0 * self.run * width
    }

    /// The way of a sum through these blocks, which the strip starts with.
    pub(super) fn taps(&self, blocks: &Range<usize>) -> Taps {
        Taps {
            blocks: (blocks.len(), self.blocks.1),
            rows: self.kernel.0,
            cols: self.kernel.1,
            run: self.run,
            last_run: if blocks.end == self.blocks.0 { self.last_run } else { self.run },
        }
    }

    /// All tiles: row, first pixel, number of pixels.
    pub(super) fn tiles(self, pixels: &'static [usize]) -> impl Iterator<Item = (usize, usize, usize)> {
        let (rows, w) = self.size;
        (0..rows).flat_map(move |r| {
            let mut x = 0;
            std::iter::from_fn(move || {
                let n = *pixels.iter().find(|&&n| n <= w - x)?;
                x += n;
                Some((r, x - n, n))
            })
        })
    }

    /// Computes a tile.
    ///
    /// # Safety
    /// The tile's pointers are good for `n` pixels of the taps and `vectors` vectors.
    #[inline(always)]
    pub(super) unsafe fn call<M: Mac>(&self, vectors: usize, n: usize, tile: &Tile, taps: &Taps, finish: &Finish) {
        // SAFETY: the caller's promise.
        unsafe {
            match (self.pixel, vectors) {
                (16, 1) => M::tile_of::<1, 16>(n, tile, taps, finish),
                (16, _) => M::tile_of::<2, 16>(n, tile, taps, finish),
                (32, 1) => M::tile_of::<1, 32>(n, tile, taps, finish),
                (32, _) => M::tile_of::<2, 32>(n, tile, taps, finish),
                (3, _) if M::WORD == Word::Float => M::tile_of::<2, 3>(n, tile, taps, finish),
                (6, _) if M::WORD == Word::Float => M::tile_of::<2, 6>(n, tile, taps, finish),
                (12, _) if M::WORD == Word::Float => M::tile_of::<2, 12>(n, tile, taps, finish),
                (pixel, _) => unreachable!("pixels `{pixel}` floats apart"),
            }
        }
    }
}
