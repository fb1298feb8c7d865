//! A compiled network as the models of the flow run it.
//!
//! Owns: [`CompiledExecute`]. Must not know: which network it is, slides.

use super::{Compiled, Isa, Options, Precision, plan::Plan};
use crate::{
    config::settings,
    model::{
        Execute, ExecuteOptions, HeadValues, ModelError, OutputRows,
        graph::Graph,
        weights::{Normalisation, Weights},
    },
};

/// A network compiled for tiles of one size, for images of one kind.
pub struct CompiledExecute {
    compiled: Compiled,
    normalisation: Normalisation,
    kind: usize,
    /// Side of the tiles that matter.
    side_px: usize,
}

impl CompiledExecute {
    /// Compiles the network; other sizes of tiles than `side_px` run too.
    ///
    /// # Errors
    /// [`ModelError`] when the weights lack a tensor.
    pub fn new(graph: &Graph, weights: &Weights, options: &ExecuteOptions, side_px: usize) -> Result<Self, ModelError> {
        let (precision, isa) = match options.precision {
            settings::Precision::Usual | settings::Precision::F32 => (Precision::F32, Isa::detect()),
            settings::Precision::F16 => {
                return Err(ModelError("`precision` is `f16`, which only a GPU has, and there is none".to_owned()));
            }
            // Asked for by name, it is what is computed, even where single precision would be faster.
            settings::Precision::Bf16 => (Precision::Bf16, Isa::best()),
            settings::Precision::Auto if Isa::detect() == Isa::Avx512Bf16 => (Precision::Bf16, Isa::Avx512Bf16),
            settings::Precision::Auto => (Precision::F32, Isa::detect()),
        };
        let compiled = Compiled::new(graph, weights, Options { precision, isa, size: Some((side_px, side_px)) })
            .map_err(|e| ModelError(e.to_string()))?;
        Ok(Self { compiled, normalisation: weights.metadata.normalisation, kind: options.kind, side_px })
    }
}

impl Execute for CompiledExecute {
    fn run(&self, images: &[&[u8]], side_px: usize, sink: &(dyn Fn(OutputRows<'_>) + Sync)) -> Result<(), ModelError> {
        let kinds = vec![self.kind; images.len()];
        let run = self.compiled.run_of_kinds(images, &kinds, (side_px, side_px), &self.normalisation, &|rows| {
            let (pixel_stride, channel_stride) = (rows.c, 1);
            let values = HeadValues {
                data: rows.values,
                channels: rows.c,
                h: rows.rows,
                w: rows.w,
                pixel_stride,
                channel_stride,
            };
            sink(OutputRows { image: rows.image, output: rows.head, first_row: rows.first_row, values });
        });
        run.map_err(|e| ModelError(e.to_string()))
    }

    /// Where the memory allows an image on every core, no core waits for the others.
    fn is_one_core(&self) -> bool {
        let threads = rayon::current_num_threads();
        let plan = self.compiled.plan(self.side_px, self.side_px);
        plan.is_ok_and(|plan| plan.images_at_once(threads, threads) == threads)
    }

    fn bytes(&self, side_px: usize, batch: usize) -> u64 {
        let threads = rayon::current_num_threads();
        let bytes = |plan: Plan| plan.bytes(plan.images_at_once(batch, threads), threads) as u64;
        self.compiled.plan(side_px, side_px).map_or(0, bytes)
    }

    fn weight_bytes(&self) -> u64 {
        self.compiled.weight_bytes() as u64
    }
}
