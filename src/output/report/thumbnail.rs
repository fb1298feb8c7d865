//! The small picture of a slide in the report, made from its overview and kept for the next report.
//!
//! Owns: [`thumbnail`], [`Size`]. Must not know: pages.
//!
//! The overview is read row by row: however large it is, a few rows are in memory. Its page has a frame around the
//! slide's picture; what is inside is averaged over whole squares of pixels.

use crate::{
    output::{overview::RULE, unique_token},
    pixels::RgbImage,
};
use std::{
    fs::{self, File},
    io::BufReader,
    path::Path,
};

/// Shortest run of the frame's colour that is the frame: letters have none so long.
const MIN_FRAME_PX: usize = 24;
/// Bytes that a kept picture may have.
const MAX_BYTES: u64 = 1 << 20;

/// How large and how good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    side_px: u32,
    quality: i32,
}

impl Size {
    /// Smaller for more: a page of 1,000 slides is some 12 MB.
    pub(super) fn for_slides(count: usize) -> Self {
        let (side_px, quality) = match count {
            0..=300 => (360, 80),
            301..=1500 => (240, 75),
            _ => (128, 70),
        };
        Self { side_px, quality }
    }
}

/// The JPEG of the overview `png`, whose sha256 is `sha256`; from `kept` when it was made before. None when there is
/// no such picture.
pub(super) fn thumbnail(png: &Path, kept: &Path, sha256: &str, size: Size) -> Option<Vec<u8>> {
    let head = format!("{sha256} {} {}\n", size.side_px, size.quality);
    let is_small = fs::metadata(kept).is_ok_and(|meta| meta.len() <= MAX_BYTES);
    if let Some(found) = is_small.then(|| fs::read(kept).ok()).flatten()
        && let Some(jpeg) = found.strip_prefix(head.as_bytes())
        && jpeg.starts_with(&[0xff, 0xd8])
        && jpeg.ends_with(&[0xff, 0xd9])
    {
        return Some(jpeg.to_vec());
    }
    let jpeg = framed_picture(png, size.side_px)?.jpeg(size.quality).ok()?;
    // Not made durable, and not missed: it can be made again.
    let keep = || {
        let dir = kept.parent()?;
        fs::create_dir_all(dir).ok()?;
        let aside = dir.join(format!(".{}.tmp", unique_token()));
        let written = fs::write(&aside, [head.as_bytes(), &jpeg].concat()).and_then(|()| fs::rename(&aside, kept));
        written.map_err(|_| fs::remove_file(&aside)).ok()
    };
    let _ = keep();
    Some(jpeg)
}

/// Left and right end of the frame in a row of `[w, 3]`, if its upper side is there.
fn frame_in(row: &[u8]) -> Option<(usize, usize)> {
    let mut start = None;
    for (x, px) in row.chunks_exact(3).enumerate() {
        match (px == RULE, start) {
            (true, None) => start = Some(x),
            (false, Some(from)) if x - from >= MIN_FRAME_PX => return Some((from, x)),
            (false, _) => start = None,
            _ => {}
        }
    }
    None
}

/// The picture inside the frame, at most `side_px` on its longest side.
fn framed_picture(png: &Path, side_px: u32) -> Option<RgbImage> {
    let decoder = png::Decoder::new(BufReader::new(File::open(png).ok()?));
    let mut reader = decoder.read_info().ok()?;
    let info = reader.info();
    if (info.color_type, info.bit_depth) != (png::ColorType::Rgb, png::BitDepth::Eight) || info.interlaced {
        return None;
    }
    let height = info.height;
    let mut frame: Option<(usize, usize)> = None;
    let (mut factor, mut small, mut sums, mut rows) = (1, RgbImage::white(0, 0), Vec::<u32>::new(), 0);
    let mut y = 0;
    while let Some(row) = reader.next_row().ok()? {
        let row = row.data();
        y += 1;
        let Some((left, right)) = frame else {
            frame = frame_in(row);
            if let Some((left, right)) = frame {
                let longest = (right - left).max(height.saturating_sub(y) as usize);
                factor = longest.div_ceil(side_px as usize).max(1);
                small.w = ((right - left - 2) / factor).max(1) as u32;
                sums = vec![0; small.w as usize * 3];
            }
            continue;
        };
        if row.get(3 * left..3 * left + 3)? != RULE || row.get(3 * (right - 1)..3 * right)? != RULE {
            break;
        }
        let inside = &row[3 * (left + 1)..3 * (right - 1)];
        if inside.chunks_exact(3).all(|px| px == RULE) {
            break;
        }
        let factor_px = factor.min(inside.len() / 3);
        for (sum, square) in sums.chunks_exact_mut(3).zip(inside.chunks(3 * factor_px)) {
            for px in square.chunks_exact(3) {
                sum.iter_mut().zip(px).for_each(|(sum, &value)| *sum += u32::from(value));
            }
        }
        rows += 1;
        if rows == factor {
            let n = (factor_px * rows) as u32;
            small.data.extend(sums.iter().map(|sum| ((sum + n / 2) / n) as u8));
            (rows, small.h) = (0, small.h + 1);
            sums.fill(0);
        }
    }
    (small.h > 0).then_some(small)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page with a framed picture of two colours.
    fn overview(path: &Path, (w, h): (u32, u32)) {
        let (x0, y0) = (40, 60);
        let mut page = RgbImage::white(w + 300, h + 100);
        for y in 0..page.h {
            for x in 0..page.w {
                let is_frame_x = x >= x0 - 1 && x <= x0 + w && (y == y0 - 1 || y == y0 + h);
                let is_frame_y = y >= y0 - 1 && y <= y0 + h && (x == x0 - 1 || x == x0 + w);
                let inside = (x0..x0 + w).contains(&x) && (y0..y0 + h).contains(&y);
                let color = if is_frame_x || is_frame_y {
                    RULE
                } else if inside {
                    if x < x0 + w / 2 { [200, 40, 40] } else { [40, 40, 200] }
                } else {
                    continue;
                };
                let at = (y * page.w + x) as usize * 3;
                page.data[at..at + 3].copy_from_slice(&color);
            }
        }
        let mut encoder = png::Encoder::new(File::create(path).unwrap(), page.w, page.h);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header().unwrap().write_image_data(&page.data).unwrap();
    }

    #[test]
    fn the_picture_inside_the_frame_is_made_small() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        overview(&path, (700, 400));
        let small = framed_picture(&path, 240).unwrap();
        assert!((170..=240).contains(&small.w) && (95..=140).contains(&small.h), "{} x {}", small.w, small.h);
        assert_eq!(small.get(3, 3), [200, 40, 40]);
        assert_eq!(small.get(small.w - 4, small.h - 4), [40, 40, 200]);
    }

    #[test]
    fn a_picture_is_made_once_and_again_when_the_overview_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let (path, kept) = (dir.path().join("a.png"), dir.path().join("thumbs/a.jpg"));
        overview(&path, (300, 200));
        let size = Size::for_slides(1);
        let first = thumbnail(&path, &kept, "one", size).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(thumbnail(&path, &kept, "one", size), Some(first.clone()));
        assert_eq!(thumbnail(&path, &kept, "two", size), None);
        fs::write(&kept, "one 360 80\nno picture").unwrap();
        assert_eq!(thumbnail(&path, &kept, "one", size), None);
        overview(&path, (300, 200));
        assert_eq!(thumbnail(&path, &kept, "one", size), Some(first));
    }
}
