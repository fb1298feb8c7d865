//! Bad configurations are cases: `fixtures/config_errors/<case>.yaml` and what the user sees, `<case>.stderr`.
//!
//! The first lines of a case may be `# --set key=value` and `# WSI_RUN_THREADS=value`. `UPDATE=1 cargo test` rewrites
//! the `.stderr` files; read the difference before committing it.

use std::path::{Path, PathBuf};
use wsi_run::config::{
    self,
    environment::Environment,
    resolve::{is_training, load_text, load_training_text},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn quiet() -> Environment {
    Environment { threads: None, cpus: 4 }
}

fn cases() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("fixtures/config_errors"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
}

/// What the user sees of a case.
fn stderr_of(case: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(case).unwrap()).into_owned();
    let heads = text.lines().take_while(|line| line.starts_with("# "));
    let overrides: Vec<String> = heads.clone().filter_map(|l| l.strip_prefix("# --set ")).map(str::to_owned).collect();
    let threads = heads.clone().find_map(|line| line.strip_prefix("# WSI_RUN_THREADS=")).map(str::to_owned);
    let name = case.file_name().unwrap().to_string_lossy().into_owned();
    let environment = Environment { threads, cpus: 4 };
    let found = match is_training(&text) {
        true => load_training_text(&name, &text, &overrides, &environment).err(),
        false => load_text(&name, &text, &overrides, &environment).err(),
    };
    found.map_or_else(|| "no error\n".to_owned(), |diagnostics| config::render(&diagnostics))
}

#[test]
fn every_bad_configuration_is_explained_as_its_case_says() {
    let update = std::env::var_os("UPDATE").is_some_and(|value| value == "1");
    let cases = cases();
    assert!(cases.len() >= 25, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let found = stderr_of(case);
        let golden = case.with_extension("stderr");
        if update {
            std::fs::write(&golden, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            wrong.push(format!("== {}\n-- expected\n{expected}\n-- found\n{found}", case.display()));
        }
        assert_ne!(found, "no error\n", "{}", case.display());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_golden_text_belongs_to_a_case() {
    for entry in std::fs::read_dir(root().join("fixtures/config_errors")).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.with_extension("yaml").exists(), "{} has no case", path.display());
    }
}

#[test]
fn all_errors_of_a_file_are_reported_at_once_in_order() {
    let text = "tilling: {}\ntissue: { mpp: -1 }\nslides: { glob: 5 }\n";
    let found = load_text("a.yaml", text, &["nope=1".into()], &quiet()).unwrap_err();
    let places: Vec<(&str, u32)> = found.iter().map(|d| (d.file.as_str(), d.line)).collect();
    assert_eq!(places, [("a.yaml", 1), ("a.yaml", 2), ("a.yaml", 3), ("--set", 1)]);
}

#[test]
fn a_refused_value_causes_no_second_error() {
    // A stride that would not fit the tile, were the tile not what is wrong.
    let text = "slides: { dir: a }\ntiling: { tile_px: 64, stride_px: 500, margin_px: -300 }\n";
    let found = load_text("a.yaml", text, &[], &quiet()).unwrap_err();
    assert_eq!(found.len(), 1, "{}", config::render(&found));
}

#[test]
fn a_file_that_is_not_there_is_one_clear_error() {
    let found = config::load(Path::new("no/such/file.yaml"), &[]).unwrap_err();
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().contains("no/such/file.yaml"), "{}", found[0]);
    assert!(found[0].hint.is_some());
}

#[test]
fn a_slide_given_as_a_pipeline_is_refused_without_reading_it_whole() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(8 << 30).unwrap();
    let found = config::load(file.path(), &[]).unwrap_err();
    assert!(found[0].message.contains("expected a YAML file"), "{}", found[0]);
}
