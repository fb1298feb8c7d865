//! A model is judged by what it says in a run, and what it says can be corrected and learned from.

use crate::test_data::test_data;
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};
use wsi_run::pixels::RgbImage;

/// Width and height of the picture that is cut out of the fixture.
const SIDE: (u32, u32) = (420, 330);

fn program(dir: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_wsi-run"))
        .args(arguments)
        .env("NO_COLOR", "1")
        .env("WSI_RUN_THREADS", "2")
        .current_dir(dir)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{stderr}");
    output
}

fn write_png(path: &Path, (w, h): (u32, u32), color: png::ColorType, depth: png::BitDepth, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), w, h);
    encoder.set_color(color);
    encoder.set_depth(depth);
    encoder.write_header().unwrap().write_image_data(bytes).unwrap();
}

/// A part of a real section as `images/<name>.png`.
fn write_image(dir: &Path, name: &str, (left, top): (u32, u32)) {
    let jpeg = include_bytes!("../fixtures/nuclei/os-1-detail_0.5mpp.jpg");
    let all = turbojpeg::decompress(jpeg, turbojpeg::PixelFormat::RGB).unwrap();
    let all = RgbImage { w: all.width as u32, h: all.height as u32, data: all.pixels };
    let px = (0..SIDE.1).flat_map(|y| (0..SIDE.0).map(move |x| (x, y)));
    let bytes: Vec<u8> = px.flat_map(|(x, y)| all.get(x + left, y + top)).collect();
    let path = dir.join("images").join(format!("{name}.png"));
    write_png(&path, SIDE, png::ColorType::Rgb, png::BitDepth::Eight, &bytes);
}

/// `truth/<name>.png`: discs in rows, whatever the image shows.
fn write_discs(dir: &Path, name: &str) {
    let at = |x: u32, y: u32| {
        let (dx, dy) = ((x % 24) as i32 - 12, (y % 24) as i32 - 12);
        if dx * dx + dy * dy < 81 { (y / 24 * 100 + x / 24 + 1) as u16 } else { 0 }
    };
    let px = (0..SIDE.1).flat_map(|y| (0..SIDE.0).map(move |x| at(x, y)));
    let bytes: Vec<u8> = px.flat_map(u16::to_be_bytes).collect();
    let path = dir.join("truth").join(format!("{name}.png"));
    write_png(&path, SIDE, png::ColorType::Grayscale, png::BitDepth::Sixteen, &bytes);
}

fn metrics(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("metrics.json")).unwrap()).unwrap()
}

fn value(metrics: &Value, name: &str) -> f64 {
    let all = metrics["measures"].as_array().unwrap();
    let of_all = |m: &&Value| m["name"] == name && m["class"].is_null() && m["organ"].is_null();
    all.iter().find(of_all).unwrap_or_else(|| panic!("no {name}"))["value"].as_f64().unwrap()
}

#[test]
fn images_in_memory_are_judged_as_the_results_of_a_run_over_them() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    for (name, corner) in [("a", (0, 0)), ("b", (150, 90))] {
        write_image(dir, name, corner);
        write_discs(dir, name);
    }
    // Another resolution than the images', tiles smaller than they are.
    let pipeline = "slides: { dir: images, mpp: 0.5 }\ntissue: { everything: {} }\n\
        tiling: { input_mpp: 0.4, tile_px: 256 }\nmodel: { hematoxylin: {} }\noutput: { dir: results }\n";
    fs::write(dir.join("p.yaml"), pipeline).unwrap();
    program(dir, &["run", "p.yaml", "--no-progress", "-q"]);
    let images = ["--images", "images", "--instances", "truth", "--mpp", "0.5", "--draws", "50"];
    program(dir, &[&["evaluate", "--results", "results", "-o", "of_run"], &images[..]].concat());
    program(dir, &[&["evaluate", "--pipeline", "p.yaml", "-o", "of_model"], &images[..]].concat());
    let (of_run, of_model) = (metrics(&dir.join("of_run")), metrics(&dir.join("of_model")));
    for name in ["detection_f1", "f1_d", "aji", "aji_plus", "pq", "dice", "recall"] {
        let (run, model) = (value(&of_run, name), value(&of_model, name));
        assert!(run > 0.0 && (run - model).abs() < 1e-9, "{name}: {run} {model}");
    }
    let page = fs::read_to_string(dir.join("of_model/report.html")).unwrap();
    assert_eq!(page.matches("data:image/png;base64,").count(), 2);
    assert!(!page.contains("http") && fs::metadata(dir.join("of_model/metrics.parquet")).unwrap().len() > 1000);
}

#[test]
fn what_is_exported_comes_back_as_it_was_corrected() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    for (name, corner) in [("a", (0, 0)), ("b", (150, 90)), ("c", (80, 40))] {
        write_image(dir, name, corner);
    }
    fs::write(dir.join("groups.csv"), "image,organ,patient\na,liver,p1\nb,liver,p2\nc,lung,p3\n").unwrap();
    let of = ["--model", "hematoxylin", "--images", "images", "--mpp", "0.5"];
    program(dir, &[&["refine", "export", "--groups", "groups.csv", "--count", "2", "-o", "out"], &of[..]].concat());
    let table = fs::read_to_string(dir.join("out/tiles.csv")).unwrap();
    // One of each organ, and no more.
    assert_eq!(table.lines().count(), 3);
    assert!(table.contains(",liver,") && table.contains("c,") && table.contains(",lung,p3"), "{table}");
    let organ = |row: &str| row.split(',').nth(3).unwrap().to_owned();
    let first = table.lines().nth(1).unwrap();
    let name = first.split(',').next().unwrap();

    // Untouched outlines are the model's own: it agrees with itself.
    program(dir, &["refine", "import", "out", "-o", "untouched"]);
    let set = format!("untouched/{}", organ(first));
    let (images, truth) = (format!("{set}/images"), format!("{set}/instances"));
    let judged = ["evaluate", "--model", "hematoxylin", "--mpp", "0.5", "--draws", "0", "-o"];
    program(dir, &[&judged[..], &["before", "--images", &images, "--instances", &truth]].concat());
    let before = metrics(&dir.join("before"));
    assert!((value(&before, "pq") - 1.0).abs() < 1e-3 && value(&before, "aji") == 1.0, "{before}");

    // An expert takes half of the nuclei of one image away.
    fs::create_dir(dir.join("corrected")).unwrap();
    for row in table.lines().skip(1) {
        let file = format!("{}.geojson", row.split(',').next().unwrap());
        let mut outlines: Value =
            serde_json::from_slice(&fs::read(dir.join("out/geojson").join(&file)).unwrap()).unwrap();
        if file.starts_with(name) {
            let features = outlines["features"].as_array_mut().unwrap();
            features.truncate(features.len() / 2);
        }
        fs::write(dir.join("corrected").join(&file), outlines.to_string()).unwrap();
    }
    let said = program(dir, &["refine", "import", "out", "--corrected", "corrected", "-o", "data"]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("2 images with"), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stdout).contains(", 1 changed"), "{said:?}");
    let set = format!("data/{}", organ(first));
    let (images, truth) = (format!("{set}/images"), format!("{set}/instances"));
    let now = ["after", "--before", "before", "--images", &images, "--instances", &truth];
    let told = program(dir, &[&judged[..], &now[..]].concat());
    let after = metrics(&dir.join("after"));
    assert!((value(&after, "detection_recall") - 1.0).abs() < 1e-9);
    assert!((value(&after, "detection_precision") - 0.5).abs() < 0.02, "{after}");
    let change = after["before"]["change"]["mean"].as_f64().unwrap();
    assert!((change - (value(&after, "pq") - value(&before, "pq"))).abs() < 1e-9);
    assert!(String::from_utf8_lossy(&told.stdout).contains("changed by -0."), "{told:?}");
}

#[test]
fn slides_are_cut_into_squares_of_tissue_for_correction() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let pipeline = "slides: { synthetic: { count: 2, width_px: 6000, height_px: 5000 } }\n\
        model: { hematoxylin: {} }\n";
    fs::write(dir.join("p.yaml"), pipeline).unwrap();
    let words =
        ["refine", "export", "--pipeline", "p.yaml", "--tile-px", "256", "--by", "slide", "--count", "3", "-o", "out"];
    program(dir, &words);
    let table = fs::read_to_string(dir.join("out/tiles.csv")).unwrap();
    let slides: Vec<&str> = table.lines().skip(1).map(|row| row.split(',').nth(2).unwrap()).collect();
    assert_eq!(slides.len(), 3, "{table}");
    assert!(slides[0] != slides[1], "{table}");
    for row in table.lines().skip(1) {
        let name = row.split(',').next().unwrap();
        assert!(dir.join("out/images").join(format!("{name}.png")).is_file());
        let outlines = fs::read(dir.join("out/geojson").join(format!("{name}.geojson"))).unwrap();
        let outlines: Value = serde_json::from_slice(&outlines).unwrap();
        assert!(!outlines["features"].as_array().unwrap().is_empty());
    }
    let entropies: Vec<f64> = fs::read_to_string(dir.join("out/entropy.csv"))
        .unwrap()
        .lines()
        .skip(1)
        .map(|row| row.split(',').nth(1).unwrap().parse().unwrap())
        .collect();
    let most = entropies.iter().copied().fold(0.0, f64::max);
    let first: f64 = table.lines().nth(1).unwrap().split(',').nth(1).unwrap().parse().unwrap();
    assert!(entropies.len() > 10 && first == most && most <= 1.0);
}

/// The model of nuclei learns other classes: who is immune and who is not.
#[test]
fn a_short_training_lowers_the_loss_and_beats_hematoxylin_on_patches_kept_back() {
    let Some(nuclei) = test_data("nuclei") else { return };
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let root = nuclei.canonicalize().unwrap();
    let training = format!(
        "data:\n  patch_px: 96\n  classes: {{ immune: {{}}, other: {{}} }}\n  sampling: {{ samples_per_epoch: 60 }}\n  sets:\n    \
         dots:\n      path: {}/brca_m2c\n      layout: brca_m2c\n      labels: {{ \"1\": immune, \"2\": other, \"3\": other }}\n      \
         validation_list: [brca_ds_val.txt]\n      train_list: [brca_ds_train.txt]\n  split: {{ shared_patients: drop }}\n\
         model: {{ start: nuclei, last_layer: replace }}\n\
         train: {{ epochs: 2, batch_size: 4, learning_rate: 0.001, only_prefixes: [features_class, prob_class] }}\noutput: {{ dir: trained }}\n",
        root.display()
    );
    fs::write(dir.join("train.yaml"), training).unwrap();
    let told = program(dir, &["train.yaml", "--log-json"]);
    let events = String::from_utf8_lossy(&told.stderr).into_owned();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let losses: Vec<f64> =
        events.filter(|e| e["event"] == "validated").map(|e| e["validation_loss"].as_f64().unwrap()).collect();
    assert!(losses[1] < losses[0], "{losses:?}");
    let judged = |model: &[&str], out: &str| {
        program(dir, &[&["evaluate", "train.yaml", "--draws", "20", "-o", out], model].concat());
        metrics(&dir.join(out))
    };
    let threshold = "instances.star.prob_threshold=0.4";
    let ours = judged(&["--weights", "trained/weights.safetensors", "--set", threshold], "ours");
    let hematoxylin = judged(&["--model", "hematoxylin"], "hematoxylin");
    let built_in = judged(&["--model", "nuclei"], "nuclei");
    assert!(value(&built_in, "detection_f1") > 0.86, "{built_in}");
    let (f1, other) = (value(&ours, "detection_f1"), value(&hematoxylin, "detection_f1"));
    assert!(f1 > other + 0.01, "{f1} against {other}");
    assert!(value(&ours, "detection_class_f1_mean") > 0.5, "{ours}");
}

#[test]
fn a_training_is_judged_by_the_pictures_it_keeps_back_in_each_sets_own_labels() {
    let Some(nuclei) = test_data("nuclei") else { return };
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let root = nuclei.canonicalize().unwrap();
    let training = format!(
        "data:\n  classes:\n    nucleus: {{}}\n    lymphocyte: {{ kind_of: nucleus }}\n    epithelial: {{ kind_of: nucleus }}\n    \
         stromal: {{ kind_of: nucleus }}\n  sets:\n    dots:\n      path: {root}/brca_m2c\n      layout: brca_m2c\n      \
         labels: {{ \"1\": lymphocyte, \"2\": epithelial, \"3\": stromal }}\n      validation_list: [brca_ds_val.txt]\n      \
         train_list: [brca_ds_train.txt]\n    maps:\n      path: {root}/dsb2018\n      layout: dsb2018\n      class: nucleus\n      \
         mpp: 0.5\n  split: {{ share: 0.2, shared_patients: drop }}\nmodel: {{ name: stardist_unet, input_mpp: 0.5 }}\n",
        root = root.display()
    );
    fs::write(dir.join("train.yaml"), training).unwrap();
    program(dir, &["evaluate", "train.yaml", "--model", "hematoxylin", "--draws", "20", "-o", "out"]);
    let (dots, maps) = (metrics(&dir.join("out/dots")), metrics(&dir.join("out/maps")));
    assert_eq!(dots["images_count"], 10);
    assert!(value(&dots, "detection_f1") > 0.80, "{dots}");
    assert!(value(&maps, "pq") > 0.2 && value(&maps, "aji") > 0.3, "{maps}");
    assert!(maps["images_count"].as_u64().unwrap() >= 5);
}
