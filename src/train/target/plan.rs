//! Which targets a network's outputs ask for, and making them of a sample.
//!
//! Owns: [`OutputPlan`], [`TargetPlan`]. Must not know: how each target is made, files, losses.

use super::{
    Target, TargetValues, dots::DotRules, edge, horizontal_vertical, label, nuclear_pixel, semantic, star, types,
};
use crate::{
    model::{Head, graph::Graph},
    train::{
        TrainError,
        class_tree::{ClassTree, UNKNOWN},
        sample::Sample,
    },
};
use std::sync::Arc;

/// One output of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPlan {
    /// Its name.
    pub output: String,
    /// What it means.
    pub head: Head,
    /// Channels.
    pub channels: u32,
    /// Width in px of the output.
    pub w: u32,
    /// Height.
    pub h: u32,
    /// Px of the sample along one px of the output; the output lies in the middle of the sample.
    pub out_stride: u32,
}

/// What a network is asked to say of each sample.
#[derive(Debug, Clone)]
pub struct TargetPlan {
    /// The outputs, in the network's order.
    pub outputs: Vec<OutputPlan>,
    /// The classes.
    pub tree: Arc<ClassTree>,
    /// What nuclei of which only the place is known ask for.
    pub dots: DotRules,
}

/// Where the px of an output lie in a sample.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lattice {
    /// Size of the output.
    pub w: usize,
    pub h: usize,
    /// Sample px of the output's first px.
    pub x: usize,
    pub y: usize,
    /// Sample px from one to the next.
    pub step: usize,
    /// Size of the sample.
    pub sample_w: usize,
    pub sample_h: usize,
}

impl Lattice {
    /// Sample index of each px of the output, row by row.
    pub fn indices(&self) -> impl Iterator<Item = usize> + Clone + use<> {
        let l = *self;
        (0..l.h).flat_map(move |j| (0..l.w).map(move |i| (l.y + j * l.step) * l.sample_w + l.x + i * l.step))
    }

    /// Number of px of the output.
    pub fn len(&self) -> usize {
        self.w * self.h
    }
}

impl TargetPlan {
    /// The targets of a graph whose samples have sides of `tile_px`.
    ///
    /// # Errors
    /// A graph that cannot take such tiles; an output whose channels fit neither the classes nor what it means.
    pub fn new(
        graph: &Graph,
        tile_px: u32,
        out_stride: u32,
        tree: Arc<ClassTree>,
        dots: DotRules,
    ) -> Result<Self, TrainError> {
        let side = tile_px as usize;
        let shapes = graph.shapes(side, side).map_err(|e| TrainError::new(e.to_string()))?;
        let outputs = graph.outputs().iter().map(|o| {
            let shape = shapes[o.node.index()];
            OutputPlan {
                output: o.name.to_owned(),
                head: o.head,
                channels: graph.channels(o.node) as u32,
                w: shape.w as u32,
                h: shape.h as u32,
                out_stride: if o.head == Head::Classification { 1 } else { out_stride },
            }
        });
        let plan = Self { outputs: outputs.collect(), tree, dots };
        plan.outputs.iter().try_for_each(|o| plan.check(o))?;
        Ok(plan)
    }

    /// Whether an output has the channels that its meaning and the classes ask for.
    fn check(&self, output: &OutputPlan) -> Result<(), TrainError> {
        let leaves = self.tree.leaves().len() as u32;
        let expected: Vec<u32> = match output.head {
            Head::Semantic if output.output == "edge" => vec![1, 2],
            Head::Semantic => vec![1, leaves, leaves + 1],
            Head::NuclearPixel => vec![1, 2],
            Head::HorizontalVertical => vec![2],
            Head::TypeProbability => vec![leaves + 1],
            Head::StarDistance => vec![output.channels.max(3)],
            Head::Classification => vec![leaves],
        };
        if expected.contains(&output.channels) && leaves < 32 {
            return Ok(());
        }
        let or = expected.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(" or ");
        Err(TrainError::new(format!(
            "output `{}` does not fit the classes: found `{}` channels, expected {or} for `{leaves}` leaves of the class tree",
            output.output, output.channels
        ))
        .hint("a network predicts the leaves of `data.classes`, some heads with a background before them; at most 31"))
    }

    /// What each output is asked to say of `sample`.
    ///
    /// # Errors
    /// A sample smaller than an output covers; dots of a sample whose resolution is unknown.
    pub fn targets(&self, sample: &Sample) -> Result<Vec<Target>, TrainError> {
        self.outputs.iter().map(|output| self.target(output, sample)).collect()
    }

    fn target(&self, output: &OutputPlan, sample: &Sample) -> Result<Target, TrainError> {
        let (values, weight) = if output.head == Head::Classification {
            label::target(sample, &self.tree)
        } else {
            let lattice = lattice(output, sample)?;
            let dots = self.dots.near(sample, &lattice)?;
            let dots = dots.as_ref();
            match output.head {
                Head::Semantic if output.output == "edge" => edge::target(sample, &lattice, output.channels),
                Head::Semantic => semantic::target(sample, &lattice, output.channels, &self.tree, dots),
                Head::NuclearPixel if output.output == "prob" => star::prob_target(sample, &lattice, dots),
                Head::NuclearPixel => nuclear_pixel::target(sample, &lattice, output.channels, dots),
                Head::HorizontalVertical => horizontal_vertical::target(sample, &lattice),
                Head::TypeProbability => types::target(sample, &lattice, &self.tree, dots),
                Head::StarDistance => star::dist_target(sample, &lattice, output.channels),
                Head::Classification => unreachable!("made above"),
            }
        };
        let (w, h) = if output.head == Head::Classification { (1, 1) } else { (output.w, output.h) };
        Ok(Target { output: output.output.clone(), head: output.head, w, h, values, weight })
    }
}

fn lattice(output: &OutputPlan, sample: &Sample) -> Result<Lattice, TrainError> {
    let (w, h) = (sample.image.w, sample.image.h);
    let covered = (output.w * output.out_stride, output.h * output.out_stride);
    if covered.0 > w || covered.1 > h {
        return Err(TrainError::new(format!(
            "sample of [{w}, {h}] px is too small: output `{}` covers [{}, {}] px",
            output.output, covered.0, covered.1
        )));
    }
    Ok(Lattice {
        w: output.w as usize,
        h: output.h as usize,
        x: ((w - covered.0) / 2) as usize,
        y: ((h - covered.1) / 2) as usize,
        step: output.out_stride as usize,
        sample_w: w as usize,
        sample_h: h as usize,
    })
}

/// 1 for each px of the output of whose nuclei something is known: all of them, unless the sample says that some
/// px outside nuclei are unknown.
pub(super) fn known_nuclei(sample: &Sample, lattice: &Lattice) -> Vec<f32> {
    match (&sample.truth.instances, &sample.truth.semantic) {
        (Some(instances), Some(semantic)) => {
            let is_open = |at: usize| instances[at] == 0 && semantic[at] == UNKNOWN;
            lattice.indices().map(|at| f32::from(u8::from(!is_open(at)))).collect()
        }
        _ => vec![1.0; lattice.len()],
    }
}

/// Values of a yes/no output: one channel of numbers, or two channels that exclude each other.
pub(super) fn yes_or_no(yes: impl Iterator<Item = bool>, channels: u32) -> TargetValues {
    if channels == 1 {
        TargetValues::Numbers { channels, data: yes.map(|y| f32::from(u8::from(y))).collect() }
    } else {
        TargetValues::Channels { channels, data: yes.map(|y| if y { 2 } else { 1 }).collect() }
    }
}
