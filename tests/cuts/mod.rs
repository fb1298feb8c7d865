//! Slides cut at random places, for tests that nuclei do not depend on where.

use std::ops::Range;
use wsi_run::{
    geometry::{Rect, Size, Target, TargetGrid},
    instances::Instance,
    model::{ClassInfo, HEMATOXYLIN_DEFAULTS, HematoxylinModel, Model, ModelSpec},
    units::{Mpp, MppXy},
};

/// Small and quick numbers; every rule of the methods matters at the sizes drawn with them.
pub struct Random(pub u64);

impl Random {
    /// The next number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) * n) >> 31
    }
}

/// Edges from 0 to `end` with random steps.
pub fn cuts(end: u32, random: &mut Random, largest: u32) -> Vec<u32> {
    let mut at = vec![0];
    let mut last = 0;
    while last < end {
        last = (last + 1 + random.below(u64::from(largest)) as u32).min(end);
        at.push(last);
    }
    at
}

/// The instances of every region of a cutting, put together as one region would give them.
pub fn extract_cut(xs: &[u32], ys: &[u32], extract: impl Fn(Rect<Target>) -> Vec<Instance>) -> Vec<Instance> {
    let cores = ys.windows(2).flat_map(|y| xs.windows(2).map(move |x| (x, y)));
    let core = |(x, y): (&[u32], &[u32])| Rect::new(i64::from(x[0]), i64::from(y[0]), x[1] - x[0], y[1] - y[0]);
    let mut all: Vec<Instance> = cores.flat_map(|at| extract(core(at))).collect();
    all.sort_by_key(|i| i.runs[0]);
    all
}

/// Where the rows of `rect` lie in maps `w` px wide.
pub fn rows(rect: Rect<Target>, w: u32) -> impl Iterator<Item = Range<usize>> {
    let at = move |y: i64, x: i64| y as usize * w as usize + x as usize;
    (rect.y..rect.bottom()).map(move |y| at(y, rect.x)..at(y, rect.right()))
}

pub fn mpp(um_per_px: f64) -> Mpp {
    Mpp::new(um_per_px).unwrap()
}

pub fn grid(w: u32, h: u32, um_per_px: f64) -> TargetGrid {
    TargetGrid::new(Size::new(w, h), MppXy::square(mpp(um_per_px)), mpp(um_per_px))
}

/// A model with two types of nuclei.
pub fn two_types() -> ModelSpec {
    let class = |name: &str| ClassInfo { name: name.into(), color: [0; 3] };
    let mut spec = HematoxylinModel::new(&HEMATOXYLIN_DEFAULTS, None).unwrap().spec().clone();
    spec.classes = vec![class("tumour"), class("lymphocyte")];
    spec
}
