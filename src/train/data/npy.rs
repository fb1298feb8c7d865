//! NumPy's `.npy` files, whole or row by row, and `.npz` archives of them.
//!
//! Owns: [`NpyFile`], [`read_npy`], [`read_npz`]. Must not know: what arrays mean.
//! Source: NumPy's `numpy/lib/format.py` (versions 1 to 3). Arrays of Python objects are pickles, and are refused. Files
//! are not trusted: every number is checked before it is used.

use super::array::{Array, Element, MAX_ARRAY_BYTES};
use std::{
    fs::File,
    io::{Cursor, Read, Seek, SeekFrom},
    path::Path,
};

/// Headers are some 100 bytes.
const MAX_HEADER_BYTES: usize = 1 << 16;

/// An open `.npy` file.
#[derive(Debug)]
pub struct NpyFile<R> {
    source: R,
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// What it holds.
    pub element: Element,
    big_endian: bool,
    fortran: bool,
    /// Where the numbers begin.
    start: u64,
}

impl NpyFile<File> {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// In words: not readable, or not an array of numbers or texts.
    pub fn open(path: &Path) -> Result<Self, String> {
        NpyFile::new(File::open(path).map_err(|e| e.to_string())?)
    }
}

impl<R: Read + Seek> NpyFile<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// In words: not an array of numbers or texts.
    pub fn new(mut source: R) -> Result<Self, String> {
        let mut head = [0; 8];
        source.read_exact(&mut head).map_err(|_| "fewer bytes than a header")?;
        if &head[..6] != b"\x93NUMPY" {
            return Err("not a NumPy array: it does not begin with `\\x93NUMPY`".to_owned());
        }
        let wide = head[6] >= 2;
        let mut length = [0; 4];
        source.read_exact(&mut length[..if wide { 4 } else { 2 }]).map_err(|_| "fewer bytes than a header")?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_HEADER_BYTES {
            return Err(format!("a header of {length} bytes, expected at most {MAX_HEADER_BYTES}"));
        }
        let mut text = vec![0; length];
        source.read_exact(&mut text).map_err(|_| "fewer bytes than its header says")?;
        let text = String::from_utf8_lossy(&text);
        let (element, big_endian) = element_of(value_of(&text, "descr")?)?;
        let fortran = value_of(&text, "fortran_order")?.starts_with("True");
        let shape = shape_of(value_of(&text, "shape")?)?;
        let start = if wide { 12 } else { 10 } + length as u64;
        Ok(Self { source, shape, element, big_endian, fortran, start })
    }

    /// Row `index` of the first axis.
    ///
    /// # Errors
    /// In words: no such row, too large, or cut short.
    pub fn row(&mut self, index: usize) -> Result<Array, String> {
        let Some((&rows, shape)) = self.shape.split_first() else { return Err("a single number".to_owned()) };
        if index >= rows || self.fortran {
            return Err(format!("row {index} of {rows} in C order"));
        }
        let shape = shape.to_vec();
        let bytes = Array::checked_len(&shape, self.element)? * self.element.bytes();
        let at = (index as u64).checked_mul(bytes as u64).and_then(|at| at.checked_add(self.start));
        self.read(at.ok_or("a row beyond any file")?, shape, bytes)
    }

    /// All of it.
    ///
    /// # Errors
    /// In words: too large, or cut short.
    pub fn all(&mut self) -> Result<Array, String> {
        let shape = self.shape.clone();
        let bytes = Array::checked_len(&shape, self.element)? * self.element.bytes();
        let array = self.read(self.start, shape, bytes)?;
        Ok(if self.fortran { array.in_our_order() } else { array })
    }

    fn read(&mut self, at: u64, shape: Vec<usize>, len: usize) -> Result<Array, String> {
        self.source.seek(SeekFrom::Start(at)).map_err(|e| e.to_string())?;
        let mut bytes = vec![];
        // Grows with what is there, not with what the header claims.
        (&mut self.source).take(len as u64).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        if bytes.len() < len {
            return Err("fewer numbers than its header says".to_owned());
        }
        let mut array = Array { shape, element: self.element, bytes };
        if self.big_endian {
            array.swap_bytes();
        }
        Ok(array)
    }
}

/// Reads a whole `.npy` file.
///
/// # Errors
/// In words: not readable, not an array of numbers, or too large.
pub fn read_npy(path: &Path) -> Result<Array, String> {
    NpyFile::open(path)?.all()
}

/// What follows `'key':` in the header's Python dictionary.
fn value_of<'a>(text: &'a str, key: &str) -> Result<&'a str, String> {
    let quoted = [format!("'{key}'"), format!("\"{key}\"")];
    let at = quoted.iter().find_map(|q| text.find(q.as_str()).map(|at| at + q.len()));
    let rest = at.and_then(|at| text[at..].trim_start().strip_prefix(':'));
    rest.map(str::trim_start).ok_or_else(|| format!("no `{key}` in its header"))
}

fn element_of(text: &str) -> Result<(Element, bool), String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let descr = quote.and_then(|q| text[1..].split(q).next()).ok_or("records, expected plain numbers")?;
    let unknown = || format!("elements of type `{descr:.12}`, expected numbers");
    let order = descr.chars().next().ok_or_else(unknown)?;
    let rest = descr.trim_start_matches(['<', '>', '|', '=']);
    let kind = rest.chars().next().filter(char::is_ascii).ok_or_else(unknown)?;
    if kind == 'O' {
        return Err("Python objects (a pickle), expected numbers".to_owned());
    }
    let size: usize = rest[1..].parse().map_err(|_| unknown())?;
    let element = match (kind, size) {
        ('b' | 'u', 1) | ('u', 2 | 4 | 8) => Element::Unsigned(size),
        ('i', 1 | 2 | 4 | 8) => Element::Signed(size),
        ('f', 4 | 8) => Element::Float(size),
        ('U', 1..=4096) => Element::Text(size),
        _ => return Err(unknown()),
    };
    Ok((element, order == '>'))
}

fn shape_of(text: &str) -> Result<Vec<usize>, String> {
    let inside = text.strip_prefix('(').and_then(|t| t.split(')').next()).ok_or("no shape in its header")?;
    let axes = inside.split(',').map(str::trim).filter(|t| !t.is_empty());
    let shape: Vec<usize> = axes
        .map(|t| t.trim_end_matches('L').parse().map_err(|_| format!("an axis of `{t:.20}`")))
        .collect::<Result<_, _>>()?;
    if shape.len() > 8 { Err(format!("{} axes, expected at most 8", shape.len())) } else { Ok(shape) }
}

/// Names and places of an archive's members.
struct Member {
    name: String,
    deflated: bool,
    at: usize,
    bytes: usize,
}

/// Reads the array `name` of an `.npz` archive; the first one for `None`.
///
/// # Errors
/// In words: not readable, no such array, or too large.
pub fn read_npz(path: &Path, name: Option<&str>) -> Result<Array, String> {
    let mut zip = vec![];
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(MAX_ARRAY_BYTES + 1).read_to_end(&mut zip).map_err(|e| e.to_string())?;
    if zip.len() as u64 > MAX_ARRAY_BYTES {
        return Err(format!("more than {} MiB", MAX_ARRAY_BYTES >> 20));
    }
    let members = members(&zip).ok_or("not a zip archive, or a damaged one")?;
    let wanted = |m: &&Member| name.is_none_or(|name| m.name == name || m.name == format!("{name}.npy"));
    let member = members.iter().find(wanted).ok_or_else(|| {
        let names: Vec<&str> = members.iter().take(12).map(|m| m.name.trim_end_matches(".npy")).collect();
        format!("no array `{}`, found `{}`", name.unwrap_or("0"), names.join("`, `"))
    })?;
    let packed = &zip[member.at..member.at + member.bytes];
    if !member.deflated {
        return NpyFile::new(Cursor::new(packed))?.all();
    }
    let mut unpacked = vec![];
    let inflate = flate2::read::DeflateDecoder::new(packed).take(MAX_ARRAY_BYTES + 1).read_to_end(&mut unpacked);
    inflate.map_err(|e| e.to_string())?;
    NpyFile::new(Cursor::new(unpacked))?.all()
}

/// The archive's directory. Source: PKWARE APPNOTE 6.3.10, 4.3.7, 4.3.12, 4.3.16, 4.5.3 (zip64 sizes are taken from the
/// directory's extra field).
fn members(zip: &[u8]) -> Option<Vec<Member>> {
    let u16_at = |at: usize| Some(usize::from(u16::from_le_bytes(zip.get(at..at + 2)?.try_into().ok()?)));
    let u32_at = |at: usize| Some(u32::from_le_bytes(zip.get(at..at + 4)?.try_into().ok()?) as usize);
    let tail = zip.len().saturating_sub(22 + 65_535);
    let end = (tail..=zip.len().checked_sub(22)?).rev().find(|&at| zip[at..].starts_with(b"PK\x05\x06"))?;
    let (count, mut at) = (u16_at(end + 10)?, u32_at(end + 16)?);
    let mut members = vec![];
    for _ in 0..count {
        if !zip.get(at..)?.starts_with(b"PK\x01\x02") {
            return None;
        }
        let (method, mut bytes, full) = (u16_at(at + 10)?, u32_at(at + 20)?, u32_at(at + 24)?);
        let (name_len, extra, comment) = (u16_at(at + 28)?, u16_at(at + 30)?, u16_at(at + 32)?);
        let header = u32_at(at + 42)?;
        if bytes == u32::MAX as usize {
            // zip64: the sizes that do not fit stand in order, full size first.
            let sizes = at + 46 + name_len + 4 + if full == u32::MAX as usize { 8 } else { 0 };
            bytes = u64::from_le_bytes(zip.get(sizes..sizes + 8)?.try_into().ok()?).try_into().ok()?;
        }
        let name = String::from_utf8_lossy(zip.get(at + 46..at + 46 + name_len)?).into_owned();
        let data = header.checked_add(30)?.checked_add(u16_at(header.checked_add(26)?)?)?;
        let data = data.checked_add(u16_at(header + 28)?)?;
        if matches!(method, 0 | 8) && data.checked_add(bytes)? <= zip.len() && name.ends_with(".npy") {
            members.push(Member { name, deflated: method == 8, at: data, bytes });
        }
        at += 46 + name_len + extra + comment;
    }
    Some(members)
}
