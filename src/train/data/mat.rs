//! MATLAB's `.mat` files of version 5 to 7.
//!
//! Owns: [`read_mat`]. Must not know: what arrays mean.
//! Source: MathWorks, "MAT-File Format" (R2019b), chapter 1. Only plain numeric arrays are read; cells, structures and
//! texts beside them are passed over. Version 7.3 is HDF5 and refused. Files are not trusted: sizes are checked before
//! anything is allocated, and compressed parts may not grow beyond the bound of arrays.

use super::array::{Array, Element, MAX_ARRAY_BYTES};
use std::{fs::File, io::Read, path::Path};

const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

/// An element of the file: its kind and its bytes.
struct Tagged<'a> {
    kind: u32,
    data: &'a [u8],
}

/// Reads the array `name`.
///
/// # Errors
/// In words: not readable, not of version 5 to 7, no such array, or too large.
pub fn read_mat(path: &Path, name: &str) -> Result<Array, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let mut bytes = vec![];
    file.take(MAX_ARRAY_BYTES + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_ARRAY_BYTES {
        return Err(format!("more than {} MiB", MAX_ARRAY_BYTES >> 20));
    }
    find(&bytes, name)
}

fn find(bytes: &[u8], name: &str) -> Result<Array, String> {
    if bytes.starts_with(b"MATLAB 7.3") || bytes.starts_with(b"\x89HDF") {
        return Err("MATLAB 7.3 (HDF5), expected version 5 to 7: save it with `-v7`".to_owned());
    }
    let big = match bytes.get(126..128) {
        Some(b"IM") => false,
        Some(b"MI") => true,
        _ => return Err("not a MATLAB file of version 5 to 7".to_owned()),
    };
    let mut names = vec![];
    let mut rest = &bytes[128..];
    let mut inflated = vec![];
    while !rest.is_empty() {
        let Some((element, after)) = tagged(rest, big, false) else { return Err("it is cut short".to_owned()) };
        rest = after;
        let matrix = if element.kind == COMPRESSED {
            inflated.clear();
            let unpacked = flate2::read::ZlibDecoder::new(element.data).take(MAX_ARRAY_BYTES + 1);
            { unpacked }.read_to_end(&mut inflated).map_err(|e| e.to_string())?;
            match tagged(&inflated, big, true) {
                Some((inner, _)) => inner,
                None => return Err("a compressed part that makes no sense".to_owned()),
            }
        } else {
            element
        };
        if matrix.kind != MATRIX {
            continue;
        }
        let Some((found, class, dims, body)) = header(matrix.data, big) else { continue };
        if found != name {
            names.push(found);
            continue;
        }
        return array(class, dims, body, big);
    }
    Err(format!("no array `{name}`, found `{}`", names.join("`, `")))
}

/// The first element of `bytes` and what follows it. Elements are padded to 8 bytes, but for compressed ones.
fn tagged(bytes: &[u8], big: bool, may_be_short: bool) -> Option<(Tagged<'_>, &[u8])> {
    let word = |at: usize| {
        let b: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(if big { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) })
    };
    let first = word(0)?;
    if first >> 16 != 0 {
        // The small form: size and kind share a word, the data follow in the next.
        let size = (first >> 16) as usize;
        let data = bytes.get(4..4 + size).filter(|_| size <= 4)?;
        return Some((Tagged { kind: first & 0xffff, data }, bytes.get(8..).unwrap_or(&[])));
    }
    let size = word(4)? as usize;
    let end = size.checked_add(8)?;
    let data = match bytes.get(8..end) {
        Some(data) => data,
        None if may_be_short => bytes.get(8..)?,
        None => return None,
    };
    let padded = if first == COMPRESSED { end } else { end.checked_next_multiple_of(8)? };
    Some((Tagged { kind: first, data }, bytes.get(padded..).unwrap_or(&[])))
}

/// Name, class, dimensions of a matrix, and its numbers' element.
fn header(bytes: &[u8], big: bool) -> Option<(String, u8, Vec<usize>, &[u8])> {
    let (flags, rest) = tagged(bytes, big, false)?;
    let (dims, rest) = tagged(rest, big, false)?;
    let (name, rest) = tagged(rest, big, false)?;
    let class = if big { *flags.data.get(3)? } else { *flags.data.first()? };
    let dims = dims.data.chunks_exact(4).map(|c| {
        let c = [c[0], c[1], c[2], c[3]];
        (if big { u32::from_be_bytes(c) } else { u32::from_le_bytes(c) }) as usize
    });
    Some((String::from_utf8_lossy(name.data).into_owned(), class, dims.collect(), rest))
}

fn array(class: u8, shape: Vec<usize>, body: &[u8], big: bool) -> Result<Array, String> {
    // mxDOUBLE_CLASS 6 to mxUINT64_CLASS 15.
    if !(6..=15).contains(&class) {
        return Err("a cell, structure or text, expected numbers".to_owned());
    }
    let (numbers, _) = tagged(body, big, false).ok_or("an array without numbers")?;
    let element = match numbers.kind {
        1 => Element::Signed(1),
        2 => Element::Unsigned(1),
        3 => Element::Signed(2),
        4 => Element::Unsigned(2),
        5 => Element::Signed(4),
        6 => Element::Unsigned(4),
        7 => Element::Float(4),
        9 => Element::Float(8),
        12 => Element::Signed(8),
        13 => Element::Unsigned(8),
        other => return Err(format!("numbers of kind {other}")),
    };
    let len = Array::checked_len(&shape, element)? * element.bytes();
    let bytes = numbers.data.get(..len).ok_or("fewer numbers than its dimensions say")?.to_vec();
    let mut array = Array { shape, element, bytes };
    if big {
        array.swap_bytes();
    }
    Ok(array.in_our_order())
}
