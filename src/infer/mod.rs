//! How does a network run fast on this machine? Compiled inference: folded, fused, planned once, then run.
//!
//! Owns: [`Compiled`], [`Options`], [`Plan`]. Must not know: slides, tiles' positions, training, candle.
//!
//! The way of a network: [`compile`] fuses the nodes of a graph into steps and packs the weights; [`place`] lets
//! concatenations and crops share memory; [`rounding`] says how factors are rounded; [`schedule`], [`sweep`] and
//! [`arena`] make a [`Plan`] for an image size; [`run`] runs it over images and bands of rows with the kernels of [`cpu`].
//! The result does not depend on the number of threads, nor on the other images of the batch.

mod arena;
mod compile;
pub mod cuda;
mod execute;
mod in_place;
mod memory;
mod order;
mod place;
mod plan;
mod program;
mod rounding;
mod run;
mod schedule;
mod shrink;
mod sweep;
mod team;

pub use crate::kernels::cpu::{self, Isa, Precision};
pub use arena::Buffer;
pub use execute::CompiledExecute;
pub use plan::{HeadSlot, Plan, PlanStep, Slot};
pub use run::{HeadRows, RunError, StepTime};
pub use sweep::Sweep;

use crate::model::{
    graph::{Graph, ShapeError},
    weights::Weights,
};
use memory::Memory;
use program::Program;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Why a network cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A tensor is missing.
    #[error("weights lack `{tensor}` of `{network}`")]
    Weights {
        /// The network.
        network: &'static str,
        /// The tensor.
        tensor: String,
    },
}

/// How a network is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Precision of the factors.
    pub precision: Precision,
    /// Instructions of the kernels; never more than the processor has.
    pub isa: Isa,
    /// Height and width of the images that matter, px: weights are laid out for what is fastest there. Others run too.
    pub size: Option<(usize, usize)>,
}

impl Default for Options {
    /// Single precision with all that the processor has, or that `WSI_RUN_ISA` leaves.
    fn default() -> Self {
        Self { precision: Precision::F32, isa: Isa::detect(), size: None }
    }
}

/// A network ready to run: weights packed once, plans made once per image size.
#[derive(Debug)]
pub struct Compiled {
    program: Program,
    options: Options,
    /// One for every channel count there is.
    zeros: Vec<f32>,
    plans: Mutex<HashMap<(usize, usize), Arc<Prepared>>>,
}

/// A plan and the memory that its last runs left.
#[derive(Debug)]
struct Prepared {
    plan: Plan,
    memory: Memory,
}

impl Compiled {
    /// Compiles a network. Where factors are rounded and the images' size is known, it is first run on two images, to find
    /// out how.
    ///
    /// # Errors
    /// [`CompileError`]: a tensor that `weights` lacks.
    pub fn new(graph: &Graph, weights: &Weights, options: Options) -> Result<Self, CompileError> {
        let options = Options { isa: options.isa.available(), ..options };
        let (precision, single) = rounding::rounding(graph, weights, options)?;
        Self::of(graph, weights, Options { precision, ..options }, single)
    }

    /// With so much of it in single precision where factors are rounded.
    fn of(graph: &Graph, weights: &Weights, options: Options, single: rounding::Single) -> Result<Self, CompileError> {
        let program = compile::lower(graph, weights, options, single, program::Target::Cpu)?;
        let most = graph.nodes().iter().map(|node| node.channels).max().unwrap_or(0);
        Ok(Self { program, options, zeros: vec![0.0; most], plans: Mutex::default() })
    }

    /// How it was compiled.
    pub fn options(&self) -> Options {
        self.options
    }

    /// The graph it was compiled from.
    pub fn graph(&self) -> &Graph {
        &self.program.graph
    }

    /// Bytes of the weights, laid out for the kernels; kept once.
    pub fn weight_bytes(&self) -> usize {
        self.program.weight_bytes()
    }

    /// What is run for images of `h × w` px.
    ///
    /// # Errors
    /// [`ShapeError`] when the network cannot take that size.
    pub fn plan(&self, h: usize, w: usize) -> Result<Plan, ShapeError> {
        Ok(self.prepared(h, w)?.plan.clone())
    }

    fn prepared(&self, h: usize, w: usize) -> Result<Arc<Prepared>, ShapeError> {
        let mut plans = lock(&self.plans);
        if let Some(prepared) = plans.get(&(h, w)) {
            return Ok(prepared.clone());
        }
        let plan = schedule::schedule(&self.program, (h, w), (self.options.isa, self.options.precision))?;
        let memory = Memory::new(plan.arena_floats, plan.scratch_floats);
        let prepared = Arc::new(Prepared { plan, memory });
        plans.insert((h, w), prepared.clone());
        Ok(prepared)
    }
}

/// What a panicking thread left behind is whole: it is only ever taken out and put back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
