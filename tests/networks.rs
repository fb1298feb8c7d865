//! Every network on a piece of a real slide, with random weights: it runs, and what it leaves is whole.
//!
//! HistoNeXt Base, Large and XLarge are the code of Tiny with more channels and take minutes; they are left out.

use crate::test_data::test_data;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use wsi_run::{
    config::{self, environment::Environment, resolve::load_text},
    model::zoo::zoo,
    output::verify,
    pipeline::{CancelToken, Part, Request, RunContext, Silent, execute},
};

/// A square somewhere in the section.
fn piece(side_px: u32) -> String {
    let (left, top) = (900, 1200);
    let (right, bottom) = (left + side_px, top + side_px);
    format!(
        r#"{{"type":"Feature","properties":{{}},"geometry":{{"type":"Polygon","coordinates":
        [[[{left},{top}],[{right},{top}],[{right},{bottom}],[{left},{bottom}],[{left},{top}]]]}}}}"#
    )
}

/// Runs the network on a piece of the slide; returns the directory of the results.
fn run(home: &Path, slide: &Path, network: &str, side_px: u32, more: &str) -> PathBuf {
    fs::write(home.join(slide.file_stem().unwrap()).with_extension("geojson"), piece(side_px)).unwrap();
    let out = home.join(network);
    let yaml = format!(
        "slides: {{ list: [{slide:?}] }}\ntissue: {{ geojson_dir: {home:?}, min_area_um2: 0, exclude_pen: false }}\n\
         model: {{ network: {{ name: {network}, weights: random{more} }} }}\nbatch: {{ size: 4 }}\n\
         output: {{ dir: {out:?}, ome_zarr: {{ prob: true }} }}\n"
    );
    let loaded = load_text("networks.yaml", &yaml, &[], &Environment::read());
    let loaded = loaded.unwrap_or_else(|found| panic!("{}", config::render(&found)));
    let request = Request {
        config_path: Path::new("networks.yaml"),
        config_text: &yaml,
        overrides: &[],
        settings: &loaded.settings,
        part: Part::Whole,
    };
    let context = RunContext { cancel: CancelToken::default(), progress: Arc::new(Silent) };
    let (summary, code) = execute(&request, &context).unwrap_or_else(|e| panic!("{network}: {e}"));
    let record = &summary.slides[0].record;
    assert_eq!((code, record.error.as_deref()), (0, None), "{network}");
    assert!(record.tiles_done > 0 && record.tiles_failed == 0, "{network}: {} tiles", record.tiles_done);
    let report = verify(&out).unwrap();
    assert!(report.is_clean(), "{network}: {:?} {:?}", report.run, report.slides);
    out
}

fn rows(out: &Path, table: &str) -> i64 {
    let file = fs::read_dir(out.join(table)).unwrap().next().unwrap().unwrap().path();
    SerializedFileReader::new(fs::File::open(file).unwrap()).unwrap().metadata().file_metadata().num_rows()
}

#[test]
fn every_network_leaves_whole_results_on_a_real_slide() {
    let Some(slide) = test_data("wsi/CMU-1-Small-Region.svs") else { return };
    let home = tempfile::tempdir().unwrap();
    for entry in zoo().iter().filter(|e| !["base", "large", "xlarge"].iter().any(|s| e.name.ends_with(s))) {
        // A tile is classified when a quarter of it is tissue.
        let (table, side_px) = match entry.task {
            "classification" => ("tiles", 120),
            "semantic" => ("lesions", 48),
            _ => ("nuclei", 48),
        };
        let out = run(home.path(), &slide, entry.name, side_px, "");
        let found = rows(&out, table);
        assert!(table != "tiles" || found > 0, "{}: {found} rows", entry.name);
    }
}

#[test]
fn all_eight_views_and_half_precision_run_too() {
    let Some(slide) = test_data("wsi/CMU-1-Small-Region.svs") else { return };
    let home = tempfile::tempdir().unwrap();
    run(home.path(), &slide, "stardist_unet", 48, ", views: all");
    run(home.path(), &slide, "light_mu_seg", 48, ", views: flips, precision: bf16");
    run(home.path(), &slide, "clin_seg_net", 48, ", organ: bladder");
}
