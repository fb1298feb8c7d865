//! Many images: every measure over all of them, per class and per organ, with intervals.
//!
//! Owns: [`Case`], [`Measure`], [`measures`]. Must not know: pictures, files, models.
//!
//! Measures of nuclei as points add up counts over images, as MCSpatNet and HoVer-Net do; those of nuclei as areas and of
//! pixels are means over images, as HoVer-Net and the papers of semantic networks do, unless their name says otherwise.
//! An image of which a measure says nothing is left out of its mean.

use super::{Bootstrap, Interval, classes::Classes, formulas::formulas, score::CaseScore};
use rayon::prelude::*;

/// An image, whose it is, and what was counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What messages and reports call it.
    pub name: String,
    /// Whose it is: images of a patient are drawn together.
    pub patient: String,
    /// What it shows.
    pub organ: Option<String>,
    /// What was counted.
    pub score: CaseScore,
}

/// A number that says how good a model is.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Measure {
    /// Name.
    pub name: &'static str,
    /// Name of the class it is of; `None`: of all.
    pub class: Option<String>,
    /// Name of the organ it is of; `None`: of all.
    pub organ: Option<String>,
    /// The number; `None` where nothing can be said.
    pub value: Option<f64>,
    /// Where it would lie with other images of the same kind.
    pub interval: Option<Interval>,
    /// Images that have something to say.
    pub images: usize,
    /// What it is, in words.
    pub meaning: &'static str,
}

/// Every measure that any image has something to say on: over all, then per organ where there are several.
pub fn measures(cases: &[Case], classes: &Classes, bootstrap: &Bootstrap) -> Vec<Measure> {
    let once = vec![1; cases.len()];
    let formulas = formulas(cases, classes);
    let name_of = |class: Option<usize>| class.map(|c| classes.infos[c].name.clone());
    let mut found: Vec<Measure> = formulas
        .par_iter()
        .map(|f| Measure {
            name: f.name,
            class: name_of(f.class),
            organ: None,
            value: (f.value)(&once),
            interval: bootstrap.interval(&*f.value),
            images: cases.iter().filter(|case| (f.of_image)(&case.score).is_some()).count(),
            meaning: f.meaning,
        })
        .collect();
    found.retain(|m| m.images > 0);
    let organs = organs(cases);
    if organs.len() > 1 {
        for organ in organs {
            let is_here: Vec<u32> =
                cases.iter().map(|case| u32::from(case.organ.as_deref() == Some(organ.as_str()))).collect();
            let only = |times: &[u32]| -> Vec<u32> { times.iter().zip(&is_here).map(|(t, h)| t * h).collect() };
            let of_organ = formulas.par_iter().filter(|f| f.is_headline).map(|f| Measure {
                name: f.name,
                class: name_of(f.class),
                organ: Some(organ.clone()),
                value: (f.value)(&is_here),
                interval: bootstrap.interval(|times| (f.value)(&only(times))),
                images: cases.iter().zip(&is_here).filter(|(c, h)| **h > 0 && (f.of_image)(&c.score).is_some()).count(),
                meaning: f.meaning,
            });
            found.extend(of_organ.collect::<Vec<_>>().into_iter().filter(|m| m.images > 0));
        }
    }
    found
}

/// Organs in the order of their names.
fn organs(cases: &[Case]) -> Vec<String> {
    let mut organs: Vec<String> = cases.iter().filter_map(|case| case.organ.clone()).collect();
    organs.sort();
    organs.dedup();
    organs
}

/// Name of a measure, and what it is of one image.
pub type MainMeasure = (&'static str, fn(&CaseScore) -> Option<f64>);

/// The measure that images are put in order by: name and value of one image. The first that says something of any image.
pub fn main_measure(cases: &[Case]) -> MainMeasure {
    let all: [MainMeasure; 5] = [
        ("pq", |s| s.nuclei.as_ref()?.panoptic.pq()),
        ("detection_f1", |s| s.detection?.f1()),
        ("pixel_mean_jaccard", |s| s.pixels.as_ref()?.macro_mean(super::PixelCounts::jaccard)),
        ("dice", |s| s.foreground?.dice()),
        ("probability of the true class", |s| s.label.as_ref().map(|(class, probs)| probs[*class])),
    ];
    all.into_iter().find(|(_, of)| cases.iter().any(|case| of(&case.score).is_some())).unwrap_or(all[3])
}
