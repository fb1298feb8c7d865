//! The image file directories of a TIFF: tags and their values, nothing of pixels.
//!
//! Owns: [`TiffFile`], [`Directory`], the numbers of [`tag`]s. Must not know: pyramids, vendors, decoding.
//! Source: TIFF 6.0 §2; BigTIFF as in libtiff. Our own walk and not the `tiff` crate's, because that decoder loads
//! and checks the first image before its limits can be set (1 MiB per tag: fewer tiles than a large slide has),
//! and because one broken page would hide the pages behind it.

use super::{ByteSource, TiffError};
use std::collections::{BTreeMap, HashSet};

/// Most directories that are read; slides have tens, image stacks thousands.
const MAX_DIRECTORIES: usize = 4096;
/// Most entries of one directory.
const MAX_ENTRIES: u64 = 4096;
/// Longest text of one tag: OME-XML of large screens reaches a few MiB.
const MAX_TEXT_BYTES: u64 = 32 << 20;

/// Numbers of the tags we read.
pub(super) mod tag {
    pub(in super::super) const SUBFILE_TYPE: u16 = 254;
    pub(in super::super) const WIDTH: u16 = 256;
    pub(in super::super) const HEIGHT: u16 = 257;
    pub(in super::super) const BITS_PER_SAMPLE: u16 = 258;
    pub(in super::super) const COMPRESSION: u16 = 259;
    pub(in super::super) const PHOTOMETRIC: u16 = 262;
    pub(in super::super) const DESCRIPTION: u16 = 270;
    pub(in super::super) const STRIP_OFFSETS: u16 = 273;
    pub(in super::super) const SAMPLES_PER_PIXEL: u16 = 277;
    pub(in super::super) const ROWS_PER_STRIP: u16 = 278;
    pub(in super::super) const STRIP_BYTE_COUNTS: u16 = 279;
    pub(in super::super) const X_RESOLUTION: u16 = 282;
    pub(in super::super) const Y_RESOLUTION: u16 = 283;
    pub(in super::super) const PLANAR_CONFIG: u16 = 284;
    pub(in super::super) const RESOLUTION_UNIT: u16 = 296;
    pub(in super::super) const SOFTWARE: u16 = 305;
    pub(in super::super) const PREDICTOR: u16 = 317;
    pub(in super::super) const TILE_WIDTH: u16 = 322;
    pub(in super::super) const TILE_HEIGHT: u16 = 323;
    pub(in super::super) const TILE_OFFSETS: u16 = 324;
    pub(in super::super) const TILE_BYTE_COUNTS: u16 = 325;
    pub(in super::super) const SUB_IFDS: u16 = 330;
    pub(in super::super) const EXTRA_SAMPLES: u16 = 338;
    pub(in super::super) const SAMPLE_FORMAT: u16 = 339;
    pub(in super::super) const JPEG_TABLES: u16 = 347;
    pub(in super::super) const XML_PACKET: u16 = 700;
    pub(in super::super) const IMAGE_DEPTH: u16 = 32997;
    pub(in super::super) const NDPI_FORMAT: u16 = 65420;
}

/// A TIFF whose header is understood.
pub(super) struct TiffFile<'s> {
    source: &'s dyn ByteSource,
    big_endian: bool,
    big: bool,
    first: u64,
}

/// One directory.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    entries: BTreeMap<u16, Entry>,
    next: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: u16,
    count: u64,
    /// Position in the file of the value, wherever it lies.
    at: u64,
}

impl Entry {
    fn value_bytes(self) -> u64 {
        match self.kind {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16 | 17 | 18 => 8,
            _ => 0,
        }
    }
}

impl Directory {
    /// Whether the tag is there.
    pub(super) fn has(&self, tag: u16) -> bool {
        self.entries.contains_key(&tag)
    }
}

impl<'s> TiffFile<'s> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`TiffError::NotTiff`] when the first bytes are not those of a TIFF.
    pub(super) fn new(source: &'s dyn ByteSource) -> Result<Self, TiffError> {
        let mut head = [0u8; 16];
        let n = source.len_bytes().min(16) as usize;
        source.read_at(0, &mut head[..n])?;
        let big_endian = match &head[..2] {
            b"II" => false,
            b"MM" => true,
            _ => return Err(TiffError::NotTiff),
        };
        let mut file = Self { source, big_endian, big: false, first: 0 };
        match (file.number(&head[2..4]), n) {
            (42, 8..) => file.first = file.number(&head[4..8]),
            (43, 16) if file.number(&head[4..6]) == 8 => {
                file.big = true;
                file.first = file.number(&head[8..16]);
            }
            (42 | 43, _) => return Err(TiffError::Damaged(format!("the header ends after {n} bytes"))),
            _ => return Err(TiffError::NotTiff),
        }
        Ok(file)
    }

    /// All directories of the main chain.
    ///
    /// # Errors
    /// [`TiffError::Damaged`] for a chain that leaves the file, turns back on itself, or does not end.
    pub(super) fn directories(&self) -> Result<Vec<Directory>, TiffError> {
        let (mut found, mut seen, mut at) = (Vec::new(), HashSet::new(), self.first);
        while at != 0 {
            if !seen.insert(at) {
                return Err(TiffError::Damaged(format!("the directory at byte {at} follows itself")));
            }
            if found.len() == MAX_DIRECTORIES {
                return Err(TiffError::Unsupported(format!("more than {MAX_DIRECTORIES} pages")));
            }
            let directory = self.directory(at)?;
            at = directory.next;
            found.push(directory);
        }
        if found.is_empty() {
            return Err(TiffError::Damaged("it has no directory".into()));
        }
        Ok(found)
    }

    /// The directory at byte `at`.
    ///
    /// # Errors
    /// [`TiffError::Damaged`] when it does not lie in the file.
    pub(super) fn directory(&self, at: u64) -> Result<Directory, TiffError> {
        let (count_bytes, entry_bytes, word) = if self.big { (8, 20, 8) } else { (2, 12, 4) };
        let count = self.number(&self.bytes(at, count_bytes, "a directory")?);
        if count == 0 || count > MAX_ENTRIES {
            return Err(TiffError::Damaged(format!("the directory at byte {at} has {count} entries")));
        }
        let table_at = at + count_bytes;
        let table = self.bytes(table_at, count * entry_bytes + word, "a directory")?;
        let mut entries = BTreeMap::new();
        for (i, raw) in table.chunks_exact(entry_bytes as usize).take(count as usize).enumerate() {
            let kind = self.number(&raw[2..4]) as u16;
            let (count, value) = raw[4..].split_at(word as usize);
            let mut entry = Entry { kind, count: self.number(count), at: 0 };
            let inline = entry.count.checked_mul(entry.value_bytes()).is_some_and(|n| n <= word);
            entry.at = if inline { table_at + i as u64 * entry_bytes + 4 + word } else { self.number(value) };
            // The first of two equal tags counts, as in libtiff.
            entries.entry(self.number(&raw[..2]) as u16).or_insert(entry);
        }
        let next = self.number(&table[(count * entry_bytes) as usize..]);
        Ok(Directory { entries, next })
    }

    /// The whole numbers of a tag.
    ///
    /// # Errors
    /// [`TiffError::Damaged`] when they are of another type or do not lie in the file.
    pub(super) fn uints(&self, directory: &Directory, tag: u16) -> Result<Option<Vec<u64>>, TiffError> {
        let Some(&entry) = directory.entries.get(&tag) else { return Ok(None) };
        if !matches!(entry.kind, 1 | 3 | 4 | 13 | 16 | 18) {
            return Err(TiffError::Damaged(format!("tag {tag} has type {}, expected whole numbers", entry.kind)));
        }
        let raw = self.raw(entry, tag)?;
        Ok(Some(raw.chunks_exact(entry.value_bytes() as usize).map(|v| self.number(v)).collect()))
    }

    /// The first whole number of a tag.
    ///
    /// # Errors
    /// As [`TiffFile::uints`].
    pub(super) fn uint(&self, directory: &Directory, tag: u16) -> Result<Option<u64>, TiffError> {
        let Some(&entry) = directory.entries.get(&tag) else { return Ok(None) };
        let first = Entry { count: entry.count.min(1), ..entry };
        let one = Directory { entries: BTreeMap::from([(tag, first)]), next: 0 };
        Ok(self.uints(&one, tag)?.and_then(|v| v.first().copied()))
    }

    /// The first value of a tag as a real number; `None` when it is absent, of no such type, or unreadable.
    pub(super) fn real(&self, directory: &Directory, tag: u16) -> Option<f64> {
        let entry = *directory.entries.get(&tag)?;
        let raw = self.raw(Entry { count: entry.count.min(1), ..entry }, tag).ok()?;
        if raw.is_empty() {
            return None;
        }
        let half = |i: usize| self.number(&raw[i * 4..i * 4 + 4]) as u32;
        Some(match entry.kind {
            // A TIFF rational is a 32-bit float for every reader that OpenSlide builds on.
            5 => f64::from((f64::from(half(0)) / f64::from(half(1))) as f32),
            10 => f64::from((f64::from(half(0) as i32) / f64::from(half(1) as i32)) as f32),
            11 => f64::from(f32::from_bits(half(0))),
            12 => f64::from_bits(self.number(&raw)),
            1 | 3 | 4 | 16 => self.number(&raw) as f64,
            _ => return None,
        })
    }

    /// The bytes of a tag; `None` when it is absent or too long to be text.
    ///
    /// # Errors
    /// [`TiffError::Damaged`] when they do not lie in the file.
    pub(super) fn blob(&self, directory: &Directory, tag: u16) -> Result<Option<Vec<u8>>, TiffError> {
        match directory.entries.get(&tag) {
            Some(&entry) if entry.value_bytes() == 1 && entry.count <= MAX_TEXT_BYTES => self.raw(entry, tag).map(Some),
            _ => Ok(None),
        }
    }

    /// The text of a tag, up to its first NUL.
    pub(super) fn text(&self, directory: &Directory, tag: u16) -> Option<String> {
        let bytes = self.blob(directory, tag).ok()??;
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    fn raw(&self, entry: Entry, tag: u16) -> Result<Vec<u8>, TiffError> {
        let len = entry.count.checked_mul(entry.value_bytes());
        let len = len.ok_or_else(|| TiffError::Damaged(format!("tag {tag} has {} values", entry.count)))?;
        self.bytes(entry.at, len, &format!("the value of tag {tag}"))
    }

    /// Bytes that lie in the file: nothing is allocated for bytes that do not.
    fn bytes(&self, at: u64, len: u64, what: &str) -> Result<Vec<u8>, TiffError> {
        let size = self.source.len_bytes();
        if at.checked_add(len).is_none_or(|end| end > size) {
            return Err(TiffError::Damaged(format!(
                "{what} lies at bytes {at}..{}, past the end of the file ({size} bytes)",
                at.saturating_add(len)
            )));
        }
        let mut buf = vec![0; len as usize];
        self.source.read_at(at, &mut buf)?;
        Ok(buf)
    }

    fn number(&self, bytes: &[u8]) -> u64 {
        let shift = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        if self.big_endian { bytes.iter().fold(0, shift) } else { bytes.iter().rev().fold(0, shift) }
    }
}
