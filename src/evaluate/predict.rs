//! A model asked about a picture in memory, by the code that asks it about slides.
//!
//! Owns: [`Predictor`]. Must not know: what is true of the picture, files.
//!
//! The picture is a slide of one level, all of it tissue; what a run does on threads is done here one step after the
//! other: the plan of tiles, pixels at the model's resolution, stain, the model, the canvas, regions, instances.

use super::{
    EvaluateError,
    memory_slide::MemorySlide,
    predicted::{FoundNucleus, Predicted},
};
use crate::{
    config::settings::{Settings, Stain},
    geometry::{Size, TargetGrid},
    instances::{MaskGrid, prob_u8, semantic_classes},
    model::{Head, HeadMap, ModelSpec, ModelTile},
    output::ResultKind,
    pipeline::Setup,
    pixels::{
        ReadScratch, RgbImage, TargetReader,
        stain::{StainTransform, reinhard::without_background},
    },
    stitch::{Region, RegionPool, SlideCanvas},
    tiling::{CellMask, TilePlan, TileSpec},
    tissue::TissueMask,
    units::{Mpp, MppXy},
};
use std::sync::Arc;

/// A model with one class says it is there at this probability or above, as in a run.
const SEMANTIC_THRESHOLD: f64 = 0.5;
/// Cells the stain is fitted on, as in a run.
const STAIN_SAMPLES: usize = 100;

/// A model and all that is done around it.
pub struct Predictor {
    setup: Setup,
}

impl Predictor {
    /// Loads the model of `settings`; of these only `tiling`, `pixels`, `batch`, `model`, `stitch`, `instances` matter.
    ///
    /// # Errors
    /// What a run of these settings would stop with before its first slide.
    pub fn new(settings: &Settings) -> Result<Self, EvaluateError> {
        Ok(Self { setup: Setup::new(settings)? })
    }

    /// What the model gives.
    pub fn spec(&self) -> &ModelSpec {
        self.setup.model.spec()
    }

    /// What every picture shares: the model, how pictures are cut.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Whether it tells nuclei apart.
    pub fn tells_nuclei(&self) -> bool {
        self.setup.kind == ResultKind::Nuclei
    }

    /// Whether several pictures at once are faster than one after the other.
    pub fn is_cheap(&self) -> bool {
        self.setup.model.is_cheap()
    }

    /// Asks the model about all of a picture.
    ///
    /// # Errors
    /// The model failed.
    pub fn predict(&self, image: &Arc<RgbImage>, mpp: Mpp) -> Result<Predicted, EvaluateError> {
        let setup = &self.setup;
        let slide = Arc::new(MemorySlide::new(image.clone(), mpp));
        let level0 = Size::new(image.w, image.h);
        let grid_at = |resolution| TargetGrid::new(level0, MppXy::square(mpp), resolution);
        let (seen, grid) = (grid_at(setup.input_mpp), grid_at(setup.target_mpp()));
        let cells = CellMask::new(&grid, &TissueMask::everything(level0), 0.0);
        let plan = Arc::new(setup.tiler.plan(grid, cells));
        let reader = TargetReader::new(slide, seen, setup.settings.pixels.resample);
        let stain = self.fit_stain(&plan, &reader);
        let mut gathered = Gathered::new(setup, &plan);
        let side = setup.tiler.tile_px as usize;
        let mut scratch = ReadScratch::default();
        for batch in plan.tiles.chunks(setup.tiles_at_once().max(1)) {
            let mut tiles = vec![];
            for tile in batch {
                let mut rgb = vec![0; side * side * 3];
                reader.read(tile.input, &mut rgb, &mut scratch).map_err(|e| EvaluateError::new(e.to_string()))?;
                stain.apply(&mut rgb);
                tiles.push(rgb);
            }
            let mut shown: Vec<ModelTile<'_>> = tiles.iter().map(|rgb| ModelTile::plain(rgb)).collect();
            let failed = |reason: String| EvaluateError::new(format!("the model failed: {reason}"));
            let maps = setup
                .model
                .forward_tiles(&mut shown, setup.tiler.tile_px, &setup.wanted())
                .map_err(|e| failed(e.to_string()))?;
            for ((tile, rgb), maps) in batch.iter().zip(&tiles).zip(maps) {
                gathered.add(&plan, tile, &maps, rgb).map_err(failed)?;
            }
        }
        Ok(gathered.on_image(image.w, image.h))
    }

    fn fit_stain(&self, plan: &TilePlan, reader: &TargetReader) -> StainTransform {
        let mut sample = vec![];
        if self.setup.settings.pixels.stain != Stain::None {
            let mut scratch = ReadScratch::default();
            for cell in plan.cells.spread(STAIN_SAMPLES) {
                let cell = cell.enlarge(self.setup.tiler.out_stride);
                let at = sample.len();
                sample.resize(at + cell.area() as usize * 3, 0);
                if reader.read(cell, &mut sample[at..], &mut scratch).is_err() {
                    sample.truncate(at);
                }
            }
        }
        self.setup.stain.fit(&without_background(&sample)).transform
    }
}

/// What the tiles of a picture say, on the target grid.
struct Gathered<'a> {
    setup: &'a Setup,
    grid: TargetGrid,
    masks: MaskGrid,
    canvas: SlideCanvas,
    pool: Arc<RegionPool>,
    nuclei: Vec<FoundNucleus>,
    semantic: Vec<u8>,
    foreground: Vec<u8>,
    entropy_sum: f64,
    computed: u64,
    label_sum: Vec<f32>,
}

impl<'a> Gathered<'a> {
    fn new(setup: &'a Setup, plan: &Arc<TilePlan>) -> Self {
        let pool = Arc::new(RegionPool::new(1));
        let canvas = SlideCanvas::new(plan.clone(), setup.canvas_maps(), pool.clone());
        let px = plan.grid.size.area() as usize;
        let of = |is: bool| vec![if is { 255 } else { 0 }; if setup.kind == ResultKind::Tiles { 0 } else { px }];
        Self {
            setup,
            grid: plan.grid,
            masks: MaskGrid {
                grid: TargetGrid::new(plan.grid.level0, plan.grid.slide_mpp, setup.mask_mpp()),
                factor: setup.mask_factor(),
            },
            canvas,
            pool,
            nuclei: vec![],
            semantic: of(setup.kind == ResultKind::Semantic),
            foreground: of(false),
            entropy_sum: 0.0,
            computed: 0,
            label_sum: vec![0.0; setup.model.spec().classes.len()],
        }
    }

    fn add(&mut self, plan: &TilePlan, tile: &TileSpec, maps: &[HeadMap], rgb: &[u8]) -> Result<(), String> {
        if self.setup.kind == ResultKind::Tiles {
            let one = Head::Classification.scale();
            let answer = maps.iter().find(|m| m.head == Head::Classification).map_or(&[][..], |m| &m.data);
            // A tile that reaches beyond the picture counts by its part inside.
            let inside = tile.used.area();
            self.label_sum.iter_mut().zip(answer).for_each(|(sum, &p)| *sum += f32::from(p) / one * inside as f32);
            let probs: Vec<f64> = answer.iter().map(|&p| f64::from(p) / f64::from(one)).collect();
            self.entropy_sum += relative_entropy(&probs) * inside as f64;
            self.computed += inside;
            return Ok(());
        }
        let regions: Result<Vec<Region>, _> = self.canvas.add(tile, maps, rgb).and_then(Iterator::collect);
        for region in regions.map_err(|e| e.to_string())? {
            self.take(plan, &region);
            self.pool.give(region);
        }
        Ok(())
    }

    fn take(&mut self, plan: &TilePlan, region: &Region) {
        let spec = self.setup.model.spec();
        if let Some(extractor) = self.setup.extractor {
            let found = extractor.extract(region, &plan.grid, &self.masks, &self.setup.settings.instances, spec);
            let level0 = |x: f64, y: f64| self.masks.grid.level0_from_target_point(x, y);
            self.nuclei.extend(found.into_iter().map(|nucleus| {
                FoundNucleus {
                    rings: nucleus
                        .rings
                        .iter()
                        .map(|ring| {
                            let point = |&[x, y]: &[f64; 2]| <[f64; 2]>::from(level0(x, y));
                            ring.iter().map(point).collect()
                        })
                        .collect(),
                    centroid: level0(nucleus.centroid.0, nucleus.centroid.1),
                    class: usize::from(nucleus.class).checked_sub(1),
                }
            }));
            self.put(region, &prob_u8(region, Head::NuclearPixel, 0), |g| &mut g.foreground);
        } else {
            self.put(region, &semantic_classes(region, SEMANTIC_THRESHOLD), |g| &mut g.semantic);
            let is_one = region.plane(Head::Semantic).is_some_and(|p| p.channels == 1);
            let mut prob = prob_u8(region, Head::Semantic, 0);
            if !is_one {
                // The first channel is background.
                prob.iter_mut().for_each(|p| *p = 255 - *p);
            }
            self.put(region, &prob, |g| &mut g.foreground);
        }
        self.add_entropy(region);
    }

    /// Writes what a region says of its core.
    fn put(&mut self, region: &Region, values: &[u8], plane: impl Fn(&mut Self) -> &mut Vec<u8>) {
        let (w, core) = (self.grid.size.w as usize, region.core);
        if values.is_empty() {
            return;
        }
        for (row, y) in values.chunks_exact(core.w as usize).zip(core.y as usize..) {
            plane(self)[y * w + core.x as usize..][..core.w as usize].copy_from_slice(row);
        }
    }

    fn add_entropy(&mut self, region: &Region) {
        let head = if self.setup.extractor.is_some() { Head::NuclearPixel } else { Head::Semantic };
        let Some(plane) = region.plane(head) else { return };
        let (w, n) = (region.rect.w as usize, region.computed.len());
        let (left, top) = ((region.core.x - region.rect.x) as usize, (region.core.y - region.rect.y) as usize);
        let mut probs = vec![0.0; plane.channels as usize];
        for y in top..top + region.core.h as usize {
            for at in (y * w + left..y * w + left + region.core.w as usize).filter(|&at| region.computed[at] != 0) {
                for (c, p) in probs.iter_mut().enumerate() {
                    *p = f64::from(plane.data[c * n + at]) / f64::from(head.scale());
                }
                self.entropy_sum += relative_entropy(&probs);
                self.computed += 1;
            }
        }
    }

    /// Everything on the pixels of the picture: each takes what is said where its centre lies.
    fn on_image(self, w: u32, h: u32) -> Predicted {
        let mean_entropy = (self.computed > 0).then(|| self.entropy_sum / self.computed as f64);
        if self.setup.kind == ResultKind::Tiles {
            let n = self.computed.max(1) as f32;
            let label_probs = Some(self.label_sum.iter().map(|p| p / n).collect());
            return Predicted { label_probs, mean_entropy, ..Predicted::default() };
        }
        let (sx, sy) = self.grid.level0_px_per_target_px();
        let at = |px: u32, scale: f64, n: u32| (((f64::from(px) + 0.5) / scale) as u32).min(n - 1) as usize;
        let size = self.grid.size;
        let columns: Vec<usize> = (0..w).map(|x| at(x, sx, size.w)).collect();
        let place = |plane: &[u8]| -> Vec<u8> {
            let rows = (0..h).map(|y| &plane[at(y, sy, size.h) * size.w as usize..][..size.w as usize]);
            rows.flat_map(|row| columns.iter().map(|&x| row[x])).collect()
        };
        let is_semantic = self.setup.kind == ResultKind::Semantic;
        let mut nuclei = self.nuclei;
        nuclei.sort_by(|a, b| (a.centroid.1, a.centroid.0).partial_cmp(&(b.centroid.1, b.centroid.0)).expect("finite"));
        Predicted {
            nuclei: (!is_semantic).then_some(nuclei),
            semantic: is_semantic.then(|| place(&self.semantic)),
            foreground: Some(place(&self.foreground)),
            label_probs: None,
            mean_entropy,
        }
    }
}

/// Entropy of probabilities as share of the largest there could be; of one, that it is so or not.
fn relative_entropy(probs: &[f64]) -> f64 {
    let term = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    match *probs {
        [] => 0.0,
        [p] => {
            let p = p.clamp(0.0, 1.0);
            (term(p) + term(1.0 - p)) / std::f64::consts::LN_2
        }
        _ => probs.iter().map(|&p| term(p.clamp(0.0, 1.0))).sum::<f64>() / (probs.len() as f64).ln(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_undecided_has_the_largest_entropy() {
        assert_eq!(relative_entropy(&[0.5]), 1.0);
        assert_eq!((relative_entropy(&[1.0]), relative_entropy(&[0.0])), (0.0, 0.0));
        assert!((relative_entropy(&[0.25; 4]) - 1.0).abs() < 1e-12);
        assert_eq!(relative_entropy(&[0.0, 1.0, 0.0]), 0.0);
    }
}
