//! The results of an earlier run as what was said of images.
//!
//! Owns: [`ResultsJudge`]. Must not know: what is true.

use super::{
    EvaluateError,
    folder::TrueCase,
    predicted::{FoundNucleus, Predicted},
};
use crate::{model::ClassInfo, output::Results};
use std::{collections::BTreeMap, path::Path};

/// An output directory whose slides are the images: the slide's id is the image's name.
pub struct ResultsJudge {
    results: Results,
    slides: Vec<String>,
    classes: Vec<ClassInfo>,
}

impl ResultsJudge {
    /// Looks which slides and classes a run has.
    ///
    /// # Errors
    /// No results there, or damaged ones.
    pub fn open(dir: &Path) -> Result<Self, EvaluateError> {
        let results = Results::new(dir);
        let slides = results.slides()?;
        let mut names: Vec<String> = Vec::new();
        for slide in &slides {
            let of_nuclei = results.nuclei(slide)?.into_iter().flatten().filter_map(|n| n.class);
            let of_mask: BTreeMap<u8, String> = results.class_mask(slide)?.map_or_else(BTreeMap::new, |m| m.names);
            // Classes of the mask in the order of their values; those of the table are among them.
            for name in of_mask.into_iter().filter(|(v, _)| (1..255).contains(v)).map(|(_, n)| n).chain(of_nuclei) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let classes = names.into_iter().map(|name| ClassInfo { name, color: [128; 3] }).collect();
        Ok(Self { results, slides, classes })
    }

    /// The classes that any slide has.
    pub fn classes(&self) -> &[ClassInfo] {
        &self.classes
    }

    /// What the run said of an image.
    ///
    /// # Errors
    /// The run has no such slide; files that cannot be read.
    pub fn predict(&self, case: &TrueCase) -> Result<Predicted, EvaluateError> {
        let slide = self.slides.iter().find(|id| **id == case.name).ok_or_else(|| {
            EvaluateError::new(format!("the run has no complete slide `{}`", case.name))
                .hint("slides are told by the names of their files, without extension")
        })?;
        let class = |name: Option<&str>| self.classes.iter().position(|c| Some(c.name.as_str()) == name);
        let nuclei = self.results.nuclei(slide)?.map(|rows| {
            let found = |row: crate::output::NucleusRow| FoundNucleus {
                class: class(row.class.as_deref()),
                rings: row.rings,
                centroid: row.centroid,
            };
            rows.into_iter().map(found).collect::<Vec<_>>()
        });
        let image = &case.sample.image;
        let semantic = match (&nuclei, self.results.class_mask(slide)?) {
            (None, Some(mask)) => {
                let of_value: Vec<u8> = (0..=255_u8)
                    .map(|v| match v {
                        0 | 255 => v,
                        _ => class(mask.names.get(&v).map(String::as_str)).map_or(0, |c| c as u8 + 1),
                    })
                    .collect();
                // The mask covers the image corner on corner; the image's own resolution is its share of it.
                let (sx, sy) = (covered(mask.w, image.w, mask.mpp.0, case), covered(mask.h, image.h, mask.mpp.1, case));
                let at = |px: u32, step: f64, n: u32| (((f64::from(px) + 0.5) * step) as u32).min(n - 1) as usize;
                let px = (0..image.h).flat_map(|y| (0..image.w).map(move |x| (x, y)));
                let value = |(x, y)| {
                    of_value[usize::from(mask.classes[at(y, sy, mask.h) * mask.w as usize + at(x, sx, mask.w)])]
                };
                Some(px.map(value).collect())
            }
            _ => None,
        };
        if nuclei.is_none() && semantic.is_none() {
            return Err(EvaluateError::new(format!("the run left neither nuclei nor masks of `{slide}`"))
                .hint("it needs `output.parquet` (nuclei) or `output.ome_zarr` (classes)"));
        }
        Ok(Predicted { nuclei, semantic, ..Predicted::default() })
    }
}

/// Mask px per image px.
fn covered(mask_px: u32, image_px: u32, mask_mpp: f64, case: &TrueCase) -> f64 {
    match case.sample.mpp {
        Some(mpp) => mpp / mask_mpp,
        None => f64::from(mask_px) / f64::from(image_px.max(1)),
    }
}
