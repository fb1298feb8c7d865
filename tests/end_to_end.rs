//! The whole program on synthetic and real slides: what comes out, and that it depends on nothing it should not.

use crate::test_data::test_data;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};
use wsi_run::{
    config,
    pipeline::{Setup, find_slides, plan_slide},
};

/// Runs the program in `dir` on a YAML text.
fn wsi_run(dir: &Path, yaml: &str, arguments: &[&str]) -> Output {
    let pipeline = dir.join("pipeline.yaml");
    fs::write(&pipeline, yaml).unwrap();
    Command::new(env!("CARGO_BIN_EXE_wsi-run"))
        .current_dir(dir)
        .arg(&pipeline)
        .args(["--no-progress", "-q"])
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every file below `dir` with its bytes, by relative path.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Masks, tables and pictures; what records times and settings is left out.
fn results(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = files(dir);
    let is_record = |name: &str| matches!(name, "run.json" | "slides.parquet" | "report.html");
    all.retain(|name, _| !is_record(name) && !name.starts_with(".state/") && !name.starts_with("logs/"));
    all
}

fn assert_same(name: &str, expected: &BTreeMap<String, Vec<u8>>, found: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "{name}: other files");
    for (file, bytes) in expected {
        assert!(bytes == &found[file], "{name}: {file} differs");
    }
}

const NUCLEI: &str = "\
slides: { synthetic: { count: 1, width_px: 5000, height_px: 3600, mpp: 0.25, seed: 5 } }
model: { hematoxylin: {} }
output: { dir: out, geojson: { origin: full } }
";

const AREAS: &str = "\
slides: { synthetic: { count: 1, width_px: 3000, height_px: 2400, mpp: 0.5, seed: 6 } }
tiling: { input_mpp: 0.5 }
model: { stain_threshold: { stain: hematoxylin, threshold_od: 0.2 } }
output: { dir: out }
";

/// The same nuclei and the same mask bytes, however the slide is cut, batched and spread over threads.
fn does_not_depend_on_cutting(yaml: &str, variants: &[&[&str]]) {
    let home = tempfile::tempdir().unwrap();
    let run = |name: &str, sets: &[&str]| {
        let dir = home.path().join(name);
        fs::create_dir(&dir).unwrap();
        let arguments: Vec<&str> = sets.iter().flat_map(|s| ["--set", s]).collect();
        let output = wsi_run(&dir, yaml, &arguments);
        assert!(output.status.success(), "{sets:?}: {}", text(&output.stderr));
        results(&dir.join("out"))
    };
    let reference = run("reference", &["run.threads=1"]);
    assert!(reference.len() >= 4, "{:?}", reference.keys());
    for (i, sets) in variants.iter().enumerate() {
        assert_same(&format!("{sets:?}"), &reference, &run(&format!("v{i}"), sets));
    }
}

#[test]
fn nuclei_do_not_depend_on_tiles_batches_blocks_regions_or_threads() {
    does_not_depend_on_cutting(
        NUCLEI,
        &[
            &["run.threads=4"],
            &["tiling.tile_px=384", "batch.size=5"],
            &["tiling.tile_px=1000", "tiling.stride_px=500", "instances.region_px=512"],
            &["stitch.block_px=512", "instances.region_px=2048", "batch.size=3", "run.threads=3"],
            &["stitch={blend: {window: hann}}", "tiling.tile_px=600", "tiling.stride_px=300"],
            &["pixels.stain={none: {}}", "run.slides_in_flight=1"],
        ],
    );
}

#[test]
fn nuclei_do_not_depend_on_where_column_strips_meet() {
    let yaml =
        NUCLEI.replace("width_px: 5000, height_px: 3600, mpp: 0.25", "width_px: 17500, height_px: 700, mpp: 0.5");
    does_not_depend_on_cutting(&yaml, &[&["instances.region_px=1280", "tiling.tile_px=700"]]);
}

#[test]
fn stain_normalised_nuclei_do_not_depend_on_how_the_slide_is_cut() {
    let yaml = format!("{NUCLEI}pixels: {{ stain: {{ macenko: {{ reference: standard }} }} }}\n");
    does_not_depend_on_cutting(&yaml, &[&["tiling.tile_px=448", "instances.region_px=512", "run.threads=3"]]);
}

#[test]
fn class_masks_do_not_depend_on_tiles_batches_blocks_regions_or_threads() {
    does_not_depend_on_cutting(
        AREAS,
        &[
            &["run.threads=4", "tiling.tile_px=300"],
            &["tiling.tile_px=777", "tiling.stride_px=512", "batch.size=4", "instances.region_px=512"],
            &["stitch={blend: {window: hann}}", "tiling.tile_px=500", "tiling.stride_px=250", "stitch.block_px=1024"],
        ],
    );
}

/// The `slides` of run.json by id: (status, number of artifacts).
fn manifest(dir: &Path) -> (serde_json::Value, BTreeMap<String, String>) {
    let run: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("run.json")).unwrap()).unwrap();
    let slides = run["slides"].as_array().unwrap();
    let status = |s: &serde_json::Value| (s["id"].as_str().unwrap().into(), s["status"].as_str().unwrap().into());
    let by_id = slides.iter().map(status).collect();
    (run, by_id)
}

/// Rows of a Parquet table.
fn rows(path: &Path) -> Vec<parquet::record::Row> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
    reader.get_row_iter(None).unwrap().map(Result::unwrap).collect()
}

fn field(row: &parquet::record::Row, name: &str) -> Option<parquet::record::Field> {
    row.get_column_iter().find(|(n, _)| *n == name).map(|(_, f)| f.clone())
}

fn number(row: &parquet::record::Row, name: &str) -> f64 {
    use parquet::record::Field;
    match field(row, name) {
        Some(Field::Double(v)) => v,
        Some(Field::UInt(v)) => f64::from(v),
        Some(Field::ULong(v)) => v as f64,
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn one_bad_slide_is_one_bad_row_and_the_others_are_as_without_it() {
    let Some(data) = test_data("") else { return };
    let home = tempfile::tempdir().unwrap();
    let slides = home.path().join("slides");
    fs::create_dir(&slides).unwrap();
    fs::copy(data.join("wsi/OS-1-detail.ome.tif"), slides.join("good.tif")).unwrap();
    let run = |name: &str| {
        let dir = home.path().join(name);
        fs::create_dir(&dir).unwrap();
        let yaml = format!("slides: {{ dir: {:?} }}\nmodel: hematoxylin\noutput: {{ dir: out }}\n", slides);
        let output = wsi_run(&dir, &yaml, &[]);
        (output, dir.join("out"))
    };
    let (alone, alone_dir) = run("alone");
    assert_eq!(alone.status.code(), Some(0), "{}", text(&alone.stderr));
    fs::copy(data.join("wsi-bad/truncated-CMU-1.svs"), slides.join("truncated.svs")).unwrap();
    fs::copy(data.join("wsi-bad/broken.svs"), slides.join("garbage.svs")).unwrap();
    fs::write(slides.join("empty.svs"), b"").unwrap();
    fs::copy(data.join("qc/no-tissue.png"), slides.join("no-mpp.png")).unwrap();
    let (output, dir) = run("together");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let good = |all: &BTreeMap<String, Vec<u8>>| {
        all.iter().filter(|(n, _)| n.contains("good")).map(|(n, b)| (n.clone(), b.clone())).collect::<BTreeMap<_, _>>()
    };
    assert_same("good", &good(&results(&alone_dir)), &good(&results(&dir)));
    assert!(!dir.join(".partial").exists() || files(&dir.join(".partial")).is_empty());
    let (run, status) = manifest(&dir);
    assert_eq!((run["status"].as_str(), run["exit_code"].as_u64()), (Some("slides_failed"), Some(3)));
    let failed: Vec<&str> = status.iter().filter(|(_, s)| *s == "failed").map(|(id, _)| id.as_str()).collect();
    assert_eq!(failed, ["empty", "garbage", "no-mpp", "truncated"]);
    for row in rows(&dir.join("slides.parquet")) {
        let is_good = field(&row, "id") == Some(parquet::record::Field::Str("good".into()));
        for column in ["error", "hint"] {
            let said = matches!(field(&row, column), Some(parquet::record::Field::Str(_)));
            assert_eq!(said, !is_good, "{column} of {row}");
        }
    }
}

#[test]
fn a_slide_without_tissue_is_a_success_with_empty_outputs() {
    let Some(data) = test_data("") else { return };
    let home = tempfile::tempdir().unwrap();
    let yaml = format!(
        "slides: {{ list: [{:?}], mpp: 2.0 }}\nmodel: hematoxylin\noutput: {{ dir: out }}\n",
        data.join("qc/no-tissue.png")
    );
    let output = wsi_run(home.path(), &yaml, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let out = home.path().join("out");
    assert_eq!(manifest(&out).1["no-tissue"], "no_tissue");
    assert!(rows(&out.join("nuclei/no-tissue.parquet")).is_empty());
    assert!(out.join("masks/no-tissue.ome.zarr/zarr.json").exists() && out.join("overviews/no-tissue.png").exists());
}

#[test]
fn nuclei_of_a_real_section_are_as_many_as_qupath_and_stardist_find() {
    let Some(data) = test_data("") else { return };
    let home = tempfile::tempdir().unwrap();
    let slide = data.join("wsi/OS-1-detail.ome.tif");
    let yaml = format!("slides: {{ list: [{slide:?}] }}\nmodel: hematoxylin\noutput: {{ dir: out }}\n");
    let output = wsi_run(home.path(), &yaml, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let found = rows(&home.path().join("out/nuclei/OS-1-detail.ome.parquet")).len() as f64;
    for peer in [319.0, 331.0] {
        assert!((found / peer - 1.0f64).abs() <= 0.2, "{found} nuclei, a peer finds {peer}");
    }
}

#[test]
fn density_per_region_follows_the_truth() {
    let Some(data) = test_data("") else { return };
    let home = tempfile::tempdir().unwrap();
    let slide = data.join("derived/synth_8000x6000.tif");
    let truth: serde_json::Value =
        serde_json::from_slice(&fs::read(data.join("derived/synth_8000x6000.tif.json")).unwrap()).unwrap();
    let yaml = format!("slides: {{ list: [{slide:?}] }}\nmodel: hematoxylin\noutput: {{ dir: out }}\n");
    let output = wsi_run(home.path(), &yaml, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let nuclei = rows(&home.path().join("out/nuclei/synth_8000x6000.parquet"));
    // Islands are told by their boxes; nuclei per mm² of tissue in each.
    let (mut found, mut expected) = (vec![], vec![]);
    for island in truth["islands"].as_array().unwrap() {
        let at = |key: &str| island[key].as_f64().unwrap();
        let sum =
            |key: &str| island["regions"].as_array().unwrap().iter().map(|r| r[key].as_f64().unwrap()).sum::<f64>();
        let inside = |row: &&parquet::record::Row| {
            let (x, y) = (number(row, "centroid_x_px"), number(row, "centroid_y_px"));
            x >= at("x") && y >= at("y") && x < at("x") + at("w") && y < at("y") + at("h")
        };
        found.push(nuclei.iter().filter(inside).count() as f64 / sum("mm2"));
        expected.push(sum("nuclei") / sum("mm2"));
    }
    let correlation = pearson(&found, &expected);
    assert!(correlation > 0.9, "{correlation}: {found:?} per mm² where {expected:?} are");
}

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let product: f64 = a.iter().zip(b).map(|(x, y)| (x - ma) * (y - mb)).sum();
    let square = |v: &[f64], m: f64| v.iter().map(|x| (x - m).powi(2)).sum::<f64>();
    product / (square(a, ma) * square(b, mb)).sqrt()
}

#[test]
fn a_run_takes_no_more_memory_than_its_plan_says() {
    let slides = "slides: { synthetic: { count: 4, width_px: 4000, height_px: 3000, mpp: 0.25, seed: 5 } }\n";
    for (model, threads, in_flight) in [("hematoxylin", 2, 3), ("hematoxylin", 1, 1), ("{ network: {} }", 2, 2)] {
        let home = tempfile::tempdir().unwrap();
        let yaml = format!(
            "{slides}model: {model}\noutput: {{ dir: out }}\nrun: {{ threads: {threads}, slides_in_flight: {in_flight} }}\n"
        );
        let ran = wsi_run(home.path(), &yaml, &[]);
        assert!(ran.status.success(), "{}", text(&ran.stderr));
        let rows = rows(&home.path().join("out/slides.parquet"));
        let peak = rows.iter().map(|row| number(row, "peak_rss_bytes")).fold(0.0, f64::max);
        let settings = config::load(&home.path().join("pipeline.yaml"), &[]).unwrap().settings;
        let setup = Setup::new(&settings).unwrap();
        let of_slide = |slide| plan_slide(slide, &setup).unwrap().slide_bytes(&setup);
        let most = find_slides(&settings).unwrap().iter().map(of_slide).max().unwrap();
        let plan = (setup.flow_bytes() + most * in_flight) as f64;
        assert!(plan / 8.0 < peak && peak < plan, "{model}, {threads} threads: {peak} bytes, {plan} in the plan");
    }
}

#[test]
fn outputs_of_a_run_verify_and_a_changed_byte_is_found() {
    let home = tempfile::tempdir().unwrap();
    let output = wsi_run(home.path(), NUCLEI, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let verify = || {
        let program = Command::new(env!("CARGO_BIN_EXE_wsi-run")).arg("verify").arg(home.path().join("out")).output();
        let output = program.unwrap();
        (output.status.code(), text(&output.stdout))
    };
    assert_eq!(verify().0, Some(0), "{}", verify().1);
    let table = home.path().join("out/nuclei/synthetic-000.parquet");
    let mut bytes = fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&table, bytes).unwrap();
    let (code, said) = verify();
    assert!(code == Some(3) && said.contains("synthetic-000"), "{said}");
}

/// The program as a user who may not do everything: another one when the tests run as root.
#[cfg(unix)]
fn as_plain_user(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    let nobody = 65_534;
    if rustix::process::geteuid().is_root() { command.gid(nobody).uid(nobody) } else { command }
}

#[cfg(unix)]
#[test]
fn an_output_directory_that_may_not_be_written_to_stops_the_run_before_any_slide() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let may = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let shared = home.path().join("shared");
    fs::create_dir(&shared).unwrap();
    // No such slide: a run that looked for it would say so.
    fs::write(home.path().join("p.yaml"), "slides: { list: [gone.svs] }\nmodel: hematoxylin\n").unwrap();
    may(&shared, 0o555);
    may(home.path(), 0o755);
    for dir in ["shared", "shared/results"] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_wsi-run"));
        program.current_dir(home.path()).args(["p.yaml", "--no-progress", "-o", dir]);
        let output = match as_plain_user(&mut program).output() {
            Ok(output) => output,
            Err(error) => {
                println!("skipped: another user cannot start the program: {error}");
                return;
            }
        };
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot write") && said.contains(dir) && said.contains("hint:"), "{said}");
        assert!(!said.contains("gone.svs"), "{said}");
        assert_eq!(fs::read_dir(&shared).unwrap().count(), 0);
    }
    may(&shared, 0o755);
}

#[test]
fn only_what_the_next_run_needs_is_left_when_a_run_is_stopped() {
    let home = tempfile::tempdir().unwrap();
    let yaml = "slides: { synthetic: { count: 3, width_px: 20000, height_px: 16000, mpp: 0.25, seed: 5 } }\n\
                model: hematoxylin\noutput: { dir: out }\nrun: { slides_in_flight: 1 }\n";
    fs::write(home.path().join("p.yaml"), yaml).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_wsi-run"))
        .current_dir(home.path())
        .args(["p.yaml", "--no-progress", "-q"])
        .spawn()
        .unwrap();
    // As soon as the first slide is being written, ask twice: the second request drops what is in flight.
    let partial = home.path().join("out/.partial");
    let is_begun =
        || fs::read_dir(&partial).is_ok_and(|mut all| all.any(|e| e.unwrap().path().join("journal").exists()));
    while !is_begun() {
        assert!(program.try_wait().unwrap().is_none(), "the run ended before it could be stopped");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_child(&program);
    for _ in 0..2 {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(program.wait().unwrap().code(), Some(130));
    let out = home.path().join("out");
    let left = results(&out).into_keys().collect::<Vec<_>>();
    assert!(
        left.len() == 1 && left[0].starts_with(".partial/synthetic-000~") && left[0].ends_with("/journal"),
        "{left:?}"
    );
    let mine = files(&out.join(".state")).into_keys().collect::<Vec<_>>();
    assert_eq!(mine, ["list.json"]);
    assert_eq!(manifest(&out).0["status"], "interrupted");
    assert_eq!(manifest(&out).1["synthetic-000"], "interrupted");
}
