//! Numbers of a slide's picture in words: counts, areas, the length of the scale bar.
//!
//! Owns: [`Legend`], [`scale_bar`]. Must not know: pixels, letters' sizes.

use super::text::{grouped, trimmed};

/// Numbers of the legend.
pub(super) struct Legend<'a> {
    /// Instances per class.
    pub class_counts: &'a [u64],
    /// Area per class, µm².
    pub class_area_um2: &'a [f64],
    /// Area that was computed, µm².
    pub computed_area_um2: f64,
}

impl Legend<'_> {
    /// Count, and area with its share, of the class at `i`.
    pub(super) fn row(&self, i: usize) -> (String, String) {
        let count = self.class_counts.get(i).copied().unwrap_or(0);
        let covered = self.class_area_um2.get(i).copied().unwrap_or(0.0);
        let share = 100.0 * covered / self.computed_area_um2.max(f64::MIN_POSITIVE);
        (grouped(count), format!("{}  ·  {} %", area(covered), trimmed(share.min(100.0), 1)))
    }

    /// The area that was computed, in words.
    pub(super) fn computed(&self) -> String {
        format!("{} computed", area(self.computed_area_um2))
    }
}

/// The longest round length that is not longer than `max_um`, and its name.
pub(super) fn scale_bar(max_um: f64) -> Option<(f64, String)> {
    if !max_um.is_finite() || max_um <= 0.0 {
        return None;
    }
    let power = 10_f64.powf(max_um.log10().floor());
    let um = [5.0, 2.0, 1.0].iter().map(|m| m * power).find(|&um| um <= max_um)?;
    let label = match um {
        um if um >= 1e4 => format!("{} cm", trimmed(um / 1e4, 2)),
        um if um >= 1e3 => format!("{} mm", trimmed(um / 1e3, 2)),
        um => format!("{} µm", trimmed(um, 2)),
    };
    Some((um, label))
}

fn area(um2: f64) -> String {
    if um2 >= 1e4 { format!("{} mm²", trimmed(um2 / 1e6, 2)) } else { format!("{} µm²", trimmed(um2, 0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_bars_have_round_lengths() {
        let label = |max_um: f64| scale_bar(max_um).unwrap().1;
        assert_eq!(label(3700.0), "2 mm");
        assert_eq!(label(999.0), "500 µm");
        assert_eq!(label(0.7), "0.5 µm");
        assert_eq!(label(1000.0), "1 mm");
        assert_eq!(label(25_000.0), "2 cm");
        assert!(scale_bar(0.0).is_none() && scale_bar(f64::NAN).is_none());
    }
}
