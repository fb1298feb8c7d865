//! From a small picture of a slide to its tissue mask.
//!
//! Owns: the order of the steps. Must not know: how each works.

use super::{TissueMask, fixed::fixed, focus, geojson, mask_file, morphology, otsu::otsu, pen};
use crate::{
    config::settings::{Tissue, TissueMethod},
    error::{SlideError, StageName},
    geometry::{Level0, Size},
    pixels::RgbImage,
    units::MppXy,
};

/// Tissue of one slide, and how it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundTissue {
    /// Where it is. May be empty: a slide without tissue is no error.
    pub mask: TissueMask,
    /// Tissue is above it, in units of the channel (saturation 0–1, or mean decadic optical density); `None` where no
    /// threshold is involved.
    pub threshold: Option<f64>,
    /// Share of the tissue under felt pen, 0–1, whether it was left out or not.
    pub pen_share: f64,
    /// Share of the tissue out of focus, 0–1, whether it was left out or not.
    pub blur_share: f64,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Pen or blur on more of the tissue than this is worth a note.
const NOTE_SHARE: f64 = 0.02;

/// Finds tissue.
///
/// The masks of users (files, GeoJSON) are taken as drawn: smoothing, smallest area and holes are for thresholds.
///
/// # Shapes
/// - `picture`: all of the slide, corner on corner; the mask has its size (one px for `everything`).
///
/// # Units
/// `slide_mpp` is that of level 0; areas of `settings` are µm² on the slide.
///
/// # Errors
/// A mask or outline of the user's that is missing or cannot be used; an empty picture.
pub fn find_tissue(
    picture: &RgbImage,
    level0: Size<Level0>,
    slide_mpp: MppXy,
    slide_stem: &str,
    settings: &Tissue,
) -> Result<FoundTissue, SlideError> {
    let (w, h) = (picture.w, picture.h);
    if w == 0 || h == 0 || level0.area() == 0 || picture.data.len() != w as usize * h as usize * 3 {
        let message = format!("the picture of the slide has [{w}, {h}] px, expected some");
        return Err(SlideError::new(StageName::Tissue, message));
    }
    let step = (f64::from(level0.w) / f64::from(w), f64::from(level0.h) / f64::from(h));
    let px_um2 = slide_mpp.px_area_um2() * step.0 * step.1;
    let um_per_px = px_um2.sqrt();
    let min_px = settings.min_area_um2 / px_um2;
    let pen = pen::marks(picture, um_per_px);
    let ignored = settings.exclude_pen.then_some(pen.as_slice());

    let mut notes = Vec::new();
    let mut threshold = None;
    let (mut bits, drawn) = match &settings.method {
        TissueMethod::Otsu { channel } => {
            let found = otsu(picture, *channel, ignored);
            threshold = Some(found.threshold);
            notes.extend(found.note);
            (found.bits, false)
        }
        TissueMethod::Fixed { channel, threshold: above } => {
            threshold = Some(*above);
            (fixed(picture, *channel, *above), false)
        }
        TissueMethod::MaskDir(dir) => (mask_file::read_mask(dir, slide_stem, level0, (w, h))?, true),
        TissueMethod::GeojsonDir(dir) => {
            let (bits, note) = geojson::read_polygons(dir, slide_stem, (w, h), step)?;
            notes.extend(note);
            (bits, true)
        }
        TissueMethod::Everything => (vec![1; w as usize * h as usize], true),
    };
    let columns = w as usize;
    if !drawn {
        bits = morphology::open(&morphology::close(&bits, columns), columns);
        morphology::drop_small(&mut bits, columns, min_px);
        morphology::fill_holes(&mut bits, columns, settings.max_hole_um2 / px_um2);
    }
    let pen_share = share(&pen, &bits);
    let clean: Vec<u8> = bits.iter().zip(&pen).map(|(&bit, &pen)| bit & (1 - pen)).collect();
    let blurred = focus::blurred(picture, &clean, um_per_px);
    let blur_share = share(&blurred, &bits);
    notes.extend(note(pen_share, settings.exclude_pen, "felt pen", "exclude_pen"));
    notes.extend(note(blur_share, settings.exclude_blur, "out of focus", "exclude_blur"));
    if settings.exclude_pen {
        bits = clean;
    }
    if settings.exclude_blur {
        bits.iter_mut().zip(&blurred).for_each(|(bit, &b)| *bit &= 1 - b);
    }
    if !drawn && (settings.exclude_pen || settings.exclude_blur) {
        morphology::drop_small(&mut bits, columns, min_px);
    }
    let untouched = settings.method == TissueMethod::Everything && bits.iter().all(|&bit| bit == 1);
    let mask = if untouched {
        TissueMask::everything(level0)
    } else {
        TissueMask { bits, w, h, step_x: step.0, step_y: step.1 }
    };
    Ok(FoundTissue { mask, threshold, pen_share, blur_share, notes })
}

/// Share of `of` that is in `part`.
fn share(part: &[u8], of: &[u8]) -> f64 {
    let both = part.iter().zip(of).filter(|&(&a, &b)| a & b == 1).count();
    let all = of.iter().filter(|&&b| b == 1).count();
    both as f64 / all.max(1) as f64
}

fn note(share: f64, excluded: bool, what: &str, option: &str) -> Option<String> {
    let advice = if excluded { "left out".to_owned() } else { format!("`tissue.{option}: true` leaves it out") };
    (share > NOTE_SHARE).then(|| format!("{:.0} % of the tissue is {what}; {advice}", 100.0 * share))
}
