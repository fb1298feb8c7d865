//! Which pages of a TIFF are levels of the slide.
//!
//! Owns: [`Kind`], [`Pyramid`]. Must not know: how tiles are decoded.
//! Source: OpenSlide 4.0.1 `openslide-vendor-aperio.c`, `openslide-vendor-generic-tiff.c` (rules, not code);
//! OME-TIFF specification 6, "Sub-resolutions".

use super::{
    TiffError,
    directory::{Directory, TiffFile, tag},
    ome::{OmeImage, is_ome},
    page::{ColorSays, MAX_TILE_PX, Page, is_tiled},
};

/// Bit of SubfileType: a smaller copy of another page.
const REDUCED: u64 = 1;
/// Most levels we look at.
const MAX_LEVELS: usize = 32;

/// Who wrote the file, as far as it decides which pages count.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Aperio SVS.
    Aperio,
    /// OME-TIFF.
    Ome(OmeImage),
    /// Any other tiled TIFF.
    Generic,
}

impl Kind {
    /// The format in OpenSlide's words.
    pub(super) fn vendor(&self) -> &'static str {
        match self {
            Self::Aperio => "aperio",
            Self::Ome(_) => "ome-tiff",
            Self::Generic => "generic-tiff",
        }
    }
}

/// The levels, finest first, and where they were found.
#[derive(Debug)]
pub(super) struct Pyramid {
    pub(super) kind: Kind,
    pub(super) levels: Vec<Page>,
    /// Directory of level 0; of the coarsest level.
    pub(super) first: Directory,
}

impl Pyramid {
    /// Finds the levels.
    ///
    /// # Errors
    /// [`TiffError::Foreign`] and [`TiffError::Unsupported`] for formats and codecs that OpenSlide may read,
    /// [`TiffError::Damaged`] otherwise.
    pub(super) fn new(file: &TiffFile<'_>) -> Result<Self, TiffError> {
        let directories = file.directories()?;
        let first = directories[0].clone();
        if let Some(vendor) = foreign(file, &directories) {
            return Err(TiffError::Foreign(vendor));
        }
        let kind = kind(file, &first)?;
        if !is_tiled(&first) {
            return Err(TiffError::NotTiled);
        }
        let mut levels = match &kind {
            Kind::Aperio => aperio(file, &directories)?,
            Kind::Ome(_) => match sub_resolutions(file, &first)? {
                smaller if smaller.is_empty() => reduced(file, &directories, ColorSays::Stream)?,
                smaller => smaller,
            },
            Kind::Generic => reduced(file, &directories, ColorSays::Photometric)?,
        };
        if levels.len() > MAX_LEVELS {
            return Err(TiffError::Unsupported(format!("{} levels", levels.len())));
        }
        if let Some(page) = levels.iter().find(|p| u64::from(p.chunk_w) * u64::from(p.chunk_h) > MAX_TILE_PX) {
            let (w, h) = (page.chunk_w, page.chunk_h);
            return Err(TiffError::Unsupported(format!("a level in strips of [{w}, {h}] px")));
        }
        if kind != Kind::Aperio {
            levels.sort_by_key(|page| std::cmp::Reverse(page.width));
        }
        if let Some(pair) = levels.windows(2).find(|pair| pair[1].width > pair[0].width) {
            let (a, b) = (pair[0].width, pair[1].width);
            return Err(TiffError::Damaged(format!("a level of width {b} px follows one of {a} px")));
        }
        Ok(Self { kind, levels, first })
    }
}

/// Who wrote the file.
pub(super) fn kind(file: &TiffFile<'_>, first: &Directory) -> Result<Kind, TiffError> {
    let description = file.text(first, tag::DESCRIPTION).unwrap_or_default();
    if description.starts_with("Aperio") && is_tiled(first) {
        return Ok(Kind::Aperio);
    }
    if !is_ome(&description) {
        return Ok(Kind::Generic);
    }
    let image = OmeImage::parse(&description).map_err(TiffError::Damaged)?;
    match &image.not_rgb {
        Some(why) => Err(TiffError::NotRgb(why.clone())),
        None => Ok(Kind::Ome(image)),
    }
}

/// Vendors whose slides are TIFF on the outside only; OpenSlide knows their ways.
fn foreign(file: &TiffFile<'_>, directories: &[Directory]) -> Option<&'static str> {
    let first = &directories[0];
    let description = file.text(first, tag::DESCRIPTION).unwrap_or_default();
    let software = file.text(first, tag::SOFTWARE).unwrap_or_default();
    if first.has(tag::NDPI_FORMAT) {
        return Some("Hamamatsu NDPI");
    }
    if description.contains("leica-microsystems.com/scn/") {
        return Some("Leica SCN");
    }
    if software.starts_with("Philips") {
        return Some("Philips");
    }
    if software.starts_with("MedScan") {
        return Some("Trestle");
    }
    let packet = |d: &Directory| file.blob(d, tag::XML_PACKET).ok().flatten().unwrap_or_default();
    let ventana = |d: &Directory| packet(d).windows(5).any(|w| w == b"iScan");
    directories.iter().any(ventana).then_some("Ventana")
}

/// Aperio: every tiled page is a level, in the order of the file; thumbnail, label and macro are in strips.
fn aperio(file: &TiffFile<'_>, directories: &[Directory]) -> Result<Vec<Page>, TiffError> {
    let tiled = directories.iter().filter(|d| is_tiled(d));
    let pages: Vec<Page> = tiled.map(|d| Page::new(file, d, ColorSays::Photometric)).collect::<Result<_, _>>()?;
    if pages.iter().any(|page| page.byte_counts.contains(&0)) {
        // OpenSlide fills them, and what covers them on coarser levels, from the level before.
        return Err(TiffError::Unsupported("an Aperio slide with missing tiles".into()));
    }
    Ok(pages)
}

/// Any TIFF: the first page, and every tiled page marked as a reduced copy.
fn reduced(file: &TiffFile<'_>, directories: &[Directory], says: ColorSays) -> Result<Vec<Page>, TiffError> {
    let mut levels = Vec::new();
    for (index, directory) in directories.iter().enumerate() {
        let is_reduced =
            || -> Result<bool, TiffError> { Ok(file.uint(directory, tag::SUBFILE_TYPE)?.unwrap_or(0) & REDUCED != 0) };
        if is_tiled(directory) && (index == 0 || is_reduced()?) {
            levels.push(Page::new(file, directory, says)?);
        }
    }
    Ok(levels)
}

/// OME-TIFF: the first page and its SubIFDs; nothing when it has none.
fn sub_resolutions(file: &TiffFile<'_>, first: &Directory) -> Result<Vec<Page>, TiffError> {
    let offsets = file.uints(first, tag::SUB_IFDS)?.unwrap_or_default();
    if offsets.is_empty() {
        return Ok(Vec::new());
    }
    if offsets.len() >= MAX_LEVELS {
        return Err(TiffError::Unsupported(format!("{} sub-resolutions", offsets.len())));
    }
    let mut levels = vec![Page::new(file, first, ColorSays::Stream)?];
    for at in offsets {
        let directory = file.directory(at)?;
        // The coarsest sub-resolutions of some writers are one strip.
        levels.push(Page::new(file, &directory, ColorSays::Stream)?);
    }
    Ok(levels)
}
