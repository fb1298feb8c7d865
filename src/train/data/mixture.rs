//! Several data sets in one training.
//!
//! Owns: [`Mixture`], [`InTurn`]. Must not know: what a data set is.

use crate::train::{
    TrainError,
    sample::{Sample, Samples},
};
use std::sync::Arc;

/// Sets in fixed ratios in every stretch of an epoch: with 3 : 1, three of the first and one of the second in every four.
pub struct Mixture {
    sets: Vec<Arc<dyn Samples>>,
    /// Set of each sample, and its number within the set.
    order: Vec<(usize, usize)>,
}

impl Mixture {
    /// `samples` of the sets in the ratio given, evenly spread.
    pub fn new(sets: Vec<(Arc<dyn Samples>, f64)>, samples: usize) -> Self {
        let sum: f64 = sets.iter().map(|(_, ratio)| ratio).sum();
        let mut counts = vec![0_usize; sets.len()];
        let mut order = Vec::with_capacity(samples);
        for n in 1..=samples {
            // The set that is farthest behind its share.
            let behind = |s: usize| sets[s].1 / sum * n as f64 - counts[s] as f64;
            let next = (0..sets.len()).fold(0, |best, s| if behind(s) > behind(best) + 1e-9 { s } else { best });
            order.push((next, counts[next]));
            counts[next] += 1;
        }
        Self { sets: sets.into_iter().map(|(set, _)| set).collect(), order }
    }
}

impl Samples for Mixture {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn sample(&self, index: usize, epoch: u64, seed: u64) -> Result<Sample, TrainError> {
        let (set, number) = self.order[index];
        self.sets[set].sample(number, epoch, seed_of(seed, set))
    }

    fn name(&self, index: usize) -> String {
        let (set, number) = self.order[index];
        self.sets[set].name(number)
    }

    fn origin(&self, index: usize, epoch: u64, seed: u64) -> String {
        let (set, number) = self.order[index];
        self.sets[set].origin(number, epoch, seed_of(seed, set))
    }
}

/// Sets do not draw the same numbers.
fn seed_of(seed: u64, set: usize) -> u64 {
    seed.wrapping_add((set as u64) << 48)
}

/// One set after the other, each for some epochs; the last goes on.
pub struct InTurn {
    sets: Vec<(Arc<dyn Samples>, u64)>,
    samples: usize,
}

impl InTurn {
    /// `samples` per epoch, of each set for this many epochs.
    pub fn new(sets: Vec<(Arc<dyn Samples>, u64)>, samples: usize) -> Self {
        Self { sets, samples }
    }

    fn set_of(&self, epoch: u64) -> usize {
        let mut before = 0;
        for (k, (_, epochs)) in self.sets.iter().enumerate() {
            before += epochs;
            if epoch < before {
                return k;
            }
        }
        self.sets.len() - 1
    }
}

impl Samples for InTurn {
    fn len(&self) -> usize {
        self.samples
    }

    fn sample(&self, index: usize, epoch: u64, seed: u64) -> Result<Sample, TrainError> {
        let set = self.set_of(epoch);
        self.sets[set].0.sample(index, epoch, seed_of(seed, set))
    }

    fn name(&self, index: usize) -> String {
        self.sets[0].0.name(index)
    }

    fn origin(&self, index: usize, epoch: u64, seed: u64) -> String {
        let set = self.set_of(epoch);
        self.sets[set].0.origin(index, epoch, seed_of(seed, set))
    }
}

/// Sets one after the other within an epoch: for validation.
pub struct Joined {
    sets: Vec<Arc<dyn Samples>>,
}

impl Joined {
    /// All samples of all sets.
    pub fn new(sets: Vec<Arc<dyn Samples>>) -> Self {
        Self { sets }
    }

    fn find(&self, mut index: usize) -> (usize, usize) {
        for (k, set) in self.sets.iter().enumerate() {
            if index < set.len() {
                return (k, index);
            }
            index -= set.len();
        }
        (self.sets.len().saturating_sub(1), index)
    }
}

impl Samples for Joined {
    fn len(&self) -> usize {
        self.sets.iter().map(|s| s.len()).sum()
    }

    fn sample(&self, index: usize, epoch: u64, seed: u64) -> Result<Sample, TrainError> {
        let (set, index) = self.find(index);
        let set = self.sets.get(set).ok_or_else(|| TrainError::new("no data set has samples"))?;
        set.sample(index, epoch, seed)
    }

    fn name(&self, index: usize) -> String {
        let (set, index) = self.find(index);
        self.sets.get(set).map(|s| s.name(index)).unwrap_or_default()
    }
}
