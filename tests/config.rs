//! What a configuration resolves to: layers, defaults, shipped pipelines, and texts that nobody would write.

use proptest::prelude::*;
use std::path::PathBuf;
use wsi_run::config::settings::{ModelChoice, NetworkWeights, SlideSource, Stain, StainReference, Term, TissueMethod};
use wsi_run::config::{
    self, Loaded, LoadedTraining,
    environment::Environment,
    resolve::{is_training, load_text, load_training_text},
};
use wsi_run::{
    instances::{NP_HV_DEFAULTS, STAR_DEFAULTS, WATERSHED_DEFAULTS},
    model::HEMATOXYLIN_DEFAULTS,
};

fn quiet() -> Environment {
    Environment { threads: None, cpus: 4 }
}

fn pipelines() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("pipelines")
}

fn loads(text: &str, overrides: &[&str]) -> Loaded {
    let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_owned()).collect();
    load_text("a.yaml", text, &overrides, &quiet()).unwrap_or_else(|e| panic!("{text}\n{}", config::render(&e)))
}

fn trains(text: &str, overrides: &[&str]) -> LoadedTraining {
    let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_owned()).collect();
    load_training_text("a.yaml", text, &overrides, &quiet())
        .unwrap_or_else(|e| panic!("{text}\n{}", config::render(&e)))
}

#[test]
fn every_shipped_pipeline_loads_and_its_resolved_form_loads_to_the_same_run() {
    let mut count = 0;
    for entry in std::fs::read_dir(pipelines()).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        if is_training(&text) {
            let loaded = trains(&text, &[]);
            assert_eq!(trains(&loaded.resolved_yaml, &[]).settings, loaded.settings);
        } else {
            let loaded = loads(&text, &[]);
            assert_eq!(loads(&loaded.resolved_yaml, &[]).settings, loaded.settings);
        }
        count += 1;
    }
    assert!(count >= 4);
}

#[test]
fn the_pipeline_of_all_keys_is_the_table_of_keys_and_equals_the_defaults() {
    let path = pipelines().join("all_keys.yaml");
    let written = config::reference::all_keys_yaml();
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        std::fs::write(&path, &written).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), written, "UPDATE=1 cargo test rewrites it");
    let least = loads("slides: { glob: \"data/**/*.svs\" }\n", &[]);
    assert_eq!(loads(&written, &[]).settings, least.settings);
}

/// Sections that stand around a line, outermost first, by indentation.
fn around<'a>(lines: &[&'a str], indent: usize) -> Vec<&'a str> {
    let mut at = indent;
    let mut found = Vec::new();
    for line in lines.iter().rev().filter(|l| !l.trim_start().starts_with('#') && !l.trim().is_empty()) {
        let this = line.len() - line.trim_start().len();
        if this < at {
            at = this;
            found.push(*line);
        }
    }
    found.reverse();
    found
}

/// The file of all keys is only honest if what is commented out works when the comment sign goes.
#[test]
fn every_key_that_is_commented_out_works_when_it_is_not() {
    let all = config::reference::all_keys_yaml();
    // Comments that go on stand far to the right.
    let lines: Vec<&str> = all.lines().filter(|line| !line.starts_with(&" ".repeat(30))).collect();
    let mut tried = 0;
    for (i, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some(head) = line.trim_start().strip_prefix("# ").filter(|l| indent > 0 && !l.starts_with(' ')) else {
            continue;
        };
        let mut text: String =
            around(&lines[..i], indent).iter().map(|l| format!("{}\n", l.replace(": false", ":"))).collect();
        text.push_str(&format!("{}{head}\n", " ".repeat(indent)));
        // The keys of a section that is commented out as a whole.
        let deeper = format!("{}#  ", " ".repeat(indent));
        for line in lines[i + 1..].iter().take_while(|l| l.starts_with(&deeper)) {
            text.push_str(&format!("{}\n", line.replacen("# ", "", 1)));
        }
        let is_source = ["dir", "list", "synthetic"].contains(&head.split(':').next().unwrap());
        match (text.starts_with("slides"), is_source) {
            (true, true) => {}
            (true, false) => text.push_str("  glob: a\n"),
            _ => text.insert_str(0, "slides: { glob: a }\n"),
        }
        loads(&text, &[]);
        tried += 1;
    }
    assert!(tried > 20, "only {tried}");
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let threads = |text: &str, overrides: &[String], env: Option<&str>| {
        let environment = Environment { threads: env.map(str::to_owned), cpus: 9 };
        load_text("a.yaml", text, overrides, &environment).unwrap().settings.run.threads
    };
    let text = "slides: { dir: a }\nrun: { threads: 2 }\n";
    assert_eq!(threads(text, &[], None), 2);
    assert_eq!(threads(text, &[], Some("3")), 3);
    assert_eq!(threads(text, &["run.threads=4".into()], Some("3")), 4);
    assert_eq!(threads("slides: { dir: a }", &[], None), 9);
}

#[test]
fn an_override_that_picks_an_alternative_replaces_the_files() {
    let text = "slides: { dir: a }\ntissue: { otsu: {} }\npixels: { stain: vahadane }\n";
    let overrides = ["tissue.fixed.threshold=0.2", "pixels.stain.macenko.reference=look.png", "slides.glob=**/*.svs"];
    let s = loads(text, &overrides).settings;
    assert!(matches!(s.tissue.method, TissueMethod::Fixed { threshold: 0.2, .. }));
    assert_eq!(s.pixels.stain, Stain::Macenko(StainReference::Image("look.png".into())));
    assert_eq!(s.slides.source, SlideSource::Glob(vec!["**/*.svs".into()]));
}

#[test]
fn a_later_override_wins_over_an_earlier_one() {
    let s = loads("slides: { dir: a }", &["batch.size=2", "batch.size=3"]).settings;
    assert_eq!(s.batch.size, Some(3));
}

#[test]
fn switches_turn_on_and_off_in_the_file_and_on_the_command_line() {
    let text = "slides: { dir: a }\noutput: { ome_zarr: false, geojson: true, overview: }\n";
    let s = loads(text, &["output.parquet=false"]).settings.output;
    assert!(s.ome_zarr.is_none() && s.parquet.is_none() && s.geojson.is_some() && s.overview.is_some());
    assert_eq!(loads(text, &["output.ome_zarr.chunk_px=1024"]).settings.output.ome_zarr.unwrap().chunk_px, 1024);
}

#[test]
fn an_alternative_may_be_named_without_its_keys() {
    let short = loads("slides: { dir: a }\nmodel: stain_threshold\npixels: { stain: macenko }\nstitch: blend\n", &[]);
    let long =
        "slides: { dir: a }\nmodel: { stain_threshold: {} }\npixels: { stain: { macenko: } }\nstitch: { blend: {} }\n";
    assert_eq!(short.settings, loads(long, &[]).settings);
}

#[test]
fn a_resolution_may_differ_along_x_and_y() {
    let mpp = loads("slides: { dir: a, mpp: { y: 0.26, x: 0.25 } }", &[]).settings.slides.mpp.unwrap();
    assert_eq!((mpp.x.um_per_px(), mpp.y.um_per_px()), (0.25, 0.26));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_do_not_matter() {
    let text = "\u{feff}slides:\r\n  dir: a\r\nbatch: { size: 3 }\r\n";
    let settings = loads(text, &[]).settings;
    assert_eq!(settings.slides.source, SlideSource::Dir("a".into()));
    assert_eq!(settings.batch.size, Some(3));
}

#[test]
fn the_text_of_the_file_is_kept_as_it_was() {
    let text = "# a comment\nslides: { dir: a }\n";
    assert_eq!(loads(text, &["batch.size=2"]).text, text);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_loader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), set in ".{0,40}") {
        let text = String::from_utf8_lossy(&bytes);
        if let Err(found) = load_text("fuzz.yaml", &text, &[set], &quiet()) {
            prop_assert!(!found.is_empty());
            config::render(&found);
        }
    }

    #[test]
    fn no_text_made_of_yaml_and_our_words_makes_the_loader_panic(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "slides", "tissue", "tiling", "output", "model", "run", "stain", "glob", "otsu", "tile_px", "mpp",
                "ome_zarr", "hematoxylin", ": ", ":", "\n", "\n  ", "\n    ", "- ", "{", "}", "[", "]", ", ", "&a ",
                "*a", "<<: *a", "!!float ", "1", "0.5", "-1e308", ".nan", "true", "null", "~", "\"", "'", "|", ">",
                "#", "%", "é", "\t", "---", "x: y",
            ]),
            0..60,
        ),
        path in prop::sample::select(config::schema::keys().map(|key| key.path).collect::<Vec<_>>()),
        value in prop::sample::select(vec!["1", "[", "{a: 1}", "true", "", "**", "-5", "1e999", "[[", "x: y: z", "null"]),
    ) {
        let set = format!("{path}={value}");
        for text in [words.concat(), format!("slides: {{ dir: a }}\n{}", words.concat())] {
            if let Err(found) = load_text("fuzz.yaml", &text, std::slice::from_ref(&set), &quiet()) {
                prop_assert!(!found.is_empty());
                config::render(&found);
            }
        }
    }

    #[test]
    fn whatever_loads_loads_again_from_its_resolved_form(
        picks in prop::collection::vec((0usize..200, 0usize..6), 0..8)
    ) {
        let keys: Vec<_> = config::schema::keys().collect();
        let values = ["1", "0.5", "512", "true", "false", "0.25"];
        let overrides: Vec<String> =
            picks.iter().map(|(k, v)| format!("{}={}", keys[k % keys.len()].path, values[*v])).collect();
        if let Ok(loaded) = load_text("a.yaml", "slides: { dir: a }", &overrides, &quiet()) {
            let again = load_text("b.yaml", &loaded.resolved_yaml, &[], &quiet())
                .map_err(|e| TestCaseError::fail(config::render(&e)))?;
            prop_assert_eq!(again.settings, loaded.settings);
        }
    }
}

/// A library user who takes the constants and one who loads the least YAML must get the same run.
#[test]
fn the_least_pipeline_has_the_constants_of_models_and_of_ways_to_find_nuclei() {
    let settings = loads("slides: { dir: a }\n", &[]).settings;
    let ModelChoice::Network(network) = &settings.model else { panic!("{:?}", settings.model) };
    assert_eq!((&network.weights, &network.name), (&NetworkWeights::Nuclei, &None));
    let hematoxylin = loads("slides: { dir: a }\nmodel: hematoxylin\n", &[]).settings.model;
    assert_eq!(hematoxylin, ModelChoice::Hematoxylin(HEMATOXYLIN_DEFAULTS));
    assert_eq!(settings.instances.watershed, WATERSHED_DEFAULTS);
    assert_eq!(settings.instances.np_hv, NP_HV_DEFAULTS);
    assert_eq!(settings.instances.star, STAR_DEFAULTS);
}

#[test]
fn the_readme_lists_every_key_as_the_program_does() {
    let readme = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    assert!(
        readme.ends_with(&config::reference::keys_markdown()),
        "the section `Keys` is not what `wsi-run config --markdown` prints"
    );
}

const SETS: &str = "{ a: { path: a, layout: dsb2018, class: nucleus } }";
const LEAST_TRAINING: &str = "data: { classes: { nucleus: {} }, sets: { a: { path: a, layout: dsb2018, class: nucleus } } }\n\
    model: { name: stardist_unet }\n";

#[test]
fn names_of_the_users_are_keys_and_keep_their_order() {
    let losses = "train: { loss: { tp: { focal: {} }, np: { bce: {}, weight: 2.0 }, \"hv\": { mse: {} } } }\n";
    let text = format!("{LEAST_TRAINING}{losses}");
    let loaded = trains(&text, &["train.loss.np.weight=0.5", "train.loss.mask.dice.smooth=2"]);
    let named: Vec<_> = loaded.settings.train.losses.iter().map(|(name, loss)| (name.as_str(), loss.weight)).collect();
    assert_eq!(named, [("tp", 1.0), ("np", 0.5), ("hv", 1.0), ("mask", 1.0)]);
    assert_eq!(loaded.settings.train.losses[3].1.terms, [(1.0, Term::Dice { smooth: 2.0 })]);
    assert_eq!(trains(&loaded.resolved_yaml, &[]).settings, loaded.settings);
}

#[test]
fn a_file_with_train_or_data_is_a_training() {
    assert!(is_training("train: {}\nmodel: { name: a }\n") && is_training(LEAST_TRAINING));
    assert!(!is_training("slides: { dir: a }\n") && !is_training("- train\n") && !is_training("[train"));
}

#[test]
fn the_least_training_has_the_defaults_that_are_listed() {
    let sets = format!("data.sets={SETS}");
    let said = ["model.name=stardist_unet", "data.classes={ nucleus: {} }", sets.as_str()];
    let all = trains(&config::reference::all_training_keys_yaml(), &said).settings;
    assert_eq!(all, trains(LEAST_TRAINING, &[]).settings);
}
