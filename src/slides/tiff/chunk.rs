//! From the stored bytes of one tile or strip to RGB.
//!
//! Owns: [`read_chunk`]. Must not know: levels, regions, caches.
//! Source: TIFF 6.0 §9 (PackBits), §13 (LZW), §14 (differences), §18 (alpha); Adobe Photoshop TIFF notes (zlib).

use super::{
    ByteSource,
    page::{Packing, Page, Samples},
};
use std::{cell::RefCell, io::Read};

thread_local! {
    /// Stored bytes, and unpacked samples, of the chunk a thread is at.
    static SCRATCH: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Scratch larger than this is given back after use.
const KEPT_SCRATCH_BYTES: usize = 16 << 20;

/// Reads and decodes chunk `(column, row)`.
///
/// # Shapes
/// - `rgb`: `[page.rows_in_chunk(row), page.chunk_w, 3]` u8
///
/// # Errors
/// What is wrong with the chunk, in words.
pub(super) fn read_chunk(
    source: &dyn ByteSource,
    page: &Page,
    column: u32,
    row: u32,
    rgb: &mut [u8],
) -> Result<(), String> {
    let index = row as usize * page.across() as usize + column as usize;
    let rows = page.rows_in_chunk(row);
    SCRATCH.with_borrow_mut(|(stored, samples)| {
        let result = if page.planar {
            read_planes(source, page, index, rows, stored, samples, rgb)
        } else {
            fetch(source, page, index, stored)
                .and_then(|()| decode(page, stored, page.samples.count(), rows, samples, rgb))
        };
        for scratch in [stored, samples] {
            if scratch.capacity() > KEPT_SCRATCH_BYTES {
                *scratch = Vec::new();
            }
        }
        result.map_err(|reason| format!("tile ({column}, {row}): {reason}"))
    })
}

fn fetch(source: &dyn ByteSource, page: &Page, index: usize, stored: &mut Vec<u8>) -> Result<(), String> {
    let (at, len, size) = (page.offsets[index], page.byte_counts[index], source.len_bytes());
    if len == 0 {
        return Err("it has no data in the file".into());
    }
    if at.checked_add(len).is_none_or(|end| end > size) {
        let end = at.saturating_add(len);
        return Err(format!("it lies at bytes {at}..{end}, the file ends at {size}: the file is truncated"));
    }
    if len > page.max_chunk_bytes() {
        return Err(format!("it is stored in {len} bytes, too many for [{}, {}] px", page.chunk_w, page.chunk_h));
    }
    stored.resize(len as usize, 0);
    source.read_at(at, stored).map_err(|e| e.to_string())
}

fn decode(
    page: &Page,
    stored: &[u8],
    per_px: usize,
    rows: u32,
    samples: &mut Vec<u8>,
    rgb: &mut [u8],
) -> Result<(), String> {
    if let Packing::Jpeg(prefix) = &page.packing {
        return prefix.decode(stored, page.chunk_w, rows, rgb);
    }
    unpack(page, stored, per_px, rows, samples)?;
    to_rgb(page.samples, samples, rgb);
    Ok(())
}

fn read_planes(
    source: &dyn ByteSource,
    page: &Page,
    index: usize,
    rows: u32,
    stored: &mut Vec<u8>,
    samples: &mut Vec<u8>,
    rgb: &mut [u8],
) -> Result<(), String> {
    let (planes, px) = (page.samples.count(), rgb.len() / 3);
    let mut together = vec![0u8; px * planes];
    for plane in 0..planes {
        fetch(source, page, plane * page.chunks_per_plane() + index, stored)?;
        unpack(page, stored, 1, rows, samples)?;
        for (sample, px) in samples.iter().zip(together.chunks_exact_mut(planes)) {
            px[plane] = *sample;
        }
    }
    to_rgb(page.samples, &together, rgb);
    Ok(())
}

/// Undoes packing and differences: `[rows, chunk_w, per_px]`.
fn unpack(page: &Page, stored: &[u8], per_px: usize, rows: u32, samples: &mut Vec<u8>) -> Result<(), String> {
    let row_bytes = page.chunk_w as usize * per_px;
    let len = row_bytes * rows as usize;
    samples.clear();
    match page.packing {
        Packing::None => samples.extend_from_slice(&stored[..stored.len().min(len)]),
        Packing::Lzw => {
            samples.resize(len, 0);
            let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
            let done = unpack_lzw(&mut decoder, stored, samples)?;
            samples.truncate(done);
        }
        Packing::Deflate => {
            // One byte more than expected would be a chunk that does not fit; it is not needed to know.
            let mut zlib = flate2::read::ZlibDecoder::new(stored).take(len as u64);
            zlib.read_to_end(samples).map_err(|e| format!("deflate: {e}"))?;
        }
        Packing::PackBits => unpack_bits(stored, len, samples),
        Packing::Jpeg(_) => return Err("JPEG has no samples to unpack".into()),
    }
    if samples.len() != len {
        return Err(format!("it unpacks to {} bytes, expected {len}", samples.len()));
    }
    if page.differences {
        for row in samples.chunks_exact_mut(row_bytes) {
            for i in per_px..row.len() {
                row[i] = row[i].wrapping_add(row[i - per_px]);
            }
        }
    }
    Ok(())
}

fn unpack_lzw(decoder: &mut weezl::decode::Decoder, mut stored: &[u8], out: &mut [u8]) -> Result<usize, String> {
    let mut done = 0;
    while done < out.len() {
        let step = decoder.decode_bytes(stored, &mut out[done..]);
        stored = &stored[step.consumed_in..];
        done += step.consumed_out;
        match step.status {
            Ok(weezl::LzwStatus::Ok) => {}
            Ok(weezl::LzwStatus::NoProgress | weezl::LzwStatus::Done) => break,
            Err(e) => return Err(format!("LZW: {e}")),
        }
    }
    Ok(done)
}

fn unpack_bits(mut stored: &[u8], len: usize, out: &mut Vec<u8>) {
    while let ([head, rest @ ..], true) = (stored, out.len() < len) {
        let room = len - out.len();
        stored = match *head as i8 {
            -128 => rest,
            n @ 0.. => {
                let n = (n as usize + 1).min(rest.len());
                out.extend_from_slice(&rest[..n.min(room)]);
                &rest[n..]
            }
            n => {
                let Some((&value, rest)) = rest.split_first() else { return };
                out.extend(std::iter::repeat_n(value, (1 - n as isize) as usize).take(room));
                rest
            }
        };
    }
}

fn to_rgb(kind: Samples, samples: &[u8], rgb: &mut [u8]) {
    let px = rgb.chunks_exact_mut(3).zip(samples.chunks_exact(kind.count()));
    match kind {
        Samples::Rgb => rgb.copy_from_slice(samples),
        Samples::BlackIsZero => px.for_each(|(to, from)| to.fill(from[0])),
        Samples::WhiteIsZero => px.for_each(|(to, from)| to.fill(255 - from[0])),
        Samples::RgbIgnored => px.for_each(|(to, from)| to.copy_from_slice(&from[..3])),
        Samples::RgbPremultiplied => px.for_each(|(to, from)| {
            for (to, from_sample) in to.iter_mut().zip(from) {
                *to = from_sample.saturating_add(255 - from[3]);
            }
        }),
        Samples::RgbStraight => px.for_each(|(to, from)| {
            let alpha = u32::from(from[3]);
            for (to, from_sample) in to.iter_mut().zip(from) {
                *to = ((u32::from(*from_sample) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packbits_unpacks_the_example_of_the_specification() {
        // TIFF 6.0 §9 has no example; this one is Apple's TN1023.
        let packed = [0xfe, 0xaa, 0x02, 0x80, 0x00, 0x2a, 0xfd, 0xaa, 0x03, 0x80, 0x00, 0x2a, 0x22, 0xf7, 0xaa];
        let mut out = Vec::new();
        unpack_bits(&packed, 24, &mut out);
        assert_eq!(
            out,
            [
                0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0xaa, 0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0x22, 0xaa, 0xaa, 0xaa,
                0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa
            ]
        );
        unpack_bits(&packed[..1], 24, &mut out);
    }

    #[test]
    fn transparent_samples_become_white() {
        let mut rgb = [0; 3];
        to_rgb(Samples::RgbStraight, &[10, 20, 30, 0], &mut rgb);
        assert_eq!(rgb, [255; 3]);
        to_rgb(Samples::RgbPremultiplied, &[5, 10, 15, 128], &mut rgb);
        assert_eq!(rgb, [132, 137, 142]);
        to_rgb(Samples::RgbStraight, &[10, 20, 30, 255], &mut rgb);
        assert_eq!(rgb, [10, 20, 30]);
    }
}
