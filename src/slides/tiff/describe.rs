//! What a TIFF says of itself: properties, resolution, identity.
//!
//! Owns: [`Description`]. Must not know: pixels.
//! Source: names and quickhash-1 as OpenSlide 4.0.1 gives them, so that a slide has one identity with either reader.

use super::{
    ByteSource,
    directory::{Directory, TiffFile, tag},
    page::Page,
    pyramid::Kind,
};
use crate::{
    slides::{MppSource, mpp},
    units::{Mpp, MppXy},
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt::Write};

/// Texts that are properties, and part of the identity, in OpenSlide's order.
const TEXTS: [(&str, u16); 9] = [
    ("tiff.ImageDescription", tag::DESCRIPTION),
    ("tiff.Make", 271),
    ("tiff.Model", 272),
    ("tiff.Software", tag::SOFTWARE),
    ("tiff.DateTime", 306),
    ("tiff.Artist", 315),
    ("tiff.HostComputer", 316),
    ("tiff.Copyright", 33432),
    ("tiff.DocumentName", 269),
];

/// A level stored in more is not hashed: opening a slide must stay cheap.
const MAX_HASHED_BYTES: u64 = 5 << 20;

/// What the first page says.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) properties: BTreeMap<String, String>,
    pub(super) mpp: Option<(MppXy, MppSource)>,
    pub(super) objective_power: Option<f64>,
}

impl Description {
    /// From the directory of level 0.
    pub(super) fn new(file: &TiffFile<'_>, first: &Directory, kind: &Kind) -> Self {
        let mut properties = BTreeMap::from([("openslide.vendor".to_owned(), kind.vendor().to_owned())]);
        let comment = file.text(first, tag::DESCRIPTION);
        for (name, tag) in TEXTS {
            if let Some(text) = file.text(first, tag) {
                properties.insert(name.into(), text);
            }
        }
        if let Some(comment) = &comment {
            properties.insert("openslide.comment".into(), comment.clone());
        }
        for (name, tag) in [("tiff.XResolution", tag::X_RESOLUTION), ("tiff.YResolution", tag::Y_RESOLUTION)] {
            if let Some(value) = file.real(first, tag) {
                properties.insert(name.into(), value.to_string());
            }
        }
        let unit = file.uint(first, tag::RESOLUTION_UNIT).ok().flatten().unwrap_or(2);
        let unit_name = ["unknown", "none", "inch", "centimeter"].get(unit as usize).unwrap_or(&"unknown");
        properties.insert("tiff.ResolutionUnit".into(), (*unit_name).into());
        if *kind == Kind::Aperio {
            aperio_properties(&comment.unwrap_or_default(), &mut properties);
        }
        let number = |name: &str| properties.get(name).and_then(|v| v.trim().parse::<f64>().ok());
        let aperio = number("aperio.MPP").and_then(Mpp::new).map(MppXy::square);
        let (ome, ome_power) = match kind {
            Kind::Ome(image) => (image.mpp, image.objective_power),
            _ => (None, None),
        };
        let per_unit = (file.real(first, tag::X_RESOLUTION), file.real(first, tag::Y_RESOLUTION));
        let resolution = mpp::from_resolution(per_unit.0, per_unit.1, unit);
        let mpp = [(aperio, MppSource::Vendor), (ome, MppSource::Ome), (resolution, MppSource::TiffResolution)];
        Self {
            mpp: mpp.into_iter().find_map(|(mpp, source)| Some((mpp?, source))),
            objective_power: number("aperio.AppMag").or(ome_power),
            properties,
        }
    }
}

/// `Aperio …|AppMag = 20|MPP = 0.499` as `aperio.AppMag`, `aperio.MPP`.
fn aperio_properties(description: &str, properties: &mut BTreeMap<String, String>) {
    for pair in description.split('|').skip(1) {
        if let Some((name, value)) = pair.split_once('=') {
            properties.insert(format!("aperio.{}", name.trim()), value.trim().to_owned());
        }
    }
}

/// `quickhash-1`: SHA-256 of the coarsest level as stored and the texts of the first page; `None` when that level is
/// large or does not lie in the file.
pub(super) fn quickhash(
    source: &dyn ByteSource,
    file: &TiffFile<'_>,
    first: &Directory,
    coarsest: &Page,
) -> Option<String> {
    let total = coarsest.byte_counts.iter().try_fold(0u64, |sum, &n| sum.checked_add(n))?;
    if total > MAX_HASHED_BYTES {
        return None;
    }
    let mut hash = Sha256::new();
    let mut buffer = Vec::new();
    for (&at, &len) in coarsest.offsets.iter().zip(&coarsest.byte_counts) {
        buffer.resize(len as usize, 0);
        source.read_at(at, &mut buffer).ok()?;
        hash.update(&buffer);
    }
    for (name, tag) in TEXTS {
        let text = file.blob(first, tag).ok().flatten().unwrap_or_default();
        let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
        for part in [name.as_bytes(), b"\0", &text[..end], b"\0"] {
            hash.update(part);
        }
    }
    Some(hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
