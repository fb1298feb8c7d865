//! A weights file opened: what it says of itself checked, its tensors compared with a network's.
//!
//! Owns: [`Opened`], [`Mismatch`], [`read_checked`]. Must not know: how a graph is run.

use super::{ENCODER, Failure, MAX_HEADER_BYTES, NAMED, PART, Part, WeightTensor, Weights, WeightsMetadata, digest};
use crate::model::{
    convert::forms,
    graph::{Graph, Parameter, ParameterKind},
};
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    fs::File,
    io::Read,
    path::Path,
};

const CONVERT: Option<&str> = Some("make the file with `wsi-run convert`");

/// The whole file, once its first bytes make sense: a hostile length must not be allocated.
pub(super) fn read_checked(path: &Path) -> Result<Vec<u8>, Failure> {
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
pub(super) struct Opened<'b> {
    file: SafeTensors<'b>,
    metadata: WeightsMetadata,
    part: Part,
}

impl<'b> Opened<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Result<Self, Failure> {
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
    pub(super) fn graph(&self) -> Result<Graph, Failure> {
        let model = &self.metadata.model;
        let form = forms::form(model)
            .ok_or_else(|| (format!("file is for the model `{model}`, which is none of the networks"), CONVERT))?;
        let outputs = self.file.tensor(form.head).ok().and_then(|view| view.shape().first().copied());
        let classes = self.metadata.classes.len();
        if self.part == Part::Whole && !form.outputs.fit(outputs, classes) {
            let outputs = outputs.map_or("none".to_owned(), |n| n.to_string());
            return Err((format!("`{}` has `{outputs}` outputs for {classes} classes", form.head), CONVERT));
        }
        Ok(form.graph(outputs, self.file.names().into_iter()))
    }

    fn check_model(&self, graph: &Graph) -> Result<(), Failure> {
        if self.metadata.model == graph.name() {
            return Ok(());
        }
        let message = format!("file is for the model `{}`, expected `{}`", self.metadata.model, graph.name());
        Err((message, Some("choose the model the weights were trained for")))
    }

    pub(super) fn whole(self, graph: &Graph) -> Result<Weights, Failure> {
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

    pub(super) fn encoder(self, graph: &Graph) -> Result<Weights, Failure> {
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
pub(in crate::model) struct Mismatch {
    pub(in crate::model) missing: Vec<String>,
    pub(in crate::model) extra: Vec<String>,
    pub(in crate::model) misshapen: Vec<String>,
}

impl Mismatch {
    pub(in crate::model) fn into_result(mut self, network: &str) -> Result<(), String> {
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
