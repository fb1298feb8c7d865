//! Which class was taken for which.
//!
//! Owns: [`Confusion`]. Must not know: what is classified.

use super::pixel_counts::{PixelCounts, ratio};

/// Counts of classes by what is true and what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// `[truth, said]`.
    counts: Vec<u64>,
}

impl Confusion {
    /// Nothing counted yet.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Counts `n` of class `truth` taken for `predicted`; what is none of the classes is not counted.
    pub fn add(&mut self, truth: usize, predicted: usize, n: u64) {
        if truth < self.classes && predicted < self.classes {
            self.counts[truth * self.classes + predicted] += n;
        }
    }

    /// Adds another's counts.
    ///
    /// # Panics
    /// If it has other classes.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.classes, other.classes, "counts of the same classes");
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
    }

    /// How many of class `truth` were taken for `predicted`.
    pub fn get(&self, truth: usize, predicted: usize) -> u64 {
        self.counts[truth * self.classes + predicted]
    }

    /// All that was counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// One class against all others.
    pub fn class(&self, class: usize) -> PixelCounts {
        let truth: u64 = (0..self.classes).map(|p| self.get(class, p)).sum();
        let predicted: u64 = (0..self.classes).map(|t| self.get(t, class)).sum();
        let both = self.get(class, class);
        let neither = self.total() + both - truth - predicted;
        PixelCounts { both, only_predicted: predicted - both, only_truth: truth - both, neither }
    }

    /// Share that was classified rightly.
    pub fn accuracy(&self) -> Option<f64> {
        let right: u64 = (0..self.classes).map(|c| self.get(c, c)).sum();
        ratio(right as f64, self.total() as f64)
    }

    /// Mean over the classes that are there in truth or prediction.
    pub fn macro_mean(&self, of: impl Fn(&PixelCounts) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = (0..self.classes).filter_map(|c| of(&self.class(c))).collect();
        ratio(values.iter().sum(), values.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_compared_with_all_others() {
        let mut c = Confusion::new(3);
        for (t, p, n) in [(0, 0, 5), (0, 1, 1), (1, 1, 3), (1, 2, 2), (7, 0, 9)] {
            c.add(t, p, n);
        }
        assert_eq!(c.class(1), PixelCounts { both: 3, only_predicted: 1, only_truth: 2, neither: 5 });
        assert_eq!(c.accuracy(), Some(8.0 / 11.0));
        // Class 2 is not there in truth, but was said: it counts as 0.
        assert_eq!(c.macro_mean(PixelCounts::recall), Some((5.0 / 6.0 + 3.0 / 5.0) / 3.0));
    }
}
