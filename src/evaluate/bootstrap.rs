//! How far a number would move with other images: intervals by drawing images again.
//!
//! Owns: [`Bootstrap`], [`Interval`]. Must not know: metrics.
//! Source: Efron 1979; percentile intervals.

/// A range that holds the value in `level` of the draws.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How often each image was drawn, draw by draw; the same for the same arguments on every machine.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    draws: Vec<Vec<u32>>,
    level: f64,
}

impl Bootstrap {
    /// Draws whole groups (patients, or images alone) with replacement, as many as there are.
    ///
    /// # Shapes
    /// - `groups`: the group of each image
    pub fn new<G: PartialEq>(groups: &[G], draws: u32, level: f64, seed: u64) -> Self {
        let mut first: Vec<usize> = Vec::new();
        let of: Vec<usize> = groups
            .iter()
            .enumerate()
            .map(|(i, group)| {
                first.iter().position(|&f| groups[f] == *group).unwrap_or_else(|| {
                    first.push(i);
                    first.len() - 1
                })
            })
            .collect();
        let mut random = SplitMix(seed);
        let draw = |_| {
            let mut times = vec![0_u32; first.len()];
            (0..first.len()).for_each(|_| times[random.below(first.len() as u64) as usize] += 1);
            of.iter().map(|&group| times[group]).collect()
        };
        Self { draws: (0..draws).map(draw).collect(), level }
    }

    /// The interval of a value computed from how often each image counts; draws that say nothing are left out, `None`
    /// where fewer than half say something.
    pub fn interval(&self, value: impl Fn(&[u32]) -> Option<f64>) -> Option<Interval> {
        let mut values: Vec<f64> = self.draws.iter().filter_map(|times| value(times)).collect();
        if values.is_empty() || values.len() * 2 < self.draws.len() {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        Some(Interval { low: quantile(&values, tail), high: quantile(&values, 1.0 - tail) })
    }
}

/// Quantile of sorted values, linear between them.
pub(super) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (low, share) = (at.floor() as usize, at.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + share * (sorted[high] - sorted[low])
}

/// Steele 2014: one addition and three shifts a number.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * u128::from(n)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(values: &[f64]) -> impl Fn(&[u32]) -> Option<f64> {
        move |times| {
            let n: u32 = times.iter().sum();
            Some(values.iter().zip(times).map(|(v, &t)| v * f64::from(t)).sum::<f64>() / f64::from(n))
        }
    }

    #[test]
    fn the_interval_of_a_mean_is_about_two_standard_errors_wide() {
        let values: Vec<f64> = (0..100).map(|i| f64::from(i % 10)).collect();
        let images: Vec<usize> = (0..100).collect();
        let found = Bootstrap::new(&images, 2000, 0.95, 1).interval(mean(&values)).unwrap();
        // Standard deviation 2.872, standard error 0.287.
        assert!((found.low - (4.5 - 1.96 * 0.287)).abs() < 0.06 && (found.high - (4.5 + 1.96 * 0.287)).abs() < 0.06);
        assert_eq!(Bootstrap::new(&images, 2000, 0.95, 1).interval(mean(&values)), Some(found));
    }

    #[test]
    fn images_of_a_patient_come_and_go_together() {
        let groups = ["a", "a", "b", "b", "b"];
        let draws = Bootstrap::new(&groups, 50, 0.95, 3);
        assert!(draws.draws.iter().all(|t| t[0] == t[1] && t[2] == t[3] && t[3] == t[4] && t[0] + t[2] == 2));
        assert!(draws.draws.iter().any(|t| t[0] == 0) && draws.draws.iter().any(|t| t[0] == 2));
    }

    #[test]
    fn what_most_draws_do_not_tell_has_no_interval() {
        assert_eq!(Bootstrap::new(&[1, 2], 20, 0.95, 1).interval(|_| None), None);
    }
}
