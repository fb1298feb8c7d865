//! A compiled network as the models of the flow run it.
//!
//! Owns: [`CompiledExecute`]. Must not know: which network it is, slides.

use super::{Compiled, Isa, Options, Precision};
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
        Ok(Self { compiled, normalisation: weights.metadata.normalisation, kind: options.kind })
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

    fn bytes(&self, side_px: usize, batch: usize) -> u64 {
        // Each thread runs an image alone.
        let threads = rayon::current_num_threads();
        self.compiled.plan(side_px, side_px).map_or(0, |plan| plan.bytes(batch.min(threads), threads) as u64)
    }
}
