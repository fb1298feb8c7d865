//! From settings to everything a training needs.
//!
//! Owns: [`Setup`], [`Watch`]. Must not know: the terminal.

use super::{
    BatchMaker, Files, Judge, Learner, Outcome, Readers, TrainError, TrainProgress, Trainer,
    data::{self, DataSets},
    loss::Losses,
    optimiser::Optimiser,
    picture::samples_picture,
    sample::Sample,
    start::{Start, first_weights},
    target::{DotRules, Target, TargetPlan},
};
use crate::{
    config::settings::{LossOfOutput, NormalisationName, Term, Training},
    model::{
        CLIN_SEG_NET_ORGANS, ClassInfo,
        convert::{Form, form},
        graph::{Graph, ParameterKind},
        slide_use,
        weights::{Normalisation, Weights, WeightsMetadata},
    },
    units::Mpp,
};
use serde_json::Value;

/// A class' pixels lie within this distance of its dot, µm.
const CLASS_RADIUS_UM: f64 = 3.0;
/// Beyond this distance of every dot is background, µm.
const BACKGROUND_FROM_UM: f64 = 5.0;

/// Rows of the picture of the first samples.
const SAMPLES_SHOWN: usize = 12;

/// Everything a training needs, its data found and its weights drawn.
pub struct Setup<'s> {
    /// What was asked for.
    pub settings: &'s Training,
    /// The network, with the outputs that training needs.
    pub graph: Graph,
    /// Its values before the first step.
    pub weights: Weights,
    /// What it learns from.
    pub data: DataSets,
    /// What its outputs are held to.
    pub losses: Losses,
    targets: TargetPlan,
    frozen: Vec<String>,
}

/// Who watches a training, and how it is stopped.
pub struct Watch<'a> {
    /// Who is told.
    pub progress: &'a dyn TrainProgress,
    /// Whether it is to stop.
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// Who else judges.
    pub judge: Option<&'a dyn Judge>,
}

impl<'s> Setup<'s> {
    /// Finds the data, makes the network and its first weights.
    ///
    /// # Errors
    /// Settings that do not go together, files that cannot be read; nothing was written.
    pub fn new(settings: &'s Training) -> Result<Self, TrainError> {
        let model = &settings.model;
        let start = Start::open(model)?;
        let of_start = start.metadata();
        let name = model.name.as_deref().or(of_start.map(|m| m.model.as_str())).ok_or_else(|| {
            TrainError::new("`model.name` is not said, and a file of an encoder does not tell it all")
                .hint("`wsi-run models` lists the networks")
        })?;
        let form = form(name).ok_or_else(|| {
            TrainError::new(format!("no network is named `{name}`")).hint("`wsi-run models` lists the networks")
        })?;
        let used = slide_use(name).ok_or_else(|| TrainError::new(format!("`{name}` is of no use on slides")))?;
        let tree = data::class_tree(&settings.data)?;
        let classes: Vec<ClassInfo> =
            tree.leaves().iter().map(|&leaf| tree.nodes()[usize::from(leaf)].class.clone()).collect();
        let graph = graph(&form, name, &classes, &start)?;
        let input_mpp =
            model.input_mpp.or(of_start.map(|m| m.input_mpp)).or(form.input_mpp.and_then(Mpp::new)).ok_or_else(
                || {
                    TrainError::new(format!("`{name}` has no resolution of its own: `model.input_mpp` is not said"))
                        .hint("for example `model: { input_mpp: 0.5 }`")
                },
            )?;
        let losses = Losses::new(&graph, &settings.train.losses)?;
        let metadata = WeightsMetadata {
            model: name.to_owned(),
            classes,
            input_mpp,
            normalisation: match model.normalisation {
                Some(NormalisationName::Imagenet) => Normalisation::IMAGENET,
                Some(NormalisationName::Unit) => Normalisation::UNIT,
                None => of_start.map_or(form.normalisation, |m| m.normalisation),
            },
            licence: model.licence.clone(),
            training_data: model.training_data.clone().unwrap_or_else(|| {
                settings.data.sets.iter().map(|set| set.name.as_str()).collect::<Vec<_>>().join(", ")
            }),
            prob_threshold: model.prob_threshold,
            about: model.about.clone(),
        };
        let weights = first_weights(&start, &graph, &form, metadata, model, settings.train.seed)?;
        let organs: &[&str] = if name == "clin_seg_net" { &CLIN_SEG_NET_ORGANS } else { &[] };
        let data = data::build(&settings.data, input_mpp, organs)?;
        let dots = DotRules {
            class_radius_um: CLASS_RADIUS_UM,
            background_from_um: Some(BACKGROUND_FROM_UM),
            ..DotRules::default()
        };
        let targets = TargetPlan::new(&graph, settings.data.patch_px, used.out_stride, data.tree.clone(), dots)?;
        let frozen = frozen(settings, &graph, &form)?;
        Ok(Self { settings, graph, weights, data, losses, targets, frozen })
    }

    /// Trains into the directory of the settings, or goes on there.
    ///
    /// # Errors
    /// Those of [`Trainer::run`].
    pub fn train(&self, files: Files, watch: &Watch<'_>) -> Result<Outcome, TrainError> {
        let train = &self.settings.train;
        let learner =
            Learner::new(&self.graph, &self.weights, self.losses.clone(), train, self.settings.model.batch_norm)?;
        let targets = |sample: &Sample| self.targets.targets(sample);
        if !files.checkpoint().exists() {
            let (samples, tree) = (&*self.data.train, &self.data.tree);
            files.write_samples(&samples_picture(samples, &targets, tree, train.seed, SAMPLES_SHOWN)?)?;
        }
        self.trainer(files, watch, &targets).run(learner)
    }

    /// Steps of all epochs.
    pub fn total_steps(&self) -> u64 {
        let watch = Watch { progress: &(), stop: &|| false, judge: None };
        self.trainer(Files::nowhere(), &watch, &|_| Ok(vec![])).total_steps()
    }

    fn trainer<'a>(
        &'a self,
        files: Files,
        watch: &Watch<'a>,
        targets: &'a (dyn Fn(&Sample) -> Result<Vec<Target>, TrainError> + Sync),
    ) -> Trainer<'a> {
        let (settings, normalisation) = (self.settings, self.weights.metadata.normalisation);
        let train = &settings.train;
        let maker = |samples| BatchMaker { samples, targets, normalisation, seed: train.seed };
        let threads = train.readers.unwrap_or(settings.threads.div_ceil(4)) as usize;
        Trainer {
            train,
            graph: &self.graph,
            metadata: self.weights.metadata.clone(),
            frozen: self.frozen.clone(),
            training: maker(&*self.data.train),
            validation: maker(&*self.data.validation),
            judge: watch.judge,
            readers: Readers { threads, queue_batches: train.queue_batches as usize },
            files,
            fingerprint: fingerprint(settings),
            summary: self.data.summary.clone(),
            progress: watch.progress,
            stop: watch.stop,
        }
    }

    /// Values that learn.
    pub fn parameters(&self) -> usize {
        self.graph.parameter_count()
    }

    /// What each output is held to, in words.
    pub fn losses_in_words(&self) -> Vec<String> {
        self.losses.outputs().iter().map(|(name, loss)| format!("{name}: {}", in_words(loss))).collect()
    }

    /// Bytes it needs, about: activations and their gradients of a batch, values, gradients, what the optimiser
    /// remembers, and batches made ready.
    ///
    /// # Errors
    /// A size of training pictures that the network does not take.
    pub fn bytes(&self) -> Result<u64, TrainError> {
        let (train, side) = (&self.settings.train, self.settings.data.patch_px as usize);
        let shapes = self.graph.shapes(side, side).map_err(|e| TrainError::new(e.to_string()))?;
        let live = self.graph.live();
        let floats: usize = shapes.iter().zip(&live).filter(|(_, live)| **live).map(|(s, _)| s.c * s.h * s.w).sum();
        let batch = u64::from(train.freeze.as_ref().and_then(|f| f.batch_size).unwrap_or(0).max(train.batch_size));
        let kept = 2 + Optimiser::new(train.optimiser).moments() as u64 + u64::from(train.ema.is_some());
        // Activations are kept for the way back; of their gradients only some are there at once.
        let activations = 4 * batch * floats as u64 * 3 / 2;
        let queued = u64::from(train.queue_batches + 2) * batch * (side * side * 4 * 8) as u64;
        Ok(activations + 4 * kept * self.parameters() as u64 + queued + self.settings.data.cache_bytes)
    }
}

fn graph(form: &Form, name: &str, classes: &[ClassInfo], start: &Start) -> Result<Graph, TrainError> {
    let outputs = form.outputs.of(classes.len());
    if !form.outputs.fit(outputs, classes.len()) {
        let message = format!("`{name}` cannot tell `{}` classes", classes.len());
        return Err(TrainError::new(message).hint("it tells one class: the leaf of `data.classes`"));
    }
    Ok(match start {
        // Which version of an encoder it is, its tensors' names say.
        Start::Whole(whole) => {
            let names: Vec<String> = whole.0.parameters().into_iter().map(|p| p.name).collect();
            form.graph(outputs, names.iter().map(String::as_str))
        }
        _ => (form.build)(outputs),
    })
}

/// Prefixes of what does not learn in the first phase.
fn frozen(settings: &Training, graph: &Graph, form: &Form) -> Result<Vec<String>, TrainError> {
    let own = || form.encoder.iter().map(|&prefix| prefix.to_owned()).collect();
    let freeze = settings.train.freeze.as_ref();
    let frozen: Vec<String> = freeze.map_or(vec![], |freeze| freeze.prefixes.clone().unwrap_or_else(own));
    let names: Vec<String> =
        (graph.parameters().into_iter()).filter(|p| p.kind == ParameterKind::Weight).map(|p| p.name).collect();
    let only = settings.train.only_prefixes.iter().flatten();
    let said = frozen.iter().map(|p| ("train.freeze.prefixes", p)).chain(only.map(|p| ("train.only_prefixes", p)));
    for (key, prefix) in said {
        if !names.iter().any(|name| name.starts_with(prefix.as_str())) {
            let example = names.first().map_or("", String::as_str);
            return Err(TrainError::new(format!("`{key}`: no tensor of `{}` starts with `{prefix}`", graph.name()))
                .hint(format!("its first tensor is `{example}`")));
        }
    }
    Ok(frozen)
}

fn in_words(loss: &LossOfOutput) -> String {
    let name = |term: &Term| match serde_json::to_value(term) {
        Ok(Value::String(name)) => name,
        Ok(Value::Object(map)) => map.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    };
    let terms = loss.terms.iter().map(|(weight, term)| format!("{} {}", weight * loss.weight, name(term)));
    terms.collect::<Vec<_>>().join(" + ")
}

/// What must be the same for a training to be gone on with: all but how fast it goes and where.
fn fingerprint(settings: &Training) -> Value {
    let mut value = serde_json::to_value(settings).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        ["output_dir", "threads", "time_limit_secs"].iter().for_each(|key| drop(map.remove(*key)));
    }
    if let Some(map) = value["train"].as_object_mut() {
        ["readers", "queue_batches", "checkpoint_secs"].iter().for_each(|key| drop(map.remove(*key)));
    }
    if let Some(map) = value["model"].as_object_mut() {
        ["licence", "training_data", "prob_threshold", "about"].iter().for_each(|key| drop(map.remove(*key)));
    }
    if let Some(map) = value["data"].as_object_mut() {
        map.remove("cache_bytes");
    }
    value
}
