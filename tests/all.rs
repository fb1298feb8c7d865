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
