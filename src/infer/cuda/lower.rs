//! From a plan to launches.
//!
//! Owns: [`CudaNetwork`], [`Launches`]: the order of launches. Must not know: single steps' kernels, drivers.
//!
//! Images go through runs of steps a few at a time ([`share`](super::share)), so that what one step writes is still in
//! the second-level cache when the next reads it.

use super::{
    argument::Place,
    launch::{Format, Launch, Region},
    map::Map,
    share::{Chip, Segment, segments},
    store::Store,
};
use crate::{
    infer::{
        CompileError, Options, compile,
        cpu::{Isa, Precision},
        plan::{Plan, PlanStep, Slot, Work},
        program::{Program, StepOp, Target},
        rounding::Single,
        schedule,
    },
    model::{
        Head, HeadPlan, HeadRule, StainMethod, StainTables,
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
    /// Side of the square in the middle that is made, if not all is.
    core_px: Option<usize>,
}

impl HeadForm {
    /// The map of a plan, or of it the square of `core_px` in the middle.
    pub fn new(plan: &HeadPlan, core_px: Option<u32>) -> Self {
        let (rule, factor) = match plan.rule() {
            HeadRule::Value { factor } => (HeadRuleCode::Value, factor),
            HeadRule::Sigmoid => (HeadRuleCode::Logit, 1.0),
            HeadRule::SecondOfTwo => (HeadRuleCode::SecondOfTwo, 1.0),
            HeadRule::Softmax => (HeadRuleCode::Exclusive, 1.0),
        };
        let (channels, scale) = (plan.spec.channels as usize, plan.spec.head.scale());
        // What is said once has no middle.
        let core_px = core_px.filter(|_| plan.spec.head != Head::Classification).map(|px| px as usize);
        Self { output: plan.output, channels, rule, factor, scale, core_px }
    }

    /// First row and column, height and width of what is made of a map of `h × w`; as
    /// [`HeadMap::middle`](crate::model::HeadMap::middle).
    pub fn part(&self, h: usize, w: usize) -> [usize; 4] {
        match self.core_px {
            Some(side) if w > side || h > side => [(h - side) / 2, (w - side) / 2, side, side],
            _ => [0, 0, h, w],
        }
    }
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
        Self::new(plan, None)
    }
}

/// A network lowered for GPUs.
#[derive(Debug)]
pub struct CudaNetwork {
    program: Program,
    format: Format,
}

/// Stain normalisation on the way to the network. In its region lie tables, [`StainTables::MOST_BYTES`] for each, then a
/// number for each image ([`StainPass::number`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StainPass {
    /// For how many tables there is room: each image may be of another slide.
    pub tables: usize,
    /// Whether the images' bytes become what the network saw.
    pub is_kept: bool,
}

impl StainPass {
    /// What stands for the tables in place `table`; 0 stands for none.
    pub fn number(table: usize, method: StainMethod) -> i32 {
        let method = match method {
            StainMethod::Od => 1,
            StainMethod::Lab => 2,
        };
        (4 * table + method) as i32
    }

    /// Where the images' numbers begin.
    pub fn numbers_at(&self) -> usize {
        self.tables * StainTables::MOST_BYTES
    }
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
    /// Stain normalisation, if any image needs it.
    pub stain: Option<StainPass>,
    /// Head maps to be made on the device.
    pub heads: &'a [HeadForm],
    /// What the batch is shared out by; `None` runs every step on the whole batch.
    pub chip: Option<Chip>,
    /// Whether wide convolutions are those of warpgroups, which compute capability 9.0 alone has.
    pub wgmma: bool,
}

/// All launches of a batch, and the memory they need.
#[derive(Debug, Clone)]
pub struct Launches {
    /// In the order they are run in.
    pub launches: Vec<Launch>,
    /// Numbers (16 bits) of an image's arena.
    pub arena_numbers: usize,
    /// Bytes of each region for this batch; of the weights, those of the store.
    pub region_bytes: [usize; 6],
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
        Ok(Self { program: compile::lower(graph, weights, options, Single::default(), Target::Cuda)?, format })
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
            shared: vec![],
            step: 0,
            store,
            launches: vec![],
            partial_bytes: 0,
        };
        for Segment { steps, images, shared } in lowering.segments() {
            lowering.shared = shared;
            for first in (0..batch.images).step_by(images.max(1)) {
                lowering.images = first..(first + images).min(batch.images);
                let mut i = steps.start;
                while i < steps.end {
                    i += lowering.step(i, &steps);
                }
            }
        }
        lowering.images = 0..batch.images;
        lowering.shared.clear();
        let (map_offsets, head_bytes) = lowering.heads();
        let Lowering { launches, partial_bytes, .. } = lowering;
        let arena_bytes = 2 * arena * batch.images;
        let pixel_bytes = plan.h * plan.w * 3 * batch.images;
        let stain_bytes = batch.stain.map_or(0, |pass| pass.numbers_at() + 4 * batch.images);
        Launches {
            launches,
            arena_numbers: arena,
            region_bytes: [store.bytes().len(), arena_bytes, pixel_bytes, partial_bytes, head_bytes, stain_bytes],
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
    /// Buffers in which all images take turns.
    shared: Vec<usize>,
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

    pub(super) fn has_wgmma(&self) -> bool {
        self.batch.wgmma
    }

    /// Stain normalisation: where these images' numbers are, where the tables, and whether bytes are kept.
    pub(super) fn stain(&self) -> Option<(Place, Place, bool)> {
        let at = |offset: usize| Place { region: Region::Stain, offset: offset as u64 };
        self.batch.stain.map(|pass| (at(pass.numbers_at() + 4 * self.images.start), at(0), pass.is_kept))
    }

    /// A table of this step.
    pub(super) fn key(&self, table: usize) -> (usize, usize) {
        (self.step, table)
    }

    pub(super) fn map(&self, slot: &Slot) -> Map {
        let first = if self.shared.contains(&slot.buffer) { 0 } else { self.images.start };
        Map::of(slot, self.arena, first)
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
            Work::Shrink | Work::Cascade(..) => unreachable!("plans for a GPU have none"),
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
    fn segments(&self) -> Vec<Segment> {
        // Two steps that one kernel does stay together.
        let is_pair = |i: usize| i > 0 && self.layer_norm_after(i - 1).is_some();
        segments(self.plan, self.batch.images, self.batch.chip, &is_pair)
    }

    /// The head maps' launches, where each begins, and their bytes.
    fn heads(&mut self) -> (Vec<usize>, usize) {
        let (plan, batch) = (self.plan, self.batch);
        let (mut offsets, mut bytes) = (vec![], 0);
        self.step = plan.steps.len();
        for form in batch.heads {
            let x = self.map(&plan.heads[form.output].slot);
            let [top, left, h, w] = form.part(x.h, x.w);
            let x = x.grid((top, left), 1, (h, w));
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
