//! A label image at every resolution: level 0, and each next level made of every second pixel of the one before.
//!
//! Owns: [`LabelPyramid`]. Must not know: groups, metadata of images, how level 0 came to be.
//!
//! Labels are downsampled by nearest: pixel `(x, y)` of a level is pixel `(2x, 2y)` of the level before. Its centre
//! is therefore the centre of that pixel, and with coordinates counted at pixel centres, as OME-NGFF does, a level
//! needs a `scale` and no `translation`.

use super::{
    OutputError,
    zarr_array::{Label, SHARD_CHUNKS, ShardChunks, ZarrArray},
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
            let array = ZarrArray {
                dir: dir.join(level.to_string()),
                planes,
                h,
                w,
                chunk_px: settings.chunk_px,
                version: settings.version,
                zstd_level: settings.zstd_level,
                fill,
            };
            array.create()?;
            levels.push(array);
            (w, h) = (w.div_ceil(2), h.div_ceil(2));
        }
        Ok(Self { levels })
    }

    /// Level 0.
    pub(super) fn base(&self) -> &ZarrArray<T> {
        &self.levels[0]
    }

    /// Makes every level above 0 from the one before; level 0 must be whole. Uses all threads; each holds one chunk
    /// of pixels and the encoded chunks of five shards.
    pub(super) fn build(&self) -> Result<(), OutputError> {
        for pair in self.levels.windows(2) {
            let (fine, coarse) = (&pair[0], &pair[1]);
            shards_of(coarse).into_par_iter().try_for_each(|at| build_shard(fine, coarse, at))?;
        }
        Ok(())
    }

    /// Calls `row` with every row of `level`, top to bottom. Holds one row of chunks.
    pub(super) fn rows(&self, level: usize, row: &mut dyn FnMut(u32, &[T])) -> Result<(), OutputError> {
        let array = &self.levels[level];
        let (chunk_px, w) = (array.chunk_px as usize, array.w as usize);
        let mut band = vec![array.fill; chunk_px * w];
        for shard_row in 0..array.shard_grid().1 {
            let shards = (0..array.shard_grid().0).into_par_iter().map(|col| array.read_shard(0, shard_row, col));
            let shards = shards.collect::<Result<Vec<_>, _>>()?;
            for chunk_row in 0..SHARD_CHUNKS {
                let y0 = (shard_row * SHARD_CHUNKS + chunk_row) * array.chunk_px;
                if y0 >= array.h {
                    break;
                }
                let decoded = (0..w.div_ceil(chunk_px)).into_par_iter().map(|col| {
                    let slot = (chunk_row * SHARD_CHUNKS) as usize + col % SHARD_CHUNKS as usize;
                    let encoded = shards[col / SHARD_CHUNKS as usize][slot].as_deref()?;
                    let mut px = vec![array.fill; array.chunk_area()];
                    Some(array.decode(Some(encoded), &mut px).map(|()| px))
                });
                for (col, px) in decoded.collect::<Vec<_>>().into_iter().enumerate() {
                    let x0 = col * chunk_px;
                    let width = chunk_px.min(w - x0);
                    let px = px.transpose()?;
                    for (y, line) in band.chunks_exact_mut(w).enumerate() {
                        match &px {
                            Some(px) => line[x0..x0 + width].copy_from_slice(&px[y * chunk_px..][..width]),
                            None => line[x0..x0 + width].fill(array.fill),
                        }
                    }
                }
                for (y, line) in (y0..array.h).zip(band.chunks_exact(w)) {
                    row(y, line);
                }
            }
        }
        Ok(())
    }
}

/// `(plane, row, column)` of every shard of an array.
pub(super) fn shards_of<T: Label>(array: &ZarrArray<T>) -> Vec<(u32, u32, u32)> {
    let (cols, rows) = array.shard_grid();
    let planes = 0..array.planes.unwrap_or(1);
    planes.flat_map(|p| (0..rows).flat_map(move |r| (0..cols).map(move |c| (p, r, c)))).collect()
}

fn build_shard<T: Label>(
    fine: &ZarrArray<T>,
    coarse: &ZarrArray<T>,
    (plane, row, col): (u32, u32, u32),
) -> Result<(), OutputError> {
    let side = coarse.chunk_px as usize;
    let half = side / 2;
    let shard_chunks = SHARD_CHUNKS as usize;
    // The fine shards below, by quadrant.
    let mut below: [ShardChunks; 4] = Default::default();
    for (quadrant, shard) in below.iter_mut().enumerate() {
        *shard = fine.read_shard(plane, row * 2 + quadrant as u32 / 2, col * 2 + quadrant as u32 % 2)?;
    }
    let mut chunks: ShardChunks = Default::default();
    let mut fine_px = vec![fine.fill; fine.chunk_area()];
    let mut px = vec![coarse.fill; coarse.chunk_area()];
    for (slot, chunk) in chunks.iter_mut().enumerate() {
        let mut any = false;
        for quarter in 0..4 {
            let fine_row = slot / shard_chunks * 2 + quarter / 2;
            let fine_col = slot % shard_chunks * 2 + quarter % 2;
            let shard = &below[fine_row / shard_chunks * 2 + fine_col / shard_chunks];
            let fine_slot = fine_row % shard_chunks * shard_chunks + fine_col % shard_chunks;
            let Some(encoded) = shard[fine_slot].as_deref() else { continue };
            if !any {
                px.fill(coarse.fill);
                any = true;
            }
            fine.decode(Some(encoded), &mut fine_px)?;
            for y in 0..half {
                let to = (quarter / 2 * half + y) * side + quarter % 2 * half;
                let from = &fine_px[2 * y * side..][..side];
                for (to, pair) in px[to..to + half].iter_mut().zip(from.chunks_exact(2)) {
                    *to = pair[0];
                }
            }
        }
        if any {
            *chunk = coarse.encode(&px)?;
        }
    }
    coarse.write_shard(plane, row, col, &chunks)
}
