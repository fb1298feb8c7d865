//! From settings to what every slide of a run shares: the model, the tiler, queue lengths.
//!
//! Owns: [`Setup`]. Must not know: YAML, any one slide.

use crate::{
    config::settings::Settings,
    error::RunError,
    instances,
    model::{self, Head, Model},
    output::ResultKind,
    pixels::stain::StainTarget,
    tiling::{Borders, Tiler},
    units::Mpp,
};
use std::sync::Arc;

/// A model that runs a tile on one core gains nothing from batches; single tiles keep every core busy.
const ONE_CORE_BATCH: u32 = 1;
/// A model that uses the whole machine for a batch needs enough tiles to share out.
const WHOLE_MACHINE_BATCH: u32 = 16;

/// What every slide of a run shares.
#[derive(Clone)]
pub struct Setup {
    /// The run's settings.
    pub settings: Settings,
    /// The model.
    pub model: Arc<dyn Model>,
    /// Resolution of the target grid.
    pub input_mpp: Mpp,
    /// How slides are cut.
    pub tiler: Tiler,
    /// What the run writes.
    pub kind: ResultKind,
    /// Tiles per batch.
    pub batch_size: usize,
    /// The look that slides are brought to.
    pub stain: StainTarget,
}

fn refused(message: String, hint: &str) -> RunError {
    RunError::Setup { message, hint: Some(hint.to_owned()) }
}

impl Setup {
    /// Builds the model and checks that the tiling fits it.
    ///
    /// # Errors
    /// [`RunError::Setup`] when the model cannot be built or an override is not one it can take.
    pub fn new(settings: &Settings) -> Result<Self, RunError> {
        let wanted = &settings.tiling;
        let model = model::build(&settings.model, wanted.input_mpp)
            .map_err(|e| refused(e.to_string(), "see `wsi-run models` for what each model takes"))?;
        let spec = model.spec().clone();
        let input_mpp = wanted.input_mpp.unwrap_or(spec.input_mpp);
        if !spec.any_mpp && input_mpp != spec.input_mpp {
            return Err(refused(
                format!("`tiling.input_mpp` is {input_mpp}, `{}` expects {}", spec.name, spec.input_mpp),
                "leave `tiling.input_mpp` out: the model knows its resolution",
            ));
        }
        let margin_px = wanted.margin_px.unwrap_or(spec.margin_px);
        if margin_px < spec.margin_px {
            return Err(refused(
                format!("`tiling.margin_px` is {margin_px}, `{}` expects at least {}", spec.name, spec.margin_px),
                "a smaller margin keeps predictions that lack context: nuclei at tile seams would change",
            ));
        }
        let tile_px = wanted.tile_px.unwrap_or(if spec.any_tile_px {
            spec.tile_px.max(4 * margin_px).next_multiple_of(64)
        } else {
            spec.tile_px
        });
        if !spec.any_tile_px && tile_px != spec.tile_px {
            return Err(refused(
                format!("`tiling.tile_px` is {tile_px}, `{}` expects {}", spec.name, spec.tile_px),
                "leave `tiling.tile_px` out: the model knows its tile",
            ));
        }
        let stride_px = wanted.stride_px.unwrap_or(tile_px.saturating_sub(2 * margin_px).max(1));
        let is_nuclei = spec.has(Head::NuclearPixel);
        let halo_px = if is_nuclei { instances::halo_px(&settings.instances.watershed, input_mpp) } else { 0 };
        let tiler = Tiler::new(
            (tile_px, stride_px, margin_px),
            settings.stitch.window,
            (settings.instances.region_px, halo_px, settings.stitch.block_px),
        )
        .map_err(|e| refused(format!("tiling does not fit `{}`: {e}", spec.name), "see `wsi-run models`"))?
        .with_borders(if model.is_one_core() { Borders::Again } else { Borders::Kept });
        let stain = StainTarget::new(&settings.pixels.stain).map_err(|e| refused(e.to_string(), e.hint()))?;
        let usual = if model.is_one_core() { ONE_CORE_BATCH } else { WHOLE_MACHINE_BATCH };
        let batch_size = settings.batch.size.unwrap_or(usual) as usize;
        let kind = if is_nuclei { ResultKind::Nuclei } else { ResultKind::Semantic };
        Ok(Self { settings: settings.clone(), model, input_mpp, tiler, kind, batch_size, stain })
    }

    /// Compute threads.
    pub fn threads(&self) -> usize {
        (self.settings.run.threads as usize).max(1)
    }

    /// Names and sha256 of the model's weights; none for models without.
    pub fn weights(&self) -> Vec<(String, String)> {
        vec![]
    }

    /// Slides worked on at the same time.
    pub fn slots(&self) -> usize {
        (self.settings.run.slides_in_flight as usize).max(1)
    }

    /// Predictor threads: all of them where a tile takes one core, one where the model takes the machine.
    pub fn predictors(&self) -> usize {
        if self.model.is_one_core() { self.threads() } else { 1 }
    }

    /// Tile buffers: enough that no half-filled batch can hold them all while readers wait.
    pub fn pool_buffers(&self) -> usize {
        self.batch_size * (self.predictors() + 2) + 2 * self.threads()
    }

    /// Bytes of one tile buffer.
    pub fn tile_bytes(&self) -> usize {
        (self.tiler.tile_px as usize).pow(2) * 3
    }

    /// `(head, channels)` of the stitched heads.
    pub fn heads(&self) -> Vec<(Head, u32)> {
        self.model.spec().heads.iter().map(|h| (h.head, h.channels)).collect()
    }

    /// Whether the canvas keeps pixels: colours are measured per nucleus.
    pub fn keeps_rgb(&self) -> bool {
        self.kind == ResultKind::Nuclei
    }

    /// Bytes the tiles, batches and maps in flight may take; the same for every slide.
    pub fn flow_bytes(&self) -> u64 {
        let channels: u64 = self.heads().iter().map(|h| u64::from(h.1)).sum();
        let maps = u64::from(self.tiler.core_px()).pow(2) * channels * 2;
        let batches = (self.predictors() + 2) as u64 * self.batch_size as u64;
        let region = u64::from(self.tiler.region_px + 2 * self.tiler.halo_px).pow(2);
        // A region waiting or being extracted: its planes, mask and pixels, and about 20 bytes per px of scratch.
        let regions =
            (2 * self.threads() + 2) as u64 * region * (2 * channels + 4) + self.threads() as u64 * region * 20;
        self.pool_buffers() as u64 * self.tile_bytes() as u64 + batches * maps + regions
    }
}
