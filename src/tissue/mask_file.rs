//! Tissue from a picture the user drew: `<dir>/<slide stem>.png`, `.tif` or `.tiff`.
//!
//! Owns: finding and reading it, scaling it to the slide. Must not know: other methods.
//!
//! A px is tissue where it is not 0: any colour channel, an index of a palette; transparent px are not. Pictures of any
//! size that has the slide's shape are taken, up to full resolution; they are read row by row or tile by tile.

use crate::{
    error::{SlideError, StageName},
    geometry::{Level0, Size},
};
use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};
use tiff::ColorType;

/// Sides longer than this are no mask of a slide.
const MAX_SIDE_PX: u32 = 1 << 20;

/// Reads the mask of `slide_stem` into `[h, w]` cells that cover the slide corner on corner: 1 where at least half of
/// the cell's mask px are tissue (or, for a coarser mask, the px at its centre).
///
/// # Errors
/// No such file, not readable as a picture, or another shape than the slide's.
pub fn read_mask(
    dir: &Path,
    slide_stem: &str,
    level0: Size<Level0>,
    (w, h): (u32, u32),
) -> Result<Vec<u8>, SlideError> {
    let candidates: Vec<PathBuf> = ["png", "tif", "tiff"].map(|ext| dir.join(format!("{slide_stem}.{ext}"))).into();
    let path = candidates.iter().find(|p| p.is_file()).ok_or_else(|| {
        let message = format!("no tissue mask for slide `{slide_stem}`: expected {}", candidates[0].display());
        SlideError::new(StageName::Tissue, message)
            .hint("name masks after the slide: `<slide stem>.png`, `.tif` or `.tiff` in `tissue.mask_dir`")
    })?;
    let fail = |reason: String| {
        SlideError::new(StageName::Tissue, format!("cannot use tissue mask: {reason}: {}", path.display()))
            .hint("a mask is a PNG or TIFF of one page, 0 outside tissue, with the shape of the slide")
    };
    let file = BufReader::new(File::open(path).map_err(|e| fail(e.to_string()))?);
    let is_png = path.extension().is_some_and(|e| e == "png");
    let cells = if is_png { read_png(file, level0, (w, h)) } else { read_tiff(file, level0, (w, h)) };
    cells.map_err(fail)
}

/// Counts mask px per cell while they are read.
struct Cells {
    /// Size of the mask.
    mask: (u32, u32),
    /// Size of the result.
    cells: (u32, u32),
    /// Mask px that are tissue, per cell; or the mask itself when it is coarser than the cells.
    counts: Vec<u32>,
    finer: bool,
}

impl Cells {
    fn new(mask: (u32, u32), level0: Size<Level0>, cells: (u32, u32)) -> Result<Self, String> {
        let (mw, mh) = mask;
        if mw == 0 || mh == 0 || mw > MAX_SIDE_PX || mh > MAX_SIDE_PX {
            return Err(format!("[{mw}, {mh}] px, expected sides of 1 to {MAX_SIDE_PX}"));
        }
        // One px more or less on each side is rounding of whoever made the mask; 1 % is a resampled slide.
        let ratio = f64::from(mw) * f64::from(level0.h) / (f64::from(mh) * f64::from(level0.w));
        let rounding = 0.01 + 1.0 / f64::from(mw) + 1.0 / f64::from(mh);
        if (ratio.ln()).abs() > rounding.ln_1p() {
            return Err(format!("[{mw}, {mh}] px, expected the shape of the slide, [{}, {}]", level0.w, level0.h));
        }
        let finer = mw >= cells.0 && mh >= cells.1;
        let n = if finer { cells.0 as usize * cells.1 as usize } else { mw as usize * mh as usize };
        // A coarser mask is smaller than the cells on one side and of the same shape, so this is about their number.
        Ok(Self { mask, cells, counts: vec![0; n], finer })
    }

    /// Mask px `(x, y)` is tissue.
    fn set(&mut self, x: u32, y: u32) {
        let at = |i: u32, of: u32, n: u32| (u64::from(i) * u64::from(n) / u64::from(of)) as usize;
        let i = if self.finer {
            at(y, self.mask.1, self.cells.1) * self.cells.0 as usize + at(x, self.mask.0, self.cells.0)
        } else {
            y as usize * self.mask.0 as usize + x as usize
        };
        self.counts[i] += 1;
    }

    fn finish(self) -> Vec<u8> {
        let ((mw, mh), (w, h)) = (self.mask, self.cells);
        // First mask px of cell `i`: the smallest whose cell it is.
        let first = |i: u32, of: u32, n: u32| (u64::from(i) * u64::from(of)).div_ceil(u64::from(n));
        let px_in = |i: u32, of: u32, n: u32| first(i + 1, of, n) - first(i, of, n);
        let centre = |i: u32, of: u32, n: u32| ((u64::from(i) * 2 + 1) * u64::from(of) / (2 * u64::from(n))) as usize;
        let cells = (0..h).flat_map(|y| (0..w).map(move |x| (x, y)));
        cells
            .map(|(x, y)| {
                if self.finer {
                    let count = self.counts[y as usize * w as usize + x as usize];
                    u8::from(2 * u64::from(count) >= px_in(x, mw, w) * px_in(y, mh, h))
                } else {
                    u8::from(self.counts[centre(y, mh, h) * mw as usize + centre(x, mw, w)] > 0)
                }
            })
            .collect()
    }
}

/// How the samples of a px lie in memory.
#[derive(Clone, Copy)]
struct Layout {
    bits: usize,
    samples: usize,
    alpha: bool,
}

impl Layout {
    /// Whether px `x` of `row` is tissue.
    fn is_set(self, row: &[u8], x: usize) -> bool {
        let sample = |s: usize| {
            let bit = (x * self.samples + s) * self.bits;
            if self.bits < 8 {
                let shift = 8 - self.bits - bit % 8;
                row.get(bit / 8).is_some_and(|byte| (byte >> shift) & ((1 << self.bits) - 1) != 0)
            } else {
                row.get(bit / 8..(bit + self.bits) / 8).is_some_and(|bytes| bytes.iter().any(|&b| b != 0))
            }
        };
        let colours = self.samples - usize::from(self.alpha);
        (0..colours).any(sample) && (!self.alpha || sample(colours))
    }

    fn row_bytes(self, w: u32) -> usize {
        (w as usize * self.samples * self.bits).div_ceil(8)
    }
}

fn read_png(file: BufReader<File>, level0: Size<Level0>, cells: (u32, u32)) -> Result<Vec<u8>, String> {
    let mut decoder = png::Decoder::new(file);
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(|e| e.to_string())?;
    let (w, h) = (reader.info().width, reader.info().height);
    if reader.info().interlaced {
        return Err("an interlaced PNG, expected rows in order".to_owned());
    }
    let (color, depth) = reader.output_color_type();
    let alpha = matches!(color, png::ColorType::GrayscaleAlpha | png::ColorType::Rgba);
    let layout = Layout { bits: depth as usize, samples: color.samples(), alpha };
    let mut counts = Cells::new((w, h), level0, cells)?;
    for y in 0..h {
        let row = reader.next_row().map_err(|e| e.to_string())?.ok_or("fewer rows than its header says")?;
        (0..w).filter(|&x| layout.is_set(row.data(), x as usize)).for_each(|x| counts.set(x, y));
    }
    Ok(counts.finish())
}

fn read_tiff(file: BufReader<File>, level0: Size<Level0>, cells: (u32, u32)) -> Result<Vec<u8>, String> {
    let mut decoder = tiff::decoder::Decoder::new(file).map_err(|e| e.to_string())?;
    let (w, h) = decoder.dimensions().map_err(|e| e.to_string())?;
    let layout = match decoder.colortype().map_err(|e| e.to_string())? {
        ColorType::Gray(b) | ColorType::Palette(b) => Layout { bits: b.into(), samples: 1, alpha: false },
        ColorType::GrayA(b) => Layout { bits: b.into(), samples: 2, alpha: true },
        ColorType::RGB(b) => Layout { bits: b.into(), samples: 3, alpha: false },
        ColorType::RGBA(b) => Layout { bits: b.into(), samples: 4, alpha: true },
        other => return Err(format!("{other:?}, expected grey, palette or RGB")),
    };
    if !matches!(layout.bits, 1 | 2 | 4) && layout.bits % 8 != 0 {
        return Err(format!("{} bits per sample", layout.bits));
    }
    let planes = decoder.find_tag_unsigned::<u16>(tiff::tags::Tag::PlanarConfiguration).map_err(|e| e.to_string())?;
    if planes == Some(2) && layout.samples > 1 {
        return Err("colours in separate planes, expected them together".to_owned());
    }
    let mut counts = Cells::new((w, h), level0, cells)?;
    let (chunk_w, chunk_h) = decoder.chunk_dimensions();
    if chunk_w == 0 || chunk_h == 0 {
        return Err("chunks without px".to_owned());
    }
    let across = w.div_ceil(chunk_w);
    for chunk in 0..across * h.div_ceil(chunk_h) {
        let (x0, y0) = (chunk % across * chunk_w, chunk / across * chunk_h);
        let (cw, ch) = decoder.chunk_data_dimensions(chunk);
        let mut data = decoder.read_chunk(chunk).map_err(|e| e.to_string())?;
        let bytes = data.as_buffer(0);
        for (y, row) in bytes.as_bytes().chunks(layout.row_bytes(cw).max(1)).take(ch as usize).enumerate() {
            (0..cw).filter(|&x| layout.is_set(row, x as usize)).for_each(|x| counts.set(x0 + x, y0 + y as u32));
        }
    }
    Ok(counts.finish())
}
