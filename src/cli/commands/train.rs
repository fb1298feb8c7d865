//! `wsi-run train.yaml`: trains, goes on where a training stopped, and plans one.
//!
//! Owns: the verb, its exit codes, what is printed of a plan. Must not know: how a network learns.

use super::pipeline::refuse;
use crate::{
    cli::{
        args::{CommonArgs, PipelineArgs, TrainArgs},
        log, progress, signals,
        style::Style,
    },
    config::{self, Diagnostic, LoadedFile, LoadedTraining},
    error::exit,
    pipeline::{CancelToken, StopReason},
    train::{Files, Outcome, Setup, TrainError, Watch},
};
use std::{
    io::Write,
    time::{Duration, Instant},
};

/// `train`.
pub(super) fn run(args: &TrainArgs, common: &CommonArgs, style: Style) -> u8 {
    let loaded = match config::load_file(&args.training.pipeline, &args.training.over.as_overrides()) {
        Ok(LoadedFile::Training(loaded)) => loaded,
        Ok(LoadedFile::Pipeline(_)) => {
            let message = "this file describes a run over slides, expected a training";
            let hint =
                "a training has `data`, `model` and `train`; `wsi-run config --training` lists its keys".to_owned();
            let name = args.training.pipeline.display().to_string();
            return refuse(&[Diagnostic::of_file(&name, message, Some(hint))], common, style);
        }
        Err(found) => return refuse(&found, common, style),
    };
    execute(&loaded, args.no_progress, common, style)
}

/// Trains and gives the exit code.
pub(super) fn execute(loaded: &LoadedTraining, no_progress: bool, common: &CommonArgs, style: Style) -> u8 {
    let (progress, bars) = progress::of_training(common, no_progress);
    log::start(common, bars);
    let settings = &loaded.settings;
    let threads = rayon::ThreadPoolBuilder::new().num_threads(settings.threads as usize).build();
    let Ok(threads) = threads else {
        return report(&TrainError::new("threads cannot be started"), exit::RUN, common, style);
    };
    let setup = match threads.install(|| Setup::new(settings)) {
        Ok(setup) => setup,
        Err(error) => return report(&error, exit::CONFIG, common, style),
    };
    let files = match Files::new(&settings.output_dir) {
        Ok(files) => files,
        Err(error) => return report(&error, exit::CONFIG, common, style),
    };
    let _lock = match files.lock() {
        Ok(Some(lock)) => lock,
        Ok(None) => {
            let message =
                format!("another training is at work in the output directory: {}", settings.output_dir.display());
            let error = TrainError::new(message).hint("wait for it, or choose another `output.dir`");
            return report(&error, exit::LOCKED, common, style);
        }
        Err(error) => return report(&error, exit::CONFIG, common, style),
    };
    if let Err(error) = files.write_settings(&loaded.resolved_yaml) {
        return report(&error, exit::RUN, common, style);
    }
    let cancel = CancelToken::default();
    signals::listen_training(cancel.clone(), |message| tracing::warn!("{message}"));
    let end = settings.time_limit_secs.map(|secs| Instant::now() + Duration::from_secs(secs));
    let stop = || {
        if end.is_some_and(|end| Instant::now() >= end) {
            cancel.stop(StopReason::Time, false);
        }
        !cancel.admits_slides()
    };
    let watch = Watch { progress: &*progress, stop: &stop, judge: None };
    let result = threads.install(|| setup.train(files.clone(), &watch));
    progress.end();
    match result {
        Ok(Outcome::Finished) => {
            progress.say(&format!("best weights: {}", files.weights().display()));
            exit::OK
        }
        Ok(Outcome::Stopped) => {
            progress.say("stopped; the same command goes on");
            if cancel.reason() == Some(&StopReason::Time) { exit::UNFINISHED } else { exit::INTERRUPTED }
        }
        Err(error) => report(&error, exit::RUN, common, style),
    }
}

/// Prints why a training could not be done and gives the exit code.
fn report(error: &TrainError, code: u8, common: &CommonArgs, style: Style) -> u8 {
    let text = if common.log_json {
        format!("{}\n", serde_json::json!({ "event": "error", "message": error.message, "hint": error.hint }))
    } else {
        let hint = error.hint.as_ref().map_or(String::new(), |h| format!("hint: {h}\n"));
        style.paint(&format!("error: {error}\n{hint}"))
    };
    // Standard error that is closed leaves the exit code.
    let _ = std::io::stderr().write_all(text.as_bytes());
    code
}

/// `plan` of a training file.
pub(super) fn plan(
    loaded: &LoadedTraining,
    args: &PipelineArgs,
    common: &CommonArgs,
    style: Style,
) -> anyhow::Result<u8> {
    let settings = &loaded.settings;
    let described = Setup::new(settings).and_then(|setup| Ok((setup.bytes()?, setup)));
    let (bytes, setup) = match described {
        Ok(described) => described,
        Err(error) => return Ok(report(&error, exit::CONFIG, common, style)),
    };
    let (train, metadata) = (&settings.train, &setup.weights.metadata);
    let mut out = std::io::stdout().lock();
    let classes: Vec<&str> = metadata.classes.iter().map(|c| c.name.as_str()).collect();
    writeln!(
        out,
        "model    {} at {} µm/px, {:.3} M parameters; classes: {}",
        metadata.model,
        metadata.input_mpp.um_per_px(),
        setup.parameters() as f64 / 1e6,
        classes.join(", ")
    )?;
    for line in &setup.data.summary {
        writeln!(out, "data     {line}")?;
    }
    for line in setup.losses_in_words() {
        writeln!(out, "loss     {line}")?;
    }
    let (samples, held) = (setup.data.train.len(), setup.data.validation.len());
    let side = settings.data.patch_px;
    writeln!(out, "samples  {samples} of {side} × {side} px per epoch, {held} to be judged by")?;
    let steps = setup.total_steps();
    writeln!(out, "steps    {steps} in {} epochs, {} samples each", train.epochs, train.batch_size)?;
    writeln!(out, "memory   about {:.1} GB with {} threads", bytes as f64 / 1e9, settings.threads)?;
    let checkpoint = settings.output_dir.join("checkpoint.safetensors");
    let begun = if checkpoint.exists() { "goes on from its checkpoint" } else { "begins anew" };
    writeln!(out, "output   {}: {begun}", settings.output_dir.display())?;
    writeln!(out, "\n`wsi-run {}` trains", args.pipeline.display())?;
    Ok(exit::OK)
}
