//! Where nuclei touch: the energy of a connected area, high at the edges of nuclei and low in their middle.
//!
//! Owns: [`Energy`], [`Frame`], [`Blob`]. Must not know: which nucleus a pixel belongs to, regions' cores.
//!
//! Source: HoVer-Net's `post_proc.py` (`overall`, `dist`): 1 − the slope brought to 0–1, the larger of both directions.
//! Differs: there the smallest and the largest slope are those of the array the function was called with, so that the
//! result depends on how a slide is cut. Here they are
//! - those over the pixels of the connected area, where it fits into a square of `small_px`;
//! - else those over foreground pixels of the squares of [`CELL_PX`] around, up to `cells` away, counted from the
//!   slide's corner.

use super::{
    instance::Run,
    joined_runs::Area,
    slopes::{Patch, Slopes},
};

/// Side of the squares that large areas are looked at in.
pub(super) const CELL_PX: usize = 16;
/// Rings of zeros around a frame.
pub(super) const RING: usize = 2;
/// Heights before smoothing are 1 to `1 + RANGE`; the smoothing's weights sum to 16.
const RANGE: f32 = 2040.0;

/// A connected area of the foreground.
#[derive(Clone, Copy)]
pub(super) struct Blob<'a> {
    /// Its runs, in the region's arrays.
    pub(super) runs: &'a [Run],
    /// Its size.
    pub(super) area: Area,
    /// Too large to be looked at as a whole.
    pub(super) is_large: bool,
}

/// The maps of a region.
#[derive(Clone, Copy)]
pub(super) struct Maps<'a> {
    /// `[h, w]` probability of a nucleus.
    pub(super) nuclear: &'a [i16],
    /// `[2, h, w]`.
    pub(super) hv: &'a [i16],
    /// Width and height.
    pub(super) size: (usize, usize),
    /// Column and row of the slide at index 0.
    pub(super) origin: (i64, i64),
    /// Which edges are the slide's: left, top, right, bottom.
    pub(super) slide_edges: [bool; 4],
    /// A pixel is foreground at or above it.
    pub(super) at_least: i16,
}

/// Where a blob's padded arrays lie: a patch with [`RING`] around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// The blob's bounding box in the region's arrays.
    pub(super) patch: Patch,
    /// From one row to the next.
    pub(super) stride: usize,
    /// Which edges of the patch are the slide's: left, top, right, bottom.
    pub(super) slide_edges: [bool; 4],
}

impl Frame {
    /// Index of the pixel `(x, y)` of the region's arrays.
    #[inline(always)]
    pub(super) fn index(&self, x: u32, y: u32) -> usize {
        (y as usize - self.patch.y0 + RING) * self.stride + x as usize - self.patch.x0 + RING
    }

    /// Column and row in the region's arrays of the pixel `(x, y)` of the padded arrays.
    pub(super) fn outside(&self, x: u32, y: u32) -> (i64, i64) {
        let ring = RING as i64;
        (i64::from(x) + self.patch.x0 as i64 - ring, i64::from(y) + self.patch.y0 as i64 - ring)
    }

    /// Pixels of the padded arrays.
    pub(super) fn len(&self) -> usize {
        self.stride * (self.patch.h + 2 * RING)
    }

    fn of(area: &Area, maps: &Maps<'_>) -> Self {
        let patch = Patch {
            x0: area.left as usize,
            y0: area.top as usize,
            w: (area.right - area.left) as usize,
            h: (area.bottom - area.top) as usize,
        };
        let [left, top, right, bottom] = maps.slide_edges;
        let slide_edges = [
            left && patch.x0 == 0,
            top && patch.y0 == 0,
            right && area.right as usize == maps.size.0,
            bottom && area.bottom as usize == maps.size.1,
        ];
        Self { patch, stride: patch.w + 2 * RING, slide_edges }
    }
}

/// Smallest slope and factor to 0–1, of both directions.
#[derive(Debug, Clone, Copy)]
struct Scale {
    least: [f32; 2],
    factor: [f32; 2],
}

/// Smallest and largest slope of both directions.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    least: [f32; 2],
    most: [f32; 2],
}

impl Span {
    const NOTHING: Self = Self { least: [f32::INFINITY; 2], most: [f32::NEG_INFINITY; 2] };

    fn join(&mut self, other: &Self) {
        for d in 0..2 {
            self.least[d] = self.least[d].min(other.least[d]);
            self.most[d] = self.most[d].max(other.most[d]);
        }
    }

    fn scale(&self) -> Scale {
        let factor = |d: usize| if self.most[d] > self.least[d] { 1.0 / (self.most[d] - self.least[d]) } else { 0.0 };
        Scale { least: self.least, factor: [factor(0), factor(1)] }
    }
}

/// Padded arrays of one blob.
#[derive(Default)]
pub(super) struct Energy {
    /// Positive on the blob, highest in the middle of nuclei: 1 − energy, smoothed. 0 elsewhere.
    pub(super) height: Vec<i16>,
    /// 1 where the energy is below the threshold.
    pub(super) marker: Vec<u8>,
    /// Not yet smoothed.
    raw: Vec<i16>,
    column: Vec<i16>,
    slopes: Slopes,
    spans: Vec<(u32, u32)>,
    cells: Vec<Span>,
    rows: Vec<Span>,
}

impl Energy {
    /// Computes a blob's energy; large ones look `cells` squares far. Returns where the arrays lie.
    pub(super) fn make(&mut self, maps: &Maps<'_>, blob: &Blob<'_>, threshold: f32, cells: usize) -> Frame {
        let frame = Frame::of(&blob.area, maps);
        for array in [&mut self.raw, &mut self.height] {
            array.clear();
            array.resize(frame.len(), 0);
        }
        self.marker.clear();
        self.marker.resize(frame.len(), 0);
        let patch = if blob.is_large { wider(frame.patch, cells * CELL_PX + CELL_PX, maps.size) } else { frame.patch };
        self.spans.clear();
        self.spans.resize(patch.h, if blob.is_large { (0, patch.w as u32) } else { (u32::MAX, 0) });
        if !blob.is_large {
            for run in blob.runs {
                let span = &mut self.spans[run.y as usize - patch.y0];
                *span = (span.0.min(run.x0 - patch.x0 as u32), run.x1 - patch.x0 as u32);
            }
        }
        self.slopes.make(maps.hv, maps.size, patch, &self.spans);
        if blob.is_large {
            self.fill_cells(maps, patch, cells);
            self.by_cell(maps, blob, &frame, patch, threshold);
        } else {
            let scale = self.span_of(blob.runs, patch).scale();
            for &run in blob.runs {
                self.fill(run, &scale, &frame, patch, threshold);
            }
        }
        self.smooth(blob.runs, &frame);
        frame
    }

    /// Smallest and largest slope over runs.
    fn span_of(&self, runs: &[Run], patch: Patch) -> Span {
        let mut span = Span::NOTHING;
        for run in runs {
            let at = self.slope_index(*run, patch);
            for d in 0..2 {
                for &v in &self.slopes.rise[d][at.clone()] {
                    span.least[d] = if v < span.least[d] { v } else { span.least[d] };
                    span.most[d] = if v > span.most[d] { v } else { span.most[d] };
                }
            }
        }
        span
    }

    fn slope_index(&self, run: Run, patch: Patch) -> std::ops::Range<usize> {
        let start = (run.y as usize - patch.y0) * self.slopes.stride + run.x0 as usize - patch.x0;
        start..start + (run.x1 - run.x0) as usize
    }

    /// Fills a run's pixels of the arrays.
    fn fill(&mut self, run: Run, scale: &Scale, frame: &Frame, patch: Patch, threshold: f32) {
        let at = self.slope_index(run, patch);
        let [along_x, along_y] = &self.slopes.rise;
        let start = frame.index(run.x0, run.y);
        let n = at.len();
        let (raw, marker) = (&mut self.raw[start..start + n], &mut self.marker[start..start + n]);
        for (((&x, &y), raw), marker) in along_x[at.clone()].iter().zip(&along_y[at]).zip(raw).zip(marker) {
            let (x, y) = ((x - scale.least[0]) * scale.factor[0], (y - scale.least[1]) * scale.factor[1]);
            let smaller = if x < y { x } else { y };
            *marker = u8::from(1.0 - smaller < threshold);
            *raw = (smaller * RANGE + 1.5) as i32 as i16;
        }
    }

    /// Smallest and largest slope over the foreground in and around each square of a patch.
    fn fill_cells(&mut self, maps: &Maps<'_>, patch: Patch, reach: usize) {
        let cells = Cells::of(patch, maps.origin);
        self.cells.clear();
        self.cells.resize(cells.across * cells.down, Span::NOTHING);
        for y in 0..patch.h {
            let from = (patch.y0 + y) * maps.size.0 + patch.x0;
            let nuclear = &maps.nuclear[from..from + patch.w];
            let rise = |d: usize| &self.slopes.rise[d][y * self.slopes.stride..][..patch.w];
            let (along_x, along_y) = (rise(0), rise(1));
            let row = cells.row(y) * cells.across;
            for (x, _) in nuclear.iter().enumerate().filter(|(_, p)| **p >= maps.at_least) {
                let slopes = [along_x[x], along_y[x]];
                self.cells[row + cells.column(x)].join(&Span { least: slopes, most: slopes });
            }
        }
        let window = |i: usize, n: usize| i.saturating_sub(reach)..(i + reach + 1).min(n);
        self.rows.clear();
        self.rows.resize(self.cells.len(), Span::NOTHING);
        for (i, to) in self.rows.iter_mut().enumerate() {
            let (x, y) = (i % cells.across, i / cells.across);
            window(x, cells.across).for_each(|x| to.join(&self.cells[y * cells.across + x]));
        }
        for (i, to) in self.cells.iter_mut().enumerate() {
            let (x, y) = (i % cells.across, i / cells.across);
            window(y, cells.down).for_each(|y| to.join(&self.rows[y * cells.across + x]));
        }
    }

    /// Fills the arrays of a large blob.
    fn by_cell(&mut self, maps: &Maps<'_>, blob: &Blob<'_>, frame: &Frame, patch: Patch, threshold: f32) {
        let cells = Cells::of(patch, maps.origin);
        for &run in blob.runs {
            let row = cells.row(run.y as usize - patch.y0) * cells.across;
            let mut x0 = run.x0;
            while x0 < run.x1 {
                let column = cells.column(x0 as usize - patch.x0);
                let x1 = run.x1.min((cells.end(column) + patch.x0) as u32);
                let scale = self.cells[row + column].scale();
                self.fill(Run { y: run.y, x0, x1 }, &scale, frame, patch, threshold);
                x0 = x1;
            }
        }
    }

    /// Smooths the heights with [1 2 1] along both axes, mirrored at the slide's edge.
    fn smooth(&mut self, runs: &[Run], frame: &Frame) {
        mirror(&mut self.raw, frame);
        let stride = frame.stride;
        for run in runs {
            let n = (run.x1 - run.x0) as usize;
            let start = frame.index(run.x0, run.y);
            let row = |at: usize| &self.raw[at - 1..at + n + 1];
            self.column.clear();
            let (above, here, below) = (row(start - stride), row(start), row(start + stride));
            self.column.extend(above.iter().zip(here).zip(below).map(|((&a, &b), &c)| a + 2 * b + c));
            // A pixel that touches by its corner alone may belong to an area this one does not know.
            for (inside, outside, column) in [(start, start - 1, 0), (start + n - 1, start + n, n + 1)] {
                for (inside, outside) in [(inside - stride, outside - stride), (inside + stride, outside + stride)] {
                    if self.raw[inside] == 0 {
                        self.column[column] -= self.raw[outside];
                    }
                }
            }
            let to = &mut self.height[start..start + n];
            for (to, window) in to.iter_mut().zip(self.column.windows(3)) {
                *to = window[0] + 2 * window[1] + window[2];
            }
        }
    }
}

/// The squares of the slide that a patch lies in.
#[derive(Clone, Copy)]
struct Cells {
    /// Pixels of the first square left of the patch, and above it.
    before: (usize, usize),
    across: usize,
    down: usize,
}

impl Cells {
    fn of(patch: Patch, origin: (i64, i64)) -> Self {
        let before = |origin: i64, at: usize| (origin + at as i64).rem_euclid(CELL_PX as i64) as usize;
        let before = (before(origin.0, patch.x0), before(origin.1, patch.y0));
        let count = |before: usize, n: usize| (before + n).div_ceil(CELL_PX);
        Self { before, across: count(before.0, patch.w), down: count(before.1, patch.h) }
    }

    fn column(&self, x: usize) -> usize {
        (x + self.before.0) / CELL_PX
    }

    fn row(&self, y: usize) -> usize {
        (y + self.before.1) / CELL_PX
    }

    /// First column of the patch after a column of squares.
    fn end(&self, column: usize) -> usize {
        (column + 1) * CELL_PX - self.before.0
    }
}

/// The patch and `by_px` around it, within the picture.
fn wider(patch: Patch, by_px: usize, (w, h): (usize, usize)) -> Patch {
    let (x0, y0) = (patch.x0.saturating_sub(by_px), patch.y0.saturating_sub(by_px));
    let (x1, y1) = ((patch.x0 + patch.w + by_px).min(w), (patch.y0 + patch.h + by_px).min(h));
    Patch { x0, y0, w: x1 - x0, h: y1 - y0 }
}

/// Fills the ring beside the slide's edges with what lies one pixel inside.
fn mirror(raw: &mut [i16], frame: &Frame) {
    let (stride, Patch { w, h, .. }) = (frame.stride, frame.patch);
    let [left, top, right, bottom] = frame.slide_edges;
    let mut copy_row = |from: usize, to: usize| raw.copy_within(from * stride..(from + 1) * stride, to * stride);
    if top && h > 1 {
        copy_row(RING + 1, RING - 1);
    }
    if bottom && h > 1 {
        copy_row(RING + h - 2, RING + h);
    }
    if w > 1 {
        for row in raw.chunks_exact_mut(stride) {
            if left {
                row[RING - 1] = row[RING + 1];
            }
            if right {
                row[RING + w] = row[RING + w - 2];
            }
        }
    }
}
