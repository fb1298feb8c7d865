//! Progress of a training: a bar on a terminal, plain lines elsewhere, JSON for machines.
//!
//! Owns: [`TrainingProgress`]. Must not know: how a network learns.

use super::clock;
use crate::{
    cli::args::CommonArgs,
    train::{TrainEvent, TrainProgress},
};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::{
    io::{IsTerminal, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often steps are mentioned where there is no bar.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// How often steps are mentioned in JSON.
const JSON_INTERVAL: Duration = Duration::from_secs(1);

/// How a training is shown.
pub struct TrainingProgress {
    form: Form,
    said: Mutex<Option<Instant>>,
}

enum Form {
    Quiet,
    Json,
    Lines,
    Bar { multi: MultiProgress, bar: ProgressBar },
}

/// The progress that fits the options and the terminal.
///
/// The bars, where there are any, must be known to [`crate::cli::log::start`].
pub fn of_training(common: &CommonArgs, no_progress: bool) -> (Box<TrainingProgress>, Option<MultiProgress>) {
    let form = if common.log_json {
        Form::Json
    } else if common.quiet {
        Form::Quiet
    } else if no_progress || !std::io::stderr().is_terminal() {
        Form::Lines
    } else {
        let multi = MultiProgress::new();
        let style = ProgressStyle::with_template("[{bar:30.green/dim}] {pos}/{len} steps  {msg}")
            .expect("the template is tested")
            .progress_chars("━╸─");
        let bar = multi.add(ProgressBar::no_length().with_style(style));
        Form::Bar { multi, bar }
    };
    let multi = if let Form::Bar { multi, .. } = &form { Some(multi.clone()) } else { None };
    (Box::new(TrainingProgress { form, said: Mutex::new(None) }), multi)
}

impl TrainingProgress {
    /// Says a line, unless all is quiet or for machines.
    pub fn say(&self, line: &str) {
        match &self.form {
            Form::Quiet | Form::Json => {}
            Form::Lines => self.print(line),
            // Nobody sees it: that is no reason to stop.
            Form::Bar { multi, .. } => drop(multi.println(line)),
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Form::Bar { bar, .. } = &self.form {
            bar.finish_and_clear();
        }
    }

    fn print(&self, line: &str) {
        // Standard error that is closed is no reason to stop.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }

    fn is_time(&self, interval: Duration) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_time = said.is_none_or(|said| now.duration_since(said) >= interval);
        if is_time {
            *said = Some(now);
        }
        is_time
    }
}

impl TrainProgress for TrainingProgress {
    fn tell(&self, event: &TrainEvent) {
        let is_step = matches!(event, TrainEvent::Stepped { .. });
        match &self.form {
            Form::Quiet => {}
            Form::Json => {
                if !is_step || self.is_time(JSON_INTERVAL) {
                    self.print(&as_json(event).to_string());
                }
            }
            Form::Lines => {
                if !is_step || self.is_time(LINE_INTERVAL) {
                    in_words(event).iter().for_each(|line| self.print(line));
                }
            }
            Form::Bar { bar, .. } => match event {
                TrainEvent::Stepped { step, steps, epoch, loss, secs_left, .. } => {
                    bar.set_length(*steps);
                    bar.set_position(*step);
                    bar.set_message(format!("epoch {epoch}  loss {loss:.4}  {} left", clock(*secs_left)));
                }
                other => in_words(other).iter().for_each(|line| self.say(line)),
            },
        }
    }
}

/// An event in lines.
fn in_words(event: &TrainEvent) -> Vec<String> {
    match event {
        TrainEvent::Begun { step, steps, epochs, summary } => {
            let begins = match step {
                0 => format!("{steps} steps in {epochs} epochs"),
                step => format!("goes on after step {step} of {steps}"),
            };
            summary.iter().cloned().chain([begins]).collect()
        }
        TrainEvent::Stepped { step, steps, epoch, loss, learning_rate, secs_per_step, secs_left } => {
            vec![format!(
                "step {step}/{steps}  epoch {epoch}  loss {loss:.4}  learning rate {learning_rate:.3e}  {secs_per_step:.2} s/step  {} left",
                clock(*secs_left)
            )]
        }
        TrainEvent::Validated { epoch, epochs, training_loss, validation_loss, metrics, is_best } => {
            let metrics: String =
                metrics.iter().filter(|m| !m.1.is_nan()).map(|(name, value)| format!("  {name} {value:.4}")).collect();
            let validated =
                if validation_loss.is_nan() { String::new() } else { format!("  validation {validation_loss:.4}") };
            let best = if *is_best { "  best so far" } else { "" };
            vec![format!("epoch {epoch}/{epochs}  training {training_loss:.4}{validated}{metrics}{best}")]
        }
        TrainEvent::Kept { .. } => vec![],
    }
}

/// A number that JSON may lack.
fn number(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { Value::Null }
}

fn as_json(event: &TrainEvent) -> Value {
    match event {
        TrainEvent::Begun { step, steps, epochs, summary } => {
            json!({ "event": "training_started", "step": step, "steps": steps, "epochs": epochs, "data": summary })
        }
        TrainEvent::Stepped { step, steps, epoch, loss, learning_rate, secs_per_step, secs_left } => json!({
            "event": "step",
            "step": step,
            "steps": steps,
            "epoch": epoch,
            "loss": number(*loss),
            "learning_rate": learning_rate,
            "secs_per_step": secs_per_step,
            "secs_left": number(*secs_left),
        }),
        TrainEvent::Validated { epoch, epochs, training_loss, validation_loss, metrics, is_best } => {
            let metrics: serde_json::Map<String, Value> =
                metrics.iter().map(|(name, value)| (name.clone(), number(*value))).collect();
            json!({
                "event": "validated",
                "epoch": epoch,
                "epochs": epochs,
                "training_loss": number(*training_loss),
                "validation_loss": number(*validation_loss),
                "metrics": metrics,
                "is_best": is_best,
            })
        }
        TrainEvent::Kept { step } => json!({ "event": "checkpoint", "step": step }),
    }
}
