//! `data.sets`: where data are, and what their labels mean.
//!
//! Owns: the keys under `data.sets` and their types. Must not know: how files are read.

use super::forms;
use crate::config::key::{Key, Kind, Preset};
use crate::config::settings;
use crate::units::Mpp;
use serde::Deserialize;
use std::path::PathBuf;

const LAYOUTS: &[&str] = &[
    "slides_outlines",
    "slides_masks",
    "instances",
    "dots",
    "masks",
    "folders",
    "brca_m2c",
    "dsb2018",
    "consep",
    "pannuke",
    "kumar",
    "cpm17",
    "breakhis",
    "isicdm",
    "sicapv2",
    "bcss",
];

const fn unset(path: &'static str, kind: Kind, example: &'static str, meaning: &'static str) -> Key {
    Key::value(path, kind, Preset::Unset(example), "", meaning)
}

pub(in crate::config::schema) const KEYS: &[Key] = &[
    Key::section("data.sets", "the data sets, each by a name of yours"),
    unset("data.sets.*", Kind::Section, "{}", "a data set by the name that reports will call it"),
    unset("data.sets.*.path", Kind::Path, "data/brca_m2c", "its folder; must be said"),
    unset(
        "data.sets.*.layout",
        Kind::OneOf(LAYOUTS),
        "brca_m2c",
        "how its files lie; must be said: a general layout, or a public data set's",
    ),
    Key::value(
        "data.sets.*.images",
        Kind::Text,
        Preset::Found("the layout's", "images/*.png"),
        "",
        "its pictures or slides: a glob below `path`",
    ),
    Key::value(
        "data.sets.*.annotations",
        Kind::Text,
        Preset::Found("the layout's", "labels/{stem}.png"),
        "",
        "the annotation of a picture, below `path`: `{stem}` is the picture's file name without extension, `{parent}` \
         its folder, `{up}` that folder's folder",
    ),
    Key::value(
        "data.sets.*.outlines",
        Kind::OneOf(&["regions", "nuclei"]),
        Preset::Is("regions"),
        "",
        "of slides: what outlines and masks show, areas of tissue or single nuclei",
    ),
    Key::value(
        "data.sets.*.mpp",
        Kind::Real { min: 0.01, max: 100.0 },
        Preset::Found("what the slide says or the layout is known for, else the model's", "0.25"),
        "µm/px",
        "resolution of its pictures",
    ),
    unset(
        "data.sets.*.mpp_pattern",
        Kind::Text,
        "\"MPP-([0-9.]+)\"",
        "a regular expression whose first group in the file name is the resolution, instead of `mpp`",
    ),
    unset(
        "data.sets.*.mpp_csv",
        Kind::Path,
        "mpp.csv",
        "a table of `name,mpp` instead of `mpp`: file names, with or without extension; below `path` or as it is",
    ),
    Key::section("data.sets.*.labels", "classes of its labels; `background` and `unknown` are understood as well"),
    Key::value(
        "data.sets.*.labels.*",
        Kind::Text,
        Preset::Unset("lymphocyte"),
        "",
        "the class that a label of the set is; numbers are labels too",
    ),
    unset(
        "data.sets.*.class",
        Kind::Text,
        "nucleus",
        "the class of what has no label of its own, such as every nucleus of a set without types",
    ),
    Key::value(
        "data.sets.*.unlabelled",
        Kind::OneOf(&["background", "unknown"]),
        Preset::Is("background"),
        "",
        "what px without any label are: of no class, or unknown, so that they teach nothing",
    ),
    Key::value(
        "data.sets.*.patient",
        Kind::OneOf(&["known", "file", "folder"]),
        Preset::Is("known"),
        "",
        "who is on a picture: what the layout is known for (a TCGA barcode's first 12 characters), each file is one, \
         or each folder is",
    ),
    unset(
        "data.sets.*.patient_characters",
        Kind::Int { min: 1, max: 255, step: 1 },
        "12",
        "first characters of the file name that are the patient, instead of `patient`",
    ),
    unset(
        "data.sets.*.patient_pattern",
        Kind::Text,
        "\"^images/([^_]+)_\"",
        "a regular expression whose first group in the path below the set's is the patient, instead of `patient`",
    ),
    Key::switch("data.sets.*.patient_csv", "false", "a table that says who is on a picture, instead of `patient`"),
    Key::value(
        "data.sets.*.patient_csv.path",
        Kind::Path,
        Preset::Is("index.csv"),
        "",
        "the table; below the set's path or as it is",
    ),
    Key::value(
        "data.sets.*.patient_csv.name",
        Kind::Text,
        Preset::Is("name"),
        "",
        "its column of file names, with or without extension",
    ),
    Key::value("data.sets.*.patient_csv.patient", Kind::Text, Preset::Is("patient"), "", "its column of patients"),
    unset(
        "data.sets.*.train_list",
        Kind::Texts { min_count: 1 },
        "[train.txt]",
        "files that name the pictures to learn from, a name or glob per line; below `path` or as they are; instead of \
         `data.split`",
    ),
    unset(
        "data.sets.*.validation_list",
        Kind::Texts { min_count: 1 },
        "[val.txt]",
        "files that name the pictures that are kept back",
    ),
    unset(
        "data.sets.*.validation_patients",
        Kind::Texts { min_count: 1 },
        "[TCGA-A7-A0DB]",
        "patients who are kept back, instead of `data.split`",
    ),
    unset("data.sets.*.organ", Kind::Text, "breast", "what its pictures show, for a network that is told the organ"),
    Key::value(
        "data.sets.*.scale",
        Kind::Real { min: 0.0, max: 3.0 },
        Preset::Found("`data.augment.scale`", "0.3"),
        "",
        "how much larger or smaller its training pictures become at random",
    ),
    Key::value(
        "data.sets.*.stain_transfer_prob",
        Kind::Real { min: 0.0, max: 1.0 },
        Preset::Found("`data.augment.stain_transfer.prob`", "0.6"),
        "",
        "how often its training pictures take another picture's stain",
    ),
    Key::value(
        "data.sets.*.ratio",
        Kind::Real { min: 0.001, max: 1_000_000.0 },
        Preset::Is("1.0"),
        "",
        "its share of every batch in relation to the other sets'; of sets in turn, how many epochs it lasts",
    ),
];

/// `data.sets.<name>`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSet {
    path: Option<PathBuf>,
    layout: Option<settings::Layout>,
    images: Option<String>,
    annotations: Option<String>,
    outlines: settings::Outlines,
    #[serde(default, deserialize_with = "forms::optional_mpp")]
    mpp: Option<Mpp>,
    mpp_pattern: Option<String>,
    mpp_csv: Option<PathBuf>,
    #[serde(deserialize_with = "forms::named")]
    labels: Vec<(String, String)>,
    class: Option<String>,
    unlabelled: settings::Unlabelled,
    patient: Patient,
    patient_characters: Option<u32>,
    patient_pattern: Option<String>,
    #[serde(deserialize_with = "forms::switch")]
    patient_csv: Option<PatientCsv>,
    train_list: Option<Vec<PathBuf>>,
    validation_list: Option<Vec<PathBuf>>,
    validation_patients: Option<Vec<String>>,
    organ: Option<String>,
    scale: Option<f64>,
    stain_transfer_prob: Option<f64>,
    ratio: f64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Patient {
    Known,
    File,
    Folder,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PatientCsv {
    path: PathBuf,
    name: String,
    patient: String,
}

impl DataSet {
    /// Keys that say the same thing twice.
    fn clashes(&self) -> Vec<[String; 2]> {
        let said = |all: &[(&str, bool)]| all.iter().filter(|(_, is)| *is).map(|(key, _)| (*key).to_owned()).collect();
        let mpp: Vec<String> = said(&[
            ("mpp", self.mpp.is_some()),
            ("mpp_pattern", self.mpp_pattern.is_some()),
            ("mpp_csv", self.mpp_csv.is_some()),
        ]);
        let patient: Vec<String> = said(&[
            ("patient_characters", self.patient_characters.is_some()),
            ("patient_pattern", self.patient_pattern.is_some()),
            ("patient_csv", self.patient_csv.is_some()),
            ("patient", !matches!(self.patient, Patient::Known)),
        ]);
        [mpp, patient].into_iter().filter_map(|keys| Some([keys.first()?.clone(), keys.get(1)?.clone()])).collect()
    }

    pub(super) fn into_settings(self, name: String) -> settings::DataSet {
        use settings::{Lists, MppRule, PatientRule};
        let clashes = self.clashes();
        let mpp = match (self.mpp, self.mpp_pattern, self.mpp_csv) {
            (Some(mpp), _, _) => MppRule::Is(mpp),
            (None, Some(pattern), _) => MppRule::Name(pattern),
            (None, None, Some(csv)) => MppRule::Csv(csv),
            (None, None, None) => MppRule::Known,
        };
        let patient = match (self.patient_characters, self.patient_pattern, self.patient_csv, self.patient) {
            (Some(count), ..) => PatientRule::Characters(count),
            (None, Some(pattern), ..) => PatientRule::Pattern(pattern),
            (None, None, Some(PatientCsv { path, name, patient }), _) => PatientRule::Csv { path, name, patient },
            (None, None, None, Patient::Known) => PatientRule::Known,
            (None, None, None, Patient::File) => PatientRule::File,
            (None, None, None, Patient::Folder) => PatientRule::Folder,
        };
        let lists = Lists {
            train: self.train_list.unwrap_or_default(),
            validation: self.validation_list.unwrap_or_default(),
            validation_patients: self.validation_patients.unwrap_or_default(),
        };
        let is_listed =
            !(lists.train.is_empty() && lists.validation.is_empty() && lists.validation_patients.is_empty());
        settings::DataSet {
            name,
            path: self.path.unwrap_or_default(),
            layout: self.layout,
            images: self.images,
            annotations: self.annotations,
            outlines: self.outlines,
            mpp,
            labels: self.labels,
            class: self.class,
            unlabelled: self.unlabelled,
            patient,
            lists: is_listed.then_some(lists),
            scale: self.scale,
            stain_transfer_prob: self.stain_transfer_prob,
            clashes,
            organ: self.organ,
            ratio: self.ratio,
        }
    }
}
