//! What a network's values are before its first step.
//!
//! Owns: [`Start`], [`first_weights`]. Must not know: how a network learns.
//! Source of the values of He 2015: normal with the deviation `√(2 / fan-in)`, biases 0.

use super::{TrainError, rng::Rng};
use crate::{
    config::settings::{FirstValues, LastLayer, StartPart, TrainModel},
    model::{
        ClassInfo, Head,
        convert::{Form, is_encoders},
        graph::{Graph, Init, NodeId, Parameter},
        weights::{Weights, WeightsError, WeightsMetadata},
    },
};
use std::path::Path;

/// What a training starts from.
pub enum Start {
    /// Numbers drawn at random.
    Nothing,
    /// Weights of the whole network.
    Whole(Box<(Graph, Weights)>),
    /// A file of its encoder, or one of which only the encoder is taken.
    Encoder,
}

/// The values taken of a file for a tensor, if any.
type Taken<'a> = dyn Fn(&Parameter) -> Option<Vec<f32>> + 'a;

fn unusable(e: WeightsError) -> TrainError {
    let hint = e.hint;
    let error = TrainError::new(e.to_string());
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

impl Start {
    /// What the settings say.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn open(model: &TrainModel) -> Result<Self, TrainError> {
        let Some(path) = &model.start else { return Ok(Self::Nothing) };
        if path.as_os_str() == "nuclei" {
            return Ok(Self::Whole(Box::new(Weights::nuclei())));
        }
        if model.start_part == StartPart::Encoder {
            return Ok(Self::Encoder);
        }
        match Weights::open(path) {
            Ok(opened) => Ok(Self::Whole(Box::new(opened))),
            Err(e) if e.message.starts_with("file holds the encoder") => Ok(Self::Encoder),
            Err(e) => Err(unusable(e)),
        }
    }

    /// What the file says of its network.
    pub fn metadata(&self) -> Option<&WeightsMetadata> {
        match self {
            Self::Whole(whole) => Some(&whole.1.metadata),
            _ => None,
        }
    }
}

/// The values of `graph` before its first step.
///
/// # Errors
/// A file of another network; one whose classes are others, while its last layer is to be kept.
pub fn first_weights(
    start: &Start,
    graph: &Graph,
    form: &Form,
    metadata: WeightsMetadata,
    model: &TrainModel,
    seed: u64,
) -> Result<Weights, TrainError> {
    let random = match model.first_values {
        FirstValues::Pytorch => Weights::random(graph, metadata.clone(), seed),
        FirstValues::He => he(graph, metadata.clone(), seed),
    };
    let last = form.head.strip_suffix("weight").unwrap_or(form.head);
    let kept: Box<Taken<'_>> = match (start, &model.start) {
        (Start::Encoder, Some(path)) => {
            let encoder = encoder(path, graph, &metadata.classes, seed)?;
            let name = graph.name();
            Box::new(move |p| encoder.get(&p.name).filter(|_| is_encoders(name, &p.name)).map(|t| t.values.clone()))
        }
        (Start::Whole(whole), _) => {
            let (of, weights) = &**whole;
            if of.name() != graph.name() {
                let message = format!("`model.start` is for `{}`, `model.name` is `{}`", of.name(), graph.name());
                return Err(TrainError::new(message).hint("start from weights of the same network"));
            }
            let is_replaced = model.last_layer == LastLayer::Replace;
            if !is_replaced {
                same_classes(&weights.metadata.classes, &metadata.classes)?;
            }
            Box::new(move |p| {
                let taken = weights.get(&p.name).filter(|_| !(is_replaced && p.name.starts_with(last)));
                taken.filter(|t| t.shape == p.shape).map(|t| t.values.clone())
            })
        }
        _ => Box::new(|_| None),
    };
    Ok(Weights::from_fn(graph, metadata, |p| {
        kept(p).unwrap_or_else(|| random.get(&p.name).expect("every tensor was drawn").values.clone())
    }))
}

fn encoder(path: &Path, graph: &Graph, classes: &[ClassInfo], seed: u64) -> Result<Weights, TrainError> {
    Weights::read_encoder(path, graph, classes.to_vec(), seed).map_err(unusable)
}

fn same_classes(of_start: &[ClassInfo], wanted: &[ClassInfo]) -> Result<(), TrainError> {
    let names = |classes: &[ClassInfo]| classes.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    let (a, b) = (names(of_start), names(wanted));
    if a == b {
        return Ok(());
    }
    let message =
        format!("`model.start` tells the classes `{}`, the training has `{}`", a.join("`, `"), b.join("`, `"));
    Err(TrainError::new(message).hint("set `model.last_layer: replace`: the layer that tells classes starts anew"))
}

/// He's values; the layers that give the outputs are ten times smaller, so that no answer is certain at first. A nucleus
/// is less likely than background (a bias of −1.5), and its edge some px away (6).
fn he(graph: &Graph, metadata: WeightsMetadata, seed: u64) -> Weights {
    let plain = Weights::random(graph, metadata.clone(), seed);
    let logits = graph.clone().with_logits();
    let outputs: Vec<(&str, Head)> = logits.outputs().iter().map(|o| (name_of(&logits, o.node), o.head)).collect();
    Weights::from_fn(graph, metadata, |p| {
        let node = p.name.rsplit_once('.').map_or("", |(node, _)| node);
        let output = outputs.iter().find(|(name, _)| !name.is_empty() && *name == node).map(|(_, head)| *head);
        match p.init {
            Init::Uniform { .. } if p.shape.len() > 1 => {
                let fan_in: usize = p.shape[1..].iter().product();
                let gain = if output.is_some() { 0.1 } else { 2.0_f64.sqrt() };
                let deviation = gain / (fan_in as f64).sqrt();
                let key = p
                    .name
                    .bytes()
                    .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
                let mut rng = Rng::new(&[seed, key]);
                (0..p.len()).map(|_| (rng.normal() * deviation) as f32).collect()
            }
            Init::Uniform { .. } => match output {
                Some(Head::NuclearPixel) if p.len() == 1 => vec![-1.5],
                Some(Head::StarDistance) => vec![6.0; p.len()],
                _ => vec![0.0; p.len()],
            },
            _ => plain.get(&p.name).expect("every tensor was drawn").values.clone(),
        }
    })
}

fn name_of(graph: &Graph, node: NodeId) -> &str {
    &graph.nodes()[node.index()].name
}
