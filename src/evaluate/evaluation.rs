//! An evaluation from end to end: images are asked about, counted, measured; what is left behind is written.
//!
//! Owns: [`evaluate`], [`Evaluation`], [`Options`], [`Judged`]. Must not know: the command line.

use super::{
    Before, Bootstrap, Case, Change, Classes, Confusion, EvaluateError, Measure, OrganPredictor, Predicted,
    folder::{TrueCase, TrueCases},
    main_measure, measures,
    picture::draw_case,
    report::{Shown, report_html},
    results::ResultsJudge,
    score::{CaseScore, score},
};
use crate::{
    model::ClassInfo,
    output::{PlainColumn, PlainValues, write_atomically, write_plain_table},
    units::Mpp,
};
use rayon::prelude::*;
use serde_json::json;
use std::{path::Path, sync::Arc};

/// Images of each rank on the page.
const SHOWN: usize = 3;

/// What says something of images.
pub enum Judged {
    /// A model, asked now.
    Model(Box<OrganPredictor>),
    /// The results of an earlier run.
    Results(ResultsJudge),
}

impl Judged {
    fn classes(&self) -> Result<Vec<ClassInfo>, EvaluateError> {
        match self {
            Self::Model(model) => Ok(model.plain().spec().classes.clone()),
            Self::Results(results) => Ok(results.classes().to_vec()),
        }
    }

    fn predict(&self, case: &TrueCase, mpp: Mpp) -> Result<Predicted, EvaluateError> {
        match self {
            Self::Model(model) => model.told(case.organ.as_deref())?.predict(&Arc::new(case.sample.image.clone()), mpp),
            Self::Results(results) => results.predict(case),
        }
    }

    /// Whether several images at once are faster than one after the other.
    fn is_shared_out(&self) -> bool {
        match self {
            Self::Model(model) => model.plain().is_cheap(),
            Self::Results(_) => true,
        }
    }
}

/// How an evaluation is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// What the page calls the model.
    pub model: String,
    /// What it calls the data.
    pub data: String,
    /// How near a dot must be, µm.
    pub radius_um: f64,
    /// Draws of the intervals.
    pub draws: u32,
    /// Share of draws within an interval.
    pub level: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// Whether images of a patient are drawn together.
    pub by_patient: bool,
    /// Resolution of images that do not know theirs.
    pub mpp: Option<Mpp>,
    /// An earlier evaluation to compare with.
    pub before: Option<Before>,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// What the page calls the model.
    pub model: String,
    /// What it calls the data.
    pub data: String,
    /// The classes that were compared.
    pub classes: Classes,
    /// Every image.
    pub cases: Vec<Case>,
    /// Every measure.
    pub measures: Vec<Measure>,
    /// The measure images are ordered by.
    pub main: (&'static str, fn(&CaseScore) -> Option<f64>),
    /// How it was done.
    pub options: Options,
    /// What an earlier one found, and how much better this one is.
    pub before: Option<(Before, Option<Change>)>,
}

/// Asks about every image and measures the answers; `progress` is told how many are done.
///
/// # Errors
/// An image that cannot be read, a model that fails.
pub fn evaluate(
    truth: &dyn TrueCases,
    judged: &Judged,
    options: &Options,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Evaluation, EvaluateError> {
    let classes = classes_of(truth, judged)?;
    let one = |index: usize| -> Result<Case, EvaluateError> {
        let case = truth.case(index)?;
        let (predicted, mpp) = ask(judged, &case, options)?;
        let score = score(&case.sample, &predicted, &classes, mpp.um_per_px(), options.radius_um);
        progress(1);
        Ok(Case { name: case.name, patient: case.patient, organ: case.organ, score })
    };
    let all = 0..truth.len();
    let cases: Vec<Case> = if judged.is_shared_out() {
        all.into_par_iter().map(one).collect::<Result<_, _>>()?
    } else {
        all.map(one).collect::<Result<_, _>>()?
    };
    let group = |case: &Case| if options.by_patient { case.patient.clone() } else { case.name.clone() };
    let groups: Vec<String> = cases.iter().map(group).collect();
    let bootstrap = Bootstrap::new(&groups, options.draws, options.level, options.seed);
    let measures = measures(&cases, &classes, &bootstrap);
    let (model, data, main) = (options.model.clone(), options.data.clone(), main_measure(&cases));
    let before = options.before.clone().map(|before| {
        let values: Vec<_> = cases.iter().map(|case| (case.name.clone(), (main.1)(&case.score))).collect();
        let change = before.change(main.0, &values, &bootstrap);
        (before, change)
    });
    Ok(Evaluation { model, data, classes, cases, measures, main, options: options.clone(), before })
}

fn classes_of(truth: &dyn TrueCases, judged: &Judged) -> Result<Classes, EvaluateError> {
    let truths: Vec<_> = (0..truth.len())
        .into_par_iter()
        .map(|i| Ok(truth.case(i)?.sample.truth))
        .collect::<Result<_, EvaluateError>>()?;
    Ok(Classes::new(truth.tree(), truths.iter(), &judged.classes()?))
}

fn ask(judged: &Judged, case: &TrueCase, options: &Options) -> Result<(Predicted, Mpp), EvaluateError> {
    let mpp = case.sample.mpp.and_then(Mpp::new).or(options.mpp).ok_or_else(|| {
        EvaluateError::new(format!("no resolution is known of `{}`", case.name))
            .hint("state it with `--mpp`, in µm per px")
    })?;
    Ok((judged.predict(case, mpp)?, mpp))
}

impl Evaluation {
    /// Images, patients, what the numbers are, in a sentence.
    pub fn sentence(&self) -> String {
        let mut patients: Vec<&str> = self.cases.iter().map(|c| c.patient.as_str()).collect();
        patients.sort_unstable();
        patients.dedup();
        let (o, images) = (&self.options, self.cases.len());
        let drawn = if o.by_patient { "patients" } else { "images" };
        format!(
            "{images} images of {} patients; intervals hold {:.0} % of {} draws of {drawn}; nuclei as points within {} µm",
            patients.len(),
            o.level * 100.0,
            o.draws,
            o.radius_um
        )
    }

    /// How much better than before, in a sentence.
    pub fn change_sentence(&self) -> Option<String> {
        let (before, change) = self.before.as_ref()?;
        let Some(c) = change else {
            return Some(format!("before: {}; no image in common that was ordered by {}", before.model, self.main.0));
        };
        let range = c.interval.map_or(String::new(), |i| format!(" ({:+.3} to {:+.3})", i.low, i.high));
        Some(format!(
            "before: {}; {} of an image changed by {:+.3}{range} on {} images",
            before.model, self.main.0, c.mean, c.images
        ))
    }

    /// The measure of this name over all images and classes.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.measures.iter().find(|m| m.name == name && m.class.is_none() && m.organ.is_none())?.value
    }

    /// Each image's place in `cases` and its value of the main measure.
    pub fn image_values(&self) -> Vec<(usize, Option<f64>)> {
        self.cases.iter().enumerate().map(|(i, case)| (i, (self.main.1)(&case.score))).collect()
    }

    /// What was taken for what: title, names of the rows before and after the classes, counts.
    pub fn confusions(&self) -> Vec<(&'static str, Option<&'static str>, Option<&'static str>, Confusion)> {
        type Get = fn(&CaseScore) -> Option<Confusion>;
        let kinds: [(&'static str, Option<&'static str>, Option<&'static str>, Get); 2] = [
            ("Nuclei by class", None, Some("none"), |s| s.nuclei_confusion.clone()),
            ("Pixels by class", Some("background"), None, |s| s.pixels.clone()),
        ];
        let mut found = Vec::new();
        for (title, first, last, get) in kinds {
            let mut all = self.cases.iter().filter_map(|case| get(&case.score));
            if let Some(mut sum) = all.next() {
                all.for_each(|c| sum.merge(&c));
                found.push((title, first, last, sum));
            }
        }
        let labels = self.cases.iter().filter_map(|case| case.score.label.as_ref());
        let mut sum = Confusion::new(self.classes.len());
        for (class, probs) in labels {
            let said = (0..probs.len()).reduce(|a, b| if probs[b] > probs[a] { b } else { a });
            said.into_iter().for_each(|said| sum.add(*class, said, 1));
        }
        if sum.total() > 0 {
            found.push(("Images by class", None, None, sum));
        }
        found
    }

    /// Images for the page: the best, those around the median, the worst; none twice.
    fn ranked(&self) -> Vec<(&'static str, usize, f64)> {
        let mut order: Vec<(usize, f64)> = self.image_values().into_iter().filter_map(|(i, v)| Some((i, v?))).collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let n = order.len();
        let each = SHOWN.min(n.div_ceil(3));
        let middle = (n / 2).saturating_sub(each / 2);
        let mut taken = vec![false; n];
        let mut found = Vec::new();
        for (rank, range) in [("best", 0..each), ("worst", n - each..n), ("middle", middle..(middle + each).min(n))] {
            for at in range {
                if !std::mem::replace(&mut taken[at], true) {
                    found.push((rank, order[at].0, order[at].1));
                }
            }
        }
        found
    }

    /// Writes `metrics.json`, `metrics.parquet` and `report.html` into `dir`; the shown images are asked about again.
    ///
    /// # Errors
    /// A file that cannot be written, or what [`evaluate`] may fail with.
    pub fn write(&self, dir: &Path, truth: &dyn TrueCases, judged: &Judged) -> Result<(), EvaluateError> {
        std::fs::create_dir_all(dir)
            .map_err(|e| EvaluateError::new(format!("cannot make directory: {e}: {}", dir.display())))?;
        let mut shown = Vec::new();
        for (rank, index, value) in self.ranked() {
            let case = truth.case(index)?;
            let (predicted, mpp) = ask(judged, &case, &self.options)?;
            let picture = draw_case(&case, &predicted, &self.classes, self.options.radius_um / mpp.um_per_px());
            let png = picture.png().map_err(EvaluateError::new)?;
            shown.push(Shown { rank, name: case.name, value, png });
        }
        write_plain_table(&dir.join("metrics.parquet"), &self.columns())?;
        let json = serde_json::to_string_pretty(&self.json()).expect("numbers and text are JSON");
        write_atomically(&dir.join("metrics.json"), json.as_bytes())?;
        write_atomically(&dir.join("report.html"), report_html(self, &shown).as_bytes())?;
        Ok(())
    }

    fn json(&self) -> serde_json::Value {
        let o = &self.options;
        let confusions = self.confusions().into_iter().map(|(title, first, last, c)| {
            let names: Vec<&str> =
                first.into_iter().chain(self.classes.infos.iter().map(|i| i.name.as_str())).chain(last).collect();
            let rows: Vec<Vec<u64>> =
                (0..names.len()).map(|t| (0..names.len()).map(|p| c.get(t, p)).collect()).collect();
            json!({ "of": title, "classes": names, "rows_are_true": rows })
        });
        let images = self.image_values().into_iter().map(|(i, value)| {
            let case = &self.cases[i];
            json!({ "name": case.name, "patient": case.patient, "organ": case.organ, self.main.0: value })
        });
        json!({
            "model": self.model,
            "data": self.data,
            "images_count": self.cases.len(),
            "radius_um": o.radius_um,
            "intervals": { "draws": o.draws, "level": o.level, "seed": o.seed, "by_patient": o.by_patient },
            "main": self.main.0,
            "before": self.before.as_ref().map(|(before, change)| json!({ "model": before.model, "change": change })),
            "measures": self.measures,
            "confusions": confusions.collect::<Vec<_>>(),
            "images": images.collect::<Vec<_>>(),
        })
    }

    /// One row per measure, then one per image and measure.
    fn columns(&self) -> Vec<PlainColumn> {
        let formulas = super::formulas::formulas(&self.cases, &self.classes);
        let mut rows: Vec<[Option<String>; 4]> = Vec::new();
        let mut numbers: Vec<[Option<f64>; 4]> = Vec::new();
        for m in &self.measures {
            rows.push([Some(m.name.to_owned()), m.class.clone(), m.organ.clone(), None]);
            let ends = (m.interval.map(|i| i.low), m.interval.map(|i| i.high));
            numbers.push([m.value, ends.0, ends.1, Some(m.images as f64)]);
        }
        for case in &self.cases {
            for f in &formulas {
                if let Some(value) = (f.of_image)(&case.score) {
                    let class = f.class.map(|c| self.classes.infos[c].name.clone());
                    rows.push([Some(f.name.to_owned()), class, case.organ.clone(), Some(case.name.clone())]);
                    numbers.push([Some(value), None, None, Some(1.0)]);
                }
            }
        }
        let text = |at: usize, name: &str, what: &str| PlainColumn {
            name: name.to_owned(),
            unit: "1",
            description: what.to_owned(),
            values: PlainValues::Text(rows.iter().map(|row| row[at].clone()).collect()),
        };
        let number = |at: usize, name: &str, what: &str| PlainColumn {
            name: name.to_owned(),
            unit: "1",
            description: what.to_owned(),
            values: PlainValues::Number(numbers.iter().map(|row| row[at]).collect()),
        };
        vec![
            text(0, "measure", "what was measured"),
            text(1, "class", "class it is of; null: of all"),
            text(2, "organ", "organ it is of; null: of all"),
            text(3, "image", "image it is of; null: of all"),
            number(0, "value", "the measure"),
            number(1, "low", "lower end of its interval"),
            number(2, "high", "upper end of its interval"),
            number(3, "images", "images that say something"),
        ]
    }
}
