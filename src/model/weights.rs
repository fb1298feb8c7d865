//! Values of a network's tensors: strict reading, writing, and first values.
//!
//! Owns: [`Weights`], [`WeightsError`]. Must not know: networks, how a graph is run.
//!
//! The format is safetensors. A file fits a network exactly or not at all: a tensor that is missing, left over or of
//! another shape is named, and so is one that holds a NaN. Nothing is loaded from a file that cannot prove itself.

mod checkpoint;
mod metadata;
pub(in crate::model) mod random;

pub use checkpoint::{Checkpoint, CheckpointTensor, Element, Selection};
pub use metadata::{Normalisation, WeightsMetadata};

use super::{
    convert::forms,
    graph::{Graph, Init, Parameter, ParameterKind},
};
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fmt::Write as _,
    fs::File,
    io::{BufWriter, Read, Write as _},
    path::Path,
};

/// Longest header accepted: a network of 100,000 tensors needs a tenth of it.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Tensors named in one message.
const NAMED: usize = 5;

/// Why weights cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("weights: {message}: {path}")]
pub struct WeightsError {
    /// What failed, found, expected.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<&'static str>,
    /// The file.
    pub path: String,
}

/// One tensor's values.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightTensor {
    /// Shape.
    pub shape: Vec<usize>,
    /// Values in row-major order.
    pub values: Vec<f32>,
}

/// The values of a network's weights and buffers.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// What they are.
    pub metadata: WeightsMetadata,
    tensors: BTreeMap<String, WeightTensor>,
    part: Part,
}

/// How much of a network a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    /// To start training from.
    Encoder,
}

impl Weights {
    /// Values by a rule: `values` gives each tensor's, in row-major order.
    ///
    /// # Panics
    /// If `values` gives another number than the parameter's `len`.
    pub fn from_fn(graph: &Graph, metadata: WeightsMetadata, mut values: impl FnMut(&Parameter) -> Vec<f32>) -> Self {
        let mut tensors = BTreeMap::new();
        for parameter in graph.parameters().into_iter().filter(|p| p.kind != ParameterKind::Counter) {
            let values = values(&parameter);
            assert_eq!(values.len(), parameter.len(), "values of `{}`", parameter.name);
            tensors.insert(parameter.name, WeightTensor { shape: parameter.shape, values });
        }
        Self { metadata, tensors, part: Part::Whole }
    }

    /// No values yet, for a whole network or its encoder alone: the caller sees to it that they become complete.
    pub(super) fn empty(metadata: WeightsMetadata, is_encoder: bool) -> Self {
        Self { metadata, tensors: BTreeMap::new(), part: if is_encoder { Part::Encoder } else { Part::Whole } }
    }

    /// Adds a tensor.
    pub(super) fn insert(&mut self, name: String, shape: Vec<usize>, values: Vec<f32>) {
        self.tensors.insert(name, WeightTensor { shape, values });
    }

    /// The values a network has before training: PyTorch's defaults, drawn from `seed`.
    pub fn random(graph: &Graph, metadata: WeightsMetadata, seed: u64) -> Self {
        Self::from_fn(graph, metadata, |p| match p.init {
            Init::Constant(value) => vec![value as f32; p.len()],
            Init::Uniform { fan_in } => {
                let bound = 1.0 / (fan_in as f32).sqrt();
                random::units(seed, &p.name, p.len()).map(|u| (2.0 * u - 1.0) * bound).collect()
            }
        })
    }

    /// A tensor by its name in a checkpoint.
    pub fn get(&self, name: &str) -> Option<&WeightTensor> {
        self.tensors.get(name)
    }

    /// Reads a file made for `graph`.
    ///
    /// # Errors
    /// [`WeightsError`]: the file is no safetensors file, cut off or altered, made for another network, or its tensors
    /// are not exactly the network's.
    pub fn read(path: &Path, graph: &Graph) -> Result<Self, WeightsError> {
        let fail = |(message, hint)| WeightsError { message, hint, path: path.display().to_string() };
        let bytes = read_checked(path).map_err(fail)?;
        let file = Opened::new(&bytes).map_err(fail)?;
        file.whole(graph).map_err(fail)
    }

    /// Reads a file of any network there is, and makes the network with as many outputs as the file's classes.
    ///
    /// # Errors
    /// Those of [`Weights::read`]; no network has the name the file says.
    pub fn open(path: &Path) -> Result<(Graph, Self), WeightsError> {
        let fail = |(message, hint)| WeightsError { message, hint, path: path.display().to_string() };
        let bytes = read_checked(path).map_err(fail)?;
        let file = Opened::new(&bytes).map_err(fail)?;
        let graph = file.graph().map_err(fail)?;
        let weights = file.whole(&graph).map_err(fail)?;
        Ok((graph, weights))
    }

    /// The encoder of a file made for the same network, whole or of the encoder alone; every other tensor as before
    /// training, drawn from `seed`. `classes` are those to be trained for.
    ///
    /// # Errors
    /// Those of [`Weights::read`], of the encoder's tensors; the network has none that could be told apart.
    pub fn read_encoder(
        path: &Path,
        graph: &Graph,
        classes: Vec<super::spec::ClassInfo>,
        seed: u64,
    ) -> Result<Self, WeightsError> {
        let fail = |(message, hint)| WeightsError { message, hint, path: path.display().to_string() };
        let bytes = read_checked(path).map_err(fail)?;
        let mut read = Opened::new(&bytes).and_then(|file| file.encoder(graph)).map_err(fail)?;
        read.metadata.classes = classes;
        let mut weights = Self::random(graph, read.metadata, seed);
        weights.tensors.append(&mut read.tensors);
        Ok(weights)
    }

    /// Writes a file that [`Weights::read`] and PyTorch's `safetensors` read: aside, then renamed into place.
    ///
    /// # Errors
    /// [`WeightsError`] when the file cannot be written; what was there before is still there then.
    pub fn write(&self, path: &Path) -> Result<(), WeightsError> {
        let fail = |e: &dyn std::fmt::Display| WeightsError {
            message: format!("cannot be written: {e}"),
            hint: None,
            path: path.display().to_string(),
        };
        let name = path.file_name().ok_or_else(|| fail(&"the name of a file is missing"))?;
        let mut aside = OsString::from(".");
        aside.push(name);
        aside.push(format!(".partial-{}", std::process::id()));
        let aside = path.with_file_name(aside);
        let written = self.write_at(&aside).and_then(|()| std::fs::rename(&aside, path));
        written.map_err(|e| {
            // It may not be there; the error above is the one to tell.
            let _ = std::fs::remove_file(&aside);
            fail(&e)
        })
    }

    /// The same bytes for the same weights: the crate would write the metadata in another order each time, and make files
    /// that only their owner may read.
    fn write_at(&self, path: &Path) -> std::io::Result<()> {
        let mut metadata: BTreeMap<String, String> = self.metadata.to_map().into_iter().collect();
        if self.part == Part::Encoder {
            metadata.insert(PART.to_owned(), ENCODER.to_owned());
        }
        metadata.insert("sha256".to_owned(), self.sha256());
        let (mut header, mut at) = (serde_json::Map::new(), 0);
        header.insert("__metadata__".to_owned(), json!(metadata));
        for (name, tensor) in &self.tensors {
            let end = at + 4 * tensor.values.len();
            let about = json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [at, end] });
            header.insert(name.clone(), about);
            at = end;
        }
        let mut header = serde_json::to_vec(&header)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for tensor in self.tensors.values() {
            file.write_all(&tensor.bytes())?;
        }
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    }

    /// sha256 of names and values, as the file's metadata says it.
    pub fn sha256(&self) -> String {
        digest(self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.bytes())))
    }
}

impl WeightTensor {
    /// One tensor's at a time: no file is in memory twice.
    fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }
}

/// A message and a hint.
type Failure = (String, Option<&'static str>);

/// Metadata key of a file that does not hold the whole network, and its one value.
const PART: &str = "part";
const ENCODER: &str = "encoder";

const CONVERT: Option<&str> = Some("make the file with `wsi-run convert`");

/// The whole file, once its first bytes make sense: a hostile length must not be allocated.
fn read_checked(path: &Path) -> Result<Vec<u8>, Failure> {
    let io = |e: std::io::Error| (format!("cannot be read: {e}"), None);
    let mut file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    if size < 8 {
        return Err((format!("file is cut off: `{size}` bytes, expected at least 8"), None));
    }
    let mut first = [0; 8];
    file.read_exact(&mut first).map_err(io)?;
    let header = u64::from_le_bytes(first);
    if first.starts_with(b"PK\x03\x04") || first.starts_with(&[0x80]) && header > MAX_HEADER_BYTES {
        return Err(("file is a PyTorch pickle, expected safetensors".to_owned(), CONVERT));
    }
    if header > MAX_HEADER_BYTES {
        return Err((format!("header claims `{header}` bytes, expected at most {MAX_HEADER_BYTES}"), None));
    }
    if header > size - 8 {
        return Err((format!("file is cut off: header claims `{header}` bytes, file has `{}` more", size - 8), None));
    }
    let mut bytes = first.to_vec();
    file.read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// A file whose header, metadata and digest are in order.
struct Opened<'b> {
    file: SafeTensors<'b>,
    metadata: WeightsMetadata,
    part: Part,
}

impl<'b> Opened<'b> {
    fn new(bytes: &'b [u8]) -> Result<Self, Failure> {
        let (_, info) = SafeTensors::read_metadata(bytes).map_err(|e| match e {
            SafeTensorError::MetadataIncompleteBuffer => {
                ("file is cut off or has a tail: its size is not that of the tensors in its header".to_owned(), None)
            }
            e => (format!("header cannot be read: {e}"), None),
        })?;
        let file = SafeTensors::deserialize(bytes).map_err(|e| (format!("tensors cannot be read: {e}"), None))?;
        let no_map = HashMap::new();
        let map = info.metadata().as_ref().unwrap_or(&no_map);
        let metadata = WeightsMetadata::from_map(map).map_err(|m| (m, CONVERT))?;
        let part = match map.get(PART).map(String::as_str) {
            None => Part::Whole,
            Some(ENCODER) => Part::Encoder,
            Some(other) => return Err((format!("metadata `{PART}` is `{other}`, expected `{ENCODER}`"), CONVERT)),
        };
        let sha256 = map.get("sha256").cloned().unwrap_or_default();
        Ok(Self { file, metadata, part }).and_then(|opened: Self| opened.with_digest(&sha256))
    }

    fn with_digest(self, expected: &str) -> Result<Self, Failure> {
        let mut views: Vec<(&str, &[u8])> = Vec::with_capacity(self.file.len());
        views.extend(self.file.iter().map(|(name, view)| (name, view.data())));
        views.sort_unstable();
        let found = digest(views.into_iter());
        if found != expected {
            return Err((format!("tensors have sha256 `{found}`, expected {expected}"), Some("copy the file again")));
        }
        Ok(self)
    }

    /// The network the file says it is for.
    fn graph(&self) -> Result<Graph, Failure> {
        let model = &self.metadata.model;
        let form = forms::form(model)
            .ok_or_else(|| (format!("file is for the model `{model}`, which is none of the networks"), CONVERT))?;
        let outputs = self.file.tensor(form.head).ok().and_then(|view| view.shape().first().copied());
        let classes = self.metadata.classes.len();
        if self.part == Part::Whole && !form.outputs.fit(outputs, classes) {
            let outputs = outputs.map_or("none".to_owned(), |n| n.to_string());
            return Err((format!("`{}` has `{outputs}` outputs for {classes} classes", form.head), CONVERT));
        }
        Ok((form.build)(outputs))
    }

    fn check_model(&self, graph: &Graph) -> Result<(), Failure> {
        if self.metadata.model == graph.name() {
            return Ok(());
        }
        let message = format!("file is for the model `{}`, expected `{}`", self.metadata.model, graph.name());
        Err((message, Some("choose the model the weights were trained for")))
    }

    fn whole(self, graph: &Graph) -> Result<Weights, Failure> {
        self.check_model(graph)?;
        if self.part == Part::Encoder {
            let message = format!("file holds the encoder of `{}` alone, expected the whole network", graph.name());
            return Err((
                message,
                Some("start a training from it, or convert the checkpoint without `--encoder-only`"),
            ));
        }
        let parameters = graph.parameters();
        check_tensors(&self.file, |_| true, graph.name(), &parameters)?;
        self.values(parameters)
    }

    fn encoder(self, graph: &Graph) -> Result<Weights, Failure> {
        self.check_model(graph)?;
        let is_encoders = |name: &str| forms::is_encoders(graph.name(), name);
        let parameters: Vec<Parameter> = graph.parameters().into_iter().filter(|p| is_encoders(&p.name)).collect();
        if parameters.is_empty() {
            return Err((format!("`{}` has no encoder that could be told from the rest", graph.name()), None));
        }
        check_tensors(&self.file, is_encoders, graph.name(), &parameters)?;
        self.values(parameters)
    }

    fn values(self, parameters: Vec<Parameter>) -> Result<Weights, Failure> {
        let mut tensors = BTreeMap::new();
        for parameter in parameters.into_iter().filter(|p| p.kind != ParameterKind::Counter) {
            let view = self.file.tensor(&parameter.name).map_err(|e| (e.to_string(), None))?;
            let values = floats(&parameter.name, &view)?;
            tensors.insert(parameter.name, WeightTensor { shape: parameter.shape, values });
        }
        Ok(Weights { metadata: self.metadata, tensors, part: self.part })
    }
}

/// Every tensor there, none of those that `is_read` left over, each of the right shape.
fn check_tensors(
    file: &SafeTensors<'_>,
    is_read: impl Fn(&str) -> bool,
    network: &str,
    parameters: &[Parameter],
) -> Result<(), Failure> {
    let known: HashMap<&str, &Parameter> = parameters.iter().map(|p| (p.name.as_str(), p)).collect();
    let mut wrong = Mismatch::default();
    for p in parameters {
        match file.tensor(&p.name) {
            Ok(view) if view.shape() != p.shape => {
                wrong.misshapen.push(format!("`{}` is `{:?}`, expected `{:?}`", p.name, view.shape(), p.shape));
            }
            Err(_) if p.kind != ParameterKind::Counter => wrong.missing.push(format!("`{}` {:?}", p.name, p.shape)),
            _ => {}
        }
    }
    let extra = file.iter().filter(|(n, _)| is_read(n) && !known.contains_key(n));
    wrong.extra = extra.map(|(n, v)| format!("`{n}` {:?}", v.shape())).collect();
    wrong.into_result(network).map_err(|message| (message, CONVERT))
}

/// How tensors differ from a network's; a handful of each kind is named.
#[derive(Debug, Default)]
pub(super) struct Mismatch {
    pub(super) missing: Vec<String>,
    pub(super) extra: Vec<String>,
    pub(super) misshapen: Vec<String>,
}

impl Mismatch {
    pub(super) fn into_result(mut self, network: &str) -> Result<(), String> {
        self.extra.sort_unstable();
        let mut message = format!("tensors are not those of `{network}`");
        let kinds = [("missing", &self.missing), ("left over", &self.extra), ("of another shape", &self.misshapen)];
        for (what, names) in kinds {
            if let Some(named) = names.get(..names.len().min(NAMED)).filter(|n| !n.is_empty()) {
                let more = if names.len() > NAMED { ", …" } else { "" };
                write!(message, "; {} {what}: {}{more}", names.len(), named.join(", "))
                    .expect("a String takes any text");
            }
        }
        if kinds.iter().all(|(_, names)| names.is_empty()) { Ok(()) } else { Err(message) }
    }
}

/// The tensor's values, all finite.
fn floats(name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, Failure> {
    let data = view.data();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Dtype::F64 => data.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
        other => return Err((format!("`{name}` is of type `{other:?}`, expected F32 or F64"), CONVERT)),
    };
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) => Err((format!("`{name}` holds `{}` at position {at}, expected finite numbers", values[at]), None)),
        None => Ok(values),
    }
}

/// sha256 of the tensors' names and bytes, given in the order of names.
fn digest<'a, B: AsRef<[u8]>>(tensors: impl Iterator<Item = (&'a str, B)>) -> String {
    let mut hash = Sha256::new();
    for (name, data) in tensors {
        hash.update(name.as_bytes());
        hash.update(data.as_ref());
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests;
