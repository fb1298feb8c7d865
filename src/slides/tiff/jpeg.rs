//! JPEG tiles: the stream that libjpeg-turbo sees, and what its components mean.
//!
//! Owns: [`JpegPrefix`], the only calls of libjpeg-turbo for tiles. Must not know: TIFF directories.
//! Source: ITU-T T.81 annex B; TIFF Technical Note 2 (JPEGTables). A tile's stream lacks the tables that all tiles
//! share, and Aperio stores RGB without saying so in the stream: tables and an Adobe marker are put in front, the
//! stream's own colour markers are left out, which is what OpenSlide tells libjpeg through its own interface.

use std::cell::RefCell;

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const APP0: u8 = 0xe0;
const APP14: u8 = 0xee;
const APP15: u8 = 0xef;
const COMMENT: u8 = 0xfe;

/// What the three components of a JPEG are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JpegColor {
    /// Red, green, blue.
    Rgb,
    /// Luma and chroma.
    YCbCr,
    /// What the stream's own markers say.
    AsWritten,
}

/// What goes in front of each tile's own segments: start of image, shared tables, colour.
#[derive(Debug, Clone)]
pub(super) struct JpegPrefix {
    bytes: Vec<u8>,
    color: JpegColor,
}

impl JpegPrefix {
    /// From the content of the JPEGTables tag (empty when there is none).
    ///
    /// # Errors
    /// When the tables are not a JPEG stream.
    pub(super) fn new(tables: &[u8], color: JpegColor) -> Result<Self, String> {
        let mut bytes = vec![0xff, SOI];
        if !tables.is_empty() {
            for segment in Segments::new(tables).map_err(|e| format!("JPEGTables {e}"))? {
                let (marker, segment) = segment.map_err(|e| format!("JPEGTables {e}"))?;
                if !is_application(marker) {
                    bytes.extend_from_slice(segment);
                }
            }
        }
        if color != JpegColor::AsWritten {
            let transform = u8::from(color == JpegColor::YCbCr);
            bytes.extend_from_slice(&[0xff, APP14, 0, 14]);
            bytes.extend_from_slice(b"Adobe\0\x64\0\0\0\0");
            bytes.push(transform);
        }
        Ok(Self { bytes, color })
    }

    /// Writes the whole stream of one tile, and returns its `[w, h]` in px.
    fn splice(&self, tile: &[u8], stream: &mut Vec<u8>) -> Result<(u32, u32), String> {
        stream.clear();
        stream.extend_from_slice(&self.bytes);
        let mut size = None;
        let mut segments = Segments::new(tile).map_err(|e| format!("the JPEG tile {e}"))?;
        for segment in &mut segments {
            let (marker, segment) = segment.map_err(|e| format!("the JPEG tile {e}"))?;
            if matches!(marker, 0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc)) && segment.len() >= 9 {
                let side = |i: usize| u32::from(segment[i]) << 8 | u32::from(segment[i + 1]);
                size = Some((side(7), side(5)));
            }
            if marker == APP0 || marker == APP14 {
                if self.color == JpegColor::AsWritten {
                    stream.extend_from_slice(segment);
                }
            } else if !is_application(marker) {
                stream.extend_from_slice(segment);
            }
        }
        stream.extend_from_slice(segments.rest);
        size.ok_or_else(|| "the JPEG tile has no frame header".into())
    }

    /// Decodes one tile into `rgb`, `[h, w, 3]`.
    ///
    /// # Errors
    /// What libjpeg-turbo refuses or warns of, and tiles of another size.
    pub(super) fn decode(&self, tile: &[u8], w: u32, h: u32, rgb: &mut [u8]) -> Result<(), String> {
        DECODER.with_borrow_mut(|decoder| {
            let Decoder { turbo, stream } = decoder;
            let found = self.splice(tile, stream)?;
            if found != (w, h) {
                return Err(format!("the JPEG tile is [{}, {}] px, expected [{w}, {h}]", found.0, found.1));
            }
            let turbo = match turbo {
                Some(turbo) => turbo,
                None => turbo.insert(new_decompressor()?),
            };
            let (width, height) = (w as usize, h as usize);
            let format = turbojpeg::PixelFormat::RGB;
            let image = turbojpeg::Image { pixels: rgb, width, pitch: width * 3, height, format };
            turbo.decompress(stream, image).map_err(|e| e.to_string())
        })
    }
}

/// A decoder that refuses the progressive streams whose only use is to keep it busy.
fn new_decompressor() -> Result<turbojpeg::Decompressor, String> {
    let mut turbo = turbojpeg::Decompressor::new().map_err(|e| e.to_string())?;
    turbo.set_scan_limit(500).map_err(|e| e.to_string())?;
    Ok(turbo)
}

struct Decoder {
    turbo: Option<turbojpeg::Decompressor>,
    stream: Vec<u8>,
}

thread_local! {
    static DECODER: RefCell<Decoder> = const { RefCell::new(Decoder { turbo: None, stream: Vec::new() }) };
}

fn is_application(marker: u8) -> bool {
    matches!(marker, APP0..=APP15 | COMMENT)
}

/// The marker segments of a stream up to its first scan; `rest` is what follows the last one given.
struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Segments<'a> {
    fn new(stream: &'a [u8]) -> Result<Self, String> {
        match stream {
            [0xff, SOI, rest @ ..] => Ok(Self { rest }),
            _ => Err(format!("begins with {:02x?}, expected a start of image", &stream[..stream.len().min(2)])),
        }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<(u8, &'a [u8]), String>;

    fn next(&mut self) -> Option<Self::Item> {
        // Any number of 0xff may stand before a marker.
        while let [0xff, 0xff, rest @ ..] = self.rest {
            self.rest = &self.rest[self.rest.len() - rest.len() - 1..];
        }
        match self.rest {
            [] | [0xff, EOI | SOS, ..] => None,
            [0xff, marker, high, low, ..] => {
                let len = 2 + (usize::from(*high) << 8 | usize::from(*low));
                if len < 4 || len > self.rest.len() {
                    return Some(Err(format!("ends within its segment {marker:02x}")));
                }
                let (segment, rest) = self.rest.split_at(len);
                self.rest = rest;
                Some(Ok((*marker, segment)))
            }
            _ => Some(Err("has bytes between its segments".into())),
        }
    }
}
