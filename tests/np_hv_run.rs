//! A whole slide through a network of HoVer-Net's shape whose maps are known: every nucleus comes out exactly once.

use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, Row},
};
use std::{fs, path::Path, sync::Arc, time::Instant};
use wsi_run::{
    config::{environment::Environment, resolve::load_text, settings::Settings},
    instances::Extractor,
    model::{ClassInfo, Head, HeadMap, HeadSpec, Model, ModelError, ModelSpec},
    pipeline::{CancelToken, RunContext, Setup, Share, Silent, find_slides, run},
    units::Mpp,
};

/// HoVer-Net's fast variant sees 256 px and tells the 164 in the middle.
const TILE_PX: u32 = 256;
const MARGIN_PX: u32 = 46;

/// Reads its maps from the pixels: red says the type (0: background), green and blue the distances.
struct Oracle {
    spec: ModelSpec,
    is_one_core: bool,
    batches_at_once: usize,
}

impl Oracle {
    /// Each thread asks for itself.
    fn new() -> Self {
        let class = |name: &str, color| ClassInfo { name: name.into(), color };
        let head = |head, channels| HeadSpec { head, channels };
        let spec = ModelSpec {
            name: "oracle",
            input_mpp: Mpp::new(0.25).unwrap(),
            any_mpp: false,
            tile_px: TILE_PX,
            tile_step_px: None,
            margin_px: MARGIN_PX,
            usual_margin_px: MARGIN_PX,
            is_certain: false,
            out_stride: 1,
            prob_threshold: None,
            weights_sha256: None,
            heads: vec![head(Head::TypeProbability, 3), head(Head::NuclearPixel, 1), head(Head::HorizontalVertical, 2)],
            classes: vec![class("even", [255, 0, 0]), class("odd", [0, 0, 255])],
        };
        Self { spec, is_one_core: true, batches_at_once: 1 }
    }

    /// A batch takes all processors, or one of the lanes of a GPU.
    fn of_batches(batches_at_once: usize) -> Self {
        Self { is_one_core: false, batches_at_once, ..Self::new() }
    }
}

impl Model for Oracle {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn is_one_core(&self) -> bool {
        self.is_one_core
    }

    fn batches_at_once(&self) -> usize {
        self.batches_at_once
    }

    fn is_cheap(&self) -> bool {
        true
    }

    fn forward(&self, images: &[&[u8]], tile_px: u32) -> Result<Vec<Vec<HeadMap>>, ModelError> {
        fn map(
            image: &[u8],
            tile_px: u32,
            (head, channels): (Head, u32),
            value: impl Fn(&[u8; 3], u32) -> i16,
        ) -> HeadMap {
            let side = tile_px - 2 * MARGIN_PX;
            let mut data = Vec::with_capacity((channels * side * side) as usize);
            for c in 0..channels {
                for y in MARGIN_PX..tile_px - MARGIN_PX {
                    let row = &image[(y * tile_px + MARGIN_PX) as usize * 3..][..side as usize * 3];
                    data.extend(row.as_chunks::<3>().0.iter().map(|px| value(px, c)));
                }
            }
            HeadMap { head, channels, w: side, h: side, data, pixels: None }
        }
        let [types, nuclear, hv] = [(Head::TypeProbability, 3), (Head::NuclearPixel, 1), (Head::HorizontalVertical, 2)];
        let maps = |image: &&[u8]| {
            vec![
                map(image, tile_px, types, |px, c| if u32::from(px[0] / 100) == c { 16384 } else { 0 }),
                map(image, tile_px, nuclear, |px, _| if px[0] > 0 { 16384 } else { 0 }),
                map(image, tile_px, hv, |px, c| ((i32::from(px[c as usize + 1]) - 128) * 129) as i16),
            ]
        };
        Ok(images.iter().map(maps).collect())
    }
}

/// A nucleus that was drawn.
struct Drawn {
    centroid: (f64, f64),
    area_px: u32,
    odd: bool,
}

/// Draws `across × down` ellipses, at most `count`, some of which touch; later ones are cut by earlier ones.
fn draw(side: u32, across: u32, count: u32) -> (Vec<u8>, Vec<Drawn>) {
    let mut seed = 11u64;
    let mut random = |low: f64, high: f64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        low + (high - low) * (seed >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut rgb = [0, 128, 128].repeat((side * side) as usize);
    let mut drawn = Vec::new();
    let step = f64::from(side - 12) / f64::from(across);
    for i in 0..count {
        let (cx, cy) = ((f64::from(i % across) + 0.5) * step + 6.0, (f64::from(i / across) + 0.5) * step + 6.0);
        let (cx, cy) = (cx + random(-8.0, 8.0), cy + random(-8.0, 8.0));
        let (long, slim, turn) = (random(9.0, 14.0), random(0.65, 1.0), random(0.0, std::f64::consts::PI));
        let mut pixels = Vec::new();
        for y in (cy - 14.0) as u32..=(cy + 14.0) as u32 {
            for x in (cx - 14.0) as u32..=(cx + 14.0) as u32 {
                let (dx, dy) = (f64::from(x) - cx, f64::from(y) - cy);
                let (u, v) = (dx * turn.cos() + dy * turn.sin(), dy * turn.cos() - dx * turn.sin());
                if (u / long).powi(2) + (v / long / slim).powi(2) <= 1.0 && rgb[(y * side + x) as usize * 3] == 0 {
                    pixels.push([f64::from(x), f64::from(y)]);
                }
            }
        }
        let mean = |c: usize| pixels.iter().map(|p| p[c]).sum::<f64>() / pixels.len() as f64;
        let centre = [mean(0), mean(1)];
        let far = [0, 1].map(|c| {
            let from = |sign: f64| pixels.iter().map(|p| sign * (p[c] - centre[c])).fold(1e-9, f64::max);
            [from(-1.0), from(1.0)]
        });
        for p in &pixels {
            let at = (p[1] as u32 * side + p[0] as u32) as usize * 3;
            rgb[at] = if i % 2 == 0 { 100 } else { 200 };
            for c in 0..2 {
                let d = p[c] - centre[c];
                rgb[at + 1 + c] = (128.0 + 127.0 * d / far[c][usize::from(d > 0.0)]).round() as u8;
            }
        }
        let centroid = (centre[0] + 0.5, centre[1] + 0.5);
        drawn.push(Drawn { centroid, area_px: pixels.len() as u32, odd: i % 2 == 1 });
    }
    (rgb, drawn)
}

/// Writes an uncompressed TIFF in tiles of 256 px.
fn write_tiff(path: &Path, side: u32, rgb: &[u8]) {
    const TILE: u32 = 256;
    let tiles = side.div_ceil(TILE);
    let mut out = b"II\x2a\0\0\0\0\0".to_vec();
    let mut offsets = Vec::new();
    for tile in 0..tiles * tiles {
        offsets.push(out.len() as u32);
        let (x, y) = (tile % tiles * TILE, tile / tiles * TILE);
        let w = TILE.min(side - x);
        for row in y..y + TILE {
            let start = out.len();
            if row < side {
                out.extend_from_slice(&rgb[(row * side + x) as usize * 3..][..w as usize * 3]);
            }
            out.resize(start + (TILE * 3) as usize, 0);
        }
    }
    let put = |out: &mut Vec<u8>, values: &[u32]| {
        let at = out.len() as u32;
        values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
        at
    };
    let offsets_at = put(&mut out, &offsets);
    let counts_at = put(&mut out, &vec![TILE * TILE * 3; offsets.len()]);
    let bits_at = put(&mut out, &[8 | 8 << 16, 8]);
    let n = offsets.len() as u32;
    // Tag, type (3: short, 4: long), count, value or its place.
    let entries = [
        [256, 4, 1, side],
        [257, 4, 1, side],
        [258, 3, 3, bits_at],
        [259, 3, 1, 1],
        [262, 3, 1, 2],
        [277, 3, 1, 3],
        [284, 3, 1, 1],
        [322, 4, 1, TILE],
        [323, 4, 1, TILE],
        [324, 4, n, offsets_at],
        [325, 4, n, counts_at],
    ];
    let directory = out.len() as u32;
    out[4..8].copy_from_slice(&directory.to_le_bytes());
    out.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    for [tag, kind, count, value] in entries {
        out.extend_from_slice(&(tag as u16).to_le_bytes());
        out.extend_from_slice(&(kind as u16).to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&value.to_le_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    fs::write(path, out).unwrap();
}

fn settings(home: &Path, out: &Path, more: &str) -> Settings {
    let slide = home.join("slide.tif");
    let yaml = format!(
        "slides: {{ list: [{slide:?}], mpp: 0.25 }}\ntissue: {{ everything: {{}}, exclude_pen: false }}\npixels: {{ stain: {{ none: {{}} }} }}\n\
         model: {{ hematoxylin: {{}} }}\noutput: {{ dir: {out:?} }}\n{more}"
    );
    load_text("oracle.yaml", &yaml, &[], &Environment::read()).map_err(|e| format!("{e:?}")).unwrap().settings
}

/// Runs the pipeline with the oracle; rows of the table of nuclei, and the seconds it took.
fn nuclei(home: &Path, name: &str, more: &str, oracle: Oracle) -> (Vec<Row>, f64) {
    let out = home.join(name);
    let settings = settings(home, &out, more);
    fs::create_dir(&out).unwrap();
    let start = Instant::now();
    let setup = Setup::with_model(&settings, Arc::new(oracle)).unwrap();
    assert_eq!(setup.extractor, Some(Extractor::NpHv));
    let context = RunContext { cancel: CancelToken::default(), progress: Arc::new(Silent) };
    let summary = run(&setup, &find_slides(&settings).unwrap(), &Share::alone(&settings), &context).unwrap();
    let secs = start.elapsed().as_secs_f64();
    assert_eq!(summary.slides.len(), 1);
    let reader = SerializedFileReader::new(fs::File::open(out.join("nuclei/slide.parquet")).unwrap()).unwrap();
    (reader.get_row_iter(None).unwrap().map(Result::unwrap).collect(), secs)
}

fn field<'a>(row: &'a Row, name: &str) -> &'a Field {
    row.get_column_iter().find(|(n, _)| *n == name).unwrap().1
}

fn number(row: &Row, name: &str) -> f64 {
    match field(row, name) {
        Field::Double(v) => *v,
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn every_nucleus_of_a_whole_slide_comes_out_exactly_once() {
    let home = tempfile::tempdir().unwrap();
    let side = 4000;
    let (rgb, drawn) = draw(side, 103, 10_600);
    write_tiff(&home.path().join("slide.tif"), side, &rgb);
    let (rows, secs) = nuclei(home.path(), "out", "run: { settle_secs: 0 }\n", Oracle::new());
    let mut times_found = vec![0; drawn.len()];
    let mut at: Vec<Vec<usize>> = vec![Vec::new(); 256 * 256];
    let cell = |x: f64, y: f64| (y / 16.0) as usize * 256 + (x / 16.0) as usize;
    drawn.iter().enumerate().for_each(|(i, d)| at[cell(d.centroid.0, d.centroid.1)].push(i));
    let mut odd_right = 0;
    for row in &rows {
        let (x, y) = (number(row, "centroid_x_px"), number(row, "centroid_y_px"));
        let near = [-16.0, 0.0, 16.0].iter().flat_map(|dy| [-16.0, 0.0, 16.0].map(|dx| (x + dx, y + dy)));
        let candidates = near.filter(|(x, y)| *x >= 0.0 && *y >= 0.0).flat_map(|(x, y)| &at[cell(x, y)]);
        let of = |i: &usize| (drawn[*i].centroid.0 - x).hypot(drawn[*i].centroid.1 - y);
        let nearest = *candidates.min_by(|a, b| of(a).total_cmp(&of(b))).unwrap();
        let area_px = number(row, "area_um2") / 0.0625;
        let share = area_px / f64::from(drawn[nearest].area_px);
        if of(&nearest) < 2.0 && (0.8..1.25).contains(&share) {
            times_found[nearest] += 1;
            let is_odd = matches!(field(row, "type"), Field::Str(s) if s == "odd");
            odd_right += usize::from(is_odd == drawn[nearest].odd);
        }
    }
    let once = times_found.iter().filter(|n| **n == 1).count();
    println!("{} rows, {once} of {} drawn found once, {secs:.2} s", rows.len(), drawn.len());
    assert_eq!((rows.len(), once, odd_right), (drawn.len(), drawn.len(), drawn.len()));
}

#[test]
fn nuclei_do_not_depend_on_regions_blocks_or_threads() {
    let home = tempfile::tempdir().unwrap();
    let (rgb, drawn) = draw(1400, 36, 1296);
    write_tiff(&home.path().join("slide.tif"), 1400, &rgb);
    let (reference, _) = nuclei(home.path(), "reference", "run: { threads: 1, settle_secs: 0 }\n", Oracle::new());
    assert_eq!(reference.len(), drawn.len());
    let cuts = [
        "instances: { region_px: 256 }\nrun: { threads: 3, settle_secs: 0 }\n",
        "instances: { region_px: 512 }\nstitch: { block_px: 512 }\ntiling: { stride_px: 100 }\n",
    ];
    for (i, cut) in cuts.iter().enumerate() {
        let (rows, _) = nuclei(home.path(), &format!("cut{i}"), cut, Oracle::new());
        assert!(rows == reference, "{cut}");
    }
    let (rows, _) = nuclei(home.path(), "slow", "run: { threads: 4, settle_secs: 0 }\n", Oracle::of_batches(1));
    assert!(rows == reference, "one batch at a time");
}

#[test]
fn a_network_that_takes_all_processors_has_small_regions_and_few_extractors() {
    let home = tempfile::tempdir().unwrap();
    let setup = |oracle, more: &str| {
        let settings = settings(home.path(), &home.path().join("out"), &format!("run: {{ threads: 8 }}\n{more}"));
        Setup::with_model(&settings, Arc::new(oracle)).unwrap()
    };
    let told = |setup: &Setup| (setup.tiler.region_px, setup.tiler.block_px, setup.extractors());
    let slow = setup(Oracle::of_batches(1), "");
    assert_eq!(told(&setup(Oracle::new(), "")), (1024, 512, 8));
    assert_eq!(told(&setup(Oracle::of_batches(2), "")), (1024, 512, 8));
    assert_eq!(told(&slow), (512, 256, 2));
    let large = setup(Oracle::of_batches(1), "instances: { region_px: 2048 }\n");
    assert_eq!(told(&large), (2048, 256, 2));
    assert!(2 * slow.flow_bytes() < large.flow_bytes());
}
