//! Which nodes share memory.
//!
//! Owns: [`place`]: concatenations, crops and the like as places in storages. Must not know: where a storage lies, what a
//! step does.
//!
//! A storage is a box of rows, columns and channels. Every step claims the part it writes, no two the same, unless its
//! sums go on where their residual lies. A concatenation brings the storages of its inputs together, each at its channels: so a dense block grows in one storage,
//! and a crop between its layers is only a smaller part of it. Where that cannot be (an input is in two concatenations,
//! or is a small part of something large) the input is copied.

use super::program::Program;
use crate::model::graph::{NodeId, Op, Shape};
use std::ops::Range;

/// A crop of which less than this is left gets its own memory when it is concatenated.
const LEAST_LEFT: f64 = 0.7;

/// Rows, columns and channels; relative to the storage's origin until it is final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The storage.
    pub storage: usize,
    /// Rows, columns, channels.
    pub axes: [Range<isize>; 3],
    /// Whether it is one pixel that stands for many.
    pub is_spread: bool,
}

impl Part {
    fn overlaps(&self, other: &Self) -> bool {
        self.axes.iter().zip(&other.axes).all(|(a, b)| a.start < b.end && b.start < a.end)
    }

    fn moved(&self, storage: usize, by: [isize; 3]) -> Self {
        let axes = [0, 1, 2].map(|i| self.axes[i].start + by[i]..self.axes[i].end + by[i]);
        Self { storage, axes, is_spread: self.is_spread }
    }

    /// Pixels of a storage it lies in.
    fn pixels(&self) -> usize {
        self.axes[..2].iter().map(|axis| axis.len_px()).product()
    }
}

trait LenPx {
    fn len_px(&self) -> usize;
}

impl LenPx for Range<isize> {
    fn len_px(&self) -> usize {
        (self.end - self.start).max(0) as usize
    }
}

/// A part that is copied.
#[derive(Debug, Clone)]
pub(super) struct CopyOf {
    /// What is copied.
    pub from: NodeId,
    /// Where to.
    pub to: Part,
    /// For which node; it is done just before that.
    pub user: NodeId,
}

/// Where everything is.
#[derive(Debug)]
pub(super) struct Placement {
    /// Of each node that has memory.
    pub parts: Vec<Option<Part>>,
    /// Size `[h, w, c]` of each storage; zero where it went into another.
    pub sizes: Vec<[usize; 3]>,
    /// Copies, in order.
    pub copies: Vec<CopyOf>,
    /// Of each head: its own storage, without gaps.
    pub heads: Vec<Part>,
}

impl Placement {
    /// Gives what `nodes` read of `from` a storage of its own, of its size; returns the whole of it.
    pub(super) fn moved_to_front(&mut self, from: &Part, nodes: &[NodeId]) -> Part {
        let (storage, by) = (self.sizes.len(), [0, 1, 2].map(|i| -from.axes[i].start));
        self.sizes.push([0, 1, 2].map(|i| from.axes[i].len_px()));
        for node in nodes {
            if let Some(part) = self.parts[node.index()].as_mut().filter(|part| part.storage == from.storage) {
                *part = part.moved(storage, by);
            }
        }
        from.moved(storage, by)
    }
}

/// Places every node of a program for one image size; `in_place` tells of each step the residual that it is written over.
pub(super) fn place(program: &Program, shapes: &[Shape], in_place: &[Option<NodeId>]) -> Placement {
    let nodes = program.graph.nodes();
    let mut placer = Placer { parts: vec![None; nodes.len()], claims: vec![], copies: vec![] };
    for (step, residual) in program.steps.iter().zip(in_place) {
        let held = residual.and_then(|residual| placer.parts[residual.index()].clone());
        placer.parts[step.output.index()] = Some(held.unwrap_or_else(|| placer.fresh(shapes[step.output.index()])));
    }
    let live = program.graph.live();
    for (i, id) in program.graph.ids().enumerate().filter(|(i, _)| live[*i]) {
        if placer.parts[i].is_some() {
            continue;
        }
        let of = |n: usize| placer.parts[nodes[i].inputs[n].index()].clone();
        placer.parts[i] = match &nodes[i].op {
            Op::Dropout { .. } => of(0),
            Op::Crop(_) => of(0).map(|part| crop(&part, shapes[i])),
            Op::SpreadLike => of(0).map(|part| Part { is_spread: true, ..part }),
            // Of what was fused away nobody asks.
            Op::Concat if nodes[i].inputs.iter().all(|input| placer.parts[input.index()].is_some()) => {
                Some(placer.concat(id, &nodes[i].inputs, shapes))
            }
            _ => None,
        };
    }
    placer.finish(program)
}

/// The middle of a part; an odd rest is cut from the bottom and the right.
fn crop(part: &Part, to: Shape) -> Part {
    let mut part = part.clone();
    for (axis, side) in part.axes.iter_mut().zip([to.h, to.w]) {
        axis.start += (axis.len_px() - side) as isize / 2;
        axis.end = axis.start + side as isize;
    }
    part
}

struct Placer {
    parts: Vec<Option<Part>>,
    /// What steps and copies write, by storage.
    claims: Vec<Vec<Part>>,
    copies: Vec<CopyOf>,
}

impl Placer {
    /// A storage of its own.
    fn fresh(&mut self, shape: Shape) -> Part {
        let axes = [shape.h, shape.w, shape.c].map(|side| 0..side as isize);
        let part = Part { storage: self.claims.len(), axes, is_spread: false };
        self.claims.push(vec![part.clone()]);
        part
    }

    fn concat(&mut self, id: NodeId, inputs: &[NodeId], shapes: &[Shape]) -> Part {
        let shape = shapes[id.index()];
        let frame = self.fresh(shape);
        let (storage, axes) = (frame.storage, &frame.axes);
        self.claims[storage].clear();
        // The frame moves when a storage joins; all is relative to its origin.
        let mut channels = 0;
        for input in inputs {
            let width = shapes[input.index()].c as isize;
            let place = Part {
                storage,
                axes: [axes[0].clone(), axes[1].clone(), channels..channels + width],
                is_spread: false,
            };
            if !self.join(*input, &place, &frame) {
                self.claims[storage].push(place.clone());
                self.copies.push(CopyOf { from: *input, to: place, user: id });
            }
            channels += width;
        }
        frame
    }

    /// Moves the storage of `input` so that the input lies at `place`, if nothing speaks against it.
    fn join(&mut self, input: NodeId, place: &Part, frame: &Part) -> bool {
        let Some(part) = self.parts[input.index()].clone() else { return false };
        let whole = self.claims[part.storage].iter().map(Part::pixels).max().unwrap_or(0);
        if part.is_spread || part.storage == place.storage {
            return false;
        }
        // In a storage that shrinks step by step, what counts is the last step.
        let last = self.claims[part.storage].last().map_or(whole, Part::pixels);
        if (part.pixels() as f64) < LEAST_LEFT * last as f64 {
            return false;
        }
        let by = [0, 1, 2].map(|i| place.axes[i].start - part.axes[i].start);
        let moved: Vec<Part> = self.claims[part.storage].iter().map(|c| c.moved(place.storage, by)).collect();
        // What else is in the storage must be clear of the rest of the concatenation, of which nothing may be claimed yet.
        let clashes = |claim: &Part| {
            let channels = &claim.axes[2];
            let is_inside = place.axes[2].start <= channels.start && channels.end <= place.axes[2].end;
            (claim.overlaps(frame) && !is_inside)
                || channels.start < 0
                || self.claims[place.storage].iter().any(|other| other.overlaps(claim))
        };
        if moved.iter().any(clashes) {
            return false;
        }
        self.claims[part.storage].clear();
        self.claims[place.storage].extend(moved);
        for other in self.parts.iter_mut().flatten().filter(|other| other.storage == part.storage) {
            *other = other.moved(place.storage, by);
        }
        for copy in self.copies.iter_mut().filter(|copy| copy.to.storage == part.storage) {
            copy.to = copy.to.moved(place.storage, by);
        }
        true
    }

    /// Gives every head its own memory and every storage its size.
    fn finish(mut self, program: &Program) -> Placement {
        let mut heads = vec![];
        for output in program.graph.outputs() {
            let part = self.parts[output.node.index()].clone().expect("heads are kept");
            let claims = &self.claims[part.storage];
            let is_whole = claims.len() == 1 && claims[0] == part && !part.is_spread;
            if is_whole && !heads.contains(&part) {
                heads.push(part);
                continue;
            }
            let [h, w, c] = [0, 1, 2].map(|i| part.axes[i].len_px());
            let to = self.fresh(Shape { c, h, w });
            self.copies.push(CopyOf { from: output.node, to: to.clone(), user: output.node });
            heads.push(to);
        }
        let bounds: Vec<[Range<isize>; 3]> = self.claims.iter().map(|claims| bounds(claims)).collect();
        let home = |part: &mut Part| {
            let by = [0, 1, 2].map(|i| -bounds[part.storage][i].start);
            *part = part.moved(part.storage, by);
        };
        self.parts.iter_mut().flatten().for_each(home);
        self.copies.iter_mut().for_each(|copy| home(&mut copy.to));
        heads.iter_mut().for_each(home);
        let sizes = bounds.iter().map(|axes| [0, 1, 2].map(|i| axes[i].len_px())).collect();
        Placement { parts: self.parts, sizes, copies: self.copies, heads }
    }
}

/// The box around parts.
fn bounds(parts: &[Part]) -> [Range<isize>; 3] {
    [0, 1, 2].map(|i| {
        let start = parts.iter().map(|p| p.axes[i].start).min().unwrap_or(0);
        start..parts.iter().map(|p| p.axes[i].end).max().unwrap_or(start)
    })
}
