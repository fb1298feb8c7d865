//! Several samples as a network takes them.
//!
//! Owns: [`Batch`]. Must not know: where samples come from, threads.

use super::{
    TrainError,
    loss::TargetBatch,
    sample::{Sample, Samples},
    target::Target,
};
use crate::model::weights::Normalisation;
use candle_core::{Device, Tensor};
use std::ops::Range;

/// What every batch of a training is made with.
pub struct BatchMaker<'a> {
    /// Where samples come from.
    pub samples: &'a dyn Samples,
    /// What their targets are.
    pub targets: &'a (dyn Fn(&Sample) -> Result<Vec<Target>, TrainError> + Sync),
    /// What is done to pixels.
    pub normalisation: Normalisation,
    /// Of everything drawn at random.
    pub seed: u64,
}

/// Samples ready for a network.
#[derive(Debug)]
pub struct Batch {
    /// `[N, 3, h, w]`, normalised.
    pub images: Tensor,
    /// What each image shows: the row of every embedding.
    pub kinds: Vec<usize>,
    /// One per output of the network.
    pub targets: Vec<TargetBatch>,
    /// What messages call the samples.
    pub names: Vec<String>,
}

impl BatchMaker<'_> {
    /// The samples of `range` in `epoch`.
    ///
    /// # Errors
    /// A sample that cannot be read; samples of different sizes.
    pub fn make(&self, range: Range<usize>, epoch: u64) -> Result<Batch, TrainError> {
        let mut pixels: Vec<f32> = vec![];
        let (mut kinds, mut names, mut asked, mut size) = (vec![], vec![], vec![], None);
        for index in range {
            let name = self.samples.origin(index, epoch, self.seed);
            let sample = self.samples.sample(index, epoch, self.seed)?;
            let (w, h) = (sample.image.w as usize, sample.image.h as usize);
            if *size.get_or_insert((w, h)) != (w, h) {
                let (w0, h0) = size.unwrap_or((w, h));
                let message = format!("samples of a batch differ in size: [{w0}, {h0}] and [{w}, {h}] px: {name}");
                return Err(TrainError::new(message));
            }
            self.append(&sample.image.data, &mut pixels);
            asked.push((self.targets)(&sample)?);
            kinds.push(sample.kind);
            names.push(name);
        }
        let (w, h) = size.ok_or_else(|| TrainError::new("a batch without samples"))?;
        let images = Tensor::from_vec(pixels, (kinds.len(), 3, h, w), &Device::Cpu)
            .map_err(|e| TrainError::new(format!("a batch cannot be made: {e}")))?;
        let outputs = asked[0].len();
        let targets = (0..outputs).map(|output| {
            let of_output: Vec<&Target> = asked.iter().filter_map(|targets| targets.get(output)).collect();
            TargetBatch::of(&of_output).map_err(TrainError::new)
        });
        Ok(Batch { images, kinds, targets: targets.collect::<Result<_, _>>()?, names })
    }

    /// Appends an image, plane by plane.
    fn append(&self, rgb: &[u8], pixels: &mut Vec<f32>) {
        let Normalisation { mean, std } = self.normalisation;
        for channel in 0..3 {
            let values: [f32; 256] = std::array::from_fn(|v| (v as f32 / 255.0 - mean[channel]) / std[channel]);
            pixels.extend(rgb.iter().skip(channel).step_by(3).map(|&v| values[usize::from(v)]));
        }
    }
}
