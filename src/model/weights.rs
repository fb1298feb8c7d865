//! Values of a network's tensors: strict reading, writing, and first values.
//!
//! Owns: [`Weights`], [`WeightsError`]. Must not know: networks, how a graph is run.
//!
//! The format is safetensors. A file fits a network exactly or not at all: a tensor that is missing, left over or of
//! another shape is named, and so is one that holds a NaN. Nothing is loaded from a file that cannot prove itself.

mod checkpoint;
mod file;
mod metadata;
pub(in crate::model) mod random;

pub use checkpoint::{Checkpoint, CheckpointTensor, Element, Selection};
pub(super) use file::Mismatch;
pub use metadata::{Normalisation, WeightsMetadata};

use super::graph::{Graph, Init, Parameter, ParameterKind};
use crate::units::Mpp;
use file::{Opened, read_checked};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

/// Longest header accepted: a network of 100,000 tensors needs a tenth of it.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Metadata key of a file that does not hold the whole network, and its one value.
const PART: &str = "part";
const ENCODER: &str = "encoder";
/// Tensors named in one message.
const NAMED: usize = 5;

/// A message and a hint.
type Failure = (String, Option<&'static str>);

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
            prob_threshold: None,
            about: None,
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

    /// The weights that the program has in itself: a StarDist U-Net for nuclei of H&E slides, trained by
    /// `pipelines/train_nuclei.yaml`; the file says on what, and how good it is.
    ///
    /// # Panics
    /// Never: a test reads it.
    pub fn nuclei() -> (Graph, Self) {
        let file = Opened::new(include_bytes!("nuclei.safetensors")).expect("the file is whole");
        let graph = file.graph().expect("its network is one of the zoo");
        let weights = file.whole(&graph).expect("it holds the network's tensors");
        (graph, weights)
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
