//! A network on GPUs as the models of the flow run it.
//!
//! Owns: [`CudaExecute`]: which GPUs are opened, what is made of results. Must not know: which network it is, slides,
//! which lane runs a batch.

use super::{
    blend::CudaBlend,
    devices,
    gpu::Task,
    lanes::Lanes,
    launch::Format,
    lower::{CudaNetwork, HeadForm},
};
use crate::{
    config::settings::Precision,
    model::{
        Blend, BlendForm, Execute, ExecuteOptions, HeadMap, HeadPlan, HeadValues, ModelError, ModelTile, OutputRows,
        graph::Graph, weights::Weights,
    },
};
use std::sync::Arc;

/// Whether wide convolutions are those of warpgroups: not before `benches/gpu.sh` has shown that they win.
const TAKES_WGMMA: bool = false;

/// A network on GPUs, for images of one kind.
pub struct CudaExecute {
    task: Arc<Task>,
    lanes: Arc<Lanes>,
}

impl CudaExecute {
    /// Opens GPUs and lowers the network for them; no number means all of them that can be used.
    ///
    /// # Errors
    /// [`ModelError`]: no GPU, a named one that cannot be used, weights that lack a tensor, a precision GPUs do not have.
    pub fn new(graph: &Graph, weights: &Weights, options: &ExecuteOptions, gpus: &[u32]) -> Result<Self, ModelError> {
        let count = devices::count().map_err(|e| ModelError(e.to_string()))?;
        let format = match options.precision {
            Precision::Bf16 => Format::Bf16,
            Precision::F32 => {
                return Err(ModelError("`precision` is `f32`, a GPU computes in `f16` or `bf16`".to_owned()));
            }
            Precision::Usual | Precision::Auto | Precision::F16 => Format::Half,
        };
        let network = CudaNetwork::new(graph, weights, format).map_err(|e| ModelError(e.to_string()))?;
        let (normalisation, kind) = (weights.metadata.normalisation, options.kind);
        let task = Arc::new(Task { network, normalisation, kind, wgmma: TAKES_WGMMA });
        let all: Vec<usize> = match gpus {
            [] => (0..count).collect(),
            named => named.iter().map(|n| *n as usize).collect(),
        };
        let lanes = Arc::new(Lanes::new(&all, &task, !gpus.is_empty())?);
        Ok(Self { task, lanes })
    }
}

impl Execute for CudaExecute {
    fn run(&self, images: &[&[u8]], side_px: usize, sink: &(dyn Fn(OutputRows<'_>) + Sync)) -> Result<(), ModelError> {
        let mut tiles: Vec<ModelTile<'_>> = images.iter().map(|rgb| ModelTile::plain(rgb)).collect();
        self.task.check(&tiles, side_px)?;
        self.lanes.in_parts(&mut tiles, side_px, (&[], None), &mut |first, results| {
            for image in 0..results.images() {
                for output in 0..results.heads() {
                    let (data, slot) = results.values(output, image);
                    let l = slot.layout;
                    let (pixel_stride, channel_stride) = (l.pixel_stride, 1);
                    let values =
                        HeadValues { data: &data, channels: l.c, h: l.h, w: l.w, pixel_stride, channel_stride };
                    sink(OutputRows { image: first + image, output, first_row: 0, values });
                }
            }
        })
    }

    fn run_to_maps(
        &self,
        tiles: &mut [ModelTile<'_>],
        side_px: usize,
        heads: &[HeadPlan],
        core_px: Option<u32>,
    ) -> Result<Option<Vec<Vec<HeadMap>>>, ModelError> {
        self.task.check(tiles, side_px)?;
        let forms: Vec<HeadForm> = heads.iter().map(|plan| HeadForm::new(plan, core_px)).collect();
        let mut all = vec![];
        self.lanes.in_parts(tiles, side_px, (&forms, None), &mut |_, results| {
            for image in 0..results.images() {
                let map = |(i, plan): (usize, &HeadPlan)| {
                    let l = results.slot(plan.output).layout;
                    let [_, _, h, w] = forms[i].part(l.h, l.w);
                    let mut map = plan.blank(w, h);
                    results.map(i, image, &mut map.data);
                    map
                };
                all.push(heads.iter().enumerate().map(map).collect());
            }
        })?;
        Ok(Some(all))
    }

    fn makes_maps(&self) -> bool {
        true
    }

    fn batches_at_once(&self) -> usize {
        self.lanes.count()
    }

    fn bytes(&self, side_px: usize, batch: usize) -> u64 {
        // Of the machine: weights for the way to the device, and pinned memory of each lane.
        let Ok(plan) = self.task.network.plan(side_px, side_px) else { return 0 };
        let heads: usize = plan.heads.iter().map(|head| 2 * head.slot.layout.h * head.slot.layout.row_stride).sum();
        (2 * plan.weight_bytes + self.lanes.count() * batch * (side_px * side_px * 3 + heads)) as u64
    }

    fn blend(&self, heads: &[HeadPlan], form: &BlendForm) -> Option<Arc<dyn Blend>> {
        let device = self.lanes.only()?;
        Some(Arc::new(CudaBlend::new(&self.task, &self.lanes, device, heads, form)))
    }
}
