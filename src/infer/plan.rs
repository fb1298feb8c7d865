//! What will be run for one image size: steps, buffers, memory.
//!
//! Owns: [`Plan`] as data, and how it prints. Must not know: how it is made ([`schedule`](super::schedule)) and run.

use super::{
    arena::Buffer,
    cpu::{Cascade, Isa, PackedConv, PackedTransposed, Precision, view::Layout},
    sweep::Sweep,
};
use std::{fmt, sync::Arc};

/// A part of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The buffer, in [`Plan::buffers`].
    pub buffer: usize,
    /// Its first float, from the start of the arena.
    pub offset: usize,
    /// Its size and steps.
    pub layout: Layout,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Layout { h, w, c, pixel_stride, .. } = self.layout;
        write!(f, "b{}[{h}×{w}×{c}", self.buffer)?;
        match pixel_stride {
            0 => write!(f, " spread]"),
            stride if stride != c => write!(f, " of {stride}]"),
            _ => write!(f, "]"),
        }
    }
}

/// One step.
#[derive(Debug, Clone)]
pub struct PlanStep {
    /// The node it is named after, as in [`Graph::label`](crate::model::graph::Graph::label).
    pub name: String,
    /// Kinds of the nodes fused into it, in their order.
    pub fused: Vec<&'static str>,
    /// What it reads.
    pub inputs: Vec<Slot>,
    /// What it writes.
    pub output: Slot,
    /// Working memory of what is taken over the whole image: buffer, offset, floats.
    pub partial: Option<(usize, usize, usize)>,
    /// Multiply-accumulates of convolutions and attention.
    pub macs: u64,
    /// Floats read and written, weights not counted.
    pub moved_floats: u64,
    pub(super) work: Work,
}

/// What a step does.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// A step of the program.
    Step(usize),
    /// A convolution of the program with this image size's padding.
    Conv(usize, Arc<PackedConv>),
    /// A depthwise convolution of the program, and those around it, with this image size's padding.
    Cascade(usize, Arc<Cascade>),
    /// A transposed convolution of the program with this image size's crop.
    Transposed(usize, Arc<PackedTransposed>),
    /// A copy.
    Copy,
    /// A copy to the beginning of the memory it lies in, row after row: they may overlap.
    Shrink,
}

/// A head's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadSlot {
    /// Name, as in the graph.
    pub name: &'static str,
    /// Where; without gaps.
    pub slot: Slot,
}

/// What will be run for one image size.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The network.
    pub network: &'static str,
    /// Height of the images, px.
    pub h: usize,
    /// Width of the images, px.
    pub w: usize,
    /// Instructions of the kernels.
    pub isa: Isa,
    /// Precision of the factors.
    pub precision: Precision,
    /// In the order they are run in.
    pub steps: Vec<PlanStep>,
    /// All steps, those together whose rows go through together.
    pub sweeps: Vec<Sweep>,
    /// Pieces of the arena.
    pub buffers: Vec<Buffer>,
    /// Floats of the arena: once per image that is in work.
    pub arena_floats: usize,
    /// Floats of working memory: once per thread.
    pub scratch_floats: usize,
    /// Bytes of the packed weights: once.
    pub weight_bytes: usize,
    /// The heads.
    pub heads: Vec<HeadSlot>,
}

/// Activations that a thread of its own may cost, bytes: of networks that need more, fewer images are in work than
/// there are threads, and threads without an image help the others.
const ARENA_BYTES_PER_THREAD: usize = 76 << 20;

impl Plan {
    /// How many images of a batch are in work at once.
    pub fn images_at_once(&self, batch: usize, threads: usize) -> usize {
        (ARENA_BYTES_PER_THREAD * threads / self.arena_bytes().max(1)).clamp(1, threads.min(batch).max(1))
    }

    /// Multiply-accumulates of one image.
    pub fn macs(&self) -> u64 {
        self.steps.iter().map(|step| step.macs).sum()
    }

    /// Bytes of the arena of one image.
    pub fn arena_bytes(&self) -> usize {
        4 * self.arena_floats
    }

    /// Bytes all in all when `threads` threads run `images` images at once.
    pub fn bytes(&self, images: usize, threads: usize) -> usize {
        self.weight_bytes + 4 * (images * self.arena_floats + threads * self.scratch_floats)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: usize| bytes as f64 / 1e6;
        let precision = self.precision.name();
        writeln!(f, "{} {}×{} px, {precision}, {}", self.network, self.h, self.w, self.isa.name())?;
        writeln!(
            f,
            "{} steps, {:.3} GMACs; weights {:.1} MB, arena {:.1} MB per image, {:.1} MB per thread\n",
            self.steps.len(),
            self.macs() as f64 / 1e9,
            mb(self.weight_bytes),
            mb(self.arena_bytes()),
            mb(4 * self.scratch_floats)
        )?;
        for (i, step) in self.steps.iter().enumerate() {
            let inputs: Vec<String> = step.inputs.iter().map(Slot::to_string).collect();
            writeln!(
                f,
                "{i:>4}  {:<38} {}\n      {} → {}, {:.1} MMACs, {:.2} MB",
                step.name,
                step.fused.join(" + "),
                if inputs.is_empty() { "image".to_owned() } else { inputs.join(", ") },
                step.output,
                step.macs as f64 / 1e6,
                step.moved_floats as f64 * 4e-6
            )?;
        }
        writeln!(f)?;
        for (i, buffer) in self.buffers.iter().enumerate().filter(|(_, b)| b.floats > 0) {
            writeln!(
                f,
                "  b{i:<4} {:>12} + {:<10} floats, steps {}–{}",
                buffer.offset, buffer.floats, buffer.first_step, buffer.last_step
            )?;
        }
        for sweep in self.sweeps.iter().filter(|sweep| sweep.steps.len() > 1) {
            let near: Vec<String> = sweep.near.iter().map(|(buffer, _)| format!("b{buffer}")).collect();
            let (first, last) = (sweep.steps.start, sweep.steps.end - 1);
            writeln!(f, "  {:<5} {} rows at a time through steps {first}–{last}", near.join(", "), sweep.together)?;
        }
        writeln!(f)?;
        self.heads.iter().try_for_each(|head| writeln!(f, "  head {} {}", head.name, head.slot))
    }
}
