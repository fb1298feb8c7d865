//! A slide drawn by the program: H&E-like, any size, the position of every nucleus known.
//!
//! Owns: [`SyntheticSlide`], its levels. Must not know: files.
//! Every pixel is a function of the seed and its position, so a region is the same however it is cut, and nothing
//! is held in memory.

mod export;
mod noise;
mod tissue;

use super::reader::{Level, LevelInfo, MppSource, ReadError, SlideInfo, SlideReader};
use crate::{
    config::settings::Synthetic,
    geometry::{InLevel, Level0, Rect, Size},
    units::MppXy,
};
use noise::Lattice;
use std::{collections::BTreeMap, sync::OnceLock};
use tissue::{NucleusGrid, Tissue};

/// Factor between levels, as scanners have it.
const LEVEL_FACTOR: u32 = 4;
/// The coarsest level is smaller than this.
const COARSEST_PX: u32 = 512;
/// Samples per axis that a px of a coarser level is the mean of.
const SAMPLES_PER_PX: u32 = 2;

/// A nucleus, where it is and what it looks like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SyntheticNucleus {
    /// Centre, level-0 px (counting edges).
    pub x: f64,
    /// Centre, level-0 px (counting edges).
    pub y: f64,
    /// Half the long axis, level-0 px.
    pub long_px: f64,
    /// Half the short axis, level-0 px.
    pub short_px: f64,
    /// Direction of the long axis, radians from x towards y.
    pub angle: f64,
    /// 0: small and round (lymphocyte), 1: long (stroma), 2: large and pale (epithelium).
    pub kind: u8,
}

/// A synthetic slide.
pub struct SyntheticSlide {
    info: SlideInfo,
    tissue: Tissue,
    nuclei: NucleusGrid,
    /// Eosin: fibres of ≈ 16 µm, cells of ≈ 4 µm.
    coarse: Lattice,
    fine: Lattice,
    seed: u64,
}

impl SyntheticSlide {
    /// The slide number `index`.
    pub fn new(settings: &Synthetic, index: u32) -> Self {
        let seed = noise::hash(settings.seed.wrapping_add(u64::from(index)), 0x51, 0xde);
        let (w, h) = (settings.width_px.max(1), settings.height_px.max(1));
        let px_per_um = 1.0 / settings.mpp.um_per_px();
        let lattice = |um: f64, salt: u64| Lattice::new(seed ^ salt, (um * px_per_um).max(2.0) as u32);
        let mut levels = Vec::new();
        let mut factor = 1;
        loop {
            let size: Size<InLevel> = Size::new(w.div_ceil(factor), h.div_ceil(factor));
            let downsample = f64::from(factor);
            let tile_px = Some((256, 256));
            levels.push(LevelInfo { size, downsample_x: downsample, downsample_y: downsample, tile_px });
            if size.w.max(size.h) <= COARSEST_PX {
                break;
            }
            factor *= LEVEL_FACTOR;
        }
        let mpp = MppXy::square(settings.mpp);
        let properties = [("synthetic.seed", settings.seed.to_string()), ("synthetic.index", index.to_string())];
        let info = SlideInfo {
            path: format!("synthetic-{index:03}").into(),
            reader: "synthetic",
            vendor: "synthetic".into(),
            levels,
            mpp: Some((mpp, MppSource::Synthetic)),
            objective_power: None,
            bounds: None,
            quickhash: None,
            properties: properties.into_iter().map(|(k, v)| (k.into(), v)).collect::<BTreeMap<_, _>>(),
        };
        let tissue = Tissue::new(seed, w, h, px_per_um);
        let nuclei = NucleusGrid::new(seed, px_per_um);
        Self { info, tissue, nuclei, coarse: lattice(16.0, 1), fine: lattice(4.0, 2), seed }
    }

    /// The same slide with another resolution, when there is one.
    #[must_use]
    pub fn with_mpp(mut self, mpp: Option<(MppXy, MppSource)>) -> Self {
        self.info.mpp = mpp.or(self.info.mpp);
        self
    }

    /// The nuclei whose centre lies in `rect`, in order of their position.
    pub fn nuclei_in(&self, rect: Rect<Level0>) -> Vec<SyntheticNucleus> {
        let slide = self.info.level0().rect();
        let rect = rect.intersect(&slide);
        let inside = |n: &SyntheticNucleus| rect.contains(n.x.floor() as i64, n.y.floor() as i64);
        self.nuclei.covering(&self.tissue, rect).into_iter().filter(inside).collect()
    }

    /// Draws one row of samples at level-0 `y`, at level-0 `x0, x0 + step, …`; adds each to `sums`.
    fn add_row(&self, row: &mut Row, x0: u32, y: u32, step: u32, sums: &mut [[u16; 3]]) {
        let n = sums.len();
        self.tissue.fill_row(x0, y, step, n, &mut row.tissue);
        self.coarse.fill_row(x0, y, step, n, &mut row.coarse);
        self.fine.fill_row(x0, y, step, n, &mut row.fine);
        row.nucleus.clear();
        row.nucleus.resize(n, 0.0);
        for nucleus in &row.nuclei {
            stain_row(nucleus, f64::from(x0), f64::from(y) + 0.5, f64::from(step), &mut row.nucleus);
        }
        let light = light();
        for (i, sum) in sums.iter_mut().enumerate() {
            let x = x0 + i as u32 * step;
            let grain = noise::hash(self.seed, x.into(), y.into());
            let speck = (grain & 0xff) as f32 / 255.0 - 0.5;
            let (hematoxylin, eosin) = if row.tissue[i] > 0.0 {
                let eosin = 0.08 + 0.28 * row.coarse[i] + 0.16 * row.fine[i] + 0.05 * speck;
                // The rim of the tissue is thinner.
                let thickness = (row.tissue[i] * 6.0).min(1.0);
                let chromatin = row.nucleus[i] * (0.8 + 0.5 * row.fine[i] + 0.25 * speck);
                let pale = if row.nucleus[i] > 0.0 { 0.6 } else { 1.0 };
                ((chromatin + 0.04).max(0.0), (eosin * thickness * pale).max(0.0))
            } else {
                (0.0, 0.008 + 0.008 * speck)
            };
            for (channel, sum) in sum.iter_mut().enumerate() {
                let density = hematoxylin * HEMATOXYLIN[channel] + eosin * EOSIN[channel];
                *sum += u16::from(light[((density * LIGHT_PER_OD) as usize).min(LIGHT_STEPS - 1)]);
            }
        }
    }
}

/// Optical density of red, green, blue per unit of stain: the H&E pair that QuPath 0.5 starts from. (Ruifrok and
/// Johnston's eosin, 0.07, 0.99, 0.11, is purer than that of scanned slides.)
const HEMATOXYLIN: [f32; 3] = [0.651, 0.701, 0.290];
const EOSIN: [f32; 3] = [0.216, 0.801, 0.558];
const LIGHT_STEPS: usize = 4096;
const LIGHT_PER_OD: f32 = 1024.0;
/// Light through the empty slide.
const WHITE: f32 = 245.0;

/// Light per optical density (base 10), so that no px computes a power.
fn light() -> &'static [u8; LIGHT_STEPS] {
    static LIGHT: OnceLock<[u8; LIGHT_STEPS]> = OnceLock::new();
    LIGHT.get_or_init(|| std::array::from_fn(|i| (WHITE * 10f32.powf(-(i as f32) / LIGHT_PER_OD)).round() as u8))
}

/// What one row of samples is drawn from.
#[derive(Default)]
struct Row {
    nuclei: Vec<SyntheticNucleus>,
    tissue: Vec<f32>,
    coarse: Vec<f32>,
    fine: Vec<f32>,
    nucleus: Vec<f32>,
}

/// Adds a nucleus' stain where the row at height `y` crosses it.
fn stain_row(nucleus: &SyntheticNucleus, x0: f64, y: f64, step: f64, stain: &mut [f32]) {
    let (sin, cos) = nucleus.angle.sin_cos();
    let (long, short) = (1.0 / nucleus.long_px.powi(2), 1.0 / nucleus.short_px.powi(2));
    // a·dx² + 2b·dx·dy + c·dy² ≤ 1 is the ellipse.
    let a = cos * cos * long + sin * sin * short;
    let b = cos * sin * (long - short);
    let c = sin * sin * long + cos * cos * short;
    let dy = y - nucleus.y;
    let root = (b * dy).powi(2) - a * (c * dy * dy - 1.0);
    if root < 0.0 {
        return;
    }
    let (middle, half) = (nucleus.x - b * dy / a, root.sqrt() / a);
    let first = ((middle - half - x0 - 0.5) / step).ceil().max(0.0) as usize;
    let last = ((middle + half - x0 - 0.5) / step).floor();
    if last < first as f64 {
        return;
    }
    let strength = [0.95f32, 0.8, 0.55][usize::from(nucleus.kind)];
    let end = (last as usize + 1).min(stain.len());
    for (i, stain) in stain.iter_mut().enumerate().take(end).skip(first) {
        let dx = x0 + 0.5 + i as f64 * step - nucleus.x;
        let rim = (a * dx * dx + 2.0 * b * dx * dy + c * dy * dy) as f32;
        // Membrane darker than the inside of large, pale nuclei; a soft edge of the others.
        *stain = strength * if nucleus.kind == 2 { 0.85 + 0.4 * rim * rim } else { 1.05 - 0.2 * rim * rim };
    }
}

impl SlideReader for SyntheticSlide {
    fn info(&self) -> &SlideInfo {
        &self.info
    }

    fn read_region(&self, level: Level, region: Rect<InLevel>, rgb: &mut [u8]) -> Result<(), ReadError> {
        let (found, inside) = self.info.prepare(level, region, rgb)?;
        if inside.is_empty() {
            return Ok(());
        }
        let factor = found.downsample_x as u32;
        let samples = if factor == 1 { 1 } else { SAMPLES_PER_PX };
        let step = factor / samples;
        let first = |v: i64| v as u32 * factor + step / 2;
        let mut row = Row::default();
        let n = (inside.w * samples) as usize;
        let mut sums = vec![[0u16; 3]; n];
        let f = i64::from(factor);
        let band = NucleusBand::new(self, inside.x * f, inside.right() * f);
        for y in inside.y..inside.bottom() {
            sums.fill([0; 3]);
            for sample in 0..samples {
                let y0 = first(y) + sample * step;
                band.fill(y0, &mut row.nuclei);
                self.add_row(&mut row, first(inside.x), y0, step, &mut sums);
            }
            let at = ((y - region.y) as usize * region.w as usize + (inside.x - region.x) as usize) * 3;
            let out = &mut rgb[at..at + inside.w as usize * 3];
            let count = (samples * samples) as u16;
            for (rgb, sums) in out.chunks_exact_mut(3).zip(sums.chunks_exact(samples as usize)) {
                for channel in 0..3 {
                    let sum: u16 = sums.iter().map(|s| s[channel]).sum();
                    rgb[channel] = ((sum + count / 2) / count) as u8;
                }
            }
        }
        Ok(())
    }
}

/// The nuclei between two columns, found once per row of the nucleus grid.
struct NucleusBand<'s> {
    slide: &'s SyntheticSlide,
    left: i64,
    right: i64,
    /// The grid row held, and its nuclei.
    held: std::cell::RefCell<(i64, Vec<SyntheticNucleus>)>,
}

impl<'s> NucleusBand<'s> {
    fn new(slide: &'s SyntheticSlide, left: i64, right: i64) -> Self {
        Self { slide, left, right, held: std::cell::RefCell::new((-1, Vec::new())) }
    }

    fn fill(&self, y: u32, nuclei: &mut Vec<SyntheticNucleus>) {
        let grid_row = self.slide.nuclei.row_of(y);
        let held = &mut *self.held.borrow_mut();
        if held.0 != grid_row {
            // Nuclei do not leave their cell of the grid, so one row of cells is enough.
            held.0 = grid_row;
            held.1 = self.slide.nuclei.in_row(&self.slide.tissue, grid_row, self.left, self.right);
        }
        let y = f64::from(y) + 0.5;
        nuclei.clear();
        nuclei.extend(held.1.iter().filter(|n| (n.y - y).abs() <= n.long_px));
    }
}
