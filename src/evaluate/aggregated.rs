//! Aggregated measures of nuclei: DICE, ensemble DICE, AJI, AJI+.
//!
//! Owns: [`Aggregate`] and the functions that make one. Must not know: classes, images.
//! Source: Kumar 2017 (AJI); HoVer-Net's `metrics/stats_utils.py` (`get_dice_1`, `get_fast_dice_2`, `get_fast_aji`,
//! `get_fast_aji_plus`), equal to it on the same maps. Differs: where both maps are empty they divide by zero, and we say
//! `None`.

use super::{assign::max_weight_pairs, overlap::Overlaps, pixel_counts::ratio};

/// What is shared and what there is in all; added up over images it gives the measure over all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Aggregate {
    /// Pixels shared.
    pub shared_px: u64,
    /// Pixels there are.
    pub all_px: u64,
}

impl Aggregate {
    /// Share; `None` where there is nothing, 0 where one map is empty.
    pub fn value(&self) -> Option<f64> {
        ratio(self.shared_px as f64, self.all_px as f64)
    }
}

/// Added to unions where HoVer-Net ranks pairs by their IoU.
const EPSILON_PX: f64 = 1e-6;

/// DICE of all nuclei as one mask.
pub fn dice(overlaps: &Overlaps) -> Aggregate {
    let shared: u64 = overlaps.pairs.iter().map(|p| p.px).sum();
    let all: u64 = overlaps.truth_px.iter().chain(&overlaps.predicted_px).sum();
    Aggregate { shared_px: 2 * shared, all_px: all }
}

/// Ensemble DICE (DICE2): each pair of nuclei that share a pixel counts with both its areas, so one nucleus may count
/// several times. Nuclei that share nothing do not count at all; where no pair shares a pixel it is 0.
pub fn ensemble_dice(overlaps: &Overlaps) -> Aggregate {
    let shared: u64 = overlaps.pairs.iter().map(|p| p.px).sum();
    let paired: u64 = overlaps.pairs.iter().map(|p| overlaps.union_px(p) + p.px).sum();
    // Without a pair HoVer-Net's script divides by zero; all nuclei stand in for it, so that it is 0 and not nothing.
    let all = if paired == 0 { overlaps.truth_px.iter().chain(&overlaps.predicted_px).sum() } else { paired };
    Aggregate { shared_px: 2 * shared, all_px: all }
}

/// AJI: each true nucleus with the predicted one of largest IoU, which others may take, too.
pub fn aji(overlaps: &Overlaps) -> Aggregate {
    let mut best: Vec<Option<(f64, usize)>> = vec![None; overlaps.truth_px.len()];
    for (at, pair) in overlaps.pairs.iter().enumerate() {
        let iou = ranked_iou(overlaps, at);
        // Of equals the first prediction, as NumPy's argmax has it.
        if best[pair.truth].is_none_or(|(most, _)| iou > most) {
            best[pair.truth] = Some((iou, at));
        }
    }
    let chosen: Vec<usize> = best.into_iter().flatten().map(|(_, at)| at).collect();
    of_pairs(overlaps, &chosen)
}

/// AJI+: each predicted nucleus with at most one true one, so that the sum of IoU is largest.
pub fn aji_plus(overlaps: &Overlaps) -> Aggregate {
    let edges: Vec<(usize, usize, f64)> =
        overlaps.pairs.iter().enumerate().map(|(at, p)| (p.truth, p.predicted, ranked_iou(overlaps, at))).collect();
    let paired = max_weight_pairs(overlaps.truth_px.len(), overlaps.predicted_px.len(), &edges);
    let at = |&(truth, predicted): &(usize, usize)| {
        overlaps.pairs.binary_search_by_key(&(truth, predicted), |p| (p.truth, p.predicted)).ok()
    };
    let chosen: Vec<usize> = paired.iter().filter_map(at).collect();
    of_pairs(overlaps, &chosen)
}

fn ranked_iou(overlaps: &Overlaps, at: usize) -> f64 {
    let pair = &overlaps.pairs[at];
    pair.px as f64 / (overlaps.union_px(pair) as f64 + EPSILON_PX)
}

/// Intersections and unions of the pairs, and all nuclei that are in none.
fn of_pairs(overlaps: &Overlaps, chosen: &[usize]) -> Aggregate {
    let mut sum = Aggregate::default();
    let (mut truth_used, mut predicted_used) =
        (vec![false; overlaps.truth_px.len()], vec![false; overlaps.predicted_px.len()]);
    for &at in chosen {
        let pair = &overlaps.pairs[at];
        (truth_used[pair.truth], predicted_used[pair.predicted]) = (true, true);
        sum.shared_px += pair.px;
        sum.all_px += overlaps.union_px(pair);
    }
    let left = |px: &[u64], used: &[bool]| -> u64 { px.iter().zip(used).filter(|(_, u)| !**u).map(|(px, _)| px).sum() };
    sum.all_px += left(&overlaps.truth_px, &truth_used) + left(&overlaps.predicted_px, &predicted_used);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_over_two_nuclei_counts_twice_in_aji_and_once_in_aji_plus() {
        // Truth 1 1 2 2, one prediction over all of it.
        let overlaps = Overlaps::new(&[1, 1, 2, 2], &[5, 5, 5, 5]);
        assert_eq!(aji(&overlaps), Aggregate { shared_px: 4, all_px: 8 });
        assert_eq!(aji_plus(&overlaps), Aggregate { shared_px: 2, all_px: 6 });
        assert_eq!(dice(&overlaps).value(), Some(1.0));
        assert_eq!(ensemble_dice(&overlaps), Aggregate { shared_px: 8, all_px: 12 });
    }

    #[test]
    fn one_empty_map_is_nought_and_two_say_nothing() {
        for maps in [(&[1, 1], &[0, 0]), (&[0, 0], &[1, 1])] {
            let overlaps = Overlaps::new(maps.0, maps.1);
            for value in [dice(&overlaps), ensemble_dice(&overlaps), aji(&overlaps), aji_plus(&overlaps)] {
                assert_eq!(value.value(), Some(0.0));
            }
        }
        assert_eq!(aji(&Overlaps::default()).value(), None);
    }
}
