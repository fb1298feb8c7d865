//! DICOM: the files of one series are one slide.
//!
//! Owns: [`one_per_series`]. Must not know: pixels.
//! Source: DICOM PS3.10 §7 (file meta information), PS3.5 §7.1 (data elements), PS3.6 (0020,000E).

use super::{Found, is_dicom};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

const SERIES_INSTANCE_UID: (u16, u16) = (0x0020, 0x000e);
const ITEM_GROUP: u16 = 0xfffe;
const ITEM_END: (u16, u16) = (ITEM_GROUP, 0xe00d);
const SEQUENCE_END: (u16, u16) = (ITEM_GROUP, 0xe0dd);
const UNDEFINED: u32 = u32::MAX;
/// The series is told in the first groups of a file; pixel data come long after.
const MAX_ELEMENTS: usize = 2000;

/// Keeps of each DICOM series in a folder its first file, by name. A series with a folder of its own is named after
/// the folder.
pub(super) fn one_per_series(found: Vec<Found>) -> BTreeSet<Found> {
    let mut kept = BTreeSet::new();
    let mut folders: BTreeMap<PathBuf, BTreeMap<String, BTreeSet<Found>>> = BTreeMap::new();
    for file in found {
        let series = if is_dicom(&file.path) { series_uid(&file.path) } else { None };
        let folder = file.path.parent().map(Path::to_owned).unwrap_or_default();
        match series {
            Some(uid) => {
                folders.entry(folder).or_default().entry(uid).or_default().insert(file);
            }
            None => {
                kept.insert(file);
            }
        }
    }
    for series in folders.into_values() {
        let alone = series.len() == 1;
        for files in series.into_values() {
            let several = files.len() > 1;
            let Some(mut first) = files.into_iter().next() else { continue };
            let folder = first.name.parent().filter(|p| !p.as_os_str().is_empty());
            if let (true, true, Some(folder)) = (alone, several, folder) {
                // The naming drops an extension: a folder has none to drop.
                let mut name = folder.as_os_str().to_owned();
                name.push(".dcm");
                first.name = name.into();
            }
            kept.insert(first);
        }
    }
    kept
}

/// The series of a DICOM file; `None` when it is not one or does not tell.
fn series_uid(path: &Path) -> Option<String> {
    let mut file = BufReader::new(File::open(path).ok()?);
    let mut preamble = [0; 132];
    file.read_exact(&mut preamble).ok()?;
    if &preamble[128..] != b"DICM" {
        return None;
    }
    let mut explicit = true;
    for _ in 0..MAX_ELEMENTS {
        let element = Element::read(&mut file, explicit)?;
        if element.tag == SERIES_INSTANCE_UID {
            return element.text(&mut file);
        }
        if element.tag > SERIES_INSTANCE_UID {
            return None;
        }
        if element.tag == (0x0002, 0x0010) {
            // Implicit VR little endian is the one transfer syntax of slides that is not explicit.
            explicit = element.text(&mut file)? != "1.2.840.10008.1.2";
        } else {
            element.skip(&mut file, explicit, 0)?;
        }
    }
    None
}

struct Element {
    tag: (u16, u16),
    len: u32,
}

impl Element {
    fn read(file: &mut impl Read, explicit: bool) -> Option<Self> {
        let mut head = [0; 8];
        file.read_exact(&mut head).ok()?;
        let half = |i: usize| u16::from_le_bytes([head[i], head[i + 1]]);
        let tag = (half(0), half(2));
        let word = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let len = match &head[4..6] {
            // Items and their ends have no type; the meta group is explicit whatever follows it.
            _ if tag.0 == ITEM_GROUP || (!explicit && tag.0 != 2) => word,
            b"OB" | b"OW" | b"OF" | b"OD" | b"OL" | b"OV" | b"SQ" | b"UT" | b"UN" | b"UC" | b"UR" | b"SV" | b"UV" => {
                let mut long = [0; 4];
                file.read_exact(&mut long).ok()?;
                u32::from_le_bytes(long)
            }
            _ => u32::from(half(6)),
        };
        Some(Self { tag, len })
    }

    /// Moves behind the element's value; a sequence or item of undefined length is walked to its end.
    fn skip(&self, file: &mut (impl Read + Seek), explicit: bool, depth: u32) -> Option<()> {
        if self.len != UNDEFINED {
            file.seek(SeekFrom::Current(i64::from(self.len))).ok()?;
            return Some(());
        }
        if depth > 16 {
            return None;
        }
        loop {
            let inner = Self::read(file, explicit)?;
            if inner.tag == ITEM_END || inner.tag == SEQUENCE_END {
                return Some(());
            }
            inner.skip(file, explicit, depth + 1)?;
        }
    }

    fn text(&self, file: &mut impl Read) -> Option<String> {
        let mut value = vec![0; self.len.min(256) as usize];
        file.read_exact(&mut value).ok()?;
        let text = String::from_utf8_lossy(&value).trim_end_matches(['\0', ' ']).to_owned();
        (!text.is_empty()).then_some(text)
    }
}
