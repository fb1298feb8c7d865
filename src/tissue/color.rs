//! Does a slide look like hematoxylin and eosin?
//!
//! Owns: the verdict. Must not know: what is done about it.
//!
//! Measured shares of optical density in green over tissue: 0.44–0.50 on CMU-1, CAMELYON and OS-1, above 0.40 on all 90
//! patches of BRCA-M2C, because hematoxylin and eosin both absorb green most; 0.34 on an H-DAB slide (OS-2, Ki67),
//! because DAB absorbs blue most and its counterstain red. DAB by itself is brown: blue absorbed most, red least; such
//! px hold 12 % of the density of OS-2 and none of the H&E slides'.
//! A dark field is fluorescence.

use super::TissueMask;
use crate::pixels::{RgbImage, stain::mean_od_px};

/// What a slide looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorKind {
    /// Hematoxylin and eosin.
    HAndE,
    /// Brown DAB on a blue counterstain.
    Ihc,
    /// Bright signal on a dark field.
    Fluorescence,
    /// None of these for sure, or too little tissue to say.
    Unclear,
}

impl ColorKind {
    /// The name written into tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::HAndE => "h_and_e",
            Self::Ihc => "ihc",
            Self::Fluorescence => "fluorescence",
            Self::Unclear => "unclear",
        }
    }
}

/// What [`check_color`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct ColorVerdict {
    /// What the slide looks like.
    pub kind: ColorKind,
    /// The numbers behind it.
    pub detail: String,
    /// What the user should know; `None` for H&E, and for slides without tissue.
    pub warning: Option<String>,
}

/// Fewer tissue px than this say nothing.
const MIN_TISSUE_PX: usize = 50;

/// Judges a slide by the colours of its tissue. `mask` may have another size than `picture`; both cover the slide.
pub fn check_color(picture: &RgbImage, mask: &TissueMask) -> ColorVerdict {
    let px = || picture.data.chunks_exact(3).map(|p| [p[0], p[1], p[2]]);
    let n = (picture.data.len() / 3).max(1);
    let dark = px().filter(|rgb| rgb.iter().map(|&v| u32::from(v)).sum::<u32>() < 3 * 60).count() as f64 / n as f64;
    if dark > 0.5 {
        return ColorVerdict {
            kind: ColorKind::Fluorescence,
            detail: format!("{:.0} % of the picture is dark", 100.0 * dark),
            warning: Some(
                "the slide looks like fluorescence (dark background): brightfield models and stain normalisation do \
                 not apply"
                    .to_owned(),
            ),
        };
    }
    let mut sums = Sums::default();
    let (w, h) = (u64::from(picture.w.max(1)), u64::from(picture.h.max(1)));
    for (i, rgb) in px().enumerate() {
        let column = (i as u64 % w * u64::from(mask.w) / w) as usize;
        let row = (i as u64 / w * u64::from(mask.h) / h) as usize;
        if mask.bits.get(row * mask.w as usize + column).is_some_and(|&bit| bit != 0) {
            sums.add(rgb);
        }
    }
    sums.verdict()
}

#[derive(Default)]
struct Sums {
    px: usize,
    /// Optical density of red, green, blue.
    od: [f64; 3],
    /// Optical density in brown px.
    brown: f64,
}

impl Sums {
    fn add(&mut self, rgb: [u8; 3]) {
        let od = rgb.map(|v| f64::from(mean_od_px([v, 255, 255])) * 3.0);
        let sum: f64 = od.iter().sum();
        // Fainter px are glass, whose colour is the lamp's.
        if sum < 3.0 * 0.06 {
            return;
        }
        self.px += 1;
        (0..3).for_each(|i| self.od[i] += od[i]);
        if sum > 3.0 * 0.2 && od[2] > 1.05 * od[1] && od[1] > 1.05 * od[0] {
            self.brown += sum;
        }
    }

    fn verdict(&self) -> ColorVerdict {
        if self.px < MIN_TISSUE_PX {
            let detail = format!("{} stained px, too few to judge the stain", self.px);
            return ColorVerdict { kind: ColorKind::Unclear, detail, warning: None };
        }
        let total: f64 = self.od.iter().sum();
        let [red, green, blue] = self.od.map(|od| od / total);
        let brown = self.brown / total;
        let detail = format!(
            "share of optical density: red {red:.2}, green {green:.2}, blue {blue:.2}; in brown px {:.0} %",
            100.0 * brown
        );
        let verdict = |kind, warning: Option<&str>| ColorVerdict {
            kind,
            detail: detail.clone(),
            warning: warning.map(|text| format!("{text} ({detail})")),
        };
        if brown > 0.15 && green < 0.45 || brown > 0.02 && green < 0.40 {
            let text = "the slide looks like immunohistochemistry (brown DAB), not H&E: use the H-DAB stains, and no \
                        H&E stain normalisation";
            verdict(ColorKind::Ihc, Some(text))
        } else if green < 0.40 {
            verdict(ColorKind::Unclear, Some("the slide does not have the colours of H&E"))
        } else {
            verdict(ColorKind::HAndE, None)
        }
    }
}
