//! Nuclei as points: found within a distance, of the right class or not.
//!
//! Owns: [`Detection`], [`detect`], [`detect_class`], [`HoverNetTypes`]. Must not know: pixels, files.
//! Source: Abousamra 2021 (MCSpatNet, BRCA-M2C) `03_eval_localization_fscore.py`; HoVer-Net's `compute_stats.py`.
//!
//! Two definitions, which are not mixed:
//! - MCSpatNet's: a nucleus is found when a prediction lies within 6 px at 20× (3 µm); F1 of a class compares its
//!   true nuclei with its predicted ones alone, so that a nucleus of the wrong class is a miss and an invention. Differs:
//!   the script gives each true nucleus, in the order of the file, the nearest prediction that is left; here as many as
//!   possible are paired ([`near_pairs`]), which no order changes and which is at least as many.
//! - HoVer-Net's: pairs of least total distance over all nuclei, of which those within 12 px (at 40×) stay; F1 of a class
//!   counts pairs of which either nucleus has it, wrong ones twice. Differs: for an image without nuclei the script
//!   compares with a nucleus of no type at (0, 0).

use super::{
    assign::{min_cost_assignment, near_pairs},
    pixel_counts::ratio,
};

/// Radius of the definition for dots, µm.
pub const DOT_RADIUS_UM: f64 = 3.0;
/// Radius of HoVer-Net's definition, px at 0.25 µm/px.
pub const HOVER_NET_RADIUS_PX: f64 = 12.0;

/// A nucleus as a point with a class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// From the left, in the unit of the radius.
    pub x: f64,
    /// From the top.
    pub y: f64,
    /// Class.
    pub class: u8,
}

/// Nuclei by whether they were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Detection {
    /// True nuclei with a prediction of their own.
    pub found: u64,
    /// Predictions without a true nucleus.
    pub invented: u64,
    /// True nuclei without a prediction.
    pub missed: u64,
}

impl Detection {
    /// Share of predictions that are nuclei; as [`super::PixelCounts::precision`] where there is nothing.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.found as f64, (self.found + self.invented) as f64).or((self.missed > 0).then_some(0.0))
    }

    /// Share of nuclei that were found.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.found as f64, (self.found + self.missed) as f64).or((self.invented > 0).then_some(0.0))
    }

    /// Harmonic mean of both; `None` where there is no nucleus and none was predicted.
    pub fn f1(&self) -> Option<f64> {
        let double = 2.0 * self.found as f64;
        ratio(double, double + (self.invented + self.missed) as f64)
    }
}

impl std::ops::AddAssign for Detection {
    fn add_assign(&mut self, other: Self) {
        self.found += other.found;
        self.invented += other.invented;
        self.missed += other.missed;
    }
}

fn places<'a>(points: impl Iterator<Item = &'a Point>) -> Vec<(f64, f64)> {
    points.map(|p| (p.x, p.y)).collect()
}

fn counts(truth: &[(f64, f64)], predicted: &[(f64, f64)], radius: f64) -> Detection {
    let found = near_pairs(truth, predicted, radius).len() as u64;
    Detection { found, invented: predicted.len() as u64 - found, missed: truth.len() as u64 - found }
}

/// Compares places, whatever the classes.
pub fn detect(truth: &[Point], predicted: &[Point], radius: f64) -> Detection {
    counts(&places(truth.iter()), &places(predicted.iter()), radius)
}

/// Compares the nuclei of one class (MCSpatNet's definition).
pub fn detect_class(truth: &[Point], predicted: &[Point], radius: f64, class: u8) -> Detection {
    let of = |points: &[Point]| places(points.iter().filter(|p| p.class == class));
    counts(&of(truth), &of(predicted), radius)
}

/// HoVer-Net's pairs and what is alone, by type; added up over images it gives F1 over all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HoverNetTypes {
    /// Type of the true and of the predicted nucleus of each pair.
    pub pairs: Vec<(u8, u8)>,
    /// Types of true nuclei alone.
    pub only_truth: Vec<u8>,
    /// Types of predicted nuclei alone.
    pub only_predicted: Vec<u8>,
}

/// What F1 of one type is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TypeCounts {
    /// Pairs of which both nuclei have the type.
    pub right: u64,
    /// Pairs of which only the predicted nucleus has it.
    pub only_predicted_type: u64,
    /// Pairs of which only the true nucleus has it.
    pub only_true_type: u64,
    /// Predicted nuclei alone that have it.
    pub invented: u64,
    /// True nuclei alone that have it.
    pub missed: u64,
}

impl TypeCounts {
    /// `2·right / (2·right + 2·wrong pairs + alone)`: HoVer-Net's F1_c with weights 2, 2, 1, 1.
    pub fn f1_c(&self) -> Option<f64> {
        let right = 2.0 * self.right as f64;
        let wrong = 2.0 * (self.only_predicted_type + self.only_true_type) as f64;
        ratio(right, right + wrong + (self.invented + self.missed) as f64)
    }
}

impl HoverNetTypes {
    /// Pairs the nuclei of one image.
    pub fn of(truth: &[Point], predicted: &[Point], radius: f64) -> Self {
        let cost: Vec<f64> =
            truth.iter().flat_map(|t| predicted.iter().map(|p| (t.x - p.x).hypot(t.y - p.y))).collect();
        let columns = min_cost_assignment(&cost, truth.len(), predicted.len());
        let (mut all, mut used) = (Self::default(), vec![false; predicted.len()]);
        for (i, t) in truth.iter().enumerate() {
            match columns[i].filter(|&j| cost[i * predicted.len() + j] <= radius) {
                Some(j) => {
                    used[j] = true;
                    all.pairs.push((t.class, predicted[j].class));
                }
                None => all.only_truth.push(t.class),
            }
        }
        all.only_predicted = predicted.iter().zip(&used).filter(|(_, u)| !**u).map(|(p, _)| p.class).collect();
        all
    }

    /// F1 of detection over all types (F1_d) is that of these counts.
    pub fn detection(&self) -> Detection {
        let [found, invented, missed] =
            [self.pairs.len(), self.only_predicted.len(), self.only_truth.len()].map(|n| n as u64);
        Detection { found, invented, missed }
    }

    /// Pairs of one type, and all pairs.
    pub fn right_pairs(&self) -> (u64, u64) {
        (self.pairs.iter().filter(|(t, p)| t == p).count() as u64, self.pairs.len() as u64)
    }

    /// What F1 of `class` is made of.
    pub fn of_type(&self, class: u8) -> TypeCounts {
        let pairs =
            |is: fn(bool, bool) -> bool| self.pairs.iter().filter(|&&(t, p)| is(t == class, p == class)).count() as u64;
        let alone = |types: &[u8]| types.iter().filter(|&&t| t == class).count() as u64;
        TypeCounts {
            right: pairs(|t, p| t && p),
            only_predicted_type: pairs(|t, p| !t && p),
            only_true_type: pairs(|t, p| t && !p),
            invented: alone(&self.only_predicted),
            missed: alone(&self.only_truth),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(x: f64, class: u8) -> Point {
        Point { x, y: 0.0, class }
    }

    #[test]
    fn a_nucleus_of_the_wrong_class_is_found_and_in_both_classes_wrong() {
        let (truth, predicted) = ([p(0.0, 1), p(10.0, 2)], [p(1.0, 1), p(10.0, 1), p(50.0, 2)]);
        assert_eq!(detect(&truth, &predicted, 3.0), Detection { found: 2, invented: 1, missed: 0 });
        assert_eq!(detect_class(&truth, &predicted, 3.0, 1), Detection { found: 1, invented: 1, missed: 0 });
        assert_eq!(detect_class(&truth, &predicted, 3.0, 2), Detection { found: 0, invented: 1, missed: 1 });
    }

    #[test]
    fn hover_net_counts_pairs_of_either_class_twice() {
        let (truth, predicted) = ([p(0.0, 1), p(10.0, 2), p(90.0, 1)], [p(1.0, 1), p(10.0, 1), p(50.0, 2)]);
        let types = HoverNetTypes::of(&truth, &predicted, 12.0);
        assert_eq!(types.pairs, [(1, 1), (2, 1)]);
        assert_eq!(types.of_type(1).f1_c(), Some(2.0 / (2.0 + 2.0 + 1.0)));
        assert_eq!(types.of_type(2).f1_c(), Some(0.0));
        assert_eq!(types.of_type(3).f1_c(), None);
        assert_eq!(types.detection(), Detection { found: 2, invented: 1, missed: 1 });
        assert_eq!(types.right_pairs(), (1, 2));
    }

    #[test]
    fn nothing_predicted_is_nought_and_nothing_on_either_side_says_nothing() {
        assert_eq!(detect(&[p(0.0, 1)], &[], 3.0).f1(), Some(0.0));
        assert_eq!(detect(&[], &[p(0.0, 1)], 3.0).f1(), Some(0.0));
        assert_eq!(detect(&[], &[], 3.0).f1(), None);
        assert_eq!(HoverNetTypes::of(&[], &[p(0.0, 1)], 12.0).only_predicted, [1]);
    }
}
