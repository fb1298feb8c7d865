//! Which marker a pixel of a connected area belongs to.
//!
//! Owns: [`MarkedWatershed`], [`MarkedRules`]. Must not know: how heights and markers are made, regions' cores.
//!
//! Each pixel climbs to its highest neighbour (of four; of equals the first in raster order) until it meets a marker
//! or stands on a peak. The pixels of a peak without marker go where a flood from the markers would come in: across the
//! highest saddle to a marked neighbour or, in areas that are looked at as a whole, to a higher peak, and on from
//! there.
//!
//! This is what a flood in the order of heights gives, but for ties; and in large areas nothing farther than
//! [`MarkedRules::reach_px`] matters, which a flood cannot promise.
//!
//! Source: the watershed of HoVer-Net's `post_proc.py` (`skimage.segmentation.watershed`, 4-connected) as steepest
//! ascent. Differs: in large areas pixels more than `steps` from their marker or peak, and pixels outside the square
//! of `side_px` around the middle of their marker, are background.

use super::{
    energy::{Blob, Frame},
    instance::Run,
    markers::Markers,
};

/// How far things matter in large areas.
#[derive(Debug, Clone, Copy)]
pub(super) struct MarkedRules {
    /// A pixel's way to its marker or peak is at most this long.
    pub(super) steps: u8,
    /// A nucleus lies in a square of this side around the middle of its marker.
    pub(super) side_px: u32,
}

impl MarkedRules {
    /// Farthest pixel whose height or marker decides where a pixel belongs: its way to a peak, from there to the edge
    /// of the peak's basin, and the way of a pixel beyond that edge.
    pub(super) fn reach_px(&self) -> u32 {
        3 * u32::from(self.steps) + 2
    }
}

const NONE: u32 = 0;
const FAR: u32 = u32::MAX;

/// A local maximum without a marker; markers come before it in the order of labels.
#[derive(Debug, Clone, Copy)]
struct Peak {
    height: i16,
    /// Index in the padded arrays.
    at: u32,
    /// Height of the highest saddle it is to be joined across; −1 for none.
    saddle: i16,
    /// Label behind it.
    parent: u32,
}

/// What the division of a blob needs.
#[derive(Default)]
pub(super) struct MarkedWatershed {
    labels: Vec<u32>,
    /// Length of a pixel's way to its marker or peak, at most 255.
    steps: Vec<u8>,
    peaks: Vec<Peak>,
    path: Vec<u32>,
    roots: Vec<u32>,
}

impl MarkedWatershed {
    /// Divides a blob; `emit` gets each run with the index of its marker, in raster order, in the region's arrays.
    pub(super) fn divide(
        &mut self,
        height: &[i16],
        markers: &Markers,
        blob: &Blob<'_>,
        frame: &Frame,
        rules: &MarkedRules,
        mut emit: impl FnMut(u32, Run),
    ) {
        if markers.list.is_empty() {
            return;
        }
        let marked = markers.list.len() as u32;
        self.labels.clear();
        self.labels.resize(frame.len(), NONE);
        self.steps.clear();
        self.steps.resize(frame.len(), 0);
        for &(marker, run) in &markers.runs {
            let start = run.y as usize * frame.stride;
            let at = start + run.x0 as usize..start + run.x1 as usize;
            for (label, &height) in self.labels[at.clone()].iter_mut().zip(&height[at]) {
                *label = if height > 0 { marker + 1 } else { NONE };
            }
        }
        self.peaks.clear();
        let longest = if blob.is_large { rules.steps } else { u8::MAX };
        for run in blob.runs {
            let start = frame.index(run.x0, run.y);
            for at in start..start + (run.x1 - run.x0) as usize {
                if self.labels[at] == NONE {
                    self.climb(at, height, frame.stride, marked, longest, blob.is_large);
                }
            }
        }
        self.join(height, blob, frame, marked);
        for run in blob.runs {
            self.emit_run(*run, markers, blob, frame, rules, &mut emit);
        }
    }

    /// Labels the pixels on the way from `at` to its marker or peak.
    fn climb(&mut self, mut at: usize, height: &[i16], stride: usize, marked: u32, longest: u8, is_large: bool) {
        self.path.clear();
        while self.labels[at] == NONE {
            let mut next = at;
            for there in [at - stride, at - 1, at + 1, at + stride] {
                next = if height[there] > height[next] { there } else { next };
            }
            if next == at {
                self.peaks.push(Peak { height: height[at], at: at as u32, saddle: -1, parent: NONE });
                self.labels[at] = marked + self.peaks.len() as u32;
                break;
            }
            self.path.push(at as u32);
            at = next;
        }
        let (mut label, mut steps) = (self.labels[at], self.steps[at]);
        while let Some(at) = self.path.pop() {
            if is_large && steps == longest {
                label = FAR;
            }
            steps = steps.saturating_add(1);
            self.labels[at as usize] = label;
            self.steps[at as usize] = steps.min(longest);
        }
    }

    /// Finds the marker of each peak: `roots[peak]` is a marker's label, or none.
    fn join(&mut self, height: &[i16], blob: &Blob<'_>, frame: &Frame, marked: u32) {
        self.roots.clear();
        if self.peaks.is_empty() {
            return;
        }
        for run in blob.runs {
            let start = frame.index(run.x0, run.y);
            for at in start..start + (run.x1 - run.x0) as usize {
                let here = self.labels[at];
                for next in [at + 1, at + frame.stride] {
                    let there = self.labels[next];
                    if there != here && here.max(there) > marked && here.max(there) != FAR && there != NONE {
                        let saddle = height[at].min(height[next]);
                        self.consider(here, there, saddle, marked, blob.is_large);
                        self.consider(there, here, saddle, marked, blob.is_large);
                    }
                }
            }
        }
        for i in 0..self.peaks.len() {
            let mut label = self.peaks[i].parent;
            while label > marked {
                label = self.peaks[(label - marked) as usize - 1].parent;
            }
            self.roots.push(label);
        }
    }

    /// Joins a peak across `saddle`, if it may and knows no better; of equal saddles the first in raster order.
    fn consider(&mut self, from: u32, to: u32, saddle: i16, marked: u32, is_large: bool) {
        if from <= marked {
            return;
        }
        let may = to <= marked || (!is_large && self.rank(to, marked) > self.rank(from, marked));
        let peak = &mut self.peaks[(from - marked) as usize - 1];
        if may && saddle > peak.saddle {
            (peak.saddle, peak.parent) = (saddle, to);
        }
    }

    /// Total order of peaks: by height, of equals the first.
    fn rank(&self, peak: u32, marked: u32) -> (i16, std::cmp::Reverse<u32>) {
        let peak = &self.peaks[(peak - marked) as usize - 1];
        (peak.height, std::cmp::Reverse(peak.at))
    }

    /// Emits the pieces of a run.
    fn emit_run(
        &self,
        run: Run,
        markers: &Markers,
        blob: &Blob<'_>,
        frame: &Frame,
        rules: &MarkedRules,
        emit: &mut impl FnMut(u32, Run),
    ) {
        let marked = markers.list.len() as u32;
        let root = |label: u32| match label {
            FAR => NONE,
            label if label > marked => self.roots[(label - marked) as usize - 1],
            label => label,
        };
        let start = frame.index(run.x0, run.y);
        let mut x0 = run.x0;
        for same in
            self.labels[start..start + (run.x1 - run.x0) as usize].chunk_by(|&a, &b| a == b || root(a) == root(b))
        {
            let mut piece = Run { y: run.y, x0, x1: x0 + same.len() as u32 };
            x0 = piece.x1;
            let label = root(same[0]);
            if label == NONE || !markers.list[label as usize - 1].counts {
                continue;
            }
            if blob.is_large {
                // The middle is in the padded arrays.
                let (mx, my) = markers.list[label as usize - 1].middle;
                let (x, y) = frame.outside(mx, my);
                let half = i64::from(rules.side_px / 2);
                if (i64::from(piece.y) - y).abs() > half {
                    continue;
                }
                piece.x0 = piece.x0.max((x - half).max(0) as u32);
                piece.x1 = piece.x1.min((x + half + 1).max(0) as u32);
            }
            if piece.x0 < piece.x1 {
                emit(label - 1, piece);
            }
        }
    }
}
