//! From settings to what every slide of a run shares: the model, the tiler, queue lengths.
//!
//! Owns: [`Setup`]. Must not know: YAML, any one slide.

use crate::{
    config::settings::{Device, ModelChoice, NetworkWeights, Precision, Settings, Window},
    error::RunError,
    infer::{
        CompiledExecute,
        cuda::{CudaExecute, devices},
    },
    instances::{Extractor, PX_PER_STAR},
    model::{
        self, Blend, BlendForm, Execute, ExecuteOptions, Head, Model, ModelError, Wanted, graph::Graph, slide_use,
        weights::Weights,
    },
    output::ResultKind,
    pixels::stain::StainTarget,
    stitch::{CanvasMaps, hann},
    tiling::{Borders, TilePlan, Tiler},
    units::Mpp,
};
use std::sync::Arc;

/// A model that runs a batch on one core gains nothing from batches; single tiles keep every core busy.
const ONE_CORE_BATCH: u32 = 1;
/// A model that uses the whole machine for a batch needs enough tiles to share out.
const WHOLE_MACHINE_BATCH: u32 = 16;
/// Sides of a region and of a block of the canvas, px: what is found twice around a region, and copied of blocks, is little.
const REGION_AND_BLOCK_PX: (u32, u32) = (1024, 512);
/// Of models that take the whole machine, beside which that costs nothing: half the memory.
const SLOW_REGION_AND_BLOCK_PX: (u32, u32) = (512, 256);
/// Threads of such a model for one that finds objects.
const SLOW_THREADS_PER_EXTRACTOR: usize = 4;

/// What every slide of a run shares.
#[derive(Clone)]
pub struct Setup {
    /// The run's settings.
    pub settings: Settings,
    /// The model.
    pub model: Arc<dyn Model>,
    /// Resolution of what the model sees.
    pub input_mpp: Mpp,
    /// How slides are cut.
    pub tiler: Tiler,
    /// How nuclei are found, for a model that tells them.
    pub extractor: Option<Extractor>,
    /// What the run writes.
    pub kind: ResultKind,
    /// Tiles per batch.
    pub batch_size: usize,
    /// The look that slides are brought to.
    pub stain: StainTarget,
    /// Where overlapping maps may be summed, if that is where the model runs.
    blend: Option<Arc<dyn Blend>>,
}

/// Whether all processors are busy with one batch: tiles come seldom, from the largest networks.
fn is_slow(model: &dyn Model) -> bool {
    !model.is_one_core() && model.batches_at_once() == 1
}

fn refused(message: String, hint: &str) -> RunError {
    RunError::Setup { message, hint: Some(hint.to_owned()) }
}

/// Side of the tiles a network will see.
fn side_px(settings: &Settings, graph: &Graph) -> usize {
    let usual = slide_use(graph.name()).map_or(256, |used| used.tile_px);
    settings.tiling.tile_px.unwrap_or(usual) as usize
}

/// What runs a network: the GPUs that the settings name, or the processor.
fn execute_on(
    settings: &Settings,
    graph: &Graph,
    weights: &Weights,
    options: &ExecuteOptions,
) -> Result<Box<dyn Execute>, ModelError> {
    let device = match &settings.model {
        ModelChoice::Network(network) => network.device.clone(),
        _ => Device::Cpu,
    };
    let wanted = match &device {
        // Single precision asked for by name is the processor's.
        Device::Auto if options.precision != Precision::F32 => Some(&[][..]),
        Device::Cuda(gpus) => Some(&gpus[..]),
        _ => None,
    };
    if let Some(gpus) = wanted {
        match CudaExecute::new(graph, weights, options, gpus) {
            Ok(execute) => return Ok(Box::new(execute)),
            // Where there are GPUs somebody expects them to be used.
            Err(why) if device == Device::Auto && devices::count().is_ok() => {
                tracing::warn!("`{}` runs on the processor: {why}", graph.name());
            }
            Err(why) if device == Device::Auto => tracing::debug!("`{}` runs on the processor: {why}", graph.name()),
            Err(why) => return Err(why),
        }
    }
    Ok(Box::new(CompiledExecute::new(graph, weights, options, side_px(settings, graph))?))
}

/// Where a model sums tiles that overlap, if it does.
fn blend(model: &dyn Model, tiler: &Tiler) -> Option<Arc<dyn Blend>> {
    // Cropped, each px is from one tile: there is nothing to sum.
    (tiler.window == Window::Hann).then_some(())?;
    let most_px = tiler.region_px + 2 * tiler.halo_px;
    model.blend(&BlendForm { window: hann(tiler.core_px()), block_px: tiler.block_px, most_px })
}

impl Setup {
    /// Builds the model and checks that the tiling fits it.
    ///
    /// # Errors
    /// [`RunError::Setup`] when the model cannot be built or an override is not one it can take.
    pub fn new(settings: &Settings) -> Result<Self, RunError> {
        if let ModelChoice::Network(network) = &settings.model
            && let NetworkWeights::File(path) = &network.weights
            && !path.is_file()
        {
            return Err(refused(
                format!("`model.network.weights` is no file: {}", path.display()),
                "paths are relative to the current directory; `wsi-run convert` makes weights from a checkpoint",
            ));
        }
        let hint = match &settings.model {
            ModelChoice::Network(network) if matches!(network.device, Device::Cuda(_)) => {
                "`model.network.device: auto` takes the processor where there is no GPU; `wsi-run models` says what each \
                 model takes"
            }
            _ => "see `wsi-run models` for what each model takes",
        };
        let model = model::build(&settings.model, settings.tiling.input_mpp, &|graph, weights, options| {
            execute_on(settings, graph, weights, options)
        })
        .map_err(|e| refused(e.to_string(), hint))?;
        Self::with_model(settings, model)
    }

    /// Takes `model` instead of the one the settings name, and checks that the tiling fits it.
    ///
    /// # Errors
    /// [`RunError::Setup`] when an override is not one the model can take.
    pub fn with_model(settings: &Settings, model: Arc<dyn Model>) -> Result<Self, RunError> {
        let spec = model.spec().clone();
        let mut settings = settings.clone();
        let threshold = &mut settings.instances.star.prob_threshold;
        *threshold = threshold.or(spec.prob_threshold);
        let wanted = &settings.tiling;
        let input_mpp = wanted.input_mpp.unwrap_or(spec.input_mpp);
        if !spec.any_mpp && input_mpp != spec.input_mpp {
            return Err(refused(
                format!("`tiling.input_mpp` is {input_mpp}, `{}` expects {}", spec.name, spec.input_mpp),
                "leave `tiling.input_mpp` out: the model knows its resolution",
            ));
        }
        let margin_px = wanted.margin_px.unwrap_or(spec.usual_margin_px);
        if margin_px < spec.margin_px || !(margin_px - spec.margin_px).is_multiple_of(spec.out_stride) {
            return Err(refused(
                format!("`tiling.margin_px` is {margin_px}, `{}` expects at least {}", spec.name, spec.margin_px),
                "a smaller margin keeps predictions that lack context: nuclei at tile seams would change",
            ));
        }
        let tile_px = wanted.tile_px.unwrap_or(match spec.tile_step_px {
            Some(step) => spec.tile_px.max((4 * margin_px).next_multiple_of(step)),
            None => spec.tile_px,
        });
        if !spec.tile_step_px.map_or(tile_px == spec.tile_px, |step| tile_px.is_multiple_of(step)) {
            let expected = spec.tile_step_px.map_or(spec.tile_px.to_string(), |step| format!("a multiple of {step}"));
            return Err(refused(
                format!("`tiling.tile_px` is {tile_px}, `{}` expects {expected}", spec.name),
                "leave `tiling.tile_px` out: the model knows its tile",
            ));
        }
        let core_px = tile_px.saturating_sub(2 * margin_px).max(1);
        let stride_px = wanted.stride_px.unwrap_or(match settings.stitch.window {
            Window::Crop => core_px,
            // Every pixel from four tiles.
            Window::Hann => core_px.div_ceil(2).next_multiple_of(spec.out_stride),
        });
        let extractor = Extractor::of(&spec);
        let kind = match extractor {
            Some(_) => ResultKind::Nuclei,
            None if spec.has(Head::Classification) => ResultKind::Tiles,
            None => ResultKind::Semantic,
        };
        // What is said once per tile has nothing to blend.
        let window = if kind == ResultKind::Tiles { Window::Crop } else { settings.stitch.window };
        let halo_px = extractor.map_or(0, |e| e.halo_px(&settings.instances, input_mpp.times(spec.out_stride)));
        let usual = if is_slow(&*model) { SLOW_REGION_AND_BLOCK_PX } else { REGION_AND_BLOCK_PX };
        let region_px = settings.instances.region_px.unwrap_or(usual.0);
        let block_px = settings.stitch.block_px.unwrap_or(usual.1);
        let tiler = Tiler::new((tile_px, stride_px, margin_px), window, (region_px, halo_px, block_px))
            .and_then(|tiler| tiler.with_out_stride(spec.out_stride))
            .map_err(|e| refused(format!("tiling does not fit `{}`: {e}", spec.name), "see `wsi-run models`"))?
            .with_borders(if model.is_cheap() { Borders::Again } else { Borders::Kept });
        let stain = StainTarget::new(&settings.pixels.stain).map_err(|e| refused(e.to_string(), e.hint()))?;
        let usual = if model.is_one_core() { ONE_CORE_BATCH } else { WHOLE_MACHINE_BATCH };
        let batch_size = settings.batch.size.unwrap_or(usual) as usize;
        let blend = blend(&*model, &tiler).filter(|_| settings.stitch.on_device);
        Ok(Self { settings, model, input_mpp, tiler, extractor, kind, batch_size, stain, blend })
    }

    /// Compute threads.
    pub fn threads(&self) -> usize {
        (self.settings.run.threads as usize).max(1)
    }

    /// Names and sha256 of the model's weights; none for models without.
    pub fn weights(&self) -> Vec<(String, String)> {
        let spec = self.model.spec();
        spec.weights_sha256.iter().map(|sha256| (spec.name.to_owned(), sha256.clone())).collect()
    }

    /// Slides worked on at the same time.
    pub fn slots(&self) -> usize {
        (self.settings.run.slides_in_flight as usize).max(1)
    }

    /// Predictor threads: all of them where a batch takes one core, one where it takes the machine, one per stream of the
    /// GPUs.
    pub fn predictors(&self) -> usize {
        if self.model.is_one_core() { self.threads() } else { self.model.batches_at_once() }
    }

    /// Threads that find objects.
    pub fn extractors(&self) -> usize {
        if is_slow(&*self.model) { (self.threads() / SLOW_THREADS_PER_EXTRACTOR).max(1) } else { self.threads() }
    }

    /// Regions that wait for such a thread, at most; the one who cuts them out then waits, too.
    pub fn regions_waiting(&self) -> usize {
        self.extractors().min(2)
    }

    /// Tiles that keep a model busy which takes the machine, or all threads of one that does not.
    pub fn tiles_at_once(&self) -> usize {
        if self.model.is_one_core() { self.batch_size * self.threads() } else { self.batch_size }
    }

    /// Bytes the model takes while it runs, weights included.
    pub fn model_bytes(&self) -> u64 {
        self.model.bytes(self.tiler.tile_px, self.tiles_at_once() as u32)
    }

    /// Tile buffers: enough that no half-filled batch can hold them all while readers wait.
    pub fn pool_buffers(&self) -> usize {
        self.batch_size * (self.predictors() + 2) + 2 * self.threads() + self.stitch_queue()
    }

    /// Tiles that wait to be stitched, at most: predictors go on while a row of regions is handed out.
    pub fn stitch_queue(&self) -> usize {
        self.batch_size.max(2 * self.threads())
    }

    /// Resolution of the grid results are made on.
    pub fn target_mpp(&self) -> Mpp {
        self.input_mpp.times(self.tiler.out_stride)
    }

    /// Resolution of the masks: a pixel per tile for models that say one thing per tile; finer than the maps where
    /// nuclei are polygons.
    pub fn mask_mpp(&self) -> Mpp {
        self.input_mpp.times(match self.kind {
            ResultKind::Tiles => self.tiler.stride_px,
            _ => self.tiler.out_stride / self.mask_factor(),
        })
    }

    /// Pixels of nuclei's masks along one pixel of the maps.
    pub fn mask_factor(&self) -> u32 {
        self.extractor.map_or(1, |e| e.mask_factor(self.tiler.out_stride))
    }

    /// Bytes of one tile buffer.
    pub fn tile_bytes(&self) -> usize {
        (self.tiler.tile_px as usize).pow(2) * 3
    }

    /// `(head, channels)` of the stitched heads.
    pub fn heads(&self) -> Vec<(Head, u32)> {
        self.model.spec().heads.iter().map(|h| (h.head, h.channels)).collect()
    }

    /// Whether probabilities are handed to the writer: as an output, or because lesions are told with them.
    pub fn writes_prob(&self) -> bool {
        let output = &self.settings.output;
        let tells_lesions = self.kind == ResultKind::Semantic && (output.parquet.is_some() || output.geojson.is_some());
        output.ome_zarr.as_ref().is_some_and(|z| z.prob) || (tells_lesions && !self.model.spec().is_certain)
    }

    /// Whether the canvas keeps pixels: colours are measured per nucleus.
    pub fn keeps_rgb(&self) -> bool {
        self.kind == ResultKind::Nuclei
    }

    /// Where the sums of a slide are kept, if not on a canvas here: where there is room for as many such slides as are in
    /// flight.
    pub fn blend_of(&self, plan: &TilePlan) -> Option<&Arc<dyn Blend>> {
        let bytes = plan.canvas_bytes(Some(self.channels_held()), false) * self.slots() as u64;
        self.blend.as_ref().filter(|blend| bytes <= blend.most_bytes())
    }

    /// Whether sums are kept elsewhere where there is room.
    pub fn blends_elsewhere(&self) -> bool {
        self.blend.is_some()
    }

    /// How much of its maps the model is asked for.
    pub fn wanted(&self) -> Wanted {
        // Where a pixel is blended from several tiles, what one of them says of it does not tell whether it counts.
        let is_cropped = self.tiler.window == Window::Crop;
        let rays_above = self.extractor.filter(|_| is_cropped).and_then(|e| e.rays_above(&self.settings.instances));
        Wanted { core_px: self.tiler.core_px(), rays_above }
    }

    /// What is stitched.
    pub fn canvas_maps(&self) -> CanvasMaps {
        CanvasMaps { heads: self.heads(), lists_rays: self.wanted().rays_above.is_some(), keeps_rgb: self.keeps_rgb() }
    }

    /// Channels that maps, canvas and regions hold of each pixel; of listed heads, on average.
    pub fn channels_held(&self) -> u32 {
        let lists_rays = self.wanted().rays_above.is_some();
        let held = |(head, channels): (Head, u32)| match head {
            // And where they are.
            Head::StarDistance if lists_rays => channels.div_ceil(PX_PER_STAR) + 2,
            _ => channels,
        };
        self.heads().into_iter().map(held).sum()
    }

    /// Bytes the tiles, batches and maps in flight may take; the same for every slide.
    pub fn flow_bytes(&self) -> u64 {
        let channels = u64::from(self.channels_held());
        let maps = u64::from(self.tiler.core_px()).pow(2) * channels * 2;
        let predicted = (self.predictors() * self.batch_size + self.stitch_queue()) as u64;
        let region = u64::from(self.tiler.region_px + 2 * self.tiler.halo_px).pow(2);
        // A region waiting or being extracted: its planes, mask and pixels; the scratch of those being extracted, and
        // what they hand on.
        let scratch = self.extractor.map_or(16 * region, |e| e.scratch_bytes(region, self.mask_factor())) + 4 * region;
        let most = (self.extractors() + self.regions_waiting() + self.slots()) as u64;
        let regions = most * region * (2 * channels + 4) + self.extractors() as u64 * scratch;
        self.pool_buffers() as u64 * self.tile_bytes() as u64 + predicted * maps + regions + self.model_bytes()
    }
}
