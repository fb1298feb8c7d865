//! Choosing the reader of a slide.
//!
//! Owns: [`open`], [`open_file`], the words and hints of slides that do not open. Must not know: how any reader works.

use super::{
    discover::{EntrySource, SlideEntry},
    image::{ImageFormat, ImageSlide},
    mpp,
    openslide::{OpenError, OpenSlideSlide},
    reader::{MppSource, SlideReader},
    synthetic::SyntheticSlide,
    tiff::{TiffError, TiffSlide},
};
use crate::{
    config::settings::{ReaderChoice, SlideSource, Slides},
    error::{SlideError, StageName},
    units::MppXy,
};
use std::{fs::File, io::Read, path::Path, sync::Arc};

const INSTALL: &str = "install OpenSlide (`apt-get install libopenslide0`), \
    or name its library in the environment variable OPENSLIDE_LIB";
const INSTALL_4: &str = "DICOM needs OpenSlide 4: get `libopenslide.so.1` (for one, from the PyPI package \
    `openslide-bin`) and name it in the environment variable OPENSLIDE_LIB";
const NOT_A_SLIDE: &str = "is it a slide at all? compare its size and checksum with the original";
const COPY_AGAIN: &str = "the file is damaged or its copy incomplete: compare its size and checksum with the original";

const CONVERT: &str = "convert it to a tiled JPEG TIFF, with \
    `vips tiffsave IN OUT --tile --pyramid --compression jpeg` for one";
const CONVERT_ELSEWHERE: &str = "export it as OME-TIFF, with QuPath or `bfconvert` for one: programs that build on \
    OpenSlide (libvips, …) do not read it either";
/// Words of OpenSlide 4.0.1 for slides that are whole, and newer than it: BIF of the VENTANA DP scanners, JPEG XR in
/// MRXS, several focal planes, main images of several kinds.
const BEYOND_OPENSLIDE: [&str; 3] = ["Bad direction attribute", "Unrecognized image format", "not supported"];
const MRXS_FOLDER: &str = "an MRXS slide is a file and a folder of the same name, with `Slidedat.ini` in it: copy both";
const MRXS_NAME: &str = "OpenSlide wants the extension in small letters: rename it to `.mrxs`";
const OTHER_READERS: &str = "`slides.reader: auto` reads TIFFs and pictures that OpenSlide does not";
const EXPORT_RGB: &str = "export the H&E image as 8-bit RGB, in QuPath for one";

type Mpp = Option<(MppXy, MppSource)>;
type Opened = Result<Arc<dyn SlideReader>, SlideError>;

/// Opens a file by itself, as a run of all defaults would; `mpp` wins over what the file says.
///
/// # Errors
/// As [`open`].
pub fn open_file(path: &Path, mpp: Option<MppXy>) -> Opened {
    let id = path.file_stem().map_or_else(|| "slide".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let entry = SlideEntry { id, path: path.to_owned(), source: EntrySource::File };
    let source = SlideSource::List(vec![path.to_owned()]);
    open(&entry, &Slides { source, exclude: vec![], mpp, mpp_csv: None, reader: ReaderChoice::Auto })
}

/// Opens a slide with the reader that the settings ask for; its `info().mpp` comes from the ordered sources.
///
/// # Errors
/// What was found instead of a readable slide, with a hint.
pub fn open(entry: &SlideEntry, settings: &Slides) -> Opened {
    let mpp = mpp::stated(&entry.id, &entry.path, settings)?;
    if let EntrySource::Synthetic { index } = entry.source {
        return match &settings.source {
            SlideSource::Synthetic(synthetic) => Ok(Arc::new(SyntheticSlide::new(synthetic, index).with_mpp(mpp))),
            _ => Err(failed(&entry.path, "it is synthetic, and the settings have no synthetic slides")),
        };
    }
    let path = entry.path.as_path();
    let content = Content::of(path)?;
    match settings.reader {
        ReaderChoice::Openslide => OpenSlideSlide::open(path)
            .map(|slide| Arc::new(slide.with_mpp(mpp)) as _)
            .map_err(|error| openslide_failed(path, &content, &error)),
        ReaderChoice::Tiff => TiffSlide::open(path).map(|slide| Arc::new(slide.with_mpp(mpp)) as _).map_err(|error| {
            let damaged = matches!(error, TiffError::Damaged(_));
            let hint = if damaged { COPY_AGAIN } else { "`slides.reader: auto` picks a reader that can" };
            failed(path, &error.to_string()).hint(hint)
        }),
        ReaderChoice::Auto => open_auto(path, &content, mpp),
    }
}

fn open_auto(path: &Path, content: &Content, mpp: Mpp) -> Opened {
    let picture = |format: ImageFormat| -> Result<Arc<dyn SlideReader>, String> {
        Ok(Arc::new(ImageSlide::open(path, format)?.with_mpp(mpp)))
    };
    let ours = match content {
        Content::Png => return picture(ImageFormat::Png).map_err(|e| failed(path, &e).hint(COPY_AGAIN)),
        Content::Jpeg => return picture(ImageFormat::Jpeg).map_err(|e| failed(path, &e).hint(COPY_AGAIN)),
        Content::Tiff => match TiffSlide::open(path) {
            Ok(slide) => return Ok(Arc::new(slide.with_mpp(mpp))),
            Err(TiffError::NotTiled) => match picture(ImageFormat::Tiff) {
                Ok(picture) => return Ok(picture),
                Err(words) => Some(TiffError::Unsupported(format!("an untiled image ({words})"))),
            },
            Err(error @ TiffError::NotRgb(_)) => return Err(failed(path, &error.to_string()).hint(EXPORT_RGB)),
            Err(error) => Some(error),
        },
        Content::Mrxs | Content::Dicom | Content::Other(_) => None,
    };
    match (OpenSlideSlide::open(path), ours) {
        (Ok(slide), _) => Ok(Arc::new(slide.with_mpp(mpp))),
        (Err(_), Some(ours @ TiffError::Damaged(_))) => Err(failed(path, &ours.to_string()).hint(COPY_AGAIN)),
        (Err(error @ OpenError::NoLibrary(_)), Some(ours)) => {
            Err(failed(path, &format!("{ours}, and {error}")).hint(INSTALL))
        }
        // No other reader knows that format: what OpenSlide says of the file is what there is to say.
        (Err(error @ OpenError::Refused { .. }), Some(TiffError::Foreign(_))) => {
            Err(openslide_failed(path, content, &error))
        }
        (Err(error), Some(ours)) => Err(failed(path, &format!("{ours}, and {error}")).hint(CONVERT)),
        (Err(error), None) => Err(openslide_failed(path, content, &error)),
    }
}

fn failed(path: &Path, words: &str) -> SlideError {
    SlideError::new(StageName::Slides, format!("cannot open slide: {words}: {}", path.display()))
}

fn openslide_failed(path: &Path, content: &Content, error: &OpenError) -> SlideError {
    let dicom = *content == Content::Dicom;
    match error {
        OpenError::NoLibrary(_) => failed(path, &error.to_string()).hint(if dicom { INSTALL_4 } else { INSTALL }),
        OpenError::NotRecognised { version } if dicom && version.starts_with('3') => {
            failed(path, &format!("it is DICOM: found OpenSlide `{version}`, expected `4` or newer")).hint(INSTALL_4)
        }
        OpenError::NotRecognised { .. } => match content {
            Content::Other(head) => {
                let head: Vec<String> = head.iter().map(|byte| format!("{byte:02x}")).collect();
                let words = format!("{error}: it begins with bytes `{}`, which no slide does", head.join(" "));
                failed(path, &words).hint(NOT_A_SLIDE)
            }
            Content::Mrxs => {
                let is_small = path.extension().is_some_and(|e| e == MRXS);
                failed(path, &error.to_string()).hint(if is_small { MRXS_FOLDER } else { MRXS_NAME })
            }
            Content::Dicom => failed(path, &error.to_string()).hint(NOT_A_SLIDE),
            Content::Tiff | Content::Png | Content::Jpeg => failed(path, &error.to_string()).hint(OTHER_READERS),
        },
        OpenError::Refused { words, .. } if words.starts_with("Unsupported") => {
            failed(path, &error.to_string()).hint(CONVERT)
        }
        OpenError::Refused { words, .. } if BEYOND_OPENSLIDE.iter().any(|w| words.contains(w)) => {
            failed(path, &error.to_string()).hint(CONVERT_ELSEWHERE)
        }
        OpenError::Refused { .. } if *content == Content::Mrxs && !path.with_extension("").is_dir() => {
            failed(path, &error.to_string()).hint(MRXS_FOLDER)
        }
        OpenError::Refused { .. } => failed(path, &error.to_string()).hint(COPY_AGAIN),
    }
}

/// Extension of the slides of 3DHISTECH.
const MRXS: &str = "mrxs";

/// What a file is, by its first bytes.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Tiff,
    Png,
    Jpeg,
    Dicom,
    /// By its name: the file itself is a small JPEG of the whole slide, which lies in the folder of its name.
    Mrxs,
    /// Anything else, with its first bytes.
    Other(Vec<u8>),
}

impl Content {
    fn of(path: &Path) -> Result<Self, SlideError> {
        let io = |error: std::io::Error| {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => "was it moved, or is a link to it broken?",
                std::io::ErrorKind::PermissionDenied => "make the file and its folders readable to this user",
                _ => "can another program read it?",
            };
            failed(path, &error.to_string()).hint(hint)
        };
        let metadata = std::fs::metadata(path).map_err(io)?;
        if metadata.is_dir() {
            let error = failed(path, "found a folder, expected a file");
            return Err(error.hint("to take every slide in a folder, use `slides: { dir: … }` or a glob"));
        }
        if !metadata.is_file() {
            return Err(failed(path, "found a device or a socket, expected a file"));
        }
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case(MRXS)) {
            return Ok(Self::Mrxs);
        }
        if metadata.len() == 0 {
            return Err(failed(path, "found 0 bytes").hint("an interrupted copy? copy it again"));
        }
        let mut head = Vec::new();
        File::open(path).and_then(|file| file.take(132).read_to_end(&mut head)).map_err(io)?;
        Ok(match head.as_slice() {
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Self::Tiff,
            [0x89, b'P', b'N', b'G', ..] => Self::Png,
            [0xff, 0xd8, 0xff, ..] => Self::Jpeg,
            [.., b'D', b'I', b'C', b'M'] if head.len() == 132 => Self::Dicom,
            _ => Self::Other(head[..head.len().min(4)].to_vec()),
        })
    }
}
