//! Training pictures cut from a data set, and those it is judged by.
//!
//! Owns: [`Patches`]. Must not know: layouts, targets.
//!
//! Training: squares at random places, each turned, bent and cut in one resampling, then changed in colour. Every epoch
//! covers the pictures about once, in another order. Validation: squares of a grid, as they are.

use super::source::{Source, Window};
use crate::{
    config::settings::data::{Augment, Sampling},
    train::{
        TrainError,
        augment::{Augmenter, Look, Map, warp},
        class_tree::{BACKGROUND, NodeIndex, UNKNOWN},
        rng::{Rng, order_of_epoch},
        sample::{Sample, Samples},
    },
};
use rayon::prelude::*;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// Squares of one data set.
pub struct Patches {
    source: Arc<dyn Source>,
    /// Entry and window of each square of the grid.
    slots: Vec<(usize, Window)>,
    patch_px: u32,
    training: Option<Training>,
}

/// Orders of the slots, by epoch and seed.
type Orders = BTreeMap<(u64, u64), Arc<Vec<usize>>>;

/// What training draws.
struct Training {
    augment: Augment,
    samples: usize,
    balance: f64,
    /// Per class: entry and place of everything of it.
    classes: Vec<Vec<(usize, f32, f32)>>,
    /// Order of the slots, by epoch and seed.
    orders: Mutex<Orders>,
    /// Looks whose stain is taken; empty: those of the slots' entries.
    references: Vec<Look>,
    /// Look of each entry, once it is needed.
    looks: Vec<OnceLock<Option<Look>>>,
}

impl Patches {
    /// Squares of a grid over `entries`, as they are: for validation.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn grid(
        source: Arc<dyn Source>,
        entries: &[usize],
        patch_px: u32,
        min_tissue: f64,
    ) -> Result<Self, TrainError> {
        // Slides are opened for it: each takes a while.
        let windows = entries.par_iter().map(|&entry| source.windows(entry, patch_px, min_tissue));
        let windows: Vec<Vec<Window>> = windows.collect::<Result<_, _>>()?;
        let slots = entries.iter().zip(windows).flat_map(|(&entry, all)| all.into_iter().map(move |w| (entry, w)));
        let slots = slots.collect();
        Ok(Self { source, slots, patch_px, training: None })
    }

    /// Squares at random places of `entries`: for training. `looks` are what their stain may become; none: that of
    /// another of the entries.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn random(
        source: Arc<dyn Source>,
        entries: &[usize],
        patch_px: u32,
        sampling: &Sampling,
        augment: &Augment,
        looks: &[Look],
    ) -> Result<Self, TrainError> {
        let mut this = Self::grid(source, entries, patch_px, sampling.min_tissue)?;
        let mut classes: BTreeMap<NodeIndex, Vec<(usize, f32, f32)>> = BTreeMap::new();
        if sampling.balance > 0.0 {
            let places = entries.par_iter().map(|&entry| Ok((entry, this.source.places(entry)?)));
            for (entry, places) in places.collect::<Result<Vec<_>, TrainError>>()? {
                for place in places {
                    if !matches!(place.node, UNKNOWN | BACKGROUND) {
                        classes.entry(place.node).or_default().push((entry, place.x as f32, place.y as f32));
                    }
                }
            }
        }
        let samples = sampling.samples_per_epoch.map_or(this.slots.len(), |n| n as usize);
        this.training = Some(Training {
            augment: augment.clone(),
            samples: if this.slots.is_empty() { 0 } else { samples },
            balance: sampling.balance,
            classes: classes.into_values().collect(),
            orders: Mutex::new(BTreeMap::new()),
            references: looks.to_vec(),
            looks: (0..this.source.entries().len()).map(|_| OnceLock::new()).collect(),
        });
        Ok(this)
    }

    /// The square as it is.
    fn plain(&self, (entry, window): (usize, Window)) -> Result<Sample, TrainError> {
        let reach = f64::from(self.patch_px) / 2.0 + 1.0;
        let piece = self.source.piece(entry, (window.x, window.y), reach)?;
        let size = (self.patch_px, self.patch_px);
        let map = Map::centred(size, (window.x, window.y)).from_corner(piece.corner.0, piece.corner.1);
        Ok(warp(&piece.sample, &map, size, piece.beyond))
    }

    /// A square at random.
    fn drawn(&self, training: &Training, index: usize, epoch: u64, seed: u64) -> Result<Sample, TrainError> {
        let mut rng = Rng::new(&[seed, epoch, index as u64, 0]);
        let (entry, x, y) = self.place(training, index, epoch, seed, &mut rng)?;
        let augment = &training.augment;
        let mut augmenter = Augmenter::new(augment, index, epoch, seed);
        let size = (self.patch_px, self.patch_px);
        let map = augmenter.map(size, (x, y));
        let piece = self.source.piece(entry, (x, y), Augmenter::reach_px(augment, size))?;
        let map = map.from_corner(piece.corner.0, piece.corner.1);
        let mut sample = warp(&piece.sample, &map, size, piece.beyond);
        let looks = match augmenter.transfer() {
            Some(choice) => self.looks(training, entry, choice)?,
            None => None,
        };
        augmenter.colours(&mut sample, looks.as_ref().map(|(own, other)| (own, other)));
        Ok(sample)
    }

    /// Middle of the square: near something of a class drawn evenly, or anywhere in the slot whose turn it is.
    fn place(
        &self,
        training: &Training,
        index: usize,
        epoch: u64,
        seed: u64,
        rng: &mut Rng,
    ) -> Result<(usize, f64, f64), TrainError> {
        let side = f64::from(self.patch_px);
        let (balanced, class, choice) = (rng.chance(training.balance), rng.unit(), rng.unit());
        let (dx, dy) = (rng.within(0.5), rng.within(0.5));
        let pick = |n: usize, share: f64| ((share * n as f64) as usize).min(n - 1);
        let (entry, x, y) = if balanced && !training.classes.is_empty() {
            let places = &training.classes[pick(training.classes.len(), class)];
            let (entry, x, y) = places[pick(places.len(), choice)];
            // Within the middle half of the square, so that it stays inside when the square is turned.
            (entry, f64::from(x) + 0.5 * dx * side, f64::from(y) + 0.5 * dy * side)
        } else {
            let n = self.slots.len();
            let order = self.order(training, epoch, seed, (index / n) as u64);
            let (entry, window) = self.slots[order[index % n]];
            (entry, window.x + dx * side, window.y + dy * side)
        };
        let (w, h) = self.source.size(entry)?;
        let hold = |at: f64, px: u32| {
            let (low, high) = (side / 2.0, f64::from(px) - side / 2.0);
            if low <= high { at.clamp(low, high) } else { f64::from(px) / 2.0 }
        };
        Ok((entry, hold(x, w), hold(y, h)))
    }

    fn order(&self, training: &Training, epoch: u64, seed: u64, pass: u64) -> Arc<Vec<usize>> {
        let key = (epoch.wrapping_mul(0x1_0000) ^ pass, seed);
        let mut orders = training.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if orders.len() > 16 {
            orders.pop_first();
        }
        orders.entry(key).or_insert_with(|| Arc::new(order_of_epoch(self.slots.len(), key.0, seed))).clone()
    }

    /// The look of an entry and that of another.
    fn looks(&self, training: &Training, entry: usize, choice: u64) -> Result<Option<(Look, Look)>, TrainError> {
        let pick = |n: usize| Rng::new(&[choice]).below(n);
        let own = self.look(training, entry)?;
        let other = match training.references.len() {
            0 => self.look(training, self.slots[pick(self.slots.len())].0)?,
            n => Some(training.references[pick(n)]),
        };
        Ok(own.zip(other))
    }

    /// The look of an entry, always of the same part of it: what is drawn first must not matter.
    fn look(&self, training: &Training, entry: usize) -> Result<Option<Look>, TrainError> {
        let slot = &training.looks[entry];
        if let Some(look) = slot.get() {
            return Ok(*look);
        }
        let first = self.slots.iter().find(|(e, _)| *e == entry).map(|(_, w)| (w.x, w.y));
        let Some(at) = first else { return Ok(None) };
        let piece = self.source.piece(entry, at, f64::from(self.patch_px))?;
        Ok(*slot.get_or_init(|| Look::of(&piece.sample.image.data, training.augment.stain_transfer.method)))
    }
}

impl Samples for Patches {
    fn len(&self) -> usize {
        self.training.as_ref().map_or(self.slots.len(), |t| t.samples)
    }

    /// Of training sets any `index` is a sample, also beyond the epoch's end.
    fn sample(&self, index: usize, epoch: u64, seed: u64) -> Result<Sample, TrainError> {
        if self.slots.is_empty() {
            return Err(TrainError::new("a data set without pictures has no samples"));
        }
        match &self.training {
            None => self.plain(self.slots[index % self.slots.len()]),
            Some(training) => self.drawn(training, index, epoch, seed),
        }
    }

    fn name(&self, index: usize) -> String {
        let Some(&(entry, window)) = self.slots.get(index % self.slots.len().max(1)) else { return String::new() };
        format!("{} at ({}, {})", self.source.entries()[entry].name, window.x, window.y)
    }

    fn origin(&self, index: usize, epoch: u64, seed: u64) -> String {
        let Some(training) = self.training.as_ref().filter(|_| !self.slots.is_empty()) else { return self.name(index) };
        match self.place(training, index, epoch, seed, &mut Rng::new(&[seed, epoch, index as u64, 0])) {
            Ok((entry, x, y)) => format!("{} around ({x:.0}, {y:.0})", self.source.entries()[entry].name),
            Err(error) => error.message,
        }
    }
}
