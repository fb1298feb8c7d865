//! One image of a TIFF, checked: its size, where its tiles lie, how they are stored.
//!
//! Owns: [`Page`]. Must not know: which pages make a pyramid, how tiles are decoded.

use super::{
    TiffError,
    directory::{Directory, TiffFile, tag},
    jpeg::{JpegColor, JpegPrefix},
};

/// Largest tile we decode, in px: 4096 × 4096; the largest in use are 2048 × 2048.
pub(super) const MAX_TILE_PX: u64 = 16 << 20;
/// Largest strip of an untiled image, in px: that of the largest image decoded whole.
const MAX_STRIP_PX: u64 = super::MAX_WHOLE_BYTES / 3;
/// Largest stored chunk that is believed, per px of it: incompressible data plus its headers.
const MAX_CHUNK_BYTES_PER_PX: u64 = 16;

/// How the bytes of a chunk are packed.
#[derive(Debug, Clone)]
pub(super) enum Packing {
    /// As they are.
    None,
    /// TIFF's LZW.
    Lzw,
    /// zlib.
    Deflate,
    /// PackBits.
    PackBits,
    /// JPEG; what must precede each tile's stream.
    Jpeg(JpegPrefix),
}

/// What the samples of a pixel mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Samples {
    /// One, black at 255.
    WhiteIsZero,
    /// One, white at 255.
    BlackIsZero,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, and opacity they are multiplied by.
    RgbPremultiplied,
    /// Red, green, blue, and opacity they are not multiplied by.
    RgbStraight,
    /// Red, green, blue, and something to ignore.
    RgbIgnored,
}

impl Samples {
    /// Samples per pixel.
    pub(super) fn count(self) -> usize {
        match self {
            Self::WhiteIsZero | Self::BlackIsZero => 1,
            Self::Rgb => 3,
            Self::RgbPremultiplied | Self::RgbStraight | Self::RgbIgnored => 4,
        }
    }
}

/// One image; a "chunk" is a tile, or a strip of an untiled image.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) chunk_w: u32,
    pub(super) chunk_h: u32,
    pub(super) tiled: bool,
    pub(super) packing: Packing,
    pub(super) samples: Samples,
    /// Each sample in a chunk of its own.
    pub(super) planar: bool,
    /// Samples are differences from their left neighbour.
    pub(super) differences: bool,
    pub(super) offsets: Vec<u64>,
    pub(super) byte_counts: Vec<u64>,
}

/// Who decides what a JPEG's three components mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColorSays {
    /// The TIFF's photometric tag, as OpenSlide believes.
    Photometric,
    /// The JPEG stream's own markers, as Bio-Formats writes and reads OME-TIFF.
    Stream,
}

impl Page {
    /// Reads and checks the page.
    ///
    /// # Errors
    /// [`TiffError::Unsupported`] for what other readers may read, [`TiffError::Damaged`] for what none can.
    pub(super) fn new(file: &TiffFile<'_>, directory: &Directory, says: ColorSays) -> Result<Self, TiffError> {
        let (width, height) = (size(file, directory, tag::WIDTH)?, size(file, directory, tag::HEIGHT)?);
        if file.uint(directory, tag::IMAGE_DEPTH)?.unwrap_or(1) != 1 {
            return Err(TiffError::Unsupported("a volume (ImageDepth above 1)".into()));
        }
        let tiled = is_tiled(directory);
        let (chunk_w, chunk_h) = if tiled {
            (size(file, directory, tag::TILE_WIDTH)?, size(file, directory, tag::TILE_HEIGHT)?)
        } else {
            let rows = file.uint(directory, tag::ROWS_PER_STRIP)?.unwrap_or(u64::MAX);
            (width, rows.clamp(1, u64::from(height)) as u32)
        };
        let limit = if tiled { MAX_TILE_PX } else { MAX_STRIP_PX };
        if u64::from(chunk_w) * u64::from(chunk_h) > limit {
            return Err(TiffError::Unsupported(format!("tiles of [{chunk_w}, {chunk_h}] px")));
        }
        check_bits(file, directory)?;
        let samples = samples(file, directory)?;
        let planar = match file.uint(directory, tag::PLANAR_CONFIG)?.unwrap_or(1) {
            1 => false,
            2 => samples.count() > 1,
            other => return Err(TiffError::Damaged(format!("PlanarConfiguration is {other}, expected 1 or 2"))),
        };
        let packing = packing(file, directory, samples, planar, says)?;
        let differences = match file.uint(directory, tag::PREDICTOR)?.unwrap_or(1) {
            1 => false,
            2 => matches!(packing, Packing::Lzw | Packing::Deflate),
            other => return Err(TiffError::Unsupported(format!("predictor {other}"))),
        };
        let (offsets_tag, counts_tag) = if tiled {
            (tag::TILE_OFFSETS, tag::TILE_BYTE_COUNTS)
        } else {
            (tag::STRIP_OFFSETS, tag::STRIP_BYTE_COUNTS)
        };
        let mut page = Self {
            width,
            height,
            chunk_w,
            chunk_h,
            tiled,
            packing,
            samples,
            planar,
            differences,
            offsets: file.uints(directory, offsets_tag)?.unwrap_or_default(),
            byte_counts: file.uints(directory, counts_tag)?.unwrap_or_default(),
        };
        page.check_tables()?;
        Ok(page)
    }

    /// Chunks per row.
    pub(super) fn across(&self) -> u32 {
        self.width.div_ceil(self.chunk_w)
    }

    /// Rows of chunks.
    pub(super) fn down(&self) -> u32 {
        self.height.div_ceil(self.chunk_h)
    }

    /// Chunks that hold one plane of samples.
    pub(super) fn chunks_per_plane(&self) -> usize {
        self.across() as usize * self.down() as usize
    }

    /// Rows stored in a chunk: tiles are padded, the last strip is not.
    pub(super) fn rows_in_chunk(&self, row: u32) -> u32 {
        if self.tiled { self.chunk_h } else { self.chunk_h.min(self.height - row * self.chunk_h) }
    }

    /// Most bytes that a chunk may be stored in.
    pub(super) fn max_chunk_bytes(&self) -> u64 {
        u64::from(self.chunk_w) * u64::from(self.chunk_h) * MAX_CHUNK_BYTES_PER_PX + (64 << 10)
    }

    fn check_tables(&mut self) -> Result<(), TiffError> {
        let planes = if self.planar { self.samples.count() as u64 } else { 1 };
        let expected = u64::from(self.across()) * u64::from(self.down()) * planes;
        for (name, table) in [("offsets", &mut self.offsets), ("byte counts", &mut self.byte_counts)] {
            if (table.len() as u64) < expected {
                return Err(TiffError::Damaged(format!(
                    "an image of [{}, {}] px lists {} {name} of tiles, expected {expected}",
                    self.width,
                    self.height,
                    table.len()
                )));
            }
            table.truncate(expected as usize);
        }
        Ok(())
    }
}

/// Whether the directory holds tiles.
pub(super) fn is_tiled(directory: &Directory) -> bool {
    directory.has(tag::TILE_WIDTH) && directory.has(tag::TILE_HEIGHT)
}

fn size(file: &TiffFile<'_>, directory: &Directory, tag: u16) -> Result<u32, TiffError> {
    let found = file.uint(directory, tag)?;
    match found.map(i32::try_from) {
        Some(Ok(px @ 1..)) => Ok(px as u32),
        _ => Err(TiffError::Damaged(format!("tag {tag} is {found:?}, expected a size in px"))),
    }
}

fn check_bits(file: &TiffFile<'_>, directory: &Directory) -> Result<(), TiffError> {
    let bits = file.uints(directory, tag::BITS_PER_SAMPLE)?.unwrap_or_else(|| vec![1]);
    if bits.iter().any(|&b| b != 8) {
        return Err(TiffError::Unsupported(format!("samples of {bits:?} bits, expected 8")));
    }
    let format = file.uints(directory, tag::SAMPLE_FORMAT)?.unwrap_or_default();
    if format.iter().any(|&f| f != 1) {
        return Err(TiffError::Unsupported("samples that are not unsigned whole numbers".into()));
    }
    Ok(())
}

fn samples(file: &TiffFile<'_>, directory: &Directory) -> Result<Samples, TiffError> {
    let count = file.uint(directory, tag::SAMPLES_PER_PIXEL)?.unwrap_or(1);
    let photometric = file.uint(directory, tag::PHOTOMETRIC)?;
    let jpeg = file.uint(directory, tag::COMPRESSION)? == Some(7);
    let extra = file.uint(directory, tag::EXTRA_SAMPLES)?.unwrap_or(0);
    match (photometric, count) {
        (Some(0), 1) => Ok(Samples::WhiteIsZero),
        (Some(1), 1) => Ok(Samples::BlackIsZero),
        (Some(2), 3) => Ok(Samples::Rgb),
        (Some(6), 3) if jpeg => Ok(Samples::Rgb),
        (Some(2), 4) if !jpeg => Ok(match extra {
            1 => Samples::RgbPremultiplied,
            2 => Samples::RgbStraight,
            _ => Samples::RgbIgnored,
        }),
        _ => Err(TiffError::Unsupported(format!(
            "{count} samples per pixel with photometric interpretation {}, expected 8-bit RGB or grey",
            photometric.map_or("missing".into(), |p| p.to_string())
        ))),
    }
}

fn packing(
    file: &TiffFile<'_>,
    directory: &Directory,
    samples: Samples,
    planar: bool,
    says: ColorSays,
) -> Result<Packing, TiffError> {
    Ok(match file.uint(directory, tag::COMPRESSION)?.unwrap_or(1) {
        1 => Packing::None,
        5 => Packing::Lzw,
        8 | 32946 => Packing::Deflate,
        32773 => Packing::PackBits,
        7 if planar => return Err(TiffError::Unsupported("JPEG of separate planes".into())),
        7 => {
            let color = match (samples, says, file.uint(directory, tag::PHOTOMETRIC)?) {
                (Samples::Rgb, ColorSays::Photometric, Some(6)) => JpegColor::YCbCr,
                (Samples::Rgb, ColorSays::Photometric, _) => JpegColor::Rgb,
                _ => JpegColor::AsWritten,
            };
            let tables = file.blob(directory, tag::JPEG_TABLES)?.unwrap_or_default();
            Packing::Jpeg(JpegPrefix::new(&tables, color).map_err(TiffError::Damaged)?)
        }
        33003 | 33005 => return Err(TiffError::Unsupported("JPEG 2000".into())),
        other => return Err(TiffError::Unsupported(format!("compression {other}"))),
    })
}
