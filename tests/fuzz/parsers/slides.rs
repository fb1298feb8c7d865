//! Slides and what they say of themselves.

use super::{files, parts, scratch, texts, write};
use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use wsi_run::{
    config::settings::{ReaderChoice, SlideSource, Slides},
    geometry::Rect,
    slides::{Level, SlideReader, TiffSlide, decode_jpeg, decode_png, discover},
};

/// Opening and reading end in pixels or an error.
pub fn tiff(bytes: &[u8]) {
    let Ok(slide) = TiffSlide::from_source(Path::new("fuzz"), Box::new(bytes.to_vec())) else { return };
    let mut rgb = vec![0; 40 * 40 * 3];
    for (i, level) in slide.info().levels.iter().enumerate() {
        let (right, bottom) = (i64::from(level.size.w) - 20, i64::from(level.size.h) - 20);
        for (x, y) in [(-1, -1), (right, bottom)] {
            let _ = slide.read_region(Level(i as u8), Rect::new(x, y, 40, 40), &mut rgb);
        }
    }
}

pub fn tiff_seeds() -> Vec<Vec<u8>> {
    files("fixtures/slides", &[".tif"], 40_000)
}

/// A TIFF of one grey tile whose description is `text`.
fn described(text: &[u8]) -> Vec<u8> {
    let at = 8 + 2 + 11 * 12 + 4;
    let entries: [(u16, u16, u32, u32); 11] = [
        (256, 4, 1, 16),
        (257, 4, 1, 16),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (270, 2, text.len() as u32 + 1, at + 256),
        (277, 3, 1, 1),
        (322, 4, 1, 16),
        (323, 4, 1, 16),
        (324, 4, 1, at),
        (325, 4, 1, 256),
    ];
    let mut tiff = b"II*\0\x08\0\0\0\x0b\0".to_vec();
    for (tag, kind, count, value) in entries {
        tiff.extend_from_slice(&tag.to_le_bytes());
        tiff.extend_from_slice(&kind.to_le_bytes());
        tiff.extend_from_slice(&count.to_le_bytes());
        tiff.extend_from_slice(&value.to_le_bytes());
    }
    tiff.extend_from_slice(&[0; 4]);
    tiff.resize(at as usize + 256, 200);
    tiff.extend_from_slice(text);
    tiff.push(0);
    tiff
}

/// A description (Aperio's, OME-XML) gives a resolution above zero, none, or makes the slide one that cannot be read.
pub fn description(bytes: &[u8]) {
    let tiff = described(bytes);
    let Ok(slide) = TiffSlide::from_source(Path::new("fuzz"), Box::new(tiff)) else { return };
    if let Some((mpp, _)) = slide.info().mpp {
        assert!(mpp.x.um_per_px() > 0.0 && mpp.y.um_per_px() > 0.0);
    }
    let _ = wsi_run::slides::check_mpp(slide.info());
    let mut rgb = vec![0; 16 * 16 * 3];
    slide.read_region(Level(0), Rect::new(0, 0, 16, 16), &mut rgb).expect("the pixels are right");
}

pub fn description_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "Aperio Image Library v11.2.1 \r\n46000x32914 [42673,5576 2220x2967] (240x240) JPEG/RGB Q=30|AppMag = 20|MPP = 0.4990",
        "an ordinary picture",
        r#"<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Instrument ID="I">
           <Objective ID="O" NominalMagnification="40"/></Instrument><Image ID="Image:0"><Pixels Type="uint8" SizeC="3"
           SizeZ="1" SizeT="1" PhysicalSizeX="250" PhysicalSizeXUnit="nm" PhysicalSizeY="0.25">
           <Channel SamplesPerPixel="3"/></Pixels></Image></OME>"#,
    ])
}

/// Pictures are decoded whole or refused, and are never larger than what was allowed.
pub fn picture(bytes: &[u8]) {
    const MAX_PX: u64 = 1 << 20;
    for picture in [decode_png(Cursor::new(bytes), MAX_PX), decode_jpeg(bytes, MAX_PX)].into_iter().flatten() {
        let px = u64::from(picture.w) * u64::from(picture.h);
        assert!(px <= MAX_PX && picture.rgb.len() as u64 == 3 * px);
    }
}

pub fn picture_seeds() -> Vec<Vec<u8>> {
    files("fixtures/slides", &[".png", ".jpg"], 40_000)
}

/// Files of DICOM are told apart by their series, or are slides of their own; each is found once.
pub fn series(bytes: &[u8]) {
    static PLACE: OnceLock<(PathBuf, Slides)> = OnceLock::new();
    let (dir, slides) = PLACE.get_or_init(|| {
        let dir = scratch("series");
        let source = SlideSource::Dir(dir.clone());
        (dir, Slides { source, exclude: vec![], mpp: None, mpp_csv: None, reader: ReaderChoice::Auto })
    });
    let (first, second) = bytes.split_at(bytes.len() / 2);
    write(&dir.join("a.dcm"), bytes);
    write(&dir.join("b.dcm"), first);
    write(&dir.join("c.dcm"), second);
    let found = discover(slides, Path::new("")).expect("the folder can be read");
    assert!((1..=3).contains(&found.len()), "{found:?}");
    fs::remove_file(dir.join("b.dcm")).expect("it was written");
}

/// A DICOM file up to its series: explicit or implicit types, with or without a sequence before it.
fn dicom(explicit: bool) -> Vec<u8> {
    let mut file = vec![0; 128];
    file.extend_from_slice(b"DICM");
    let mut put = |tag: (u16, u16), kind: &[u8; 2], value: &[u8], typed: bool| {
        file.extend_from_slice(&tag.0.to_le_bytes());
        file.extend_from_slice(&tag.1.to_le_bytes());
        if !typed {
            file.extend_from_slice(&(value.len() as u32).to_le_bytes());
        } else if kind == b"SQ" {
            file.extend_from_slice(b"SQ\0\0\xff\xff\xff\xff");
        } else {
            file.extend_from_slice(kind);
            file.extend_from_slice(&(value.len() as u16).to_le_bytes());
        }
        file.extend_from_slice(value);
    };
    let syntax: &[u8] = if explicit { b"1.2.840.10008.1.2.1\0" } else { b"1.2.840.10008.1.2\0" };
    put((2, 0x10), b"UI", syntax, true);
    put((8, 0x60), b"CS", b"SM", explicit);
    if explicit {
        put(
            (8, 0x1140),
            b"SQ",
            b"\xfe\xff\0\xe0\xff\xff\xff\xff\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0",
            true,
        );
    }
    put((0x20, 0x0d), b"UI", b"1.2.3\0", explicit);
    put((0x20, 0x0e), b"UI", b"1.2.4\0", explicit);
    file
}

pub fn series_seeds() -> Vec<Vec<u8>> {
    vec![dicom(true), dicom(false), parts(&dicom(true)).concat()]
}
