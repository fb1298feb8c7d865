//! Runs a plan: over the images of a batch, over the rows of an image.
//!
//! Owns: [`Compiled::run`]: who does what on which thread. Must not know: what a step computes ([`step`]).
//!
//! Threads are those of the rayon pool it is called in. As long as there are as many images left as threads, each thread
//! runs a whole image alone, in its own arena. Threads without an image of their own (a small batch, the end of a batch, a
//! network with a large arena) help others with theirs: they take bands of rows of each step. Kernels give the same bits
//! for any bands, so nobody sees which it was.

mod step;

use super::{
    Compiled, Prepared,
    cpu::{self, Aligned},
    lock,
    plan::{Plan, PlanStep, Slot},
    sweep::Sweep,
    team::{Team, share_out},
};
use crate::model::{graph::ShapeError, weights::Normalisation};
use std::{
    cell::RefCell,
    ops::Range,
    sync::Mutex,
    time::{Duration, Instant},
};

/// Bands of a step per thread: more even out uneven ones, fewer read the weights less often.
const BANDS_PER_THREAD: usize = 2;
/// A band with less work than this, in floats moved and multiply-accumulates, is not worth another thread.
const LEAST_WORK: u64 = 100_000;

/// Why a batch cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The network cannot take images of this size.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// An image has another size than said.
    #[error("image `{image}` has the wrong size: `{found}` bytes, expected `{expected}`")]
    Pixels {
        /// Which image.
        image: usize,
        /// Its bytes.
        found: usize,
        /// Bytes of an image of that size.
        expected: usize,
    },
    /// An image's kind is none the network knows, or there are not as many kinds as images.
    #[error("kinds `{found:?}` of `{images}` images, expected one each, below `{expected}`")]
    Kinds {
        /// The kinds.
        found: Vec<usize>,
        /// Number of images.
        images: usize,
        /// Number of kinds the network knows.
        expected: usize,
    },
}

/// Some rows of a head of an image.
#[derive(Debug, Clone, Copy)]
pub struct HeadRows<'a> {
    /// Which image of the batch.
    pub image: usize,
    /// Which head, as in [`Graph::outputs`](crate::model::graph::Graph::outputs).
    pub head: usize,
    /// The first row.
    pub first_row: usize,
    /// Number of rows.
    pub rows: usize,
    /// Pixels of a row.
    pub w: usize,
    /// Channels of a pixel.
    pub c: usize,
    /// `[rows, w, c]`.
    pub values: &'a [f32],
}

/// Time of a step, or of those whose rows go through together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepTime {
    /// Which steps of the plan.
    pub steps: Range<usize>,
    /// How long they took.
    pub time: Duration,
}

impl Compiled {
    /// Runs a batch of images of which nothing is known but their pixels.
    ///
    /// `sink` is given every row of every head of every image once, from several threads, in any order.
    ///
    /// # Shapes
    /// - `images`: `N` times `[h, w, 3]` u8 RGB
    ///
    /// # Errors
    /// [`RunError`]: a size the network cannot take, an image of another size.
    pub fn run(
        &self,
        images: &[&[u8]],
        size: (usize, usize),
        normalisation: &Normalisation,
        sink: &(dyn Fn(HeadRows<'_>) + Sync),
    ) -> Result<(), RunError> {
        self.run_of_kinds(images, &vec![0; images.len()], size, normalisation, sink)
    }

    /// [`Compiled::run`] on images of known kinds: one row of every embedding each, 0 where nothing is known.
    ///
    /// # Errors
    /// As [`Compiled::run`]; kinds that are not one per image or that an embedding has no row for.
    pub fn run_of_kinds(
        &self,
        images: &[&[u8]],
        kinds: &[usize],
        (h, w): (usize, usize),
        normalisation: &Normalisation,
        sink: &(dyn Fn(HeadRows<'_>) + Sync),
    ) -> Result<(), RunError> {
        self.check(images, kinds, h * w * 3)?;
        let prepared = self.prepared(h, w)?;
        let at_once = prepared.plan.images_at_once(images.len(), rayon::current_num_threads());
        self.run_prepared(&prepared, (images, kinds), at_once, normalisation, sink);
        Ok(())
    }

    /// Runs a batch, at most `at_once` images of it in work.
    fn run_prepared(
        &self,
        prepared: &Prepared,
        (images, kinds): (&[&[u8]], &[usize]),
        at_once: usize,
        normalisation: &Normalisation,
        sink: &(dyn Fn(HeadRows<'_>) + Sync),
    ) {
        share_out(images.len(), at_once, &|image, team| {
            prepared.memory.with_arena(|arena| {
                let input = Input { image, pixels: images[image], kind: kinds[image], normalisation };
                Pass::new(self, prepared, input, arena, team).run(sink, |_, _| {});
            });
        });
    }

    /// Runs one image, its rows shared out, and says how long each step took.
    ///
    /// # Errors
    /// As [`Compiled::run`].
    pub fn profile(
        &self,
        image: &[u8],
        (h, w): (usize, usize),
        normalisation: &Normalisation,
    ) -> Result<Vec<StepTime>, RunError> {
        self.check(&[image], &[0], h * w * 3)?;
        let prepared = self.prepared(h, w)?;
        let times = Mutex::new(vec![]);
        share_out(1, 1, &|_, team| {
            prepared.memory.with_arena(|arena| {
                let input = Input { image: 0, pixels: image, kind: 0, normalisation };
                let mut start = Instant::now();
                Pass::new(self, &prepared, input, arena, team).run(&|_| {}, |steps, _| {
                    lock(&times).push(StepTime { steps, time: start.elapsed() });
                    start = Instant::now();
                });
            });
        });
        let times = std::mem::take(&mut *lock(&times));
        Ok(times)
    }

    fn check(&self, images: &[&[u8]], kinds: &[usize], expected: usize) -> Result<(), RunError> {
        if let Some(image) = images.iter().position(|image| image.len() != expected) {
            return Err(RunError::Pixels { image, found: images[image].len(), expected });
        }
        let known = self.program.kinds();
        if kinds.len() != images.len() || kinds.iter().any(|kind| *kind >= known) {
            return Err(RunError::Kinds { found: kinds.to_vec(), images: images.len(), expected: known });
        }
        Ok(())
    }
}

/// An image of a batch.
#[derive(Clone, Copy)]
struct Input<'a> {
    image: usize,
    pixels: &'a [u8],
    kind: usize,
    normalisation: &'a Normalisation,
}

/// One image on its way through a plan.
struct Pass<'a> {
    compiled: &'a Compiled,
    prepared: &'a Prepared,
    input: Input<'a>,
    /// Start of the arena, which this pass alone uses; steps share it out among threads by slots and rows.
    arena: *mut f32,
    /// Who shares its steps.
    team: &'a Team,
    /// What is done of them, if it is not all.
    window: Option<Window<'a>>,
}

/// A few rows of a sweep's steps, on one thread.
struct Window<'a> {
    sweep: &'a Sweep,
    /// Of the sweep's rows.
    rows: Range<usize>,
    /// Where what is near is.
    near: *mut f32,
    /// Working memory of the steps.
    scratch: RefCell<&'a mut [f32]>,
}

// SAFETY: the arena is this pass's own; what each thread reads and writes of it is disjoint from what others write. A pass
// with a window stays on its thread.
unsafe impl Sync for Pass<'_> {}

impl<'a> Pass<'a> {
    fn new(
        compiled: &'a Compiled,
        prepared: &'a Prepared,
        input: Input<'a>,
        arena: &'a mut Aligned,
        team: &'a Team,
    ) -> Self {
        assert!(arena.len() >= prepared.plan.arena_floats, "an arena is as long as its plan says");
        Self { compiled, prepared, input, arena: arena.as_mut_ptr(), team, window: None }
    }

    fn plan(&self) -> &'a Plan {
        &self.prepared.plan
    }

    /// Runs every step; `after` is told of each, or of those that are run together.
    fn run(&self, sink: &(dyn Fn(HeadRows<'_>) + Sync), mut after: impl FnMut(Range<usize>, &Self)) {
        for sweep in &self.plan().sweeps {
            match &self.plan().steps[sweep.steps.clone()] {
                [step] => self.step(step),
                steps => self.sweep(sweep, steps),
            }
            after(sweep.steps.clone(), self);
        }
        for (head, at) in self.plan().heads.iter().enumerate() {
            let l = at.slot.layout;
            let row = l.w * l.c;
            self.bands(l.h, (l.h * row) as u64, &|rows, _| {
                // SAFETY: a head's slot is its own, dense, and written by now.
                let values = unsafe {
                    let first = self.arena.add(at.slot.offset + rows.start * row);
                    std::slice::from_raw_parts(first, rows.len() * row)
                };
                let (first_row, rows) = (rows.start, rows.len());
                sink(HeadRows { image: self.input.image, head, first_row, rows, w: l.w, c: l.c, values });
            });
        }
    }

    /// Runs steps on a few rows at a time, those of a band on one thread.
    fn sweep(&self, sweep: &Sweep, steps: &[PlanStep]) {
        let work = steps.iter().map(|step| step.macs + step.moved_floats).sum();
        let count = self.bands_for(work).min(sweep.rows.div_ceil(sweep.unit));
        self.share(count, &|band, scratch| {
            let (near, scratch) = scratch.split_at_mut(sweep.near_floats);
            let all = cpu::share(sweep.rows, sweep.unit, count, band);
            for start in all.clone().step_by(sweep.together) {
                let rows = start..(start + sweep.together).min(all.end);
                let window = Window { sweep, rows, near: near.as_mut_ptr(), scratch: RefCell::new(&mut *scratch) };
                let pass = Pass { window: Some(window), ..*self };
                steps.iter().for_each(|step| pass.step(step));
            }
        });
    }

    /// Shares `rows` out among the team, if there is enough to do; each band comes with working memory.
    fn bands(&self, rows: usize, work: u64, f: &(dyn Fn(Range<usize>, &mut [f32]) + Sync)) {
        if let Some(window) = &self.window {
            return window.run(rows, f);
        }
        let count = self.bands_for(work).min(rows.max(1));
        self.share(count, &|band, scratch| f(cpu::share(rows, 1, count, band), scratch));
    }

    /// How many bands so much work is for, at most.
    fn bands_for(&self, work: u64) -> usize {
        let members = self.team.members();
        let most = if members == 1 { 1 } else { BANDS_PER_THREAD * members };
        ((work / LEAST_WORK) as usize).clamp(1, most)
    }

    /// The first float of a slot; of what is near there are only the rows in work.
    fn first(&self, slot: &Slot) -> *mut f32 {
        let near = self.window.as_ref().and_then(|window| Some((window, window.sweep.near(slot.buffer)?)));
        match near {
            Some((window, at)) => {
                let above = window.sweep.rows_of(&window.rows, slot.layout.h).start * slot.layout.row_stride;
                window.near.wrapping_add(at).wrapping_sub(above)
            }
            None => self.arena.wrapping_add(slot.offset),
        }
    }

    /// Shares `0..count` out among the team; each comes with working memory.
    fn share(&self, count: usize, f: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        let run = |i: usize| self.prepared.memory.with_scratch(|scratch| f(i, scratch));
        if count == 1 { run(0) } else { self.team.share(count, &run) }
    }
}

impl Window<'_> {
    /// Its rows of an output this high, and the working memory.
    fn run(&self, h: usize, f: &dyn Fn(Range<usize>, &mut [f32])) {
        f(self.sweep.rows_of(&self.rows, h), &mut self.scratch.borrow_mut());
    }
}

#[cfg(test)]
mod tests;
