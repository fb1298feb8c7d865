//! Every test that needs no process of its own: one program, so that the crate and what it uses is linked once.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; one that cannot begin says so"
)]

mod architecture;
mod batch;
mod cli;
mod config;
mod config_errors;
mod cuda;
mod cuda_canvas;
mod end_to_end;
mod evaluate;
mod evaluate_run;
mod faults;
mod infer;
mod lesions;
mod losses;
mod measure;
mod networks;
mod np_hv;
mod np_hv_run;
mod nuclei;
mod optimisers;
mod output;
mod parsers;
mod pipelines;
mod readers;
mod report;
mod shards;
mod slides;
mod slurm;
mod stain;
mod tissue;
mod train_data;
mod train_targets;
mod training;
mod untrusted;
mod vendors;

// What they share.
mod cases;
mod cuts;
mod emulation;
mod every_network;
mod program;
mod scene;
mod test_data;

/// Cargo looks for no tests by itself: one that is named nowhere would never run.
#[test]
fn every_file_of_tests_is_named() {
    let (here, manifest) = (include_str!("all.rs"), include_str!("../Cargo.toml"));
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_named =
            here.contains(&format!("\nmod {name};\n")) || manifest.contains(&format!("[[test]]\nname = \"{name}\"\n"));
        assert!(is_named || path.extension().is_none_or(|e| e != "rs"), "{}", path.display());
    }
}
