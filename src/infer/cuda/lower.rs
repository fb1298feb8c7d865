//! From a plan to launches.
//!
//! Owns: [`CudaNetwork`], [`Launches`]: the order of launches, how a batch is shared out. Must not know: single steps'
//! kernels, drivers.
//!
//! Maps of early layers are large and late ones small. Where a step moves more than fits in the GPU's second-level
//! cache, a few images at a time go through a run of such steps, so that what one step writes is still there when the
//! next reads it: a dense block's concatenation is read once per layer and written once.

use super::{
    argument::Place,
    launch::{Format, Launch},
    map::Map,
    store::Store,
};
use crate::{
    infer::{
        CompileError, Options, compile,
        cpu::{Isa, Precision},
        plan::{Plan, PlanStep, Slot, Work},
        program::{Program, StepOp, Target},
        schedule,
    },
    model::{
        HeadPlan, HeadRule,
        graph::{Graph, ShapeError},
        weights::{Normalisation, Weights},
    },
};
use std::ops::Range;

/// Numbers between the images' arenas: a multiple of what the widest load needs.
const ARENA_ALIGN: usize = 64;
/// The most channels of an attention's head that there is a kernel for.
const MOST_HEAD_CHANNELS: usize = 64;

/// Why a network cannot be run by the kernels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// A tensor is missing.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The network cannot take images of this size.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// No kernel does what a step needs.
    #[error("`{step}` has no CUDA kernel: {why}")]
    Kernel {
        /// Name of the step.
        step: String,
        /// What is too large.
        why: String,
    },
}

/// A head map the device makes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadForm {
    /// Which output of the graph.
    pub output: usize,
    /// Channels of the map.
    pub channels: usize,
    /// How values are read.
    pub(super) rule: HeadRuleCode,
    pub(super) factor: f32,
    pub(super) scale: f32,
}

/// As in `kernels/heads.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadRuleCode {
    Value = 0,
    Logit = 1,
    SecondOfTwo = 2,
    Exclusive = 3,
}

impl From<&HeadPlan> for HeadForm {
    fn from(plan: &HeadPlan) -> Self {
        let (rule, factor) = match plan.rule() {
            HeadRule::Value { factor } => (HeadRuleCode::Value, factor),
            HeadRule::Sigmoid => (HeadRuleCode::Logit, 1.0),
            HeadRule::SecondOfTwo => (HeadRuleCode::SecondOfTwo, 1.0),
            HeadRule::Softmax => (HeadRuleCode::Exclusive, 1.0),
        };
        let (channels, scale) = (plan.spec.channels as usize, plan.spec.head.scale());
        Self { output: plan.output, channels, rule, factor, scale }
    }
}

/// A network lowered for GPUs.
#[derive(Debug)]
pub struct CudaNetwork {
    program: Program,
    format: Format,
}

/// What a batch is run with.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    /// Number of images.
    pub images: usize,
    /// The row of every embedding.
    pub kind: usize,
    /// How bytes are normalised.
    pub normalisation: &'a Normalisation,
    /// Tables of stain normalisation, `[3, 256, 4]`: the new brightness is the product of a pixel's three entries.
    pub stain: Option<&'a [f32]>,
    /// Head maps to be made on the device.
    pub heads: &'a [HeadForm],
    /// Bytes of maps that stay in the second-level cache; `None` runs every step on the whole batch.
    pub cache_bytes: Option<usize>,
}

/// All launches of a batch, and the memory they need.
#[derive(Debug, Clone)]
pub struct Launches {
    /// In the order they are run in.
    pub launches: Vec<Launch>,
    /// Numbers (16 bits) of an image's arena.
    pub arena_numbers: usize,
    /// Bytes of each region for this batch; of the weights, those of the store.
    pub region_bytes: [usize; 5],
    /// Where the heads' values lie in an image's arena, as numbers.
    pub heads: Vec<Slot>,
    /// Byte of the heads' region at which each head map asked for begins.
    pub map_offsets: Vec<usize>,
}

impl CudaNetwork {
    /// Fuses a network's steps.
    ///
    /// # Errors
    /// [`CudaError`]: a tensor that `weights` lacks.
    pub fn new(graph: &Graph, weights: &Weights, format: Format) -> Result<Self, CudaError> {
        let options = Options { precision: Precision::F32, isa: Isa::Portable, size: None };
        Ok(Self { program: compile::lower(graph, weights, options, Target::Cuda)?, format })
    }

    /// Numbers of the maps.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Number of kinds of image it knows.
    pub fn kinds(&self) -> usize {
        self.program.kinds()
    }

    /// What is run for images of `h × w` px.
    ///
    /// # Errors
    /// [`CudaError::Shape`] when the network cannot take that size, [`CudaError::Kernel`] when no kernel does a step.
    pub fn plan(&self, h: usize, w: usize) -> Result<Plan, CudaError> {
        let plan = schedule::schedule(&self.program, (h, w), (Isa::Portable, Precision::F32))?;
        for step in &plan.steps {
            let heads = match &step.work {
                Work::Step(i) => match &self.program.steps[*i].op {
                    StepOp::Attention { heads } => *heads,
                    StepOp::WindowAttention { windows, .. } => windows.heads,
                    _ => continue,
                },
                _ => continue,
            };
            let channels = step.output.layout.c / heads;
            if channels > MOST_HEAD_CHANNELS {
                let why = format!("heads of `{channels}` channels, expected at most `{MOST_HEAD_CHANNELS}`");
                return Err(CudaError::Kernel { step: step.name.clone(), why });
            }
        }
        Ok(plan)
    }

    /// A place for weights and tables.
    pub fn store(&self) -> Store {
        Store::new(self.format)
    }

    /// The launches of a batch. Weights go to `store`, once for all batches of a plan.
    ///
    /// # Panics
    /// When `plan` is of another network.
    pub fn launches(&self, plan: &Plan, batch: &Batch<'_>, store: &mut Store) -> Launches {
        let arena = plan.arena_floats.next_multiple_of(ARENA_ALIGN);
        let mut lowering = Lowering {
            program: &self.program,
            plan,
            batch,
            arena,
            images: 0..batch.images,
            step: 0,
            store,
            launches: vec![],
            partial_bytes: 0,
        };
        for (steps, images_at_once) in lowering.segments() {
            for first in (0..batch.images).step_by(images_at_once.max(1)) {
                lowering.images = first..(first + images_at_once).min(batch.images);
                let mut i = steps.start;
                while i < steps.end {
                    i += lowering.step(i, &steps);
                }
            }
        }
        lowering.images = 0..batch.images;
        let (map_offsets, head_bytes) = lowering.heads();
        let Lowering { launches, partial_bytes, .. } = lowering;
        let arena_bytes = 2 * arena * batch.images;
        let pixel_bytes = plan.h * plan.w * 3 * batch.images;
        Launches {
            launches,
            arena_numbers: arena,
            region_bytes: [store.bytes().len(), arena_bytes, pixel_bytes, partial_bytes, head_bytes],
            heads: plan.heads.iter().map(|head| head.slot).collect(),
            map_offsets,
        }
    }
}

/// What is added to the variance, factors and offsets.
pub(super) type LayerNorm<'a> = (f32, &'a [f32], &'a [f32]);

/// A batch on its way to launches.
pub(super) struct Lowering<'a> {
    program: &'a Program,
    plan: &'a Plan,
    batch: &'a Batch<'a>,
    arena: usize,
    images: Range<usize>,
    step: usize,
    pub(super) store: &'a mut Store,
    launches: Vec<Launch>,
    partial_bytes: usize,
}

impl<'a> Lowering<'a> {
    /// Images of this launch.
    pub(super) fn images(&self) -> usize {
        self.images.len()
    }

    pub(super) fn first_image(&self) -> usize {
        self.images.start
    }

    pub(super) fn kind(&self) -> usize {
        self.batch.kind
    }

    pub(super) fn normalisation(&self) -> &Normalisation {
        self.batch.normalisation
    }

    /// Stain normalisation's tables.
    pub(super) fn stain(&mut self) -> Option<Place> {
        self.batch.stain.map(|tables| self.store.floats(self.key(0), tables))
    }

    /// A table of this step.
    pub(super) fn key(&self, table: usize) -> (usize, usize) {
        (self.step, table)
    }

    pub(super) fn map(&self, slot: &Slot) -> Map {
        Map::of(slot, self.arena, self.images.start)
    }

    pub(super) fn push(&mut self, launch: Launch) {
        self.launches.push(Launch { step: self.step, ..launch });
    }

    pub(super) fn reserve_partial(&mut self, bytes: usize) {
        self.partial_bytes = self.partial_bytes.max(bytes);
    }

    /// Launches step `i`, perhaps with the one after it; returns how many that was.
    fn step(&mut self, i: usize, segment: &Range<usize>) -> usize {
        self.step = i;
        let (program, plan) = (self.program, self.plan);
        let step = &plan.steps[i];
        let op = |i: usize| &program.steps[i].op;
        match &step.work {
            Work::Copy => self.copy(step),
            Work::Conv(of, packed) => {
                let StepOp::Conv(conv) = op(*of) else { unreachable!("the plan's convolutions are the program's") };
                if let Some((next, norm)) = self.layer_norm_after(i).filter(|_| i + 1 < segment.end)
                    && self.depthwise_layer_norm((step, conv, packed.spec()), self.map(&next.output), norm)
                {
                    return 2;
                }
                self.conv(step, conv, packed.spec());
            }
            Work::Transposed(of, packed) => {
                let StepOp::Transposed(conv) = op(*of) else {
                    unreachable!("the plan's convolutions are the program's")
                };
                self.transposed(step, conv, packed.spec());
            }
            Work::Step(of) => self.plain(step, op(*of)),
        }
        1
    }

    /// The layer normalisation that alone reads step `i`, right after it.
    fn layer_norm_after(&self, i: usize) -> Option<(&'a PlanStep, LayerNorm<'a>)> {
        let (program, plan) = (self.program, self.plan);
        let (step, next) = (&plan.steps[i], plan.steps.get(i + 1)?);
        let Work::Step(of) = next.work else { return None };
        let StepOp::LayerNorm { eps, weight, bias } = &program.steps[of].op else { return None };
        let is_only = next.inputs[..] == [step.output] && plan.buffers[step.output.buffer].last_step == i + 1;
        is_only.then_some((next, (*eps, weight, bias)))
    }

    /// Runs of steps and how many images go through each at once.
    fn segments(&self) -> Vec<(Range<usize>, usize)> {
        let (steps, images) = (&self.plan.steps, self.batch.images);
        let Some(cache) = self.batch.cache_bytes else { return vec![(0..steps.len(), images)] };
        // A step's maps and those of the next: what is to be found again.
        let at_once = |step: &PlanStep| (cache / (2 * step.moved_floats as usize).max(1)).clamp(1, images);
        let mut segments: Vec<(Range<usize>, usize)> = vec![];
        for (i, step) in steps.iter().enumerate() {
            // Powers of two, so that neighbours of about the same size go together.
            let fits = at_once(step);
            let count = if fits >= images { images } else { 1 << fits.ilog2() };
            // Two steps that one kernel does stay together, whatever the batch.
            let is_pair = i > 0 && self.layer_norm_after(i - 1).is_some();
            match segments.last_mut() {
                Some((steps, n)) if *n == count || is_pair || (i - steps.start < 2 && *n > count) => {
                    (steps.end, *n) = (i + 1, count.min(*n));
                }
                _ => segments.push((i..i + 1, count)),
            }
        }
        segments
    }

    /// The head maps' launches, where each begins, and their bytes.
    fn heads(&mut self) -> (Vec<usize>, usize) {
        let (plan, batch) = (self.plan, self.batch);
        let (mut offsets, mut bytes) = (vec![], 0);
        self.step = plan.steps.len();
        for form in batch.heads {
            let x = self.map(&plan.heads[form.output].slot);
            self.head(x, form, bytes as u64);
            offsets.push(bytes);
            bytes += 2 * batch.images * form.channels * x.pixels();
        }
        (offsets, bytes)
    }
}

#[cfg(test)]
mod tests {
    use crate::infer::cuda::{
        argument::{Argument, Place},
        launch::Region,
    };

    #[test]
    fn arguments_are_padded_like_structs_with_pointers() {
        let place = Place { region: Region::Arena, offset: 4 };
        let launch = Argument::new().pointer(None).pointer(Some(place)).long(7).int(1).launch("k", [1, 1, 1], 32);
        assert_eq!(launch.argument.len(), 32);
        let bound = launch.bound(&|_| 1 << 40);
        assert_eq!(u64::from_le_bytes(bound[8..16].try_into().unwrap()), (1 << 40) + 4);
        assert_eq!(bound[24], 1);
    }
}
