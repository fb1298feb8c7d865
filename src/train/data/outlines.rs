//! Drawn outlines: polygons with holes, and points, each with a class by name.
//!
//! Owns: [`Outline`], [`Shape`], [`paint`]. Must not know: files' formats.

use crate::{
    config::settings::data::Outlines,
    tissue::fill_polygon,
    train::{
        class_tree::{BACKGROUND, NodeIndex, UNKNOWN},
        sample::{Dot, Truth},
    },
};

/// A drawn thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// Its class, where it has one.
    pub class: Option<String>,
    /// Where it is, level-0 px.
    pub shape: Shape,
}

/// Where a drawn thing is.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Outer ring and holes.
    Polygon(Vec<Vec<[f64; 2]>>),
    /// One place.
    Point([f64; 2]),
}

/// A drawn thing whose class is known, at the training's resolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// Its class.
    pub node: NodeIndex,
    /// Where it is.
    pub shape: Shape,
    /// Left, top, right, bottom.
    pub bounds: [f64; 4],
    /// Area of its outer ring.
    pub area: f64,
}

impl Drawn {
    /// A drawn thing of class `node`; one px of the training is `step` level-0 px.
    pub fn new(outline: &Outline, node: NodeIndex, step: (f64, f64)) -> Self {
        let at = |p: &[f64; 2]| [p[0] / step.0, p[1] / step.1];
        let shape = match &outline.shape {
            Shape::Polygon(rings) => Shape::Polygon(rings.iter().map(|r| r.iter().map(at).collect()).collect()),
            Shape::Point(p) => Shape::Point(at(p)),
        };
        let mut bounds = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
        let mut add = |p: &[f64; 2]| {
            bounds = [bounds[0].min(p[0]), bounds[1].min(p[1]), bounds[2].max(p[0]), bounds[3].max(p[1])];
        };
        let area = match &shape {
            Shape::Polygon(rings) => {
                rings.iter().flatten().for_each(&mut add);
                rings.first().map_or(0.0, |ring| twice_area(ring).abs() / 2.0)
            }
            Shape::Point(p) => {
                add(p);
                0.0
            }
        };
        Self { node, shape, bounds, area }
    }

    /// Its middle.
    pub fn middle(&self) -> (f64, f64) {
        ((self.bounds[0] + self.bounds[2]) / 2.0, (self.bounds[1] + self.bounds[3]) / 2.0)
    }
}

fn twice_area(ring: &[[f64; 2]]) -> f64 {
    ring.iter().zip(ring.iter().cycle().skip(1)).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum()
}

/// What is known of `[h, w]` px whose corner is at `corner`: `drawn` from large to small, so that what lies within
/// another is on top.
pub fn paint(
    drawn: &[Drawn],
    outlines: Outlines,
    unlabelled: NodeIndex,
    corner: (i64, i64),
    (w, h): (u32, u32),
) -> Truth {
    let n = w as usize * h as usize;
    let (x0, y0) = (corner.0 as f64, corner.1 as f64);
    let mut semantic = vec![unlabelled; n];
    let mut instances = vec![0_u32; n];
    let mut nodes: Vec<NodeIndex> = vec![];
    let mut dots = vec![];
    let touches = |d: &&Drawn| {
        d.bounds[0] < x0 + f64::from(w) && d.bounds[2] >= x0 && d.bounds[1] < y0 + f64::from(h) && d.bounds[3] >= y0
    };
    let mut has_points = false;
    for thing in drawn {
        has_points |= matches!(thing.shape, Shape::Point(_));
    }
    for thing in drawn.iter().filter(touches) {
        let rings = match &thing.shape {
            Shape::Polygon(rings) => rings,
            Shape::Point([x, y]) => {
                dots.push(Dot { x: (x - x0) as f32, y: (y - y0) as f32, node: thing.node });
                continue;
            }
        };
        // Only the px around it are looked at.
        let clip = |v: f64, most: u32| v.clamp(0.0, f64::from(most)) as usize;
        let (left, right) = (clip((thing.bounds[0] - x0).floor(), w), clip((thing.bounds[2] - x0).ceil(), w));
        let (top, bottom) = (clip((thing.bounds[1] - y0).floor(), h), clip((thing.bounds[3] - y0).ceil(), h));
        if left >= right || top >= bottom {
            continue;
        }
        let (bw, bh) = (right - left, bottom - top);
        let moved: Vec<Vec<[f64; 2]>> = rings
            .iter()
            .map(|ring| ring.iter().map(|p| [p[0] - x0 - left as f64, p[1] - y0 - top as f64]).collect())
            .collect();
        let mut bits = vec![0_u8; bw * bh];
        fill_polygon(&moved, (bw, bh), (1.0, 1.0), &mut bits);
        let is_nucleus = outlines == Outlines::Nuclei && !matches!(thing.node, UNKNOWN | BACKGROUND);
        if is_nucleus {
            nodes.push(thing.node);
        }
        let id = if is_nucleus { nodes.len() as u32 } else { 0 };
        for (k, _) in bits.iter().enumerate().filter(|&(_, &bit)| bit != 0) {
            let at = (top + k / bw) * w as usize + left + k % bw;
            semantic[at] = thing.node;
            instances[at] = id;
        }
    }
    let is_inside = |d: &Dot| d.x >= 0.0 && d.y >= 0.0 && d.x < w as f32 && d.y < h as f32;
    dots.retain(is_inside);
    match outlines {
        Outlines::Regions => Truth { semantic: Some(semantic), dots: has_points.then_some(dots), ..Truth::default() },
        Outlines::Nuclei if has_points && nodes.is_empty() => Truth { dots: Some(dots), ..Truth::default() },
        Outlines::Nuclei => {
            let (instances, instance_nodes) = without_gaps(&instances, &nodes);
            // Outlines of what is unknown leave their px open.
            let semantic = semantic.contains(&UNKNOWN).then_some(semantic);
            Truth { semantic, instances: Some(instances), instance_nodes, ..Truth::default() }
        }
    }
}

/// The nuclei that have px, numbered from 1 in the order of their first px.
pub fn without_gaps(instances: &[u32], nodes: &[NodeIndex]) -> (Vec<u32>, Vec<NodeIndex>) {
    let mut numbers = vec![0_u32; nodes.len() + 1];
    let mut kept = vec![];
    let map = instances
        .iter()
        .map(|&id| match numbers.get_mut(id as usize).filter(|_| id > 0) {
            None => 0,
            Some(slot) => {
                if *slot == 0 {
                    kept.push(nodes[id as usize - 1]);
                    *slot = kept.len() as u32;
                }
                *slot
            }
        })
        .collect();
    (map, kept)
}
