//! Chance that depends on nothing but numbers given: the same on every machine and thread.
//!
//! Owns: [`Rng`]. Must not know: what is drawn for.
//! Source: splitmix64 (Steele, Lea, Flood 2014) as a counter: number `n` of a stream is a mix of its key and `n`.

/// A stream of numbers named by a few others.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// The stream of these numbers, in this order: seed, epoch, sample, purpose.
    pub fn new(key: &[u64]) -> Self {
        let state = key.iter().fold(key.len() as u64, |state, &k| mix(state.wrapping_add(STEP) ^ mix(k)));
        Self { state }
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number between `low` and `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A number between `-most` and `most`.
    pub fn within(&mut self, most: f64) -> f64 {
        self.between(-most, most)
    }

    /// True with this probability. Draws a number in any case, so that what follows does not depend on `prob`.
    pub fn chance(&mut self, prob: f64) -> bool {
        self.unit() < prob
    }

    /// A whole number below `count`; 0 when there is none.
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.bits()) * count as u128) >> 64) as usize
    }

    /// A number of the normal distribution.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Puts items into random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// The numbers below `count` in the order of this epoch.
pub fn order_of_epoch(count: usize, epoch: u64, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    Rng::new(&[seed, epoch, 0x6f72_6465]).shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_by_its_numbers_and_their_order() {
        let first = |key: &[u64]| Rng::new(key).bits();
        assert_eq!(first(&[1, 2, 3]), first(&[1, 2, 3]));
        let all = [first(&[1, 2, 3]), first(&[3, 2, 1]), first(&[1, 2]), first(&[1, 2, 0]), first(&[])];
        assert!((0..all.len()).all(|i| (0..i).all(|j| all[i] != all[j])), "{all:?}");
    }

    #[test]
    fn numbers_are_spread_as_they_should_be() {
        let mut rng = Rng::new(&[7]);
        let n = 20_000;
        let normals: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
        let mean = normals.iter().sum::<f64>() / f64::from(n);
        let variance = normals.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let mut counts = [0; 7];
        (0..7000).for_each(|_| counts[rng.below(7)] += 1);
        assert!(counts.iter().all(|c| (850..1150).contains(c)), "{counts:?}");
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn the_order_of_an_epoch_holds_every_number_once() {
        let mut order = order_of_epoch(100, 3, 9);
        assert_ne!(order, order_of_epoch(100, 4, 9));
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
