//! A drawn slide with known nuclei and regions, for tests and benches of the outputs.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared by tests and benches, each using its part")]

use std::path::{Path, PathBuf};
use wsi_run::{
    config::settings::{self, OmeZarrVersion, Origin},
    geometry::{Rect, Size, Target, TargetGrid},
    instances::{Features, Instance, Run},
    model::ClassInfo,
    output::{Committed, ResultKind, SlideHeader, SlidePart, SlideWriter},
    pixels::RgbImage,
    tissue::TissueMask,
    units::{Mpp, MppXy},
};

/// Slide, settings and everything drawn on it.
#[derive(Clone)]
pub struct Scene {
    pub header: SlideHeader,
    pub settings: settings::Output,
    pub tissue: TissueMask,
    pub thumbnail: RgbImage,
    pub nuclei: Vec<Instance>,
}

/// Pseudo-random number of a place; the same everywhere, always.
pub fn hash(a: u32, b: u32) -> u32 {
    let mut v = (u64::from(a) << 32 | u64::from(b)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    v ^= v >> 29;
    v = v.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (v ^ (v >> 32)) as u32
}

pub fn is_tissue(x: f64, y: f64, w: f64, h: f64) -> bool {
    let (u, v) = (x / w - 0.5, y / h - 0.5);
    let wobble = 0.04 * (8.0 * v.atan2(u)).sin() + 0.03 * (3.0 * v.atan2(u) + 1.0).sin();
    u.hypot(v) < 0.42 + wobble && (u + 0.12).hypot(v - 0.05) > 0.08
}

/// An ellipse as an instance of `class`.
pub fn ellipse(cx: f64, cy: f64, rx: f64, ry: f64, class: u8, size: Size<Target>, um: f64) -> Option<Instance> {
    let mut runs = Vec::new();
    for y in (cy - ry).floor().max(0.0) as u32..((cy + ry).ceil() as u32).min(size.h) {
        let v = (f64::from(y) + 0.5 - cy) / ry;
        if v.abs() >= 1.0 {
            continue;
        }
        let half = rx * (1.0 - v * v).sqrt();
        let x0 = (cx - half - 0.5).ceil().max(0.0) as u32;
        let x1 = ((cx + half - 0.5).ceil().max(0.0) as u32).min(size.w);
        if x0 < x1 {
            runs.push(Run { y, x0, x1 });
        }
    }
    let first = runs.first()?;
    let px: f64 = runs.iter().map(|r| f64::from(r.x1 - r.x0)).sum();
    let (mut sx, mut sy) = (0.0, 0.0);
    let mut left = vec![];
    let mut right = vec![];
    for r in &runs {
        let n = f64::from(r.x1 - r.x0);
        sx += n * f64::from(r.x0 + r.x1) / 2.0;
        sy += n * (f64::from(r.y) + 0.5);
        left.extend([[f64::from(r.x0), f64::from(r.y)], [f64::from(r.x0), f64::from(r.y + 1)]]);
        right.extend([[f64::from(r.x1), f64::from(r.y)], [f64::from(r.x1), f64::from(r.y + 1)]]);
    }
    let truncated = first.y == 0 || runs.iter().any(|r| r.x0 == 0 || r.x1 == size.w || r.y + 1 == size.h);
    let mut ring = left;
    ring.extend(right.into_iter().rev());
    ring.push(ring[0]);
    ring.dedup();
    let noise = |k: u32| f64::from(hash(cx as u32 * 31 + k, cy as u32)) / f64::from(u32::MAX);
    let features = Features {
        area_um2: px * um * um,
        perimeter_um: std::f64::consts::PI * (rx + ry) * um,
        axis_major_length_um: 2.0 * rx.max(ry) * um,
        axis_minor_length_um: 2.0 * rx.min(ry) * um,
        eccentricity: (1.0 - (rx.min(ry) / rx.max(ry)).powi(2)).sqrt(),
        solidity: 0.97,
        extent: 0.78,
        circularity: 0.9 + 0.1 * noise(1),
        orientation: noise(2) - 0.5,
        equivalent_diameter_um: (4.0 * px / std::f64::consts::PI).sqrt() * um,
        feret_diameter_max_um: 2.0 * rx.max(ry) * um,
        hematoxylin_od_mean: noise(3),
        hematoxylin_od_std: noise(4),
        eosin_od_mean: noise(5),
        eosin_od_std: noise(6),
        red_mean: 255.0 * noise(7),
        green_mean: 255.0 * noise(8),
        blue_mean: 255.0 * noise(9),
    };
    let mut class_probs = vec![0.1; 3];
    class_probs[usize::from(class) - 1] = 0.8;
    Some(Instance { class, class_probs, runs, centroid: (sx / px, sy / px), rings: vec![ring], truncated, features })
}

/// The nuclei whose cell of a `step_px` grid lies in column `i`, row `j`.
pub fn nucleus(i: u32, j: u32, step_px: u32, size: Size<Target>, um: f64) -> Option<Instance> {
    let n = hash(i, j);
    let cx = f64::from(i * step_px) + f64::from(step_px) * (0.35 + 0.3 * f64::from(n & 255) / 255.0);
    let cy = f64::from(j * step_px) + f64::from(step_px) * (0.35 + 0.3 * f64::from(n >> 8 & 255) / 255.0);
    let radius = f64::from(step_px) * 0.33;
    let (rx, ry) = (radius * (0.7 + f64::from(n >> 16 & 15) / 50.0), radius * (0.7 + f64::from(n >> 20 & 15) / 50.0));
    let (u, v) = (cx / f64::from(size.w), cy / f64::from(size.h));
    let class = if (u - 0.62).hypot(v - 0.45) < 0.2 {
        1
    } else if n.is_multiple_of(7) {
        2
    } else {
        3
    };
    ellipse(cx, cy, rx, ry, class, size, um)
}

impl Scene {
    /// A slide of `w` × `h` level-0 px at 0.25 × 0.26 µm/px, results at 0.5 µm/px, nuclei every `step_px`.
    pub fn new(dir: &Path, w: u32, h: u32, step_px: u32) -> Self {
        let mpp = |v| Mpp::new(v).unwrap();
        let (x, y) = (mpp(0.25), mpp(0.26));
        let grid = TargetGrid::new(Size::new(w, h), MppXy { x, y }, mpp(0.5));
        let class = |name: &str, color| ClassInfo { name: name.to_owned(), color };
        let header = SlideHeader {
            id: "scene-1".to_owned(),
            path: PathBuf::from("slides/scene 1.svs"),
            grid,
            bounds: Some(Rect::new(100, 50, w - 200, h - 100)),
            model: "drawn".to_owned(),
            classes: vec![
                class("tumour", [214, 39, 40]),
                class("lymphocyte", [44, 120, 200]),
                class("stroma", [60, 160, 70]),
            ],
        };
        let (tw, th) = (w.div_ceil(32), h.div_ceil(32));
        let at = |i: u32| is_tissue(f64::from(i % tw) + 0.5, f64::from(i / tw) + 0.5, f64::from(tw), f64::from(th));
        let bits = (0..tw * th).map(|i| u8::from(at(i))).collect();
        let (step_x, step_y) = (f64::from(w) / f64::from(tw), f64::from(h) / f64::from(th));
        let tissue = TissueMask { bits, w: tw, h: th, step_x, step_y };
        let mut thumbnail = RgbImage::white(1200, (1200 * h / w).max(1));
        for y in 0..thumbnail.h {
            for x in 0..thumbnail.w {
                if is_tissue(x.into(), y.into(), thumbnail.w.into(), thumbnail.h.into()) {
                    let n = (hash(x / 3, y / 3) % 24) as u8;
                    let at = (y * thumbnail.w + x) as usize * 3;
                    thumbnail.data[at..at + 3].copy_from_slice(&[236 - n, 190 - n, 215 - n / 2]);
                }
            }
        }
        let settings = settings::Output {
            dir: dir.to_owned(),
            ome_zarr: Some(settings::OmeZarr {
                chunk_px: 256,
                version: OmeZarrVersion::V05,
                zstd_level: 3,
                prob: false,
            }),
            parquet: Some(settings::Parquet { row_group_rows: 1000, zstd_level: 3 }),
            geojson: Some(settings::Geojson { origin: Origin::Full }),
            overview: Some(settings::Overview { max_px: 1000 }),
            report: true,
        };
        let mut scene = Self { header, settings, tissue, thumbnail, nuclei: Vec::new() };
        if step_px > 0 {
            let size = grid.size;
            for j in 0..size.h.div_ceil(step_px) {
                for i in 0..size.w.div_ceil(step_px) {
                    let nucleus = nucleus(i, j, step_px, size, 0.5);
                    scene
                        .nuclei
                        .extend(nucleus.filter(|n| scene.is_computed(n.centroid.0 as u32, n.centroid.1 as u32)));
                }
            }
        }
        scene
    }

    pub fn size(&self) -> Size<Target> {
        self.header.grid.size
    }

    pub fn is_computed(&self, x: u32, y: u32) -> bool {
        let size = self.size();
        let (x, y) = (x / 128 * 128 + 64, y / 128 * 128 + 64);
        is_tissue(x.into(), y.into(), size.w.into(), size.h.into())
    }

    /// Class of a pixel of the drawn semantic map.
    pub fn class_at(&self, x: u32, y: u32) -> u8 {
        if !self.is_computed(x, y) {
            return 255;
        }
        let size = self.size();
        let (u, v) = (f64::from(x) / f64::from(size.w), f64::from(y) / f64::from(size.h));
        if (u - 0.62).hypot(v - 0.45) < 0.12 {
            1
        } else if (7.0 * u).sin() * (5.0 * v).cos() > 0.72 {
            3
        } else {
            0
        }
    }

    /// The slide cut into squares, in an order of its own for each `shuffle`.
    pub fn cores(&self, side: u32, shuffle: u32) -> Vec<Rect<Target>> {
        let size = self.size();
        let mut cores = Vec::new();
        for y in (0..size.h).step_by(side as usize) {
            for x in (0..size.w).step_by(side as usize) {
                cores.push(Rect::new(x.into(), y.into(), side, side).intersect(&size.rect()));
            }
        }
        if shuffle > 0 {
            cores.sort_by_key(|r| hash(r.x as u32 ^ shuffle, r.y as u32));
        }
        cores
    }

    pub fn nuclei_part(&self, core: Rect<Target>) -> SlidePart {
        let owned = self.nuclei.iter().filter(|n| core.contains(n.centroid.0 as i64, n.centroid.1 as i64));
        let mut instances: Vec<_> = owned.cloned().collect();
        instances.reverse();
        let computed = self.map(core, |x, y| u8::from(self.is_computed(x, y)));
        SlidePart::Nuclei { core, computed, instances }
    }

    pub fn semantic_part(&self, core: Rect<Target>) -> SlidePart {
        SlidePart::Semantic { core, classes: self.map(core, |x, y| self.class_at(x, y)) }
    }

    pub fn map(&self, core: Rect<Target>, value: impl Fn(u32, u32) -> u8) -> Vec<u8> {
        let value = &value;
        (core.y..core.bottom()).flat_map(|y| (core.x..core.right()).map(move |x| value(x as u32, y as u32))).collect()
    }

    pub fn writer(&self, kind: ResultKind) -> SlideWriter {
        let thumbnail = self.thumbnail.clone();
        SlideWriter::create(self.header.clone(), kind, &self.settings, &self.tissue, thumbnail, &|_| true).unwrap()
    }

    /// Writes the nuclei.
    pub fn write_nuclei(&self, side: u32, shuffle: u32) -> Committed {
        let mut writer = self.writer(ResultKind::Nuclei);
        for core in self.cores(side, shuffle) {
            writer.write(self.nuclei_part(core)).unwrap();
        }
        writer.commit().unwrap()
    }

    /// Writes the semantic map, probabilities when asked for, and one lesion.
    pub fn write_semantic(&self, side: u32, shuffle: u32) -> Committed {
        let mut writer = self.writer(ResultKind::Semantic);
        for core in self.cores(side, shuffle) {
            writer.write(self.semantic_part(core)).unwrap();
            if self.settings.ome_zarr.as_ref().is_some_and(|z| z.prob) {
                let mut data = Vec::new();
                for channel in 0..3 {
                    data.extend(self.map(core, |x, y| ((x + 2 * y + channel * 40) % 251) as u8));
                }
                writer.write(SlidePart::Prob { core, channels: 3, data }).unwrap();
            }
        }
        let mut sum = [0_u64; 256];
        writer.semantic_rows(&mut |_, row, _| row.iter().for_each(|&c| sum[usize::from(c)] += 1)).unwrap();
        let size = self.size();
        let (cx, cy) = (f64::from(size.w) * 0.62, f64::from(size.h) * 0.45);
        let mut lesion = ellipse(cx, cy, 100.0, 80.0, 1, size, 0.5).unwrap();
        let hole = [[cx - 5.0, cy - 5.0], [cx + 5.0, cy - 5.0], [cx + 5.0, cy + 5.0], [cx - 5.0, cy - 5.0]];
        lesion.rings.push(hole.map(|p| p.map(f64::round)).to_vec());
        lesion.features.area_um2 = sum[1] as f64 * 0.25;
        writer.add_lesions(&[lesion]).unwrap();
        writer.commit().unwrap()
    }
}
