//! Which images are corrected first.
//!
//! Owns: [`most_uncertain`], [`Stratum`]. Must not know: images, models.

use std::collections::BTreeMap;

/// What images are taken from evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stratum {
    /// Organs.
    #[default]
    Organ,
    /// Slides, or whatever an image was cut from.
    Slide,
    /// All images are one.
    None,
}

/// Places of the `count` images to correct: in turn the most uncertain that is left of each stratum, strata in the order
/// of their most uncertain; images without an entropy are never taken.
///
/// # Shapes
/// - `images`: stratum and mean entropy of each
pub fn most_uncertain(images: &[(String, Option<f64>)], count: usize) -> Vec<usize> {
    let mut strata: BTreeMap<&str, Vec<(f64, usize)>> = BTreeMap::new();
    for (i, (stratum, entropy)) in images.iter().enumerate() {
        if let Some(entropy) = entropy {
            strata.entry(stratum).or_default().push((*entropy, i));
        }
    }
    let mut strata: Vec<Vec<(f64, usize)>> = strata.into_values().collect();
    let most_first = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    strata.iter_mut().for_each(|images| images.sort_by(most_first));
    strata.sort_by(|a, b| most_first(&a[0], &b[0]));
    let rounds = strata.iter().map(Vec::len).max().unwrap_or(0);
    let in_turn = (0..rounds).flat_map(|round| strata.iter().filter_map(move |images| images.get(round)));
    in_turn.take(count).map(|&(_, i)| i).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stratum_gives_its_most_uncertain_in_turn() {
        let of = |s: &str, e: f64| (s.to_owned(), Some(e));
        let images = [
            of("liver", 0.9),
            of("liver", 0.8),
            of("liver", 0.7),
            of("lung", 0.2),
            of("lung", 0.3),
            ("lung".into(), None),
        ];
        assert_eq!(most_uncertain(&images, 3), [0, 4, 1]);
        assert_eq!(most_uncertain(&images, 99), [0, 4, 1, 3, 2]);
        assert!(most_uncertain(&[], 3).is_empty());
    }
}
