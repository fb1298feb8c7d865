//! A label image at every resolution: level 0, and each next level made of every second pixel of the one before.
//!
//! Owns: [`LabelPyramid`], [`Rows`]. Must not know: groups, metadata of images, how level 0 came to be.
//!
//! Labels are downsampled by nearest: pixel `(x, y)` of a level is pixel `(2x, 2y)` of the level before. Its centre
//! is therefore the centre of that pixel, and with coordinates counted at pixel centres, as OME-NGFF does, a level
//! needs a `scale` and no `translation`.

use super::{
    OutputError,
    zarr_array::{Block, BlockKey, Label, Layout, ZarrArray},
};
use crate::config::settings::OmeZarr;
use rayon::prelude::*;
use std::path::Path;

/// All levels of a label image, finest first.
#[derive(Debug, Clone)]
pub(super) struct LabelPyramid<T> {
    /// One array per level.
    pub levels: Vec<ZarrArray<T>>,
}

/// Levels until the longest side fits one chunk.
pub(super) fn level_count(w: u32, h: u32, chunk_px: u32) -> u32 {
    let mut longest = w.max(h);
    let mut count = 1;
    while longest > chunk_px {
        longest = longest.div_ceil(2);
        count += 1;
    }
    count
}

impl<T: Label> LabelPyramid<T> {
    /// Makes the directories and metadata of `count` levels under `dir`, for an image of `w` × `h` px.
    pub(super) fn create(
        dir: &Path,
        (w, h): (u32, u32),
        planes: Option<u32>,
        count: u32,
        fill: T,
        settings: &OmeZarr,
    ) -> Result<Self, OutputError> {
        if settings.chunk_px < 2 || settings.chunk_px % 2 == 1 {
            let reason = format!("`chunk_px` is `{}`, expected an even number", settings.chunk_px);
            return Err(OutputError::format("OME-Zarr", dir)(reason));
        }
        let (mut w, mut h) = (w, h);
        let mut levels = Vec::new();
        for level in 0..count {
            let layout = Layout {
                planes,
                h,
                w,
                chunk_px: settings.chunk_px,
                version: settings.version,
                zstd_level: settings.zstd_level,
                fill,
            };
            levels.push(ZarrArray::create(dir.join(level.to_string()), layout)?);
            (w, h) = (w.div_ceil(2), h.div_ceil(2));
        }
        Ok(Self { levels })
    }

    /// Level 0.
    pub(super) fn base(&self) -> &ZarrArray<T> {
        &self.levels[0]
    }

    /// Makes every level above 0 from the one before; level 0 must be whole. Uses all threads; each holds a row of
    /// chunks and one more.
    pub(super) fn build(&self) -> Result<(), OutputError> {
        for pair in self.levels.windows(2) {
            let (fine, coarse) = (&pair[0], &pair[1]);
            let blocks = coarse.layout.blocks();
            let threads = (rayon::current_num_threads() / blocks.len().max(1)).max(1);
            blocks.into_par_iter().try_for_each(|key| build_block(fine, coarse, key, threads))?;
        }
        Ok(())
    }

    /// Calls `row` with every row of `level`, top to bottom. Holds one row of chunks.
    pub(super) fn rows(&self, level: usize, row: &mut dyn FnMut(u32, &[T])) -> Result<(), OutputError> {
        let mut rows = Rows::new(&self.levels[level], 0);
        for y in 0..self.levels[level].layout.h {
            row(y, rows.next()?);
        }
        Ok(())
    }
}

/// Reads a plane of an array row by row, from the top. Holds one row of chunks.
pub(super) struct Rows<'a, T> {
    array: &'a ZarrArray<T>,
    plane: u32,
    /// Row of the image that comes next.
    y: u32,
    /// The blocks that the current row of chunks is of.
    blocks: Vec<Option<Block<'a, T>>>,
    /// The current row of chunks, `[chunk_px, w]`.
    band: Vec<T>,
}

impl<'a, T: Label> Rows<'a, T> {
    /// At the first row.
    pub(super) fn new(array: &'a ZarrArray<T>, plane: u32) -> Self {
        Self { array, plane, y: 0, blocks: Vec::new(), band: Vec::new() }
    }

    /// The next row, `[w]`. To be called as often as there are rows.
    pub(super) fn next(&mut self) -> Result<&[T], OutputError> {
        let layout = &self.array.layout;
        let within = self.y % layout.chunk_px;
        if within == 0 {
            self.read_band()?;
        }
        self.y += 1;
        let w = layout.w as usize;
        Ok(&self.band[within as usize * w..][..w])
    }

    fn read_band(&mut self) -> Result<(), OutputError> {
        let (array, plane) = (self.array, self.plane);
        let layout = &array.layout;
        let (chunk_px, w, side) = (layout.chunk_px as usize, layout.w as usize, layout.block_chunks());
        let (block_row, chunk_row) = (self.y / layout.block_px(), self.y / layout.chunk_px % side);
        if chunk_row == 0 {
            let blocks = (0..layout.block_grid().0).into_par_iter().map(|col| array.block((plane, block_row, col)));
            self.blocks = blocks.collect::<Result<_, _>>()?;
        }
        self.band.resize(chunk_px * w, layout.fill);
        let chunks = (0..layout.w.div_ceil(layout.chunk_px)).into_par_iter().map(|col| {
            let block = self.blocks[(col / side) as usize].as_ref();
            block.map(|block| block.chunk(chunk_row, col % side)).transpose()
        });
        for (col, px) in chunks.collect::<Result<Vec<_>, _>>()?.into_iter().enumerate() {
            let x0 = col * chunk_px;
            let width = chunk_px.min(w - x0);
            for (y, line) in self.band.chunks_exact_mut(w).enumerate() {
                match &px {
                    Some(px) => line[x0..x0 + width].copy_from_slice(&px[y * chunk_px..][..width]),
                    None => line[x0..x0 + width].fill(layout.fill),
                }
            }
        }
        Ok(())
    }
}

fn build_block<T: Label>(
    fine: &ZarrArray<T>,
    coarse: &ZarrArray<T>,
    (plane, row, col): BlockKey,
    threads: usize,
) -> Result<(), OutputError> {
    let side = coarse.layout.block_px() as usize;
    let block = |down: u32, right: u32| fine.block((plane, row * 2 + down, col * 2 + right));
    let blocks = [[block(0, 0)?, block(0, 1)?], [block(1, 0)?, block(1, 1)?]];
    if blocks.iter().flatten().all(Option::is_none) {
        return Ok(());
    }
    let (chunks, chunk_px) = (fine.layout.block_chunks(), fine.layout.chunk_px as usize);
    let half = chunk_px / 2;
    coarse.write_bands((plane, row, col), threads, &mut |band_row, band| {
        // Two rows of the finer level's chunks make one. The top levels are a block or two: what they are made of is
        // read side by side, too.
        let keys: Vec<_> = (0..2).flat_map(|down| (0..2 * chunks).map(move |right| (down, right))).collect();
        let read = keys.par_iter().map(|&(down, right)| {
            let row = 2 * band_row + down;
            let block = blocks[(row / chunks) as usize][(right / chunks) as usize].as_ref();
            block.map(|block| Ok(halve(&block.chunk(row % chunks, right % chunks)?, chunk_px))).transpose()
        });
        for ((down, right), px) in keys.iter().zip(read.collect::<Result<Vec<_>, OutputError>>()?) {
            let Some(px) = px else { continue };
            let to = &mut band[*down as usize * half * side + *right as usize * half..];
            to.chunks_mut(side).zip(px.chunks_exact(half)).for_each(|(to, px)| to[..half].copy_from_slice(px));
        }
        Ok(())
    })
}

/// Every second pixel of a chunk.
fn halve<T: Label>(chunk: &[T], chunk_px: usize) -> Vec<T> {
    let mut px = Vec::with_capacity(chunk.len() / 4);
    let lines = chunk.chunks_exact(chunk_px).step_by(2);
    lines.for_each(|line| px.extend(line.as_chunks().0.iter().map(|&[px, _]| px)));
    px
}
