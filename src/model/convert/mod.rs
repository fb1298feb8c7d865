//! Other people's checkpoints made into weights of a network here, exactly or not at all.
//!
//! Owns: [`convert`], [`Conversion`], [`Converted`]. Must not know: formats of files, the insides of networks.
//!
//! Names are mapped by the tables of `forms.rs`; what is then missing, left over or of another shape is an error that names
//! it. Floats become f32; PyTorch's counters of batches are left out.

mod class_sets;
pub(in crate::model) mod forms;
mod rename;

pub use class_sets::{CLASS_SETS, class_set, parse_classes, parse_type_info};
pub use forms::{Form, Outputs, form, is_encoders};

use super::{
    graph::{Graph, Parameter, ParameterKind},
    spec::ClassInfo,
    weights::{
        Checkpoint, CheckpointTensor, Mismatch, Normalisation, Selection, Weights, WeightsError, WeightsMetadata,
    },
};
use crate::units::Mpp;
use rename::renamed;
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

/// A message and a hint.
type Failure = (String, Option<&'static str>);

const ENCODER_ONLY: Option<&str> = Some(
    "name the classes the weights were trained for with `--classes`, or take the encoder alone with `--encoder-only`",
);

/// What a checkpoint is, which it does not say itself.
#[derive(Debug, Clone)]
pub struct Conversion<'a> {
    /// Network, as in [`zoo`](super::zoo).
    pub model: &'a str,
    /// Classes it was trained for, background left out; of no use for an encoder.
    pub classes: Vec<ClassInfo>,
    /// Resolution of the training images; `None` is the network's published one.
    pub input_mpp: Option<Mpp>,
    /// Normalisation of the training images; `None` is that of the authors' code.
    pub normalisation: Option<Normalisation>,
    /// Licence of the weights.
    pub licence: &'a str,
    /// Data they were trained on.
    pub training_data: &'a str,
    /// Take the encoder's tensors and leave the others.
    pub encoder_only: bool,
    /// Which of the checkpoint's tensors.
    pub selection: Selection<'a>,
}

/// Weights, and what was done to get them.
#[derive(Debug, Clone)]
pub struct Converted {
    /// The weights, ready to be written.
    pub weights: Weights,
    /// Tensors taken.
    pub tensors: usize,
    /// Learned values taken.
    pub parameters: usize,
    /// How many tensors have another name now.
    pub renamed: usize,
    /// Names in the checkpoint of tensors that were left out, counters not among them.
    pub left_out: Vec<String>,
}

/// A checkpoint's tensor under its name here.
type Named<'c> = BTreeMap<String, &'c CheckpointTensor>;

/// Reads the checkpoint at `path` as weights of a network.
///
/// # Errors
/// [`WeightsError`]: the file cannot be read (see [`Checkpoint::open`]), its tensors are not exactly the network's, its
/// head does not fit the classes, or a value is not finite.
pub fn convert(path: &Path, conversion: &Conversion<'_>) -> Result<Converted, WeightsError> {
    let fail = |(message, hint)| WeightsError { message, hint, path: path.display().to_string() };
    let form = form(conversion.model).ok_or_else(|| {
        fail((format!("no network is named `{}`", conversion.model), Some("`wsi-run models` lists the networks")))
    })?;
    let metadata = metadata(conversion, &form).map_err(fail)?;
    let checkpoint = Checkpoint::open(path, conversion.selection)?;
    let parts = matched(&checkpoint, conversion, &form).map_err(fail)?;
    let mut converted = Converted {
        weights: Weights::empty(metadata, conversion.encoder_only),
        tensors: 0,
        parameters: 0,
        renamed: 0,
        left_out: parts.left_out,
    };
    for (parameter, tensor) in parts.taken {
        let values = checkpoint.values(tensor)?;
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            let message = format!("`{}` holds `{}` at position {at}, expected finite numbers", tensor.name, values[at]);
            let hint = "the training diverged, or the file is damaged: take an earlier checkpoint";
            return Err(fail((message, Some(hint))));
        }
        converted.tensors += 1;
        converted.parameters += if parameter.kind == ParameterKind::Weight { values.len() } else { 0 };
        converted.renamed += usize::from(tensor.name != parameter.name);
        converted.weights.insert(parameter.name, parameter.shape, values);
    }
    Ok(converted)
}

fn metadata(conversion: &Conversion<'_>, form: &Form) -> Result<WeightsMetadata, Failure> {
    let input_mpp = conversion.input_mpp.or_else(|| form.input_mpp.and_then(Mpp::new)).ok_or_else(|| {
        let message =
            format!("`{}` has no resolution of its own, expected that of the training images", conversion.model);
        (message, Some("give it with `--mpp`, in µm/px"))
    })?;
    if conversion.classes.is_empty() && !conversion.encoder_only {
        let hint = Some("name them in the order of the network's outputs with `--classes`, background left out");
        return Err(("no classes are given, expected those the weights were trained for".to_owned(), hint));
    }
    Ok(WeightsMetadata {
        model: conversion.model.to_owned(),
        classes: if conversion.encoder_only { vec![] } else { conversion.classes.clone() },
        input_mpp,
        normalisation: conversion.normalisation.unwrap_or(form.normalisation),
        licence: conversion.licence.to_owned(),
        training_data: conversion.training_data.to_owned(),
        prob_threshold: None,
        about: None,
    })
}

/// What of a checkpoint becomes what of a network.
struct Matched<'c> {
    taken: Vec<(Parameter, &'c CheckpointTensor)>,
    left_out: Vec<String>,
}

/// Finds every tensor the network wants, and sees to it that none is left over.
fn matched<'c>(checkpoint: &'c Checkpoint, conversion: &Conversion<'_>, form: &Form) -> Result<Matched<'c>, Failure> {
    let is_wanted = |name: &str| !conversion.encoder_only || form.encoder.iter().any(|e| name.starts_with(e));
    let (mut named, mut left_out) = (Named::new(), vec![]);
    for tensor in checkpoint.tensors() {
        match name_here(&tensor.name, conversion.encoder_only, form).filter(|name| is_wanted(name)) {
            None => left_out.push(tensor.name.clone()),
            Some(name) => {
                if let Some(other) = named.insert(name.clone(), tensor) {
                    let message = format!("`{}` and `{}` are both `{name}`", other.name, tensor.name);
                    return Err((message, Some("say which is meant with `--entry` or `--prefix`")));
                }
            }
        }
    }
    let graph = graph_for(&named, conversion, form)?;
    let parameters: Vec<Parameter> = graph.parameters().into_iter().filter(|p| is_wanted(&p.name)).collect();
    let here =
        |(name, what): &'c (String, String)| Some((name_here(name, conversion.encoder_only, form)?, (name, what)));
    let others: HashMap<String, (&String, &String)> = checkpoint.others().iter().filter_map(here).collect();
    if let Some((name, what)) = parameters.iter().find_map(|p| others.get(&p.name)) {
        return Err((format!("`{name}` is no tensor that can be read: it is {what}"), None));
    }
    check(&named, &parameters, graph.name())?;
    let kept = parameters.into_iter().filter(|p| p.kind != ParameterKind::Counter);
    let taken = kept.map(|p| (named[&p.name], p)).map(|(tensor, p)| (p, tensor)).collect();
    Ok(Matched { taken, left_out })
}

/// A tensor's name in the network; `None` when it is known not to belong to it.
fn name_here(name: &str, encoder_only: bool, form: &Form) -> Option<String> {
    let name = renamed(name, form.names)?;
    if encoder_only && !form.encoder.iter().any(|e| name.starts_with(e)) {
        return renamed(&name, form.encoder_names);
    }
    Some(name)
}

/// The network with as many outputs as the checkpoint's head has, if these fit the classes.
fn graph_for(named: &Named<'_>, conversion: &Conversion<'_>, form: &Form) -> Result<Graph, Failure> {
    let classes = conversion.classes.len();
    let head = named.get(form.head).and_then(|tensor| tensor.shape.first().copied());
    if conversion.encoder_only || form.outputs.fit(head, classes) {
        let outputs = if conversion.encoder_only { form.outputs.of(1) } else { head };
        return Ok(form.graph(outputs, named.keys().map(String::as_str)));
    }
    let Some(outputs) = head else {
        // No head at all: what is missing is named by the check of all tensors.
        return Ok(form.graph(form.outputs.of(classes), named.keys().map(String::as_str)));
    };
    let expected = match (form.outputs, classes) {
        (Outputs::Classes, n) => format!("`{n}`, one per class"),
        (Outputs::Semantic, 1) => "`1`, or `2` with the background".to_owned(),
        (_, n) => format!("`{}`, the background and {n} of `--classes`", n + 1),
    };
    Err((format!("`{}` has `{outputs}` outputs, expected {expected}", form.head), ENCODER_ONLY))
}

/// Every tensor there, none left over, each of the right shape.
fn check(named: &Named<'_>, parameters: &[Parameter], network: &str) -> Result<(), Failure> {
    let known: HashMap<&str, &Parameter> = parameters.iter().map(|p| (p.name.as_str(), p)).collect();
    let mut wrong = Mismatch::default();
    for p in parameters {
        match named.get(&p.name) {
            // Whatever its shape, a counter is one number.
            Some(tensor) if p.kind == ParameterKind::Counter && tensor.shape.iter().product::<usize>() == 1 => {}
            Some(tensor) if tensor.shape != p.shape => {
                wrong.misshapen.push(format!("`{}` is `{:?}`, expected `{:?}`", tensor.name, tensor.shape, p.shape));
            }
            None if p.kind != ParameterKind::Counter => wrong.missing.push(format!("`{}` {:?}", p.name, p.shape)),
            _ => {}
        }
    }
    let extra = named.iter().filter(|(name, _)| !known.contains_key(name.as_str()));
    wrong.extra = extra.map(|(_, tensor)| format!("`{}` {:?}", tensor.name, tensor.shape)).collect();
    let hint = if named.is_empty() || wrong.missing.len() * 2 > parameters.len() {
        "this looks like a checkpoint of another network: `wsi-run models` lists the networks"
    } else if wrong.extra.is_empty() && wrong.misshapen.is_empty() {
        "a checkpoint without a head can still be taken with `--encoder-only`"
    } else {
        "choose the network it was trained as with `--model`, its tensors with `--entry` or `--prefix`, or take the encoder \
         alone with `--encoder-only`"
    };
    wrong.into_result(network).map_err(|message| (message, Some(hint)))
}

#[cfg(test)]
mod tests;
