//! What users write: pipelines, trainings, tables of resolutions, classes.

use super::{files, joined, parts, scratch, texts, write};
use std::{path::PathBuf, sync::OnceLock};
use wsi_run::{
    config::{
        self,
        environment::Environment,
        resolve::{load_text, load_training_text},
        settings::Slides,
    },
    model::convert::{parse_classes, parse_type_info},
    slides::{EntrySource, SlideEntry, stated_mpp},
};

const ENVIRONMENT: Environment = Environment { threads: None, cpus: 4 };

/// The file and what is said over it.
fn file_and_overrides(bytes: &[u8]) -> (String, Vec<String>) {
    let mut parts = parts(bytes).into_iter().map(|part| String::from_utf8_lossy(part).into_owned());
    (parts.next().unwrap_or_default(), parts.collect())
}

/// The loader answers with settings or with at least one diagnostic; what it resolves to resolves to the same.
pub fn config(bytes: &[u8]) {
    let (file, overrides) = file_and_overrides(bytes);
    match load_text("fuzz.yaml", &file, &overrides, &ENVIRONMENT) {
        Ok(loaded) => {
            let again = load_text("resolved.yaml", &loaded.resolved_yaml, &[], &ENVIRONMENT);
            let again = again.unwrap_or_else(|found| panic!("{}\n{}", loaded.resolved_yaml, config::render(&found)));
            assert_eq!(again.settings, loaded.settings);
        }
        Err(found) => {
            assert!(!found.is_empty());
            config::render(&found);
        }
    }
}

pub fn config_seeds() -> Vec<Vec<u8>> {
    let mut seeds = files("pipelines", &[".yaml"], 20_000);
    seeds.extend(files("fixtures/config_errors", &[".yaml"], 20_000));
    let file = b"slides: { dir: a }\nmodel: hematoxylin\n";
    seeds.push(joined(&[file, b"tiling.stride_px=128", b"run.memory=8GiB", b"tissue={fixed: {threshold: 0.1}}"]));
    seeds
}

/// The same of a training file.
pub fn training(bytes: &[u8]) {
    let (file, overrides) = file_and_overrides(bytes);
    match load_training_text("fuzz.yaml", &file, &overrides, &ENVIRONMENT) {
        Ok(loaded) => {
            let again = load_training_text("resolved.yaml", &loaded.resolved_yaml, &[], &ENVIRONMENT);
            let again = again.unwrap_or_else(|found| panic!("{}\n{}", loaded.resolved_yaml, config::render(&found)));
            assert_eq!(again.settings, loaded.settings);
        }
        Err(found) => {
            assert!(!found.is_empty());
            config::render(&found);
        }
    }
}

pub fn training_seeds() -> Vec<Vec<u8>> {
    let mut seeds = files("pipelines", &[".yaml"], 20_000);
    seeds.retain(|seed| seed.windows(6).any(|part| part == b"train:"));
    seeds.extend(files("fixtures/config_errors", &[".yaml"], 20_000));
    seeds
}

/// A table of resolutions gives a slide's resolution, none, or an error.
pub fn mpp_csv(bytes: &[u8]) {
    static SLIDES: OnceLock<(PathBuf, Slides)> = OnceLock::new();
    let (csv, slides) = SLIDES.get_or_init(|| {
        let csv = scratch("mpp_csv").join("mpp.csv");
        let yaml = format!("slides: {{ dir: a, mpp_csv: {} }}\nmodel: {{ hematoxylin: {{}} }}\n", csv.display());
        let loaded = load_text("fuzz.yaml", &yaml, &[], &ENVIRONMENT);
        (csv, loaded.expect("the pipeline is right").settings.slides)
    });
    write(csv, bytes);
    let entry = SlideEntry { id: "a__b".into(), path: "a/b.svs".into(), source: EntrySource::File };
    if let Ok(Some(mpp)) = stated_mpp(&entry, slides) {
        assert!(mpp.x.um_per_px() > 0.0 && mpp.y.um_per_px() > 0.0);
    }
}

pub fn mpp_csv_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "slide,mpp_x,mpp_y\na/b.svs,0.25,0.25\nb,0.5,0.5\n",
        "\u{feff}slide;mpp_x\r\n\"b.svs\";0,25\r\n",
        "mpp_x,slide\n0.5,a__b\n1e-3,\"c,\nd\"\n",
    ])
}

/// Classes are read, or what cannot be read is told.
pub fn classes(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for found in [parse_classes(&text), parse_type_info(&text)] {
        match found {
            Ok(classes) => assert!((1..=254).contains(&classes.len()) && classes.iter().all(|c| !c.name.is_empty())),
            Err(reason) => assert!(!reason.is_empty()),
        }
    }
}

pub fn classes_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "tumour=#c02020,stroma=#20c020",
        "pannuke",
        r#"{"0": ["nolabe", [0, 0, 0]], "1": ["neopla", [255, 0, 0]], "2": ["inflam", [0, 255, 0]]}"#,
    ])
}
