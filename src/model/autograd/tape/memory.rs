//! Memory of maps that goes from step to step of the training.
//!
//! Owns: [`Home`], [`Buffer`], [`Map`]. Must not know: operations.
//!
//! Fresh memory costs a page fault per 4 KiB, more than many a layer computes; so what a pass no longer needs waits here
//! for the next one. All of it together is about as much as was in use at the worst moment.

use crate::kernels::cpu::{Aligned, View, ViewMut, gradient::Maps};
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

/// Buffers that wait to be used again.
#[derive(Debug, Default)]
pub(in crate::model::autograd) struct Home(Mutex<Shelf>, Mutex<Aligned>);

#[derive(Debug, Default)]
struct Shelf {
    idle: Vec<Aligned>,
    idle_floats: usize,
    live_floats: usize,
    peak_floats: usize,
}

impl Home {
    /// Memory for `len` floats, whose values are anyone's.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        // Whoever panicked left a whole list.
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |a: &Aligned| a.len() >= len && a.len() <= len + len / 4 + 1024;
        let best = shelf.idle.iter().enumerate().filter(|(_, a)| fits(a)).min_by_key(|(_, a)| a.len());
        let memory = match best.map(|(i, _)| i) {
            Some(i) => {
                let memory = shelf.idle.swap_remove(i);
                shelf.idle_floats -= memory.len();
                Some(memory)
            }
            None => None,
        };
        shelf.live_floats += memory.as_ref().map_or(len, |m| m.len());
        shelf.peak_floats = shelf.peak_floats.max(shelf.live_floats);
        // What fits nobody goes before more is asked for.
        while shelf.idle_floats + shelf.live_floats > shelf.peak_floats && !shelf.idle.is_empty() {
            let last = shelf.idle.swap_remove(0);
            shelf.idle_floats -= last.len();
        }
        drop(shelf);
        Buffer { memory: memory.unwrap_or_else(|| Aligned::zeros(len)), len, home: self.clone() }
    }

    /// Memory for a step's laid out weights; to be given back with [`Home::weights_done`].
    pub(super) fn weights(&self) -> Aligned {
        std::mem::take(&mut self.1.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps the memory of laid out weights for the next step.
    pub(super) fn weights_done(&self, memory: Aligned) {
        if !memory.is_empty() {
            *self.1.lock().unwrap_or_else(PoisonError::into_inner) = memory;
        }
    }

    /// Most bytes that were in use at once.
    pub(in crate::model::autograd) fn peak_bytes(&self) -> usize {
        4 * self.0.lock().unwrap_or_else(PoisonError::into_inner).peak_floats
    }
}

/// Floats that go home when dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Aligned,
    len: usize,
    home: Arc<Home>,
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let mut shelf = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.live_floats -= memory.len();
        shelf.idle_floats += memory.len();
        shelf.idle.push(memory);
    }
}

/// The maps of a batch, `[n, h, w, c]`.
#[derive(Debug, Clone)]
pub(super) struct Map {
    pub size: [usize; 4],
    data: Arc<Buffer>,
}

impl Map {
    pub(super) fn new(size: [usize; 4], data: Buffer) -> Self {
        assert_eq!(data.len(), size.iter().product::<usize>(), "floats of a map");
        Self { size, data: Arc::new(data) }
    }

    /// A map that `fill` writes, every float of it.
    pub(super) fn filled(home: &Arc<Home>, size: [usize; 4], fill: impl FnOnce(&mut [f32])) -> Self {
        let mut data = home.take(size.iter().product());
        fill(&mut data);
        Self::new(size, data)
    }

    pub(super) fn values(&self) -> &[f32] {
        &self.data
    }

    pub(super) fn maps(&self) -> Maps<'_> {
        Maps::new(&self.data, self.size)
    }

    /// The same floats as other maps.
    pub(super) fn reshaped(self, size: [usize; 4]) -> Self {
        assert_eq!(size.iter().product::<usize>(), self.data.len(), "floats of a map");
        Self { size, ..self }
    }

    /// Changes the values, in a copy if others see them too.
    pub(super) fn changed(mut self, change: impl FnOnce(&mut [f32])) -> Self {
        if Arc::get_mut(&mut self.data).is_none() {
            let mut copy = self.data.home.take(self.data.len());
            copied(&self.data, &mut copy);
            self.data = Arc::new(copy);
        }
        let data = Arc::get_mut(&mut self.data).expect("a copy is nobody else's");
        change(data);
        self
    }

    /// The sum of two.
    pub(super) fn plus(self, other: Self) -> Self {
        let (to, from) = if Arc::strong_count(&self.data) == 1 { (self, other) } else { (other, self) };
        to.changed(|to| {
            let chunks = to.par_chunks_mut(CHUNK).zip(from.values().par_chunks(CHUNK));
            chunks.for_each(|(to, from)| to.iter_mut().zip(from).for_each(|(a, b)| *a += b));
        })
    }

    /// From candle's order, `[n, c, h, w]`.
    pub(super) fn from_planes(home: &Arc<Home>, planes: &Tensor) -> Result<Self> {
        let (n, c, h, w) = planes.dims4()?;
        let planes = planes.contiguous()?;
        with_floats(&planes, |from| {
            Self::filled(home, [n, h, w, c], |to| {
                to.par_chunks_mut((w * c).max(1)).enumerate().for_each(|(i, to)| {
                    let (image, y) = (i / h, i % h);
                    for channel in 0..c {
                        let row = &from[((image * c + channel) * h + y) * w..][..w];
                        row.iter().enumerate().for_each(|(x, v)| to[x * c + channel] = *v);
                    }
                });
            })
        })
    }

    /// In candle's order.
    pub(super) fn planes(&self) -> Vec<f32> {
        let [_, h, w, c] = self.size;
        let mut to = vec![0.0; self.data.len()];
        to.par_chunks_mut((h * w).max(1)).enumerate().for_each(|(plane, to)| {
            let from = &self.data[plane / c * h * w * c + plane % c..];
            to.iter_mut().zip(from.iter().step_by(c)).for_each(|(to, v)| *to = *v);
        });
        to
    }

    /// As a tensor of candle's.
    pub(super) fn tensor(&self) -> Result<Tensor> {
        let [n, h, w, c] = self.size;
        Tensor::from_vec(self.planes(), (n, c, h, w), &Device::Cpu)
    }
}

/// Floats that one task works on.
pub(super) const CHUNK: usize = 1 << 15;

fn copied(from: &[f32], to: &mut [f32]) {
    to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(to, from)| to.copy_from_slice(from));
}

/// Lends the floats of a contiguous tensor.
pub(super) fn with_floats<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let (candle_core::Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        candle_core::bail!("a tensor of the processor without gaps is expected")
    };
    Ok(f(&storage.as_slice::<f32>()?[start..end]))
}

/// Calls `work` on bands of rows of all images, spread over threads; bands start on multiples of `unit` rows.
pub(super) fn banded(
    [n, h, w, c]: [usize; 4],
    unit: usize,
    to: &mut [f32],
    work: impl Fn(usize, &mut ViewMut<'_>, std::ops::Range<usize>) + Sync,
) {
    if to.is_empty() {
        return;
    }
    let bands = (4 * rayon::current_num_threads()).div_ceil(n).min(h.div_ceil(unit)).max(1);
    to.par_chunks_mut(h * w * c).enumerate().for_each(|(image, to)| {
        let step = h.div_ceil(bands).next_multiple_of(unit);
        let mut views = vec![];
        let mut rest = ViewMut::dense(to, h, w, c);
        for start in (0..h).step_by(step) {
            let end = (start + step).min(h);
            let (band, others) = rest.split_at_row(end);
            views.push((band, start..end));
            rest = others;
        }
        views.into_par_iter().for_each(|(mut band, rows)| work(image, &mut band, rows));
    });
}

/// A view of one image of a map.
pub(super) fn view(map: &Map, image: usize) -> View<'_> {
    map.maps().view(image)
}
