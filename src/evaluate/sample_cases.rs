//! The pictures a training keeps back, as images with their truth.
//!
//! Owns: [`SampleCases`]. Must not know: how pictures are kept back, layouts.

use super::{
    EvaluateError,
    folder::{TrueCase, TrueCases, patient_of, stem_of},
};
use crate::train::{class_tree::ClassTree, sample::Samples};
use std::{path::Path, sync::Arc};

/// Samples with names.
pub struct SampleCases {
    samples: Arc<dyn Samples>,
    tree: Arc<ClassTree>,
    organs: Vec<String>,
}

impl SampleCases {
    /// These samples, labelled with nodes of `tree`; `organs` are the names of [`crate::train::sample::Sample::kind`],
    /// of which the first says nothing.
    pub fn new(samples: Arc<dyn Samples>, tree: Arc<ClassTree>, organs: Vec<String>) -> Self {
        Self { samples, tree, organs }
    }
}

impl TrueCases for SampleCases {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn tree(&self) -> &ClassTree {
        &self.tree
    }

    fn case(&self, index: usize) -> Result<TrueCase, EvaluateError> {
        let sample = self.samples.sample(index, 0, 0)?;
        let file = self.samples.name(index);
        let name = Path::new(&file).file_name().map_or_else(|| file.clone(), |n| n.to_string_lossy().into_owned());
        let name = stem_of(&name);
        let patient = self.samples.patient(index).unwrap_or_else(|| patient_of(&name));
        let organ = if sample.kind > 0 { self.organs.get(sample.kind).cloned() } else { None };
        Ok(TrueCase { sample, name, patient, organ })
    }
}
