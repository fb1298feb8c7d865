//! Module boundaries, as printed in the README under "Architecture".
//!
//! Reads `src/**/*.rs` and checks every `crate::<module>` path and every guarded third-party crate. An allowance that
//! nobody uses is a fault too: the tables say what is, not what might be.
//! Comments and doc lines are skipped, so intra-doc links stay free.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What the flow may stand on. `config` stands here for `config::settings`, plain data; its other files are guarded by
/// `ONLY_IN`. The ground itself stands on what `MAY_IMPORT` says.
const GROUND: &[&str] = &["error", "units", "geometry", "config"];

/// (module, what it may import besides ground and itself). Order = order of the flow.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("units", &[]),
    ("geometry", &["units"]),
    ("config", &["units"]),
    ("slides", &[]),
    ("tissue", &["pixels"]),
    ("tiling", &["tissue"]),
    ("pixels", &["slides"]),
    ("kernels", &[]),
    ("model", &["pixels", "kernels"]),
    ("infer", &["kernels", "model"]),
    ("stitch", &["tiling", "model"]),
    ("instances", &["stitch", "model", "pixels"]),
    ("output", &["tissue", "pixels", "model", "instances"]),
    ("run", &["slides", "output"]),
    ("pipeline", &["slides", "tissue", "tiling", "pixels", "model", "infer", "stitch", "instances", "output", "run"]),
    ("train", &["slides", "tissue", "tiling", "pixels", "model", "output"]),
    (
        "evaluate",
        &["slides", "tissue", "tiling", "pixels", "model", "stitch", "instances", "output", "pipeline", "train"],
    ),
    ("cli", &["slides", "pixels", "model", "infer", "output", "run", "pipeline", "train", "evaluate"]),
];

/// (path of a module, third-party crate or std item; files or folders that may name it).
const ONLY_IN: &[(&str, &[&str])] = &[
    ("config::check", &["config/"]),
    ("config::document", &["config/"]),
    ("config::layers", &["config/"]),
    ("config::schema", &["config/"]),
    ("config::validate", &["config/"]),
    ("crossbeam_channel", &["pipeline/", "pixels/pool.rs", "train/loader.rs"]),
    // A team waits for others, and starts none.
    ("std::thread", &["pipeline/", "cli/", "config/environment.rs", "train/loader.rs", "infer/team.rs"]),
    ("clap", &["cli/"]),
    ("anyhow", &["cli/"]),
    ("indicatif", &["cli/"]),
    ("signal_hook", &["cli/"]),
    ("serde_saphyr", &["config/"]),
    ("openslide_sys", &["slides/"]),
    ("openslide_rs", &["slides/"]),
    ("tiff", &["slides/", "tissue/", "pixels/stain/reference.rs", "train/data/picture.rs"]),
    ("turbojpeg", &["slides/"]),
    ("cudarc", &["infer/cuda/"]),
    ("half", &["infer/cuda/"]),
    ("candle_core", &["kernels/", "model/", "train/"]),
    ("candle_nn", &["model/"]),
    ("safetensors", &["model/", "train/checkpoint.rs"]),
    ("zarrs", &["output/", "train/data/slide_mask.rs"]),
    ("parquet", &["output/"]),
    ("arrow_array", &["output/"]),
    ("arrow_schema", &["output/"]),
];

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, out)
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path)
        }
    }
}

/// Names after each `root` (`crate::`, `std::`), also inside `crate::{a, b::C}`.
fn imported<'a>(line: &'a str, root: &str) -> Vec<&'a str> {
    let ident = |s: &'_ str| s.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(s.len());
    line.match_indices(root)
        .flat_map(|(at, m)| {
            let rest = &line[at + m.len()..];
            match rest.strip_prefix('{') {
                None => vec![&rest[..ident(rest)]],
                Some(list) => {
                    let (mut depth, mut start, mut names) = (0, 0, vec![]);
                    for (i, c) in list.char_indices() {
                        match c {
                            '{' => depth += 1,
                            '}' if depth > 0 => depth -= 1,
                            ',' | '}' if depth == 0 => {
                                let item = list[start..i].trim();
                                names.push(&item[..ident(item)]);
                                start = i + 1;
                                if c == '}' {
                                    break;
                                }
                            }
                            _ => {}
                        }
                    }
                    names
                }
            }
        })
        .filter(|name| name.starts_with(char::is_lowercase))
        .collect()
}

/// Lines of code with the number of their start: no comments, no tests, a `use` over several lines as one.
fn code_lines(text: &str) -> Vec<(usize, String)> {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let (mut lines, mut joined, mut start) = (vec![], String::new(), 0);
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if joined.is_empty() {
            start = n + 1;
            if line.starts_with("//") {
                continue;
            }
        }
        joined.push_str(line);
        let is_use = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "].iter().any(|u| joined.starts_with(u));
        if !is_use || joined.contains(';') {
            lines.push((start, std::mem::take(&mut joined)));
        }
    }
    lines
}

/// Whether `line` names the path `what` itself, and not one that ends with it.
fn names(line: &str, what: &str) -> bool {
    line.match_indices(what).any(|(i, _)| {
        line[i + what.len()..].starts_with("::")
            && !line[..i].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
    }) || line.contains(&format!("crate::{what}::"))
        || what.strip_prefix("std::").is_some_and(|item| imported(line, "std::").contains(&item))
}

/// What is wrong with `files` (path below `src`, text).
fn faults(files: &[(String, String)]) -> Vec<String> {
    let mut wrong = vec![];
    let (mut imports, mut guarded) = (BTreeSet::new(), BTreeSet::new());
    for (rel, text) in files {
        let module = rel.split('/').next().unwrap().trim_end_matches(".rs");
        if matches!(module, "main" | "lib") {
            continue;
        }
        let Some((module, allowed)) = MAY_IMPORT.iter().find(|(m, _)| *m == module) else {
            wrong.push(format!("src/{rel}:1: module `{module}` is not in the table"));
            continue;
        };
        let is_ground = GROUND.contains(module);
        for (start, line) in code_lines(text) {
            for name in imported(&line, "crate::") {
                let is_module = name != *module && MAY_IMPORT.iter().any(|(m, _)| *m == name);
                if !is_module || (GROUND.contains(&name) && !is_ground) {
                    continue;
                }
                imports.insert((*module, name.to_owned()));
                if !allowed.contains(&name) {
                    wrong.push(format!("src/{rel}:{start}: `{module}` must not import `{name}`"));
                }
            }
            for (what, places) in ONLY_IN.iter().filter(|(what, _)| names(&line, what)) {
                match places.iter().find(|p| rel.starts_with(**p)) {
                    Some(place) => drop(guarded.insert((*what, *place))),
                    None => wrong.push(format!("src/{rel}:{start}: only {places:?} may name `{what}`")),
                }
            }
        }
    }
    for (module, allowed) in MAY_IMPORT {
        for name in allowed.iter().filter(|name| !imports.contains(&(*module, (**name).to_owned()))) {
            wrong.push(format!("`{module}` may import `{name}` and does not"));
        }
    }
    for (what, places) in ONLY_IN.iter().filter(|(what, _)| !what.starts_with("config::")) {
        for place in places.iter().filter(|place| !guarded.contains(&(*what, **place))) {
            wrong.push(format!("`{place}` may name `{what}` and does not"));
        }
    }
    wrong.dedup();
    wrong
}

fn sources() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![];
    rust_files(&src, &mut files);
    files
        .iter()
        .map(|file| (file.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/"), file))
        .filter(|(rel, _)| !rel.starts_with("slides/openslide-sys/")) // a crate of its own
        .map(|(rel, file)| (rel, fs::read_to_string(file).unwrap()))
        .collect()
}

#[test]
fn modules_import_only_what_the_readme_allows() {
    let wrong = faults(&sources());
    assert!(wrong.is_empty(), "{} broken boundaries (README, \"Architecture\"):\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_bad_import_is_found_wherever_it_hides() {
    let bad = [
        ("model/bad.rs", "use crate::slides::open;", "src/model/bad.rs:1: `model` must not import `slides`"),
        ("slides/bad.rs", "use crate::{\n    error,\n    tissue::{TissueMask, close},\n};", "must not import `tissue`"),
        ("pixels/bad.rs", "fn f() -> crate::output::Sink {}", "`pixels` must not import `output`"),
        ("units.rs", "use crate::config::settings;", "`units` must not import `config`"),
        ("stitch/bad.rs", "let x = anyhow::anyhow!();", "may name `anyhow`"),
        ("model/bad.rs", "use std::{\n    sync::Arc,\n    thread::spawn,\n};", "may name `std::thread`"),
        ("tissue/bad.rs", "use crate::config::schema::KEYS;", "may name `config::schema`"),
        ("helpers.rs", "fn f() {}", "module `helpers` is not in the table"),
    ];
    for (path, text, fault) in bad {
        let mut files = sources();
        files.push((path.to_owned(), text.to_owned()));
        let wrong = faults(&files);
        assert!(wrong.len() == 1 && wrong[0].contains(fault), "{path}: {wrong:?}, expected {fault}");
    }
    // What only a test or a comment says is free.
    let free = "// use crate::output::Sink;\n#[cfg(test)]\nmod tests {\n    use crate::output::Sink;\n}\n";
    let mut files = sources();
    files.push(("slides/free.rs".to_owned(), free.to_owned()));
    assert_eq!(faults(&files), [""; 0]);
}
