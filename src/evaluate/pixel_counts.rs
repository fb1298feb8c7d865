//! Yes or no per pixel: Dice, Jaccard, precision, recall, accuracy, F1.
//!
//! Owns: [`PixelCounts`]. Must not know: classes, images.
//!
//! Where a ratio has nothing to stand on (nothing asked for and nothing found), it is `None`, and means leave the image
//! out. Something found where nothing is, and nothing found where something is, are 0.

/// Pixels (or images, or nuclei) by what is true and what was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PixelCounts {
    /// True and said.
    pub both: u64,
    /// Said only: false positives.
    pub only_predicted: u64,
    /// True only: false negatives.
    pub only_truth: u64,
    /// Neither.
    pub neither: u64,
}

/// `a / b`, if there is something to divide by.
pub(super) fn ratio(a: f64, b: f64) -> Option<f64> {
    (b > 0.0).then(|| a / b)
}

impl PixelCounts {
    /// Counts pixels, each as what is true and what was said.
    pub fn of(pixels: impl Iterator<Item = (bool, bool)>) -> Self {
        let mut counts = Self::default();
        for (truth, predicted) in pixels {
            match (truth, predicted) {
                (true, true) => counts.both += 1,
                (false, true) => counts.only_predicted += 1,
                (true, false) => counts.only_truth += 1,
                (false, false) => counts.neither += 1,
            }
        }
        counts
    }

    fn floats(&self) -> (f64, f64, f64, f64) {
        (self.both as f64, self.only_predicted as f64, self.only_truth as f64, self.neither as f64)
    }

    /// `2·both / (truth + predicted)`; the same number as F1.
    pub fn dice(&self) -> Option<f64> {
        let (tp, fp, fnn, _) = self.floats();
        ratio(2.0 * tp, 2.0 * tp + fp + fnn)
    }

    /// Intersection over union.
    pub fn jaccard(&self) -> Option<f64> {
        let (tp, fp, fnn, _) = self.floats();
        ratio(tp, tp + fp + fnn)
    }

    /// Share of what was said that is true; `None` when nothing was said and nothing is true, 0 when nothing was said.
    pub fn precision(&self) -> Option<f64> {
        let (tp, fp, fnn, _) = self.floats();
        ratio(tp, tp + fp).or((fnn > 0.0).then_some(0.0))
    }

    /// Share of what is true that was said (sensitivity); `None` when nothing is true and nothing was said, 0 when
    /// nothing is true.
    pub fn recall(&self) -> Option<f64> {
        let (tp, fp, fnn, _) = self.floats();
        ratio(tp, tp + fnn).or((fp > 0.0).then_some(0.0))
    }

    /// Share of what is not true that was not said.
    pub fn specificity(&self) -> Option<f64> {
        let (_, fp, _, tn) = self.floats();
        ratio(tn, tn + fp)
    }

    /// Share of all that was said rightly.
    pub fn accuracy(&self) -> Option<f64> {
        let (tp, fp, fnn, tn) = self.floats();
        ratio(tp + tn, tp + fp + fnn + tn)
    }

    /// Harmonic mean of precision and recall.
    pub fn f1(&self) -> Option<f64> {
        self.dice()
    }
}

impl std::ops::AddAssign for PixelCounts {
    fn add_assign(&mut self, other: Self) {
        self.both += other.both;
        self.only_predicted += other.only_predicted;
        self.only_truth += other.only_truth;
        self.neither += other.neither;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_the_counts() {
        let c = PixelCounts { both: 6, only_predicted: 2, only_truth: 4, neither: 8 };
        assert_eq!((c.dice(), c.jaccard()), (Some(12.0 / 18.0), Some(0.5)));
        assert_eq!((c.precision(), c.recall()), (Some(0.75), Some(0.6)));
        assert_eq!((c.specificity(), c.accuracy()), (Some(0.8), Some(0.7)));
    }

    #[test]
    fn what_is_empty_is_nought_on_one_side_and_says_nothing_on_both() {
        let missed = PixelCounts { only_truth: 3, neither: 1, ..Default::default() };
        let invented = PixelCounts { only_predicted: 3, neither: 1, ..Default::default() };
        for c in [missed, invented] {
            assert_eq!([c.dice(), c.jaccard(), c.precision(), c.recall()], [Some(0.0); 4]);
        }
        let nothing = PixelCounts { neither: 4, ..Default::default() };
        assert_eq!([nothing.dice(), nothing.jaccard(), nothing.precision(), nothing.recall()], [None; 4]);
        assert_eq!(nothing.accuracy(), Some(1.0));
    }
}
