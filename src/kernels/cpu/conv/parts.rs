//! An output cut into parts, for threads to share.
//!
//! Owns: [`Parts`], [`share`]. Must not know: what is done with a part.

use super::{Form, PackedConv};
use std::ops::Range;

/// Parts of an output, each some rows and some channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Rows that stay together, all rows, and bands they are cut into.
    unit: usize,
    rows: usize,
    bands: usize,
    /// Channels that stay together, all channels, and ranges they are cut into.
    panel: usize,
    channels: usize,
    cuts: usize,
}

impl Parts {
    /// How many.
    pub fn count(&self) -> usize {
        self.bands * self.cuts
    }

    /// Rows and channels of a part, below [`Parts::count`].
    pub fn part(&self, i: usize) -> (Range<usize>, Range<usize>) {
        (
            share(self.rows, self.unit, self.bands, i / self.cuts),
            share(self.channels, self.panel, self.cuts, i % self.cuts),
        )
    }
}

/// The `i`-th of `count` ranges of about one length that `len` things are cut into at multiples of `unit`.
pub fn share(len: usize, unit: usize, count: usize, i: usize) -> Range<usize> {
    let at = |i: usize| (i * len.div_ceil(unit) / count * unit).min(len);
    at(i)..at(i + 1)
}

impl PackedConv {
    /// Cuts an output of this size into at most `most` parts that `threads` threads compute soonest: rows and channels
    /// out. Where each band of rows would transform all weights, there are fewer of them, and each has a few of the
    /// channels.
    pub fn parts(&self, out: (usize, usize), threads: usize, most: usize) -> Parts {
        let (unit, rows) = (self.row_step(), out.0);
        let most = most.max(1);
        let (bands, cuts) = match &self.form {
            Form::Winograd(op) => op.cut(out, threads.max(1), most),
            _ => (most.min(rows), 1),
        };
        let panel = self.channel_step();
        Parts { unit, rows, bands: bands.clamp(1, rows.div_ceil(unit).max(1)), panel, channels: self.spec.cout, cuts }
    }

    /// Channels out that are computed together.
    fn channel_step(&self) -> usize {
        if let Form::Winograd(op) = &self.form { op.panel() } else { self.spec.cout }
    }

    pub(super) fn has_part(&self, channels: &Range<usize>) -> bool {
        let (step, cout) = (self.channel_step(), self.spec.cout);
        channels.start.is_multiple_of(step)
            && (channels.end == cout || channels.end < cout && channels.end.is_multiple_of(step))
    }
}
