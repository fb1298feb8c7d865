//! Writing a synthetic slide as a file: a tiled, pyramidal BigTIFF with JPEG tiles.
//!
//! Owns: [`SyntheticSlide::write_tiff`]. Must not know: how the slide is drawn.
//! Source: TIFF 6.0 and the BigTIFF layout of libtiff.

use super::SyntheticSlide;
use crate::{
    geometry::Rect,
    slides::reader::{Level, SlideReader},
};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

const TILE_PX: u32 = 256;

/// Where the tiles of one level lie.
struct Written {
    w: u32,
    h: u32,
    offsets: Vec<u64>,
    byte_counts: Vec<u64>,
}

impl SyntheticSlide {
    /// Writes the slide as a pyramidal JPEG TIFF, for other programs and for benchmarks.
    ///
    /// # Errors
    /// Those of writing the file.
    pub fn write_tiff(&self, path: &Path, quality: i32) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        // The place of the first directory is known at the end only.
        out.write_all(b"II\x2b\0\x08\0\0\0\0\0\0\0\0\0\0\0")?;
        let mut at = 16;
        let mut levels = Vec::new();
        for level in 0..self.info().levels.len() {
            levels.push(self.write_tiles(level as u8, quality, &mut out, &mut at)?);
        }
        let first = at;
        let count = levels.len();
        for (i, level) in levels.iter().enumerate() {
            let directory = self.directory(level, i, at, i + 1 == count);
            at += directory.len() as u64;
            out.write_all(&directory)?;
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        write_at(&file, 8, &first.to_le_bytes())?;
        file.sync_all()
    }

    fn write_tiles(&self, level: u8, quality: i32, out: &mut impl Write, at: &mut u64) -> io::Result<Written> {
        let size = self.info().levels[usize::from(level)].size;
        let mut written = Written { w: size.w, h: size.h, offsets: Vec::new(), byte_counts: Vec::new() };
        let side = TILE_PX as usize;
        let mut rgb = vec![0; side * side * 3];
        for y in (0..size.h).step_by(side) {
            for x in (0..size.w).step_by(side) {
                let tile = Rect::new(x.into(), y.into(), TILE_PX, TILE_PX);
                self.read_region(Level(level), tile, &mut rgb).map_err(io::Error::other)?;
                let image = turbojpeg::Image {
                    pixels: rgb.as_slice(),
                    width: side,
                    pitch: side * 3,
                    height: side,
                    format: turbojpeg::PixelFormat::RGB,
                };
                let jpeg = turbojpeg::compress(image, quality, turbojpeg::Subsamp::Sub2x2).map_err(io::Error::other)?;
                out.write_all(&jpeg)?;
                written.offsets.push(*at);
                written.byte_counts.push(jpeg.len() as u64);
                *at += jpeg.len() as u64;
            }
        }
        Ok(written)
    }

    /// The directory of a level, to lie at byte `at`, and its values behind it.
    fn directory(&self, level: &Written, index: usize, at: u64, last: bool) -> Vec<u8> {
        let tiles = level.offsets.len() as u64;
        let px_per_cm = 10_000.0 / self.info().mpp.map_or(1.0, |(mpp, _)| mpp.x.um_per_px());
        let downsample = self.info().levels[index].downsample_x;
        // A rational of 1/1000 px per cm: exact to 1e-6 at any scanner's resolution.
        let resolution = ((px_per_cm / downsample * 1000.0).round() as u64) | 1000 << 32;
        let small = |tag: u16, value: u64| (tag, 4, 1, value);
        // tag, type, count, value; in order of the tag. 0 stands for the tables, which follow.
        let entries: [(u16, u16, u64, u64); 16] = [
            small(254, u64::from(index > 0)),
            small(256, level.w.into()),
            small(257, level.h.into()),
            (258, 3, 3, 8 | 8 << 16 | 8 << 32),
            small(259, 7),
            small(262, 6),
            small(277, 3),
            (282, 5, 1, resolution),
            (283, 5, 1, resolution),
            small(284, 1),
            small(296, 3),
            small(322, TILE_PX.into()),
            small(323, TILE_PX.into()),
            (324, 16, tiles, 0),
            (325, 16, tiles, 0),
            (530, 3, 2, 2 | 2 << 16),
        ];
        let tables_at = at + 8 + entries.len() as u64 * 20 + 8;
        let end = if tiles == 1 { tables_at } else { tables_at + tiles * 16 };
        let mut bytes = (entries.len() as u64).to_le_bytes().to_vec();
        for (tag, kind, count, value) in entries {
            let value = match (tag, tiles) {
                (324, 1) => level.offsets[0],
                (325, 1) => level.byte_counts[0],
                (324, _) => tables_at,
                (325, _) => tables_at + tiles * 8,
                _ => value,
            };
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&kind.to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes.extend_from_slice(&(if last { 0 } else { end }).to_le_bytes());
        if tiles > 1 {
            for value in level.offsets.iter().chain(&level.byte_counts) {
                bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
        bytes
    }
}

#[cfg(unix)]
fn write_at(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(windows)]
fn write_at(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, at).map(|_| ())
}
