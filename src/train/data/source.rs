//! What every data set gives, whatever its layout.
//!
//! Owns: [`Entry`], [`Source`], [`Piece`], [`Place`], [`Window`]. Must not know: files, splits, augmentation.

use crate::{
    config::settings::data::Beyond,
    train::{TrainError, class_tree::NodeIndex, sample::Sample},
};
use std::sync::Arc;

/// A picture or slide of a data set: what splits divide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What messages call it: its file, and the place in it.
    pub name: String,
    /// Its path below the set's folder: what lists and rules look at.
    pub id: String,
    /// Who is on it.
    pub patient: String,
}

/// Where something with a class lies, px of the training's resolution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// From the left.
    pub x: f64,
    /// From the top.
    pub y: f64,
    /// Its class.
    pub node: NodeIndex,
}

/// A square of an entry that belongs to its grid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Middle, px of the training's resolution.
    pub x: f64,
    /// Middle.
    pub y: f64,
}

/// A part of an entry that holds what was asked for.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Pixels and truth.
    pub sample: Arc<Sample>,
    /// Where its corner lies in the entry.
    pub corner: (i64, i64),
    /// What lies beyond it.
    pub beyond: Beyond,
}

/// A data set at the training's resolution.
pub trait Source: Send + Sync {
    /// Its pictures or slides.
    fn entries(&self) -> &[Entry];

    /// Width and height of an entry, px of the training's resolution.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn size(&self, entry: usize) -> Result<(u32, u32), TrainError>;

    /// A part of an entry that holds everything within `reach_px` of a place, as far as there is something.
    ///
    /// # Errors
    /// A file that cannot be read or does not hold what it should.
    fn piece(&self, entry: usize, at: (f64, f64), reach_px: f64) -> Result<Piece, TrainError>;

    /// Everything with a class of its own: nuclei, areas, or the whole entry.
    ///
    /// # Errors
    /// A file that cannot be read or does not hold what it should.
    fn places(&self, entry: usize) -> Result<Vec<Place>, TrainError>;

    /// Squares of `side_px` that cover an entry, those with too little tissue left out.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn windows(&self, entry: usize, side_px: u32, min_tissue: f64) -> Result<Vec<Window>, TrainError> {
        let _ = min_tissue;
        let (w, h) = self.size(entry)?;
        Ok(cover((w, h), side_px))
    }

    /// Bytes of an entry's file: entries with other counts show other things.
    fn bytes(&self, entry: usize) -> u64;

    /// A hash of what an entry shows: equal for copies under other names.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn fingerprint(&self, entry: usize) -> Result<[u8; 32], TrainError>;
}

/// Middles of the squares that cover `[h, w]` px, evenly spread; they overlap where the sides are no multiples.
pub fn cover((w, h): (u32, u32), side_px: u32) -> Vec<Window> {
    let side = f64::from(side_px);
    let along = |px: u32| {
        let count = px.div_ceil(side_px).max(1);
        let room = (f64::from(px) - side).max(0.0);
        let first = if px > side_px { side / 2.0 } else { f64::from(px) / 2.0 };
        (0..count)
            .map(move |k| first + if count > 1 { (room * f64::from(k) / f64::from(count - 1)).round() } else { 0.0 })
    };
    along(h).flat_map(|y| along(w).map(move |x| Window { x, y })).collect()
}
