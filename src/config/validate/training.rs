//! What no key of a training file can tell alone.
//!
//! Owns: [`validate_training`]. Must not know: how settings were written, files, networks. Pure.

use super::{Problem, problem};
use crate::config::settings::{Optimiser, Schedule, Term, Train, TrainModel, Training};

/// Every combination that cannot work, in the order of the file.
pub fn validate_training(settings: &Training) -> Vec<Problem> {
    let mut problems = Vec::new();
    super::data::data(&settings.data, &mut problems);
    model(&settings.model, &mut problems);
    train(&settings.train, &mut problems);
    losses(&settings.train, &mut problems);
    problems
}

fn model(model: &TrainModel, problems: &mut Vec<Problem>) {
    if model.name.is_none() && model.start.is_none() {
        problems.push(problem(
            &["model.name", "model"],
            "`model` does not say which network learns, expected `name`".to_owned(),
            "for example `model: { name: stardist_unet }`; `wsi-run models` lists them",
        ));
    }
}

fn train(train: &Train, problems: &mut Vec<Problem>) {
    if let Some(freeze) = train.freeze.as_ref().filter(|freeze| freeze.epochs >= train.epochs) {
        problems.push(problem(
            &["train.freeze.epochs", "train.epochs", "train.freeze"],
            format!(
                "`train.freeze.epochs` leaves no epoch in which all learns: found `{}`, expected less than epochs = `{}`",
                freeze.epochs, train.epochs
            ),
            "epochs of the first phase count as epochs: lower `train.freeze.epochs`, or raise `train.epochs`",
        ));
    }
    if let Optimiser::Sgd(sgd) = train.optimiser
        && sgd.nesterov
        && sgd.momentum == 0.0
    {
        problems.push(problem(
            &["train.optimiser.sgd.nesterov", "train.optimiser.sgd.momentum"],
            "`train.optimiser.sgd.nesterov` needs a momentum: found `0`".to_owned(),
            "set `train.optimiser.sgd.momentum`, for example to 0.9",
        ));
    }
    if let Schedule::Cosine { half_period_epochs: Some(half), .. } = train.schedule
        && half > train.epochs
    {
        problems.push(problem(
            &["train.schedule.cosine.half_period_epochs", "train.epochs"],
            format!(
                "`train.schedule.cosine.half_period_epochs` is longer than the training: found `{half}`, expected at \
                 most epochs = `{}`",
                train.epochs
            ),
            "leave it out: it is all epochs",
        ));
    }
}

fn losses(train: &Train, problems: &mut Vec<Problem>) {
    for (output, loss) in &train.losses {
        let path = format!("train.loss.{output}");
        if loss.terms.is_empty() {
            problems.push(Problem {
                paths: vec![path.clone().into()],
                message: format!("`{path}` names no loss"),
                hint: "for example `{ bce: {}, dice: {} }`, or leave the output out for the losses of the paper"
                    .to_owned(),
            });
        }
        for (_, term) in &loss.terms {
            if let Term::Structure { window_px, .. } = term
                && window_px % 2 == 0
            {
                let path = format!("{path}.structure.window_px");
                problems.push(Problem {
                    message: format!("`{path}` has no middle: found `{window_px}`, expected an odd number"),
                    paths: vec![path.into()],
                    hint: "for example 31".to_owned(),
                });
            }
        }
    }
}
