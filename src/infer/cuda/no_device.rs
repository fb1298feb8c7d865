//! What stands for GPUs in a program built without the `cuda` feature.
//!
//! Owns: a [`CudaExecute`] that cannot be made. Must not know: anything else.

use super::devices;
use crate::model::{Execute, ExecuteOptions, ModelError, OutputRows, graph::Graph, weights::Weights};
use std::convert::Infallible;

/// A network on GPUs; there is none.
pub struct CudaExecute(Infallible);

impl CudaExecute {
    /// Says why there is none.
    ///
    /// # Errors
    /// Always.
    pub fn new(_: &Graph, _: &Weights, _: &ExecuteOptions, _: &[u32]) -> Result<Self, ModelError> {
        match devices::count() {
            Err(e) => Err(ModelError(e.to_string())),
            Ok(_) => unreachable!("without the feature there are none"),
        }
    }
}

impl Execute for CudaExecute {
    fn run(&self, _: &[&[u8]], _: usize, _: &(dyn Fn(OutputRows<'_>) + Sync)) -> Result<(), ModelError> {
        match self.0 {}
    }

    fn bytes(&self, _: usize, _: usize) -> u64 {
        match self.0 {}
    }
}
