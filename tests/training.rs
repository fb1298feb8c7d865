//! Training as a user sees it: the program on pictures drawn here, killed, stopped, gone on with, and used.

use std::{
    fs,
    io::BufWriter,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

const SIDE: u32 = 96;

/// A number that follows from others, as random as it need be.
fn drawn(key: u64) -> u64 {
    let z = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

fn png(path: &Path, color: png::ColorType, depth: png::BitDepth, data: &[u8]) {
    let mut encoder = png::Encoder::new(BufWriter::new(fs::File::create(path).unwrap()), SIDE, SIDE);
    encoder.set_color(color);
    encoder.set_depth(depth);
    encoder.write_header().unwrap().write_image_data(data).unwrap();
}

/// Pictures with dark discs on pink, and a number per disc.
fn draw_set(dir: &Path, count: u64) {
    fs::create_dir_all(dir.join("images")).unwrap();
    fs::create_dir_all(dir.join("labels")).unwrap();
    for picture in 0..count {
        let discs: Vec<(f64, f64, f64)> = (0..16)
            .map(|i| {
                let r = |k| (drawn(picture * 1000 + i * 10 + k) % 1000) as f64 / 1000.0;
                (12.0 + 24.0 * (i % 4) as f64 + 4.0 * r(0), 12.0 + 24.0 * (i / 4) as f64 + 4.0 * r(1), 5.0 + 4.0 * r(2))
            })
            .collect();
        let (mut rgb, mut labels) = (vec![], vec![]);
        for at in 0..u64::from(SIDE * SIDE) {
            let (x, y) = ((at % u64::from(SIDE)) as f64 + 0.5, (at / u64::from(SIDE)) as f64 + 0.5);
            let inside = discs.iter().position(|d| (d.0 - x).powi(2) + (d.1 - y).powi(2) < d.2 * d.2);
            let noise = (drawn(picture * 100_000 + at) % 20) as u8;
            rgb.extend(if inside.is_some() {
                [80 + noise, 50 + noise, 130 + noise]
            } else {
                [225 + noise, 180 + noise, 210 + noise]
            });
            labels.extend((inside.map_or(0, |i| i as u16 + 1)).to_be_bytes());
        }
        png(&dir.join(format!("images/p{picture}.png")), png::ColorType::Rgb, png::BitDepth::Eight, &rgb);
        png(&dir.join(format!("labels/p{picture}.png")), png::ColorType::Grayscale, png::BitDepth::Sixteen, &labels);
    }
}

/// A training of a few steps on drawn pictures.
fn training(dir: &Path, train: &str) -> PathBuf {
    draw_set(&dir.join("set"), 8);
    let text = format!(
        r##"data:
  classes: {{ nucleus: {{ color: "#00c000" }} }}
  sets:
    drawn: {{ path: "{}", layout: instances, class: nucleus, mpp: 0.5 }}
  split: {{ share: 0.25 }}
  patch_px: 64
  sampling: {{ samples_per_epoch: 12 }}
model: {{ name: stardist_unet, input_mpp: 0.5, first_values: he, batch_norm: true }}
train: {{ epochs: 3, batch_size: 4, learning_rate: 0.001, checkpoint_secs: 0, readers: 2, {train} }}
output: {{ dir: "{}" }}
run: {{ threads: 2 }}
"##,
        dir.join("set").display(),
        dir.join("out").display()
    );
    let path = dir.join("train.yaml");
    fs::write(&path, text).unwrap();
    path
}

fn command(file: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsi-run"));
    command.arg(file).args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(file: &Path, more: &[&str]) -> Output {
    command(file, more).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What must not depend on when a training was stopped.
fn results(dir: &Path) -> Vec<Vec<u8>> {
    ["weights.safetensors", "last.safetensors"].iter().map(|name| fs::read(dir.join(name)).unwrap()).collect()
}

const EVERYTHING: &str = "optimiser: { adamw: {} }, schedule: { cosine: {} }, warm_up_steps: 2, ema: { decay: 0.9 }, clip_norm: 1.0, \
     freeze: { epochs: 1, prefixes: [\"grid_\"], batch_size: 3 }";

#[test]
fn a_training_killed_at_any_moment_ends_in_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let file = training(dir.path(), EVERYTHING);
    let whole = dir.path().join("whole");
    let output = run(&file, &["--output", whole.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let killed = dir.path().join("killed");
    let (mut kills, mut wait_millis) = (0, 150);
    loop {
        let mut child = command(&file, &["--output", killed.to_str().unwrap()]).spawn().unwrap();
        let end = Instant::now() + Duration::from_millis(wait_millis);
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() >= end => break None,
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        if let Some(status) = status {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(kills < 200, "it does not get on");
        // Longer and longer, so that a slow machine gets on too, and never the same moment of a step.
        wait_millis = wait_millis + 20 + drawn(kills) % 130;
    }
    assert!(kills >= 2, "only {kills} kills: the training is too short for this test");
    assert_eq!(results(&killed), results(&whole), "after {kills} kills");
    // A finished training has nothing left to do, and says so.
    let again = run(&file, &["--output", killed.to_str().unwrap()]);
    assert!(again.status.success() && stderr(&again).contains("best weights"), "{}", stderr(&again));
    assert_eq!(results(&killed), results(&whole));
}

#[test]
fn a_short_training_lowers_the_loss_and_its_weights_are_ready_for_use() {
    let dir = tempfile::tempdir().unwrap();
    let file = training(dir.path(), "optimiser: { adam: {} }");
    let output = run(&file, &["--set", "train.epochs=8", "--log-json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stderr(&output);
    let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let losses: Vec<f64> =
        events.iter().filter(|e| e["event"] == "validated").map(|e| e["validation_loss"].as_f64().unwrap()).collect();
    assert_eq!(losses.len(), 8);
    assert!(losses[7] < 0.7 * losses[0], "{losses:?}");
    let out = dir.path().join("out");
    for name in ["steps.parquet", "epochs.parquet", "curves.png", "training.yaml", "checkpoint.safetensors"] {
        assert!(out.join(name).metadata().unwrap().len() > 0, "{name}");
    }
    // The weights run as they are.
    let run = Command::new(env!("CARGO_BIN_EXE_wsi-run"))
        .args(["plan", "/dev/stdin"])
        .arg("--set")
        .arg(format!("model.network.weights={}", out.join("weights.safetensors").display()))
        .stdin(fs::File::open(slides(dir.path())).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success() && said.contains("stardist_unet at 0.5"), "{said}{}", stderr(&run));
}

fn slides(dir: &Path) -> PathBuf {
    let path = dir.join("slides.yaml");
    fs::write(&path, "slides: { synthetic: { count: 1, width_px: 600, height_px: 600 } }\n").unwrap();
    path
}

#[test]
fn a_loss_that_is_no_number_stops_with_the_names_of_the_batch_and_keeps_what_was_good() {
    let dir = tempfile::tempdir().unwrap();
    let file = training(dir.path(), "optimiser: { sgd: { momentum: 0.0 } }");
    // Each step makes every weight a hundred times as large.
    let decay = "train.optimiser.sgd.weight_decay=10";
    let plain = "model.batch_norm=false";
    let output = run(&file, &["--set", "train.learning_rate=10", "--set", decay, "--set", plain]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(text.contains("of the batch:") && text.contains("images/p"), "{text}");
    assert!(text.contains("last.safetensors"), "{text}");
    assert!(dir.path().join("out/last.safetensors").exists());
}

#[test]
fn a_training_asked_to_stop_keeps_everything_and_other_settings_do_not_go_on_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = training(dir.path(), "");
    let mut child = command(&file, &["--set", "train.epochs=1000", "--log-json"]).spawn().unwrap();
    let checkpoint = dir.path().join("out/checkpoint.safetensors");
    let end = Instant::now() + Duration::from_secs(300);
    while !checkpoint.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    // A second one in the same place is refused while the first is at work.
    let second = run(&file, &["--set", "train.epochs=1000"]);
    assert_eq!(second.status.code(), Some(6), "{}", stderr(&second));
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let other = run(&file, &["--set", "train.epochs=1000", "--set", "train.learning_rate=0.5"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(stderr(&other).contains("has another `train.learning_rate`"), "{}", stderr(&other));
    let limited = run(&file, &["--set", "train.epochs=1000", "--time-limit", "1"]);
    assert_eq!(limited.status.code(), Some(5), "{}", stderr(&limited));
    assert!(stderr(&limited).contains("goes on after step"), "{}", stderr(&limited));
}

#[test]
fn a_training_goes_on_from_the_weights_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let file = training(dir.path(), "");
    let first = run(&file, &["--set", "train.epochs=1"]);
    assert!(first.status.success(), "{}", stderr(&first));
    let start = format!("model.start={}", dir.path().join("out/weights.safetensors").display());
    let out = |name: &str| dir.path().join(name).display().to_string();
    let tensors = |name: &str| {
        let bytes = fs::read(dir.path().join(name).join("last.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        file.iter().map(|(name, t)| (name.to_owned(), t.data().to_vec())).collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = tensors("out");
    // With normalisations that convolutions take in, too: one that does not learn leaves its convolution as it was.
    for batch_norm in ["model.batch_norm=false", "model.batch_norm=true"] {
        let sets = [start.as_str(), "train.epochs=1", "train.only_prefixes=[prob, features]", batch_norm];
        let arguments = sets.iter().flat_map(|&set| ["--set", set]).chain(["--output", batch_norm]);
        let tuned = command(&file, &arguments.collect::<Vec<_>>()).current_dir(dir.path()).output().unwrap();
        assert!(tuned.status.success(), "{}", stderr(&tuned));
        let after = tensors(batch_norm);
        for (name, values) in &before {
            let is_learning = name.starts_with("prob") || name.starts_with("features");
            assert_eq!(values != &after[name], is_learning, "{name} with {batch_norm}");
        }
    }
    // Other classes need a new last layer, and get one.
    let classes = "data.classes={ lymphocyte: {}, nucleus: {} }";
    let other = |more: &str| {
        run(
            &file,
            &["--set", &start, "--output", &out("other"), "--set", "train.epochs=1", "--set", classes, "--set", more],
        )
    };
    let refused = other("model.last_layer=keep");
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("model.last_layer: replace"), "{}", stderr(&refused));
    let replaced = other("model.last_layer=replace");
    assert!(replaced.status.success(), "{}", stderr(&replaced));
}

#[test]
fn a_plan_says_samples_steps_parameters_and_memory_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = training(dir.path(), EVERYTHING);
    let output = Command::new(env!("CARGO_BIN_EXE_wsi-run")).arg("plan").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in
        ["stardist_unet at 0.5", "1.426 M parameters", "samples  12 of 64", "10 in 3 epochs", "memory", "0.2 mae"]
    {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    assert!(!dir.path().join("out").exists());
}

/// Every training file that is shipped, on pictures drawn here in the place of its data.
#[test]
fn every_shipped_training_can_be_planned() {
    let dir = tempfile::tempdir().unwrap();
    draw_set(&dir.path().join("set"), 4);
    let shipped = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut planned = 0;
    for path in fs::read_dir(shipped).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        if !wsi_run::config::resolve::is_training(&text) {
            continue;
        }
        let class = wsi_run::config::load_file(&path, &[]).map(|loaded| match loaded {
            wsi_run::config::LoadedFile::Training(t) => t.settings.data.classes[0].name.clone(),
            wsi_run::config::LoadedFile::Pipeline(_) => unreachable!("it is a training"),
        });
        let class = class.unwrap_or_else(|found| panic!("{name}: {}", wsi_run::config::render(&found)));
        let sets = format!(
            "data.sets={{ drawn: {{ path: \"{}\", layout: instances, class: {class}, mpp: 0.5 }} }}",
            dir.path().join("set").display()
        );
        let output = Command::new(env!("CARGO_BIN_EXE_wsi-run"))
            .arg("plan")
            .arg(&path)
            .args(["--set", &sets, "--output", dir.path().join("out").to_str().unwrap()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("parameters"), "{name}: {said}{}", stderr(&output));
        planned += 1;
    }
    assert!(planned >= 6, "only {planned}");
}
