//! Slides cut at random places, for tests that nuclei do not depend on where.

/// Small and quick numbers; every rule of the methods matters at the sizes drawn with them.
pub struct Random(pub u64);

impl Random {
    /// The next number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) * n) >> 31
    }
}

/// Edges from 0 to `end` with random steps.
pub fn cuts(end: u32, random: &mut Random, largest: u32) -> Vec<u32> {
    let mut at = vec![0];
    let mut last = 0;
    while last < end {
        last = (last + 1 + random.below(u64::from(largest)) as u32).min(end);
        at.push(last);
    }
    at
}
