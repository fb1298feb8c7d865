//! Which nuclei of two maps share pixels, and how many.
//!
//! Owns: [`Overlaps`]. Must not know: metrics, files.
//!
//! Only pairs that touch are kept, so time is that of reading the maps once and sorting their runs: a map of 1,000 nuclei
//! has some thousand pairs, not a million.

/// What two instance maps of one image have in common.
///
/// A nucleus is said by its place among the numbers of its map in ascending order: place 0 is the smallest number that
/// is not 0. Numbers may have gaps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overlaps {
    /// Numbers of the truth's nuclei, ascending.
    pub truth_ids: Vec<u32>,
    /// Numbers of the prediction's nuclei, ascending.
    pub predicted_ids: Vec<u32>,
    /// Pixels of each nucleus of the truth.
    pub truth_px: Vec<u64>,
    /// Pixels of each nucleus of the prediction.
    pub predicted_px: Vec<u64>,
    /// Pairs that share pixels, by truth and then prediction.
    pub pairs: Vec<Overlap>,
}

/// Two nuclei that share pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// Place of the truth's nucleus.
    pub truth: usize,
    /// Place of the prediction's nucleus.
    pub predicted: usize,
    /// Pixels in both; at least 1.
    pub px: u64,
}

impl Overlaps {
    /// Compares two maps.
    ///
    /// # Shapes
    /// - `truth`, `predicted`: `[h, w]` number of the nucleus each px lies in, 0 is none; the same length
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn new(truth: &[u32], predicted: &[u32]) -> Self {
        assert_eq!(truth.len(), predicted.len(), "both maps show the same pixels");
        let mut runs = runs(truth, predicted);
        runs.sort_unstable_by_key(|&(pair, _)| pair);
        runs.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                kept.1 += next.1;
            }
            is_same
        });
        let truth_ids = ids(runs.iter().map(|&((t, _), _)| t));
        let predicted_ids = ids(runs.iter().map(|&((_, p), _)| p));
        let (mut truth_px, mut predicted_px) = (vec![0; truth_ids.len()], vec![0; predicted_ids.len()]);
        let mut pairs = Vec::new();
        for ((t, p), px) in runs {
            let (truth, predicted) = (truth_ids.binary_search(&t).ok(), predicted_ids.binary_search(&p).ok());
            if let Some(truth) = truth {
                truth_px[truth] += px;
            }
            if let Some(predicted) = predicted {
                predicted_px[predicted] += px;
            }
            if let (Some(truth), Some(predicted)) = (truth, predicted) {
                pairs.push(Overlap { truth, predicted, px });
            }
        }
        Self { truth_ids, predicted_ids, truth_px, predicted_px, pairs }
    }

    /// Pixels in either nucleus of a pair.
    pub fn union_px(&self, pair: &Overlap) -> u64 {
        self.truth_px[pair.truth] + self.predicted_px[pair.predicted] - pair.px
    }

    /// Intersection over union of a pair.
    pub fn iou(&self, pair: &Overlap) -> f64 {
        pair.px as f64 / self.union_px(pair) as f64
    }
}

/// Stretches of one pair of numbers that is not background in both, in the order of the maps.
fn runs(truth: &[u32], predicted: &[u32]) -> Vec<((u32, u32), u64)> {
    let mut runs: Vec<((u32, u32), u64)> = Vec::new();
    let mut last = (0, 0);
    for pair in truth.iter().copied().zip(predicted.iter().copied()) {
        if pair == (0, 0) {
            last = pair;
        } else if pair == last {
            // `last` is the pair of the last run: only that sets it to something that is not background.
            if let Some(run) = runs.last_mut() {
                run.1 += 1;
            }
        } else {
            runs.push((pair, 1));
            last = pair;
        }
    }
    runs
}

fn ids(all: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut ids: Vec<u32> = all.filter(|&id| id != 0).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_and_shared_pixels_are_counted_and_numbers_may_have_gaps() {
        let found = Overlaps::new(&[7, 7, 0, 9, 9, 9, 7], &[0, 3, 3, 3, 0, 40, 3]);
        assert_eq!((&found.truth_ids[..], &found.predicted_ids[..]), (&[7, 9][..], &[3, 40][..]));
        assert_eq!((&found.truth_px[..], &found.predicted_px[..]), (&[3, 3][..], &[4, 1][..]));
        let pair = |truth, predicted, px| Overlap { truth, predicted, px };
        assert_eq!(found.pairs, [pair(0, 0, 2), pair(1, 0, 1), pair(1, 1, 1)]);
        assert_eq!(found.iou(&found.pairs[0]), 2.0 / 5.0);
    }

    #[test]
    fn empty_maps_have_nothing() {
        assert_eq!(Overlaps::new(&[0, 0], &[0, 0]), Overlaps::default());
        assert_eq!(Overlaps::new(&[], &[]), Overlaps::default());
    }
}
