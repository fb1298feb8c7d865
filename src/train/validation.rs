//! How good a network is on samples it does not learn from: losses, and a few numbers per px.
//!
//! Owns: [`Validation`]. Must not know: how weights change.

use super::{
    TrainError,
    loss::{BatchValues, TargetBatch},
};
use crate::model::Head;
use candle_core::Tensor;

/// Sums over batches.
pub struct Validation {
    losses: Vec<(f64, u64)>,
    counts: Vec<Counts>,
}

/// Counts of one output: for each class, px that are rightly, wrongly and not found.
struct Counts {
    output: String,
    head: Head,
    classes: Vec<[f64; 3]>,
}

impl Validation {
    /// Nothing seen yet, of a network with these outputs, heads and channels.
    pub fn new(outputs: &[(&str, Head, usize)]) -> Self {
        let counts = outputs.iter().map(|&(output, head, channels)| Counts {
            output: output.to_owned(),
            head,
            classes: vec![[0.0; 3]; channels],
        });
        Self { losses: vec![(0.0, 0); outputs.len()], counts: counts.collect() }
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// Candle's.
    pub fn add(&mut self, parts: &[f64], answers: &[Tensor], targets: &[TargetBatch]) -> Result<(), TrainError> {
        for (sum, &part) in self.losses.iter_mut().zip(parts).filter(|(_, part)| !part.is_nan()) {
            *sum = (sum.0 + part, sum.1 + 1);
        }
        for ((counts, answer), target) in self.counts.iter_mut().zip(answers).zip(targets) {
            let values = answer.flatten_all().and_then(|a| a.to_vec1::<f32>());
            let values = values.map_err(|e| TrainError::new(format!("answers cannot be read: {e}")))?;
            counts.add(&values, target);
        }
        Ok(())
    }

    /// Mean loss of each output; NaN where nothing was known.
    pub fn losses(&self) -> Vec<f64> {
        self.losses.iter().map(|&(sum, count)| sum / count as f64).collect()
    }

    /// Their sum, as what is known allows.
    pub fn loss(&self) -> f64 {
        let known = || self.losses().into_iter().filter(|l| !l.is_nan());
        if known().next().is_none() { f64::NAN } else { known().sum() }
    }

    /// Names of [`Validation::metrics`].
    pub fn names(&self) -> Vec<String> {
        self.told().map(|c| c.name()).collect()
    }

    /// Dice of yes, mean F1 of classes, share of right images: one number per output that has one, NaN when nothing was
    /// known.
    pub fn metrics(&self) -> Vec<f64> {
        self.told().map(Counts::metric).collect()
    }

    fn told(&self) -> impl Iterator<Item = &Counts> {
        self.counts.iter().filter(|c| !matches!(c.head, Head::HorizontalVertical | Head::StarDistance))
    }
}

impl Counts {
    fn add(&mut self, answers: &[f32], target: &TargetBatch) {
        let [_, channels, h, w] = target.shape;
        let px = h * w;
        for (i, &weight) in target.weight.iter().enumerate().filter(|(_, w)| **w > 0.0) {
            let first = i / px * channels * px + i % px;
            let logit = |c: usize| answers[first + c * px];
            match &target.values {
                BatchValues::Numbers(truth) => {
                    for c in 0..channels {
                        let (said, is) = (logit(c) >= 0.0, truth[first + c * px] >= 0.5);
                        self.count(c, said, is, weight);
                    }
                }
                BatchValues::Channels(masks) => {
                    let best = (0..channels).fold(0, |b, c| if logit(c) > logit(b) { c } else { b });
                    // Where the label is coarse, whatever fits it is right.
                    let is = if masks[i] >> best & 1 == 1 { best } else { masks[i].trailing_zeros() as usize };
                    self.count(best, true, is == best, weight);
                    if is != best && masks[i].count_ones() == 1 {
                        self.count(is, false, true, weight);
                    }
                }
            }
        }
    }

    fn count(&mut self, class: usize, said: bool, is: bool, weight: f32) {
        let at = match (said, is) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => return,
        };
        self.classes[class][at] += f64::from(weight);
    }

    fn name(&self) -> String {
        let what = match self.head {
            Head::Classification => "accuracy",
            _ if self.classes.len() > 1 => "mean_f1",
            _ => "dice",
        };
        format!("{}_{what}", self.output)
    }

    fn metric(&self) -> f64 {
        if self.head == Head::Classification {
            let (right, wrong) = self.classes.iter().fold((0.0, 0.0), |(r, w), c| (r + c[0], w + c[1]));
            return right / (right + wrong);
        }
        // A background that excludes the others is no class to be found.
        let skip = usize::from(self.classes.len() > 1);
        let f1 = |[right, wrong, missed]: [f64; 3]| 2.0 * right / (2.0 * right + wrong + missed);
        let known: Vec<f64> = self.classes[skip..].iter().map(|&c| f1(c)).filter(|f1| !f1.is_nan()).collect();
        known.iter().sum::<f64>() / known.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn dice_and_f1_count_what_is_known() {
        let mut v = Validation::new(&[("mask", Head::Semantic, 1), ("tp", Head::TypeProbability, 3)]);
        let tensor = |values: &[f32], c: usize| Tensor::from_slice(values, (1, c, 1, 4), &Device::Cpu).unwrap();
        let of = |output: &str, channels, values, weight: [f32; 4]| TargetBatch {
            output: output.into(),
            head: Head::Semantic,
            shape: [1, channels, 1, 4],
            values,
            weight: weight.to_vec().into(),
        };
        let answers = [
            tensor(&[1.0, 1.0, -1.0, 1.0], 1),
            tensor(&[0.0, 0.0, 0.0, 9.0, 1.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0], 3),
        ];
        let targets = [
            of("mask", 1, BatchValues::Numbers(vec![1.0, 0.0, 1.0, 0.0].into()), [1.0, 1.0, 1.0, 0.0]),
            // Class 1 right; class 2 right of a coarse label; class 1 for a 2; nothing known.
            of("tp", 3, BatchValues::Channels(vec![2, 6, 4, 1].into()), [1.0, 1.0, 1.0, 0.0]),
        ];
        v.add(&[0.5, f64::NAN], &answers, &targets).unwrap();
        v.add(&[1.5, f64::NAN], &answers, &targets).unwrap();
        assert_eq!(v.names(), ["mask_dice", "tp_mean_f1"]);
        let metrics = v.metrics();
        assert!((metrics[0] - 0.5).abs() < 1e-12, "{metrics:?}");
        assert!((metrics[1] - (2.0 / 3.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12, "{metrics:?}");
        assert_eq!(v.loss(), 1.0);
        assert!(v.losses()[1].is_nan());
    }
}
