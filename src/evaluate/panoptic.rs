//! Panoptic quality of nuclei: DQ, SQ, PQ, over one class or all.
//!
//! Owns: [`Panoptic`], [`bpq_pannuke`], [`mpq_pannuke`], [`bpq_hover_net`], [`mpq_hover_net`]. Must not know: files.
//! Source: Kirillov 2019; HoVer-Net's `get_fast_pq` (Graham 2019); PanNuke-metrics' `run.py` (Gamper 2020); CoNIC's
//! `compute_stats.py` (the authors of HoVer-Net, 2021) for PQ of several classes over all images.
//!
//! Differs: where both maps are empty the scripts divide by zero, and we say `None`.

use super::{overlap::Overlaps, pixel_counts::ratio};

/// Two nuclei are one when their IoU is above this.
pub const MATCH_IOU: f64 = 0.5;
/// The scripts add it to the number of pairs that SQ is divided by.
const EPSILON_PAIRS: f64 = 1e-6;

/// Nuclei by whether they were found; added up over images it gives PQ over all of them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Panoptic {
    /// Nuclei of truth and prediction that are one.
    pub paired: u64,
    /// Predicted nuclei that are none.
    pub only_predicted: u64,
    /// True nuclei that were not found.
    pub only_truth: u64,
    /// Sum of the pairs' IoU.
    pub iou_sum: f64,
}

impl Panoptic {
    /// Compares all nuclei. Pairs of IoU above [`MATCH_IOU`] are unique, whatever the order.
    pub fn of(overlaps: &Overlaps) -> Self {
        Self::of_class(overlaps, |_| true, |_| true)
    }

    /// Compares the nuclei of one class: those the functions take, by their places in `overlaps`.
    pub fn of_class(overlaps: &Overlaps, truth: impl Fn(usize) -> bool, predicted: impl Fn(usize) -> bool) -> Self {
        let mut found = Self::default();
        for pair in overlaps.pairs.iter().filter(|p| truth(p.truth) && predicted(p.predicted)) {
            let iou = overlaps.iou(pair);
            if iou > MATCH_IOU {
                found.paired += 1;
                found.iou_sum += iou;
            }
        }
        let truths = (0..overlaps.truth_px.len()).filter(|&i| truth(i)).count() as u64;
        let predictions = (0..overlaps.predicted_px.len()).filter(|&i| predicted(i)).count() as u64;
        found.only_truth = truths - found.paired;
        found.only_predicted = predictions - found.paired;
        found
    }

    /// Whether the truth has a nucleus.
    pub fn has_truth(&self) -> bool {
        self.paired + self.only_truth > 0
    }

    /// Detection quality, the F1 of nuclei; `None` where neither map has a nucleus.
    pub fn dq(&self) -> Option<f64> {
        let halves = 0.5 * (self.only_predicted + self.only_truth) as f64;
        ratio(self.paired as f64, self.paired as f64 + halves)
    }

    /// Segmentation quality, the mean IoU of pairs; 0 without a pair.
    pub fn sq(&self) -> Option<f64> {
        self.dq().map(|_| self.iou_sum / (self.paired as f64 + EPSILON_PAIRS))
    }

    /// Panoptic quality, `dq · sq`.
    pub fn pq(&self) -> Option<f64> {
        Some(self.dq()? * self.sq()?)
    }
}

impl std::ops::AddAssign for Panoptic {
    fn add_assign(&mut self, other: Self) {
        self.paired += other.paired;
        self.only_predicted += other.only_predicted;
        self.only_truth += other.only_truth;
        self.iou_sum += other.iou_sum;
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0), |(sum, n), v| (sum + v, n + 1));
    ratio(sum, f64::from(n))
}

/// An image as PanNuke counts it: skipped where its truth has no such nucleus, whatever was predicted.
fn pannuke_pq(panoptic: &Panoptic) -> Option<f64> {
    panoptic.pq().filter(|_| panoptic.has_truth())
}

/// PanNuke's bPQ: mean over tissues of the mean over their images of PQ of all nuclei as one class.
///
/// # Shapes
/// - `images`: tissue and all nuclei of each image
pub fn bpq_pannuke(images: &[(usize, Panoptic)]) -> Option<f64> {
    by_tissue(images.iter().map(|(tissue, all)| (*tissue, pannuke_pq(all))))
}

/// PanNuke's mPQ: mean over tissues of the mean over their images of the mean over the classes in the image.
///
/// # Shapes
/// - `images`: tissue, and the nuclei of each class of each image
pub fn mpq_pannuke(images: &[(usize, Vec<Panoptic>)]) -> Option<f64> {
    by_tissue(images.iter().map(|(tissue, classes)| (*tissue, mean(classes.iter().filter_map(pannuke_pq)))))
}

/// PQ of one class as PanNuke's script lists it: mean over all images that have such nuclei, whatever their tissue.
pub fn class_pq_pannuke(images: &[Panoptic]) -> Option<f64> {
    mean(images.iter().filter_map(pannuke_pq))
}

fn by_tissue(images: impl Iterator<Item = (usize, Option<f64>)>) -> Option<f64> {
    let mut tissues: Vec<(usize, f64)> = images.filter_map(|(tissue, pq)| Some((tissue, pq?))).collect();
    tissues.sort_by_key(|(tissue, _)| *tissue);
    mean(tissues.chunk_by(|a, b| a.0 == b.0).filter_map(|same| mean(same.iter().map(|(_, pq)| *pq))))
}

/// HoVer-Net's PQ of all nuclei as one class: mean over images of each image's PQ.
pub fn bpq_hover_net(images: &[Panoptic]) -> Option<f64> {
    mean(images.iter().filter_map(Panoptic::pq))
}

/// HoVer-Net's authors' PQ of several classes (mPQ+ of CoNIC): per class, counts of all images are added up before the
/// quality is computed, so that an image with few nuclei of it counts little; then the mean over classes.
///
/// # Shapes
/// - `images`: the nuclei of each class of each image
pub fn mpq_hover_net(images: &[Vec<Panoptic>]) -> Option<f64> {
    let classes = images.iter().map(Vec::len).max().unwrap_or(0);
    let summed = |class: usize| {
        let mut sum = Panoptic::default();
        images.iter().filter_map(|i| i.get(class)).for_each(|p| sum += *p);
        sum
    };
    mean((0..classes).filter_map(|class| summed(class).pq()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 is found (IoU 2/3), 2 is missed (IoU 1/2 is not above it), 9 is invented.
    fn example() -> Overlaps {
        Overlaps::new(&[1, 1, 1, 0, 2, 2, 0], &[4, 4, 0, 9, 7, 0, 0])
    }

    #[test]
    fn a_pair_is_above_half_and_classes_are_looked_at_alone() {
        let p = Panoptic::of(&example());
        assert_eq!((p.paired, p.only_predicted, p.only_truth), (1, 2, 1));
        assert!((p.dq().unwrap() - 1.0 / 2.5).abs() < 1e-12 && (p.sq().unwrap() - 2.0 / 3.0).abs() < 1e-5);
        // The pair is of two classes: in either it is a miss or an invention.
        let of = |class| Panoptic::of_class(&example(), |t| [0, 1][t] == class, |p| [1, 1, 0][p] == class);
        assert_eq!((of(0).paired, of(0).only_predicted, of(0).only_truth), (0, 1, 1));
        assert_eq!((of(1).paired, of(1).only_predicted, of(1).only_truth), (0, 2, 1));
    }

    #[test]
    fn an_image_without_truth_counts_for_hover_net_and_not_for_pannuke() {
        let invented = Panoptic { only_predicted: 2, ..Default::default() };
        let found = Panoptic { paired: 2, iou_sum: 2.0, ..Default::default() };
        assert_eq!((invented.pq(), Panoptic::default().pq()), (Some(0.0), None));
        assert!((bpq_pannuke(&[(0, invented), (0, found)]).unwrap() - 1.0).abs() < 1e-6);
        assert!((bpq_hover_net(&[invented, found, Panoptic::default()]).unwrap() - 0.5).abs() < 1e-6);
    }

    #[test]
    fn tissues_weigh_the_same_and_images_of_hover_net_by_their_nuclei() {
        let pq =
            |paired: u64, missed| Panoptic { paired, only_truth: missed, iou_sum: paired as f64, only_predicted: 0 };
        let images = [(0, vec![pq(1, 0)]), (0, vec![pq(1, 0)]), (1, vec![pq(0, 8)])];
        assert!((mpq_pannuke(&images).unwrap() - 0.5).abs() < 1e-6);
        let all: Vec<Vec<Panoptic>> = images.into_iter().map(|(_, p)| p).collect();
        assert!((mpq_hover_net(&all).unwrap() - 2.0 / 6.0).abs() < 1e-6);
    }
}
