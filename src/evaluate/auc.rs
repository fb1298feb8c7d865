//! Area under the receiver operating characteristic.
//!
//! Owns: [`roc_auc`], [`roc_auc_of_levels`]. Must not know: what is scored.
//! Source: Mann and Whitney 1947; equal to scikit-learn's `roc_auc_score`.

use super::pixel_counts::ratio;

/// The probability that something true scores higher than something that is not, equals counting half. `None` unless
/// there is some of both.
///
/// # Shapes
/// - `scores`: of anything; NaN counts as lowest
pub fn roc_auc(scores: &[f64], is_true: &[bool]) -> Option<f64> {
    let mut all: Vec<(f64, bool)> = scores.iter().copied().zip(is_true.iter().copied()).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut won, mut truths) = (0_u64, 0.0, 0_u64);
    for equals in all.chunk_by(|a, b| a.0 == b.0) {
        let yes = equals.iter().filter(|(_, t)| *t).count() as u64;
        let no = equals.len() as u64 - yes;
        won += yes as f64 * (below as f64 + no as f64 / 2.0);
        below += no;
        truths += yes;
    }
    ratio(won, truths as f64 * below as f64)
}

/// [`roc_auc`] of scores from 0 to 255, by counting.
///
/// # Shapes
/// - `counts`: how many scored each level, of what is true and of what is not
pub fn roc_auc_of_levels(yes: &[u64; 256], no: &[u64; 256]) -> Option<f64> {
    let (mut below, mut won) = (0.0, 0.0);
    for (&yes, &no) in yes.iter().zip(no) {
        won += yes as f64 * (below + no as f64 / 2.0);
        below += no as f64;
    }
    ratio(won, yes.iter().sum::<u64>() as f64 * below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_count_half_and_one_kind_alone_says_nothing() {
        let auc = roc_auc(&[0.1, 0.4, 0.4, 0.8], &[false, true, false, true]);
        assert_eq!(auc, Some(3.5 / 4.0));
        assert_eq!(roc_auc(&[0.1, 0.4], &[true, true]), None);
        let (mut yes, mut no) = ([0; 256], [0; 256]);
        (yes[4], yes[8], no[1], no[4]) = (1, 1, 1, 1);
        assert_eq!(roc_auc_of_levels(&yes, &no), auc);
    }
}
