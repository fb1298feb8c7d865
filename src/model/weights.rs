//! Values of a network's tensors: strict reading, writing, and first values.
//!
//! Owns: [`Weights`], [`WeightsError`]. Must not know: networks, how a graph is run.
//!
//! The format is safetensors. A file fits a network exactly or not at all: a tensor that is missing, left over or of
//! another shape is named, and so is one that holds a NaN. Nothing is loaded from a file that cannot prove itself.

mod metadata;
pub(in crate::model) mod random;

pub use metadata::{Normalisation, WeightsMetadata};

use super::graph::{Graph, Init, Parameter, ParameterKind};
use crate::units::Mpp;
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    fs::File,
    io::Read,
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
        Self { metadata, tensors }
    }

    /// The values a network has before training: PyTorch's defaults, drawn from `seed`.
    pub fn random(graph: &Graph, metadata: WeightsMetadata, seed: u64) -> Self {
        Self::from_fn(graph, metadata, |p| match p.init {
            Init::Constant(value) => vec![value as f32; p.len()],
            Init::Normal { deviation } => {
                random::normals(seed, &p.name, p.len()).map(|z| (deviation * z) as f32).collect()
            }
            Init::Uniform { fan_in } => {
                let bound = 1.0 / (fan_in as f32).sqrt();
                random::units(seed, &p.name, p.len()).map(|u| (2.0 * u - 1.0) * bound).collect()
            }
        })
    }

    /// Values that anyone can compute from the tensors' names, and that keep activations from vanishing or growing: for
    /// tests and benchmarks against other runtimes. `fixtures/models/make.py` has the same rule in Python.
    pub fn from_names(graph: &Graph) -> Self {
        let metadata = WeightsMetadata {
            model: graph.name().to_owned(),
            classes: vec![],
            input_mpp: Mpp::new(0.5).expect("0.5 is positive"),
            normalisation: Normalisation::UNIT,
            licence: String::new(),
            training_data: String::new(),
        };
        Self::from_fn(graph, metadata, |p| {
            let units = random::units(0, &p.name, p.len()).map(f64::from);
            let fan_in: usize = p.shape.iter().skip(1).product();
            if p.shape.len() >= 2 {
                let bound = (3.0 / fan_in as f64).sqrt();
                units.map(|u| ((2.0 * u - 1.0) * bound) as f32).collect()
            } else if p.name.ends_with("bias") || p.name.ends_with("running_mean") {
                units.map(|u| (0.2 * (2.0 * u - 1.0)) as f32).collect()
            } else {
                units.map(|u| (0.5 + u) as f32).collect()
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
        parse(&bytes, graph).map_err(fail)
    }

    /// Writes a file that [`Weights::read`] and PyTorch's `safetensors` read.
    ///
    /// # Errors
    /// [`WeightsError`] when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), WeightsError> {
        let fail = |message: String| WeightsError { message, hint: None, path: path.display().to_string() };
        let bytes: BTreeMap<&str, (Vec<u8>, &[usize])> = self
            .tensors
            .iter()
            .map(|(name, t)| (name.as_str(), (t.values.iter().flat_map(|v| v.to_le_bytes()).collect(), &t.shape[..])))
            .collect();
        let mut views = Vec::with_capacity(bytes.len());
        for (name, (data, shape)) in &bytes {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), data).map_err(|e| fail(e.to_string()))?;
            views.push((*name, view));
        }
        let mut map = self.metadata.to_map();
        map.insert("sha256".to_owned(), digest(bytes.iter().map(|(name, (data, _))| (*name, &data[..]))));
        safetensors::serialize_to_file(views, Some(map), path).map_err(|e| fail(e.to_string()))
    }
}

/// A message and a hint.
type Failure = (String, Option<&'static str>);

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

fn parse(bytes: &[u8], graph: &Graph) -> Result<Weights, Failure> {
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
    if metadata.model != graph.name() {
        let message = format!("file is for the model `{}`, expected `{}`", metadata.model, graph.name());
        return Err((message, Some("choose the model the weights were trained for")));
    }
    let parameters = graph.parameters();
    check_tensors(&file, graph.name(), &parameters)?;
    let mut views: Vec<(&str, &[u8])> = Vec::with_capacity(file.len());
    views.extend(file.iter().map(|(name, view)| (name, view.data())));
    views.sort_unstable();
    let (found, expected) = (digest(views.into_iter()), map.get("sha256").map_or("", String::as_str));
    if found != expected {
        return Err((format!("tensors have sha256 `{found}`, expected {expected}"), Some("copy the file again")));
    }
    let mut tensors = BTreeMap::new();
    for parameter in parameters.into_iter().filter(|p| p.kind != ParameterKind::Counter) {
        let view = file.tensor(&parameter.name).map_err(|e| (e.to_string(), None))?;
        let values = floats(&parameter.name, &view)?;
        tensors.insert(parameter.name, WeightTensor { shape: parameter.shape, values });
    }
    Ok(Weights { metadata, tensors })
}

/// Every tensor there, none left over, each of the right shape.
fn check_tensors(file: &SafeTensors<'_>, network: &str, parameters: &[Parameter]) -> Result<(), Failure> {
    let known: HashMap<&str, &Parameter> = parameters.iter().map(|p| (p.name.as_str(), p)).collect();
    let (mut missing, mut misshapen) = (vec![], vec![]);
    for p in parameters {
        match file.tensor(&p.name) {
            Ok(view) if view.shape() != p.shape => {
                misshapen.push(format!("`{}` is `{:?}`, expected `{:?}`", p.name, view.shape(), p.shape));
            }
            Err(_) if p.kind != ParameterKind::Counter => missing.push(format!("`{}` {:?}", p.name, p.shape)),
            _ => {}
        }
    }
    let mut extra: Vec<String> =
        file.iter().filter(|(n, _)| !known.contains_key(n)).map(|(n, v)| format!("`{n}` {:?}", v.shape())).collect();
    extra.sort_unstable();
    let mut message = format!("tensors are not those of `{network}`");
    for (what, names) in [("missing", &missing), ("left over", &extra), ("of another shape", &misshapen)] {
        if let Some(named) = names.get(..names.len().min(NAMED)).filter(|n| !n.is_empty()) {
            let more = if names.len() > NAMED { ", …" } else { "" };
            write!(message, "; {} {what}: {}{more}", names.len(), named.join(", ")).expect("a String takes any text");
        }
    }
    if missing.is_empty() && extra.is_empty() && misshapen.is_empty() { Ok(()) } else { Err((message, CONVERT)) }
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
fn digest<'a>(tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hash = Sha256::new();
    for (name, data) in tensors {
        hash.update(name.as_bytes());
        hash.update(data);
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests;
