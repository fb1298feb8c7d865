//! Whatever the bytes, a table of resolutions gives a slide's resolution, none, or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::{fs, path::PathBuf, sync::OnceLock};
use wsi_run::{
    config::{environment::Environment, resolve::load_text, settings::Slides},
    slides::{EntrySource, SlideEntry, stated_mpp},
};

fn slides() -> &'static (PathBuf, Slides) {
    static SLIDES: OnceLock<(PathBuf, Slides)> = OnceLock::new();
    SLIDES.get_or_init(|| {
        let csv = std::env::temp_dir().join(format!("wsi-run-fuzz-{}.csv", std::process::id()));
        let yaml = format!("slides: {{ dir: a, mpp_csv: {} }}\nmodel: {{ hematoxylin: {{}} }}\n", csv.display());
        let loaded = load_text("fuzz.yaml", &yaml, &[], &Environment { threads: None, cpus: 1 });
        (csv, loaded.expect("the pipeline is right").settings.slides)
    })
}

fuzz_target!(|bytes: &[u8]| {
    let (csv, slides) = slides();
    fs::write(csv, bytes).expect("the directory of temporary files can be written");
    let entry = SlideEntry { id: "a__b".into(), path: "a/b.svs".into(), source: EntrySource::File };
    if let Ok(Some(mpp)) = stated_mpp(&entry, slides) {
        assert!(mpp.x.um_per_px() > 0.0 && mpp.y.um_per_px() > 0.0);
    }
});
