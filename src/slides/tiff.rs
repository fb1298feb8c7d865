//! Our own reader of tiled pyramidal TIFF, Aperio SVS with JPEG tiles, and OME-TIFF.
//!
//! Owns: [`TiffSlide`], [`TiffError`]. Must not know: any other reader.
//! Source: TIFF 6.0. The same pixels as OpenSlide 4.0.1 to the byte (tests), without its compositing: most of
//! OpenSlide's time goes there, not into JPEG. Files are not trusted: every size is checked before it is used.

mod cache;
mod chunk;
mod describe;
mod directory;
mod jpeg;
mod ome;
mod page;
mod pyramid;
mod source;

pub use source::ByteSource;

use super::{
    downsample::{downsample_x, downsample_y},
    reader::{Level, LevelInfo, MppSource, ReadError, SlideInfo, SlideReader},
};
use crate::{
    geometry::{InLevel, Rect, Size},
    units::MppXy,
};
use cache::TileCache;
use describe::Description;
use directory::TiffFile;
use page::{ColorSays, Page};
use pyramid::Pyramid;
use std::{fs::File, io, path::Path, sync::Arc};

/// Decoded tiles held per slide: a row of 256-px tiles across 87,000 px.
const CACHE_BYTES: usize = 64 << 20;
/// Largest untiled image that is decoded whole.
const MAX_WHOLE_BYTES: u64 = 2 << 30;

/// Why a file is not read by this reader.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TiffError {
    /// The file does not begin as a TIFF does.
    #[error("it is not a TIFF")]
    NotTiff,
    /// Its first page is in strips: a picture, not a pyramid.
    #[error("it is not tiled")]
    NotTiled,
    /// Something this reader leaves to OpenSlide.
    #[error("it holds {0}, which our TIFF reader does not read")]
    Unsupported(String),
    /// A slide that is TIFF on the outside only; OpenSlide knows its ways.
    #[error("it holds a {0} slide, which our TIFF reader does not read")]
    Foreign(&'static str),
    /// An OME-TIFF whose first image is not 8-bit RGB: fluorescence, a stack, deeper samples. No reader makes it
    /// what the pipeline is for.
    #[error("it is not an RGB brightfield image: {0}")]
    NotRgb(String),
    /// Its structure is broken.
    #[error("its structure is broken: {0}")]
    Damaged(String),
    /// The operating system refused.
    #[error("{0}")]
    Io(String),
}

impl From<io::Error> for TiffError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// A slide read by our own TIFF reader.
pub struct TiffSlide {
    info: SlideInfo,
    source: Box<dyn ByteSource>,
    pages: Vec<Page>,
    cache: TileCache,
}

impl TiffSlide {
    /// Opens a file.
    ///
    /// # Errors
    /// [`TiffError`].
    pub fn open(path: &Path) -> Result<Self, TiffError> {
        let source = source::FileSource::new(File::open(path)?)?;
        Self::from_source(path, Box::new(source))
    }

    /// Reads from any bytes; `path` only names them.
    ///
    /// # Errors
    /// [`TiffError`].
    pub fn from_source(path: &Path, source: Box<dyn ByteSource>) -> Result<Self, TiffError> {
        let file = TiffFile::new(&*source)?;
        let Pyramid { kind, levels: pages, first } = Pyramid::new(&file)?;
        let described = Description::new(&file, &first, &kind);
        let coarsest = pages.last().ok_or_else(|| TiffError::Damaged("it has no level".into()))?;
        let quickhash = describe::quickhash(&*source, &file, &first, coarsest);
        let info = SlideInfo {
            path: path.to_owned(),
            reader: "tiff",
            vendor: kind.vendor().into(),
            levels: pages.iter().map(|page| level_info(&pages[0], page)).collect(),
            mpp: described.mpp,
            objective_power: described.objective_power,
            bounds: None,
            quickhash,
            properties: described.properties,
        };
        Ok(Self { info, source, pages, cache: TileCache::new(CACHE_BYTES) })
    }

    /// The same slide with another resolution, when there is one.
    #[must_use]
    pub fn with_mpp(mut self, mpp: Option<(MppXy, MppSource)>) -> Self {
        self.info.mpp = mpp.or(self.info.mpp);
        self
    }

    fn copy_region(&self, level: u8, region: Rect<InLevel>, rgb: &mut [u8]) -> Result<(), String> {
        let page = &self.pages[usize::from(level)];
        let inside = region.intersect(&Rect::new(0, 0, page.width, page.height));
        if inside != region {
            rgb.fill(255);
        }
        if inside.is_empty() {
            return Ok(());
        }
        let (tw, th) = (i64::from(page.chunk_w), i64::from(page.chunk_h));
        for row in inside.y / th..=(inside.bottom() - 1) / th {
            for column in inside.x / tw..=(inside.right() - 1) / tw {
                let tile = self.tile(level, page, column as u32, row as u32)?;
                let part = inside.intersect(&Rect::new(column * tw, row * th, page.chunk_w, page.chunk_h));
                for y in part.y..part.bottom() {
                    let n = part.w as usize * 3;
                    let from = ((y - row * th) * tw + part.x - column * tw) as usize * 3;
                    let to = ((y - region.y) as usize * region.w as usize + (part.x - region.x) as usize) * 3;
                    rgb[to..to + n].copy_from_slice(&tile[from..from + n]);
                }
            }
        }
        Ok(())
    }

    fn tile(&self, level: u8, page: &Page, column: u32, row: u32) -> Result<Arc<Vec<u8>>, String> {
        let key = (level, u64::from(row) << 32 | u64::from(column));
        if let Some(tile) = self.cache.get(key) {
            return Ok(tile);
        }
        let px = page.chunk_w as usize * page.rows_in_chunk(row) as usize;
        let mut tile = self.cache.buffer(px * 3);
        chunk::read_chunk(&*self.source, page, column, row, &mut tile)?;
        Ok(self.cache.insert(key, tile))
    }
}

impl SlideReader for TiffSlide {
    fn info(&self) -> &SlideInfo {
        &self.info
    }

    fn read_region(&self, level: Level, region: Rect<InLevel>, rgb: &mut [u8]) -> Result<(), ReadError> {
        if usize::from(level.0) >= self.pages.len() {
            return Err(ReadError::NoLevel { found: level.0, levels: self.pages.len() });
        }
        let expected = region.area() as usize * 3;
        let result = if rgb.len() == expected {
            self.copy_region(level.0, region, rgb)
        } else {
            Err(format!("the buffer has {} bytes, expected {expected}", rgb.len()))
        };
        result.map_err(|reason| ReadError::pixels(level, region, reason))
    }
}

fn level_info(level0: &Page, page: &Page) -> LevelInfo {
    let (size0, size) = (Size::new(level0.width, level0.height), Size::new(page.width, page.height));
    LevelInfo {
        size,
        downsample_x: downsample_x(size0, size),
        downsample_y: downsample_y(size0, size),
        tile_px: page.tiled.then_some((page.chunk_w, page.chunk_h)),
    }
}

/// An untiled TIFF, decoded whole.
pub(super) struct TiffPicture {
    pub(super) size: Size<InLevel>,
    pub(super) rgb: Vec<u8>,
    pub(super) mpp: Option<(MppXy, MppSource)>,
    pub(super) properties: std::collections::BTreeMap<String, String>,
}

/// Decodes the first page of an untiled TIFF.
///
/// # Errors
/// [`TiffError`]; larger than [`MAX_WHOLE_BYTES`] is [`TiffError::Unsupported`].
pub(super) fn read_picture(path: &Path) -> Result<TiffPicture, TiffError> {
    let source = source::FileSource::new(File::open(path)?)?;
    let file = TiffFile::new(&source)?;
    let directories = file.directories()?;
    let kind = pyramid::kind(&file, &directories[0])?;
    let page = Page::new(&file, &directories[0], ColorSays::Stream)?;
    let bytes = u64::from(page.width) * u64::from(page.height) * 3;
    if bytes > MAX_WHOLE_BYTES {
        return Err(TiffError::Unsupported(format!("an untiled image of [{}, {}] px", page.width, page.height)));
    }
    // Nothing that large is allocated for a file that cannot hold it: 2,000 is more than any packing gains.
    if bytes / 2000 > source.len_bytes() {
        return Err(TiffError::Damaged(format!(
            "an image of [{}, {}] px in {} bytes",
            page.width,
            page.height,
            source.len_bytes()
        )));
    }
    let mut rgb = vec![0; bytes as usize];
    let row_bytes = page.width as usize * 3;
    for (row, strip) in rgb.chunks_mut(row_bytes * page.chunk_h as usize).enumerate() {
        chunk::read_chunk(&source, &page, 0, row as u32, strip).map_err(TiffError::Damaged)?;
    }
    let described = Description::new(&file, &directories[0], &kind);
    Ok(TiffPicture {
        size: Size::new(page.width, page.height),
        rgb,
        mpp: described.mpp,
        properties: described.properties,
    })
}
