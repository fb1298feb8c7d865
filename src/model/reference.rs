//! Runs a network on candle tensors: slow, plain, what faster executions are held to.
//!
//! Owns: [`CandleExecute`]. Must not know: slides, fused kernels.

use super::{
    autograd::{Mode, Network},
    graph::Graph,
    heads::HeadValues,
    network::Execute,
    spec::ModelError,
    weights::{Normalisation, Weights},
};
use candle_core::{DType, Device, Tensor};

/// A graph on candle's CPU tensors, in f32.
pub struct CandleExecute {
    network: Network,
    normalisation: Normalisation,
    kind: usize,
}

impl CandleExecute {
    /// The graph with these weights, for images of `kind` (see [`Network::forward_of_kinds`]).
    ///
    /// # Errors
    /// [`ModelError`] when the weights lack a tensor of the graph.
    pub fn new(graph: &Graph, weights: &Weights, kind: usize) -> Result<Self, ModelError> {
        let network = Network::new(graph.clone(), weights, DType::F32, &Device::Cpu);
        let network = network.map_err(|e| ModelError(e.to_string()))?;
        Ok(Self { network, normalisation: weights.metadata.normalisation, kind })
    }

    fn one(&self, rgb: &[u8], side_px: usize, done: &dyn Fn(&[HeadValues<'_>])) -> candle_core::Result<()> {
        let px = side_px * side_px;
        let Normalisation { mean, std } = self.normalisation;
        let value = |c: usize, i: usize| (f32::from(rgb[i * 3 + c]) / 255.0 - mean[c]) / std[c];
        let image: Vec<f32> = (0..3).flat_map(|c| (0..px).map(move |i| (c, i))).map(|(c, i)| value(c, i)).collect();
        let image = Tensor::from_vec(image, (1, 3, side_px, side_px), &Device::Cpu)?;
        let outputs = self.network.forward_of_kinds(&image, &[self.kind], Mode::INFER)?;
        let mut kept = vec![];
        for output in &outputs {
            let (_, channels, h, w) = output.dims4()?;
            kept.push((channels, h, w, output.flatten_all()?.to_vec1::<f32>()?));
        }
        let values: Vec<_> = kept
            .iter()
            .map(|&(channels, h, w, ref data)| HeadValues {
                data,
                channels,
                h,
                w,
                pixel_stride: 1,
                channel_stride: h * w,
            })
            .collect();
        done(&values);
        Ok(())
    }
}

impl Execute for CandleExecute {
    fn run(
        &self,
        images: &[&[u8]],
        side_px: usize,
        done: &(dyn Fn(usize, &[HeadValues<'_>]) + Sync),
    ) -> Result<(), ModelError> {
        images.iter().enumerate().try_for_each(|(i, rgb)| {
            self.one(rgb, side_px, &|values| done(i, values)).map_err(|e| ModelError(e.to_string()))
        })
    }

    fn bytes(&self, side_px: usize, _batch: usize) -> u64 {
        let graph = self.network.graph();
        // The largest maps of a network are a few times its widest layer at full size.
        let widest = graph.nodes().iter().map(|n| n.channels).max().unwrap_or(0);
        4 * (graph.parameter_count() + side_px * side_px * widest.min(256)) as u64
    }
}
