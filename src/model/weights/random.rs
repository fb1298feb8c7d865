//! Random numbers that anyone can compute alone: value `i` of tensor `name` depends on nothing else.
//!
//! Owns: [`units`], [`normals`]. Source: FNV-1a (Fowler, Noll, Vo) of the name, splitmix64 (Steele 2014) of seed and position.

/// `count` numbers, uniform in `[0, 1)`, 24 bits each.
pub(in crate::model) fn units(seed: u64, name: &str, count: usize) -> impl Iterator<Item = f32> {
    let key =
        name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    (0..count as u64).map(move |i| {
        let mut z = (key ^ seed).wrapping_add((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / 16_777_216.0
    })
}

/// `count` numbers, normal with mean 0 and deviation 1 (Box and Muller 1958, of two numbers each).
pub(in crate::model) fn normals(seed: u64, name: &str, count: usize) -> impl Iterator<Item = f64> {
    let mut units = units(seed, name, 2 * count).map(f64::from);
    (0..count).map(move |_| {
        let mut next = || units.next().expect("two for each");
        let (length, turn) = (1.0 - next(), next());
        (-2.0 * length.ln()).sqrt() * (std::f64::consts::TAU * turn).cos()
    })
}

#[cfg(test)]
mod tests {
    use super::{normals, units};

    #[test]
    fn normals_have_their_moments() {
        let z: Vec<f64> = normals(1, "a", 20_000).collect();
        let moment = |k| z.iter().map(|z| z.powi(k)).sum::<f64>() / z.len() as f64;
        assert!(moment(1).abs() < 0.03 && (moment(2) - 1.0).abs() < 0.03, "{} {}", moment(1), moment(2));
        assert!((moment(4) - 3.0).abs() < 0.2, "{}", moment(4));
    }

    #[test]
    fn numbers_are_uniform_and_differ_by_name_and_seed() {
        let draw = |seed, name| units(seed, name, 10_000).collect::<Vec<f32>>();
        let a = draw(1, "a");
        let mean = a.iter().sum::<f32>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        assert!(a.iter().all(|u| (0.0..1.0).contains(u)));
        assert!(a != draw(1, "b") && a != draw(2, "a") && a == draw(1, "a"));
    }
}
