//! Module boundaries, as printed in the README under "Architecture".
//!
//! Reads `src/**/*.rs` and checks every `crate::<module>` path and every guarded third-party crate.
//! Comments and doc lines are skipped, so intra-doc links stay free.

use std::{fs, path::Path};

/// What everything may stand on. `config` stands here for `config::settings`, plain data; its other files are
/// guarded by `ONLY_IN`.
const GROUND: &[&str] = &["error", "units", "geometry", "config"];

/// (module, what it may import besides ground and itself). Order = order of the flow.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("units", &[]),
    ("geometry", &[]),
    ("config", &[]),
    ("slides", &[]),
    ("tissue", &["slides", "pixels"]),
    ("tiling", &["tissue"]),
    ("pixels", &["slides"]),
    ("kernels", &[]),
    ("model", &["pixels", "kernels"]),
    ("stitch", &["tiling", "model"]),
    ("instances", &["stitch", "model", "pixels"]),
    ("output", &["tissue", "pixels", "model", "instances"]),
    ("pipeline", &["slides", "tissue", "tiling", "pixels", "model", "stitch", "instances", "output"]),
    ("cli", &["slides", "pixels", "model", "output", "pipeline"]),
];

/// (path of a module, third-party crate or std item; files or folders that may name it).
const ONLY_IN: &[(&str, &[&str])] = &[
    ("config::schema", &["config/"]),
    ("config::validate", &["config/"]),
    ("crossbeam_channel", &["pipeline/", "pixels/pool.rs"]),
    ("std::thread", &["pipeline/", "cli/", "config/environment.rs"]),
    ("clap", &["cli/"]),
    ("anyhow", &["cli/", "main.rs"]),
    ("serde_saphyr", &["config/"]),
    ("openslide_sys", &["slides/"]),
    ("openslide_rs", &["slides/"]),
    ("tiff", &["slides/", "tissue/", "pixels/stain/reference.rs"]),
    ("candle_core", &["kernels/", "model/"]),
    ("candle_nn", &["model/"]),
    ("safetensors", &["model/"]),
    ("zarrs", &["output/"]),
    ("parquet", &["output/"]),
];

fn rust_files(dir: &Path, out: &mut Vec<std::path::PathBuf>) {
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

/// Module names after each `crate::`, also inside `crate::{a, b::C}`.
fn imported_modules(line: &str) -> Vec<&str> {
    let ident = |s: &'_ str| s.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(s.len());
    line.match_indices("crate::")
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

#[test]
fn modules_import_only_what_the_readme_allows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut wrong) = (vec![], vec![]);
    rust_files(&src, &mut files);
    for file in &files {
        let rel = file.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
        if rel.starts_with("slides/openslide-sys/") {
            continue; // a crate of its own
        }
        let module = rel.split('/').next().unwrap().trim_end_matches(".rs");
        let allowed = MAY_IMPORT.iter().find(|(m, _)| *m == module).map(|(_, a)| *a);
        let text = fs::read_to_string(file).unwrap();
        // Tests may stand on whatever they need.
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        // A `use` over several lines is joined so that its braces are seen whole; the line of its start is reported.
        let (mut joined, mut start) = (String::new(), 0);
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if joined.is_empty() {
                start = n + 1;
                if line.starts_with("//") {
                    continue;
                }
            }
            joined.push_str(line);
            if joined.starts_with("use ") || joined.starts_with("pub use ") || joined.starts_with("pub(crate) use ") {
                if !joined.contains(';') {
                    continue;
                }
            }
            if let (Some(allowed), false) = (allowed, matches!(module, "main" | "lib")) {
                for name in imported_modules(&joined) {
                    if name != module
                        && !GROUND.contains(&name)
                        && !allowed.contains(&name)
                        && MAY_IMPORT.iter().any(|(m, _)| *m == name)
                    {
                        wrong.push(format!("src/{rel}:{start}: `{module}` must not import `{name}`"));
                    }
                }
            } else if !matches!(module, "main" | "lib") {
                wrong.push(format!("src/{rel}:{start}: module `{module}` is not in the table"));
            }
            for (what, places) in ONLY_IN {
                let named = joined.match_indices(what).any(|(i, _)| {
                    joined[i + what.len()..].starts_with("::")
                        && !joined[..i].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                });
                if named && !places.iter().any(|p| rel.starts_with(p)) {
                    wrong.push(format!("src/{rel}:{start}: only {places:?} may name `{what}`"))
                }
            }
            joined.clear();
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{} broken boundaries (README, \"Architecture\"):\n{}", wrong.len(), wrong.join("\n"));
}
