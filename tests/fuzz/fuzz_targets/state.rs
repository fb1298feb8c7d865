//! Whatever stands in the files that runs leave for each other, who reads them goes on without them or with them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::{fs, path::PathBuf, sync::OnceLock, time::Duration};
use wsi_run::{
    pipeline,
    run::{Claims, SlideList, StateDir, Taking, Worker},
};

fuzz_target!(|bytes: &[u8]| {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("wsi-run-fuzz-{}.state", std::process::id()));
        for name in ["slides", "claims", "workers"] {
            fs::create_dir_all(dir.join(".state").join(name)).expect("the directory of temporary files can be written");
        }
        dir
    });
    let state = StateDir::new(dir);
    let write = |name: &str| fs::write(state.path(name), bytes).expect("it can be written");
    ["slides/a.json", "list.json", "workers/a.json", "claims/a~0"].map(write);
    fs::write(dir.join("run-1-of-2.json"), bytes).expect("it can be written");
    if let Some(slide) = state.slide("a") {
        assert_eq!(slide.record.id, "a");
        assert!(serde_json::to_vec(&slide).is_ok());
    }
    if let Some(list) = SlideList::read(&state) {
        let _ = list.entries();
    }
    let _ = Worker::all(&state, Duration::from_secs(60));
    let claims = Claims::new(&state, Duration::from_secs(60));
    let _ = claims.all();
    assert!(!matches!(claims.take("a"), Ok(Taking::Mine(ref claim)) if !claim.is_held()));
    let _ = pipeline::merge(dir);
});
