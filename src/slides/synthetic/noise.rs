//! Noise that is a function of a position and a seed.
//!
//! Owns: [`hash`], [`Lattice`]. Must not know: what it is drawn on.

/// Well-mixed bits of a seed and two numbers. Source: finalizer of MurmurHash3 / SplitMix64.
pub(super) fn hash(seed: u64, x: u64, y: u64) -> u64 {
    let mut z = seed ^ x.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ y.wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in `[0, 1)` from the `part`-th 16 bits of a hash.
pub(super) fn unit(hash: u64, part: u32) -> f64 {
    f64::from((hash >> (16 * part)) as u16) / 65_536.0
}

/// Values in `[0, 1)` at every `spacing` px, bilinear between.
pub(super) struct Lattice {
    seed: u64,
    spacing: u32,
}

impl Lattice {
    pub(super) fn new(seed: u64, spacing: u32) -> Self {
        Self { seed, spacing: spacing.max(1) }
    }

    /// The values at level-0 row `y`, columns `x0, x0 + step, …`, `n` of them.
    pub(super) fn fill_row(&self, x0: u32, y: u32, step: u32, n: usize, out: &mut Vec<f32>) {
        let node = |i: u64, j: u64| (hash(self.seed, i, j) & 0xffff) as f32 / 65_536.0;
        interpolate_row(self.spacing, x0, y, step, n, &node, out);
    }
}

/// Bilinear interpolation of `node(i, j)`, the value at px `(i, j)·spacing`, along one row.
///
/// The result at a px does not depend on `x0` or `n`: it is computed from its cell alone.
pub(super) fn interpolate_row(
    spacing: u32,
    x0: u32,
    y: u32,
    step: u32,
    n: usize,
    node: &dyn Fn(u64, u64) -> f32,
    out: &mut Vec<f32>,
) {
    out.clear();
    let (j, v) = (u64::from(y / spacing), (y % spacing) as f32 / spacing as f32);
    let column = |i: u64| {
        let (top, bottom) = (node(i, j), node(i, j + 1));
        top + (bottom - top) * v
    };
    let mut held = u64::from(x0 / spacing);
    let (mut left, mut right) = (column(held), column(held + 1));
    let mut x = x0;
    let scale = 1.0 / spacing as f32;
    while out.len() < n {
        let cell = u64::from(x / spacing);
        if cell != held {
            left = if cell == held + 1 { right } else { column(cell) };
            right = column(cell + 1);
            held = cell;
        }
        // All px of this cell at once.
        let end = (cell as u32 + 1) * spacing;
        let count = ((end - x).div_ceil(step) as usize).min(n - out.len());
        let start = x - cell as u32 * spacing;
        out.extend((0..count as u32).map(|k| left + (right - left) * ((start + k * step) as f32 * scale)));
        x += count as u32 * step;
    }
}
