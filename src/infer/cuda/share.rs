//! How a batch is shared out: which steps a few images go through at once.
//!
//! Owns: [`Chip`], [`Segment`], [`segments`]. Must not know: kernels, drivers.
//!
//! Maps of early layers are large: what a step of a whole batch writes has left the second-level cache when the next step
//! reads it. So a batch is cut: a few images go through a run of steps together, and the maps between these steps stay in
//! the cache. A dense block's concatenation, which every layer reads, is then read from memory once or not at all. Where a
//! map lives only within the run, all images of the batch take turns in the same place, so that it is not written to
//! memory either.
//!
//! Cuts are chosen by what they cost, counted in bytes of memory traffic: products that cannot be hidden, traffic, launches,
//! and multiprocessors that too few images leave idle. The factors are assumed for an H100 SXM (60 % of 989 TFLOP/s, 90 %
//! of 3.35 TB/s, 5.5 TB/s of the cache, 1 µs between two recorded kernels), not measured: a layer of DenseNet-121's first
//! block is 57 µs for a batch of 64 as a whole and 48 µs in six parts, and with 2 µs between kernels there would be nothing
//! to gain. `benches/gpu.rs` times both.

use crate::infer::{arena::Buffer, plan::Plan};
use std::ops::Range;

/// What of a GPU decides how a batch is shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chip {
    /// Bytes of maps that stay in the second-level cache.
    pub cache_bytes: usize,
    /// Multiprocessors.
    pub multiprocessors: usize,
}

/// Floating-point operations in the time of a byte of memory.
const FLOP_PER_BYTE: f64 = 0.6 * 989e12 / (0.9 * 3.35e12);
/// The time of a byte of the cache in bytes of memory.
const CACHE_BYTE: f64 = 0.9 * 3.35 / 5.5;
/// A launch in bytes of memory, as a share of what the cache keeps: 3 MB of an H100's 30.
const LAUNCH_SHARE: f64 = 0.1;
/// Rows of a block of a convolution, and its most columns.
const BLOCK: (usize, usize) = (128, 128);
/// Steps of the longest run looked at: a dense block of DenseNet-121 has 48 and its transition.
const MOST_STEPS: usize = 64;

/// A run of steps that some images go through before others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The steps.
    pub steps: Range<usize>,
    /// Images that go through at once.
    pub images: usize,
    /// Buffers for which all images take turns in the place of the first ones.
    pub shared: Vec<usize>,
}

/// Cuts a plan for a batch of `images`; `is_pair` says of which steps one kernel does the one before, too.
pub fn segments(plan: &Plan, images: usize, chip: Option<Chip>, is_pair: &dyn Fn(usize) -> bool) -> Vec<Segment> {
    let count = plan.steps.len();
    let whole = |steps| Segment { steps, images, shared: vec![] };
    let Some(chip) = chip else { return vec![whole(0..count)] };
    // The least cost up to each step, and the run that ends there.
    let mut best: Vec<(f64, Option<Segment>)> = vec![(0.0, None)];
    for end in 1..=count {
        let mut least = (f64::INFINITY, None);
        for start in (end.saturating_sub(MOST_STEPS)..end).filter(|start| !is_pair(*start)) {
            // Inside the cache where it fits; alone also as a whole.
            let run = Run { plan, chip, steps: start..end, images };
            let tries = [run.in_cache(), (end - start <= 2).then(|| run.as_whole())];
            for (cost, segment) in tries.into_iter().flatten() {
                let cost = best[start].0 + cost;
                if cost < least.0 {
                    least = (cost, Some(segment));
                }
            }
        }
        // Longer pairs than any run looked at there are none.
        best.push(least);
    }
    let mut found: Vec<Segment> = vec![];
    let mut end = count;
    while let Some(segment) = best[end].1.take() {
        end = segment.steps.start;
        found.push(segment);
    }
    found.reverse();
    merged(found, images)
}

/// Neighbours that the whole batch goes through are one.
fn merged(segments: Vec<Segment>, images: usize) -> Vec<Segment> {
    let mut merged: Vec<Segment> = vec![];
    for segment in segments {
        match merged.last_mut() {
            Some(last) if last.images == images && segment.images == images => last.steps.end = segment.steps.end,
            _ => merged.push(segment),
        }
    }
    // Shared places are for turns.
    merged.iter_mut().filter(|s| s.images == images).for_each(|s| s.shared.clear());
    merged
}

/// Steps whose cost is asked for.
struct Run<'a> {
    plan: &'a Plan,
    chip: Chip,
    steps: Range<usize>,
    images: usize,
}

fn bytes(numbers: usize) -> f64 {
    2.0 * numbers as f64
}

impl Run<'_> {
    /// The whole batch, step by step: everything is read from memory and written there.
    fn as_whole(&self) -> (f64, Segment) {
        let (images, steps) = (self.images, self.steps.clone());
        let cost = steps.clone().map(|i| self.step(i, images, bytes(self.plan.steps[i].moved_floats as usize))).sum();
        (cost, Segment { steps, images, shared: vec![] })
    }

    /// As many images at once as the cache holds, if it holds any.
    fn in_cache(&self) -> Option<(f64, Segment)> {
        let footprint = 2 * self.touched();
        let fitting = self.chip.cache_bytes / footprint.max(1);
        if fitting == 0 {
            return None;
        }
        // Parts of about the same size.
        let parts = self.images.div_ceil(fitting);
        let images = self.images.div_ceil(parts);
        let shared = self.shared();
        let mut present = vec![0; self.plan.buffers.len()];
        let mut cost = 0.0;
        for i in self.steps.clone() {
            let step = &self.plan.steps[i];
            let mut from_memory = 0;
            for slot in &step.inputs {
                let numbers = slot.layout.h * slot.layout.w * slot.layout.c;
                from_memory += numbers.saturating_sub(present[slot.buffer]);
                present[slot.buffer] = present[slot.buffer].max(numbers);
            }
            let out = step.output.layout.h * step.output.layout.w * step.output.layout.c;
            present[step.output.buffer] += out;
            if !shared.contains(&step.output.buffer) {
                from_memory += out;
            }
            cost += parts as f64 * self.step(i, images, bytes(from_memory));
        }
        Some((cost, Segment { steps: self.steps.clone(), images, shared }))
    }

    /// The cost of a step for some images, `traffic` bytes of memory for each.
    fn step(&self, i: usize, images: usize, traffic: f64) -> f64 {
        let step = &self.plan.steps[i];
        let out = step.output.layout;
        let blocks = (images * out.h * out.w).div_ceil(BLOCK.0) * out.c.div_ceil(BLOCK.1);
        let idle = (self.chip.multiprocessors as f64 / blocks.max(1) as f64).max(1.0);
        let products = images as f64 * 2.0 * step.macs as f64 / FLOP_PER_BYTE * idle;
        let cache = images as f64 * bytes(step.moved_floats as usize) * CACHE_BYTE;
        products.max(images as f64 * traffic).max(cache) + LAUNCH_SHARE * self.chip.cache_bytes as f64
    }

    /// Numbers of an image's arena that these steps touch.
    fn touched(&self) -> usize {
        let steps = &self.plan.steps[self.steps.clone()];
        let of = |buffer: usize| &self.plan.buffers[buffer];
        let used = steps.iter().flat_map(|step| step.inputs.iter().chain([&step.output]));
        let mut ranges: Vec<(usize, usize)> =
            used.map(|slot| (of(slot.buffer).offset, of(slot.buffer).offset + of(slot.buffer).floats)).collect();
        ranges.sort_unstable();
        let (mut sum, mut end) = (0, 0);
        for (from, to) in ranges {
            sum += to.saturating_sub(from.max(end));
            end = end.max(to);
        }
        sum
    }

    /// Buffers that live within these steps only, where nothing lies that others need after them.
    fn shared(&self) -> Vec<usize> {
        let Range { start, end } = self.steps;
        let is_inside = |b: &Buffer| b.floats > 0 && b.first_step >= start && b.last_step < end;
        let is_needed = |b: &&Buffer| b.floats > 0 && b.first_step < end && b.last_step >= end;
        let overlap = |a: &Buffer, b: &Buffer| a.offset < b.offset + b.floats && b.offset < a.offset + a.floats;
        let buffers = &self.plan.buffers;
        let is_free = |b: &Buffer| !buffers.iter().filter(is_needed).any(|other| overlap(b, other));
        (0..buffers.len()).filter(|&i| is_inside(&buffers[i]) && is_free(&buffers[i])).collect()
    }
}
