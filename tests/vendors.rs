//! Slides in the formats of vendors, from opening to verified results: 3DHISTECH MRXS, Leica SCN, Ventana BIF,
//! Hamamatsu VMS, Philips TIFF, Trestle TIFF. `fixtures/vendors/make.py` lays them out and says what they show.

use crate::program::{assert_code, home, rows, text, wsi_run};
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, Row},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};
use wsi_run::{
    error::SlideError,
    geometry::{InLevel, Rect},
    slides::{Level, MppSource, SlideReader, files_of, open_file},
};

/// Colour of nuclei as drawn; JPEG of quality 55 is off by some grey values, most where colours change.
const DARK: [f64; 3] = [96.0, 60.0, 142.0];
const JPEG_ERROR: f64 = 20.0;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vendors")
}

/// `file → expected`; nothing where there is no OpenSlide.
fn expected() -> BTreeMap<String, Value> {
    if openslide_sys::ensure_loaded().is_err() {
        println!("skipped: no OpenSlide");
        return BTreeMap::new();
    }
    let all: BTreeMap<String, Value> =
        serde_json::from_slice(&fs::read(fixtures().join("expected.json")).unwrap()).unwrap();
    assert_eq!(all.len(), 6);
    all
}

fn open(name: &str) -> Arc<dyn SlideReader> {
    open_file(&fixtures().join(name), None).unwrap()
}

fn refused(path: &Path) -> SlideError {
    open_file(path, None).err().unwrap_or_else(|| panic!("{} opens", path.display()))
}

fn read(slide: &dyn SlideReader, level: usize, region: Rect<InLevel>) -> Vec<u8> {
    let mut rgb = vec![123; region.area() as usize * 3];
    slide.read_region(Level(level as u8), region, &mut rgb).unwrap();
    rgb
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// `[x, y, …]` of whole numbers.
fn points(value: &Value) -> Vec<Vec<i64>> {
    let point = |v: &Value| v.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect();
    value.as_array().unwrap().iter().map(point).collect()
}

#[test]
fn a_slide_of_a_vendor_is_what_openslide_says_it_is() {
    for (name, told) in expected() {
        let slide = open(&name);
        let info = slide.info();
        assert_eq!((info.reader, info.vendor.as_str()), ("openslide", told["vendor"].as_str().unwrap()), "{name}");
        let (mpp, source) = info.mpp.unwrap();
        assert_eq!(vec![mpp.x.um_per_px(), mpp.y.um_per_px()], numbers(&told["mpp"]), "{name}");
        assert_eq!(source, MppSource::Vendor, "{name}");
        // OpenSlide 3.4 does not tell that of a Philips slide, and rounds the size of bounds another way.
        let is_new = openslide_sys::has_version_4().unwrap();
        if is_new || info.objective_power.is_some() {
            assert_eq!(info.objective_power, told["objective_power"].as_f64(), "{name}");
        }
        assert_eq!(info.quickhash.as_deref(), told["quickhash"].as_str(), "{name}");
        let bounds = info.bounds.map(|b| vec![b.x as f64, b.y as f64, f64::from(b.w), f64::from(b.h)]);
        let all = told["bounds"].as_array().map(|_| numbers(&told["bounds"]));
        let size_error = if is_new { 0.0 } else { 4.0 };
        assert_eq!(bounds.is_some(), all.is_some(), "{name}");
        for (found, told) in bounds.iter().flatten().zip(all.iter().flatten()) {
            assert!((found - told).abs() <= size_error, "{name}: bounds {bounds:?}, expected {all:?}");
        }
        let levels = told["levels"].as_array().unwrap();
        assert_eq!(info.levels.len(), levels.len(), "{name}");
        for (i, (level, told)) in info.levels.iter().zip(levels).enumerate() {
            assert_eq!(Some(u64::from(level.size.w)), told["w"].as_u64(), "{name} level {i}");
            assert_eq!(Some(u64::from(level.size.h)), told["h"].as_u64(), "{name} level {i}");
            if let Some(sha256) = told["sha256"].as_str() {
                let whole = read(&*slide, i, level.size.rect());
                let digest: String = Sha256::digest(whole).iter().map(|b| format!("{b:02x}")).collect();
                assert_eq!(digest, sha256, "{name} level {i}");
            }
        }
    }
}

#[test]
fn nuclei_are_where_they_were_drawn_and_what_was_not_scanned_is_white() {
    for (name, told) in expected() {
        let slide = open(&name);
        let nuclei = points(&told["nuclei"]);
        assert!(nuclei.len() > 60, "{name}");
        for nucleus in &nuclei {
            let px = read(&*slide, 0, Rect::new(nucleus[0] - 2, nucleus[1] - 2, 5, 5));
            let mean = |c: usize| px.iter().skip(c).step_by(3).map(|&v| f64::from(v)).sum::<f64>() / 25.0;
            let is_dark = (0..3).all(|c| (mean(c) - DARK[c]).abs() < JPEG_ERROR);
            assert!(is_dark, "{name} at {nucleus:?}: {:?}", [0, 1, 2].map(mean));
        }
        for square in points(&told["not_scanned"]) {
            let rgb = read(&*slide, 0, Rect::new(square[0], square[1], 32, 32));
            assert!(rgb.iter().all(|&v| v == 255), "{name} at {square:?}");
        }
        let size = slide.info().level0();
        let beside = read(&*slide, 0, Rect::new(i64::from(size.w), -7, 9, 40));
        assert!(beside.iter().all(|&v| v == 255), "{name}");
        // Half inside: what is inside is as it is alone.
        let corner = Rect::new(i64::from(size.w) - 20, i64::from(size.h) - 20, 20, 20);
        let over = read(&*slide, 0, Rect::new(corner.x, corner.y, 50, 50));
        let inside: Vec<u8> = over.chunks(150).take(20).flat_map(|row| row[..60].to_vec()).collect();
        assert!(inside == read(&*slide, 0, corner), "{name}");
    }
}

#[test]
fn px_that_are_partly_transparent_lie_over_white() {
    let mut seen = 0;
    let all = expected();
    for (name, told) in &all {
        let slide = open(name);
        for edge in points(&told["edges"]) {
            let px = read(&*slide, edge[0] as usize, Rect::new(edge[1], edge[2], 1, 1));
            let close = px.iter().zip(&edge[3..]).all(|(&found, told)| (i64::from(found) - told).abs() <= 3);
            assert!(close, "{name} at {edge:?}: {px:?}");
            seen += 1;
        }
    }
    assert!(all.is_empty() || seen > 20);
}

#[test]
fn a_region_of_a_vendors_slide_is_the_same_however_it_is_cut() {
    for name in expected().into_keys() {
        let slide = open(&name);
        for (i, level) in slide.info().levels.iter().enumerate() {
            let (w, h) = (level.size.w, level.size.h);
            let whole = read(&*slide, i, level.size.rect());
            for region in [
                Rect::new(1, 1, w.div_ceil(2), h.div_ceil(2)),
                Rect::new(i64::from(w / 3), i64::from(h / 3), (w / 5).max(1), (h / 4).max(1)),
                Rect::new(i64::from(w) - 1, i64::from(h) - 1, 1, 1),
            ] {
                let cut: Vec<u8> = (region.y..region.bottom())
                    .flat_map(|y| {
                        let at = (y as usize * w as usize + region.x as usize) * 3;
                        whole[at..at + region.w as usize * 3].to_vec()
                    })
                    .collect();
                assert!(read(&*slide, i, region) == cut, "{name} level {i} {region:?}");
            }
        }
    }
}

/// 12 bits a colour, in columns of 128 px, as VMU slides are stored: the colours of `px_at`.
fn ngr(w: i32, h: i32, px_at: impl Fn(i32, i32) -> [u8; 3]) -> Vec<u8> {
    let mut bytes = b"GN\0\0".to_vec();
    bytes.extend([w, h, 128, 0, 0, 28].into_iter().flat_map(i32::to_le_bytes));
    for column in 0..w / 128 {
        for (y, x) in (0..h).flat_map(|y| (0..128).map(move |x| (y, column * 128 + x))) {
            // The lowest bits are more than 8-bit results can hold.
            bytes.extend(px_at(x, y).iter().flat_map(|&v| (u16::from(v) << 4 | 7).to_le_bytes()));
        }
    }
    bytes
}

#[test]
fn an_uncompressed_hamamatsu_slide_has_its_px_to_the_bit() {
    if expected().is_empty() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let px_at = |x: i32, y: i32| [(x * 3 + y) as u8, (x ^ y) as u8, (200 - y) as u8];
    let index = "[Uncompressed Virtual Microscope Specimen]\r\nNoLayers=1\r\nImageFile=u.ngr\r\nMapFile=u_map.ngr\r\n\
        BitsPerPixel=36\r\nPixelOrder=RGB\r\nPhysicalWidth=128000\r\nPhysicalHeight=50000\r\nSourceLens=20\r\n";
    let path = dir.path().join("u.vmu");
    fs::write(&path, index).unwrap();
    fs::write(dir.path().join("u.ngr"), ngr(256, 100, px_at)).unwrap();
    fs::write(dir.path().join("u_map.ngr"), ngr(128, 50, |x, y| px_at(2 * x, 2 * y))).unwrap();
    assert_eq!(files_of(&path).len(), 3);
    let slide = open_file(&path, None).unwrap();
    let info = slide.info();
    let (mpp, source) = info.mpp.unwrap();
    assert_eq!((mpp.x.um_per_px(), mpp.y.um_per_px(), source), (0.5, 0.5, MppSource::Vendor));
    assert_eq!((info.vendor.as_str(), info.levels.len(), info.objective_power), ("hamamatsu", 2, Some(20.0)));
    for (level, w, h, down) in [(0, 256, 100, 1), (1, 128, 50, 2)] {
        let drawn = (0..h).flat_map(|y| (0..w).flat_map(move |x| px_at(down * x, down * y)));
        assert!(read(&*slide, level, Rect::new(0, 0, w as u32, h as u32)) == drawn.collect::<Vec<u8>>(), "{level}");
    }
}

/// A copy of a slide of several files.
fn copied(name: &str, to: &Path) -> PathBuf {
    for file in files_of(&fixtures().join(name)) {
        let to = to.join(file.strip_prefix(fixtures()).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    }
    to.join(name)
}

#[test]
fn slides_of_several_files_are_whole_when_their_files_are_copied() {
    for (name, count) in [("mirax.mrxs", 4), ("hamamatsu.vms", 5)] {
        assert_eq!(files_of(&fixtures().join(name)).len(), count, "{name}");
        if !expected().is_empty() {
            let dir = tempfile::tempdir().unwrap();
            let copy = open_file(&copied(name, dir.path()), None).unwrap();
            let all = copy.info().levels[0].size.rect();
            assert!(read(&*copy, 0, all) == read(&*open(name), 0, all), "{name}");
        }
    }
}

#[test]
fn an_mrxs_slide_is_never_taken_for_the_small_picture_that_its_file_is() {
    if expected().is_empty() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = copied("mirax.mrxs", dir.path());
    assert!(fs::read(&path).unwrap().starts_with(b"\xff\xd8\xff"), "scanners write a JPEG");
    // Somebody emptied it: the slide is in the folder.
    fs::write(&path, b"").unwrap();
    assert_eq!(open_file(&path, None).unwrap().info().vendor, "mirax");
    let capital = path.with_extension("MRXS");
    fs::copy(fixtures().join("mirax.mrxs"), &capital).unwrap();
    assert!(refused(&capital).hint.unwrap().contains("small letters"));
    fs::remove_file(dir.path().join("mirax/Data0000.dat")).unwrap();
    assert!(refused(&path).hint.unwrap().contains("incomplete"));
    fs::remove_dir_all(dir.path().join("mirax")).unwrap();
    fs::copy(fixtures().join("mirax.mrxs"), &path).unwrap();
    let error = refused(&path);
    assert!(error.hint.as_ref().unwrap().contains("copy both"), "{error} {:?}", error.hint);
}

#[test]
fn slides_that_openslide_cannot_read_say_whether_they_are_damaged() {
    if expected().is_empty() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bif = fs::read(fixtures().join("ventana.bif")).unwrap();
    let newer = dir.path().join("newer.bif");
    // The scanners VENTANA DP 200 and 600 join tiles to the left, too.
    let text: Vec<u8> = bif.clone();
    let at = text.windows(17).position(|w| w == b"Direction=\"RIGHT\"").unwrap();
    let mut bytes = text;
    bytes[at..at + 17].copy_from_slice(b"Direction=\"LEFT\" ");
    fs::write(&newer, bytes).unwrap();
    let error = refused(&newer);
    assert!(error.message.contains("LEFT") && error.hint.as_ref().unwrap().contains("OME-TIFF"), "{error}");
    for name in ["ventana.bif", "leica.scn", "philips.tiff", "trestle.tif"] {
        let cut = dir.path().join(name);
        let bytes = fs::read(fixtures().join(name)).unwrap();
        fs::write(&cut, &bytes[..bytes.len() - 60]).unwrap();
        let error = refused(&cut);
        assert!(error.hint.as_ref().unwrap().contains("incomplete"), "{name}: {error} {:?}", error.hint);
    }
}

fn table(path: &Path) -> Vec<Row> {
    let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
    reader.get_row_iter(None).unwrap().map(Result::unwrap).collect()
}

fn column(row: &Row, name: &str) -> f64 {
    match row.get_column_iter().find(|(n, _)| *n == name).unwrap().1 {
        Field::Double(v) => *v,
        Field::Float(v) => f64::from(*v),
        other => panic!("{name} is {other}"),
    }
}

/// Corners of all outlines of a GeoJSON export.
fn outlines(path: &Path) -> Vec<(f64, f64)> {
    let mut json = String::new();
    flate2::read::GzDecoder::new(fs::File::open(path).unwrap()).read_to_string(&mut json).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let features = json["features"].as_array().unwrap().iter();
    let rings = features.flat_map(|f| f["geometry"]["coordinates"][0].as_array().unwrap());
    rings.map(|p| (p[0].as_f64().unwrap(), p[1].as_f64().unwrap())).collect()
}

#[test]
fn a_run_over_slides_of_all_vendors_finds_the_nuclei_that_were_drawn_and_verifies() {
    let all = expected();
    if all.is_empty() {
        return;
    }
    let yaml = format!(
        "slides: {{ dir: {:?} }}\ntissue: {{ min_area_um2: 2000 }}\nmodel: hematoxylin\noutput: {{ dir: out, geojson: {{ origin: bounds }} }}\n\
         run: {{ settle_secs: 0 }}\n",
        fixtures()
    );
    let home = home(&yaml);
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 0);
    let out = home.path().join("out");
    let verified = wsi_run(home.path(), &["verify", "out"]);
    assert!(verified.status.success(), "{}", text(&verified.stdout));
    let slides = rows(&out);
    assert_eq!(slides.len(), 6, "pictures and folders that belong to a slide are no slides: {:?}", slides.keys());
    for (name, told) in &all {
        let id = name.split('.').next().unwrap();
        let row = slides.values().find(|row| row[0].contains(id)).unwrap();
        let says = |what: &str| row.iter().any(|column| column.contains(what));
        assert!(says("mpp_source \"vendor\"") && says("status \"complete\""), "{name}: {row:?}");
        assert!(says(&format!("vendor \"{}\"", told["vendor"].as_str().unwrap())), "{name}: {row:?}");

        let found: Vec<(f64, f64)> = table(&out.join(format!("nuclei/{id}.parquet")))
            .iter()
            .map(|row| (column(row, "centroid_x_px"), column(row, "centroid_y_px")))
            .collect();
        let drawn = points(&told["nuclei"]);
        let within_px = 2.0 / told["mpp"][0].as_f64().unwrap();
        for nucleus in &drawn {
            let (x, y) = (nucleus[0] as f64 + 0.5, nucleus[1] as f64 + 0.5);
            let hits = found.iter().filter(|(fx, fy)| (fx - x).hypot(fy - y) < within_px).count();
            assert_eq!(hits, 1, "{name}: nuclei found at {nucleus:?}");
        }
        // What else is found was cut by the edge of a photo; nothing lies where nothing was scanned.
        assert!(found.len() as f64 <= drawn.len() as f64 * 1.5, "{name}: {} of {}", found.len(), drawn.len());
        for square in points(&told["not_scanned"]) {
            let (x, y) = (square[0] as f64, square[1] as f64);
            let inside = |(fx, fy): &&(f64, f64)| (x..x + 32.0).contains(fx) && (y..y + 32.0).contains(fy);
            assert_eq!(found.iter().find(inside), None, "{name}: found where nothing was scanned");
        }

        let bounds = told["bounds"].as_array().map_or(vec![0.0; 2], |_| numbers(&told["bounds"]));
        let corners = outlines(&out.join(format!("geojson/{id}.geojson.gz")));
        let least = |of: &dyn Fn(&(f64, f64)) -> f64, v: &[(f64, f64)]| v.iter().map(of).fold(f64::INFINITY, f64::min);
        for (axis, bound) in [(0, bounds[0]), (1, bounds[1])] {
            let of = move |p: &(f64, f64)| if axis == 0 { p.0 } else { p.1 };
            // The outermost outline begins a radius before the outermost centroid.
            let gap = least(&of, &found) - bound - least(&of, &corners);
            assert!((0.0..8.0 / told["mpp"][0].as_f64().unwrap()).contains(&gap), "{name}: {gap} px");
        }
    }
}

#[test]
fn info_tells_where_a_slide_was_scanned() {
    if expected().is_empty() {
        return;
    }
    let slide = fixtures().join("leica.scn");
    let said = wsi_run(Path::new("."), &["info", slide.to_str().unwrap()]);
    assert_code(&said, 0);
    let said = text(&said.stdout);
    for line in ["format      leica", "0.5 × 0.5 µm/px (from vendor)", "scanned     800 × 544 px at (40, 24)", "20×"]
    {
        assert!(said.contains(line), "{line}: {said}");
    }
}
