//! Every pipeline that is shipped, planned on a slide the program draws; networks with random weights.

use std::path::{Path, PathBuf};
use wsi_run::{
    config::{self, resolve::is_training, settings::ModelChoice, settings::NetworkWeights},
    pipeline::{Setup, find_slides, plan_slide},
};

fn shipped() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut all: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    // Training files are planned by `tests/training.rs`.
    all.retain(|path| !is_training(&std::fs::read_to_string(path).unwrap()));
    all.sort();
    all
}

#[test]
fn every_shipped_pipeline_can_be_planned() {
    for path in shipped() {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let drawn = ["slides.synthetic.count=1", "slides.synthetic.width_px=4000", "slides.synthetic.height_px=3000"];
        let mut overrides: Vec<String> = drawn.map(str::to_owned).into();
        let written = config::load(&path, &[]).unwrap_or_else(|found| panic!("{name}: {}", config::render(&found)));
        if let ModelChoice::Network(network) = &written.settings.model
            && network.weights != NetworkWeights::Nuclei
        {
            assert!(network.name.is_some(), "{name} does not say which network it is for");
            assert!(matches!(network.weights, NetworkWeights::File(_)), "{name} says no weights");
            overrides.push("model.network.weights=random".to_owned());
        }
        let settings =
            config::load(&path, &overrides).unwrap_or_else(|f| panic!("{name}: {}", config::render(&f))).settings;
        let setup = Setup::new(&settings).unwrap_or_else(|e| panic!("{name}: {e}"));
        let slides = find_slides(&settings).unwrap();
        let plan = plan_slide(&slides[0], &setup).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!plan.tiles.tiles.is_empty(), "{name} plans no tile");
        assert!(plan.slide_bytes(&setup) + setup.flow_bytes() > 0);
    }
}

#[test]
fn every_system_of_the_papers_has_a_pipeline() {
    let names: Vec<String> = shipped().iter().map(|p| p.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    for system in ["crescent_seg_net", "crescent_dense_net", "histonext", "clin_seg_net", "light_mu_seg", "stardist"] {
        assert!(names.iter().any(|name| name == system), "no pipelines/{system}.yaml");
    }
}
