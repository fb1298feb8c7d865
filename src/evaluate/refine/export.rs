//! Images, predictions and outlines for an expert to correct.
//!
//! Owns: [`export`], [`Exported`]. Must not know: where images come from, what becomes of corrections.
//!
//! ```text
//! <dir>/
//!   images/<name>.png       what to open in QuPath
//!   geojson/<name>.geojson  what the model says; drop it on the image, correct it, export it under the same name
//!   overlays/<name>.png     the same as a picture
//!   tiles.csv               every exported image: rank, entropy, slide, organ, patient, place
//!   entropy.csv             entropy of every image that was looked at
//!   refine.json             model, classes, resolution
//! ```

use super::{
    super::{Classes, EvaluateError, Predicted, Predictor, picture},
    outlines::{Outline, write_outlines},
    rank::{Stratum, most_uncertain},
    tiles::{RefineTile, RefineTiles},
};
use crate::{
    evaluate::TrueCase,
    instances::LesionFinder,
    model::ClassInfo,
    output::write_atomically,
    pixels::RgbImage,
    train::{
        class_tree::ClassTree,
        sample::{Sample, Truth},
    },
    units::Mpp,
};
use rayon::prelude::*;
use serde_json::json;
use std::{fmt::Write, fs, path::Path, sync::Arc};

/// Smaller areas are specks nobody wants to correct, µm².
const MIN_AREA_UM2: f64 = 10.0;

/// What was exported.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// Images looked at.
    pub seen: usize,
    /// Images exported: name and mean entropy, the most uncertain of each stratum first.
    pub images: Vec<(String, f64)>,
}

/// Asks the model about every image, and exports the `count` it is least sure of, evenly from the strata.
///
/// # Errors
/// An image that cannot be read, a model that fails or does not say where anything lies, a file that cannot be written.
pub fn export(
    tiles: &dyn RefineTiles,
    predictor: &Predictor,
    (stratum, count): (Stratum, usize),
    (model, dir): (&str, &Path),
) -> Result<Exported, EvaluateError> {
    let ask = |i: usize| -> Result<(Predicted, RgbImage, Mpp), EvaluateError> {
        let (image, mpp) = tiles.read(i)?;
        let image = Arc::new(image);
        let predicted = predictor.predict(&image, mpp)?;
        Ok((predicted, Arc::unwrap_or_clone(image), mpp))
    };
    let all = tiles.tiles();
    if all.is_empty() {
        return Err(EvaluateError::new("no square of the slides is tissue, expected one at least")
            .hint("`wsi-run plan` says how much tissue it finds; smaller squares (`--tile-px`) may fit"));
    }
    let entropy = |i: usize| Ok(ask(i)?.0.mean_entropy);
    let entropies: Vec<Option<f64>> = if predictor.is_cheap() {
        (0..all.len()).into_par_iter().map(entropy).collect::<Result<_, EvaluateError>>()?
    } else {
        (0..all.len()).map(entropy).collect::<Result<_, EvaluateError>>()?
    };
    let of = |tile: &RefineTile| match stratum {
        Stratum::Organ => tile.organ.clone().unwrap_or_default(),
        Stratum::Slide => tile.slide.clone(),
        Stratum::None => String::new(),
    };
    let ranked: Vec<(String, Option<f64>)> = all.iter().zip(&entropies).map(|(t, e)| (of(t), *e)).collect();
    let chosen = most_uncertain(&ranked, count);
    for folder in ["images", "geojson", "overlays"] {
        let path = dir.join(folder);
        fs::create_dir_all(&path).map_err(|e| cannot_make(&path, &e))?;
    }
    let classes = &predictor.spec().classes;
    let mut images = Vec::new();
    let mut resolution = None;
    for &i in &chosen {
        let (predicted, image, mpp) = ask(i)?;
        export_one(&all[i], &predicted, image, (mpp, classes), dir)?;
        resolution = Some(mpp.um_per_px());
        images.push((all[i].name.clone(), entropies[i].unwrap_or(0.0)));
    }
    let table = table(chosen.iter().map(|&i| (&all[i], entropies[i])));
    write_atomically(&dir.join("tiles.csv"), table.as_bytes())?;
    let every = self::table(all.iter().zip(entropies.iter().copied()));
    write_atomically(&dir.join("entropy.csv"), every.as_bytes())?;
    let about = json!({
        "model": model,
        "network": predictor.spec().name,
        "classes": classes,
        "mpp": resolution,
        "nuclei": predictor.tells_nuclei(),
    });
    write_atomically(&dir.join("refine.json"), format!("{about:#}\n").as_bytes())?;
    Ok(Exported { seen: all.len(), images })
}

pub(super) fn cannot_make(path: &Path, error: &std::io::Error) -> EvaluateError {
    EvaluateError::new(format!("cannot make directory: {error}: {}", path.display()))
}

fn table<'a>(tiles: impl Iterator<Item = (&'a RefineTile, Option<f64>)>) -> String {
    let mut text = "image,entropy,slide,organ,patient,x_px,y_px\n".to_owned();
    for (tile, entropy) in tiles {
        let entropy = entropy.map_or(String::new(), |e| format!("{e:.6}"));
        let organ = tile.organ.as_deref().unwrap_or("");
        let (x, y) = tile.corner_px;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{},{entropy},{},{organ},{},{x},{y}", tile.name, tile.slide, tile.patient);
    }
    text
}

fn export_one(
    tile: &RefineTile,
    predicted: &Predicted,
    image: RgbImage,
    (mpp, classes): (Mpp, &[ClassInfo]),
    dir: &Path,
) -> Result<(), EvaluateError> {
    let outlines = outlines_of(predicted, (image.w, image.h), mpp, classes).ok_or_else(|| {
        EvaluateError::new("the model says what an image is, not where anything lies")
            .hint("nuclei and areas can be corrected; for whole images, correct their folders")
    })?;
    let at = |folder: &str, end: &str| dir.join(folder).join(format!("{}.{end}", tile.name));
    write_atomically(&at("images", "png"), &image.png().map_err(EvaluateError::new)?)?;
    write_atomically(&at("geojson", "geojson"), write_outlines(&outlines, classes).as_bytes())?;
    let sample = Sample { image, truth: Truth::default(), mpp: Some(mpp.um_per_px()), kind: 0 };
    let case = TrueCase { sample, name: String::new(), patient: String::new(), organ: None };
    let none = ClassTree::new(vec![]).map_err(EvaluateError::new)?;
    let drawn = picture::draw_case(&case, predicted, &Classes::new(&none, std::iter::empty(), classes), 1.0);
    write_atomically(&at("overlays", "png"), &drawn.png().map_err(EvaluateError::new)?)?;
    Ok(())
}

/// Nuclei, or connected areas of each class.
fn outlines_of(p: &Predicted, (w, h): (u32, u32), mpp: Mpp, classes: &[ClassInfo]) -> Option<Vec<Outline>> {
    let name = |class: Option<usize>| Some(classes.get(class?)?.name.clone());
    if let Some(nuclei) = &p.nuclei {
        let outline = |n: &crate::evaluate::FoundNucleus| Outline { class: name(n.class), rings: n.rings.clone() };
        return Some(nuclei.iter().map(outline).collect());
    }
    let semantic = p.semantic.as_ref()?;
    let mut finder = LesionFinder::new(w, classes.len() as u8, mpp, MIN_AREA_UM2);
    let mut found = Vec::new();
    let mut take = |lesion: crate::instances::Lesion| {
        let class = usize::from(lesion.instance.class).checked_sub(1);
        found.push(Outline { class: name(class), rings: lesion.instance.rings });
    };
    for (y, row) in (0..h).zip(semantic.chunks_exact(w as usize)) {
        finder.push_row(y, row, &[], &mut take);
    }
    finder.finish(&mut take);
    Some(found)
}
