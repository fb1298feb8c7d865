//! Rectangles in any order become whole chunks, each encoded once, in bounded memory.
//!
//! Owns: [`Assembly`]. Must not know: what the labels mean, pyramids.
//!
//! A chunk is held as pixels only while some of its planned pixels are missing; then it is encoded, and its shard is
//! written when the last planned pixel of the shard has arrived. When too many chunks are open they are encoded
//! early and opened again when touched, so memory follows the encoded size and never the slide's. What is written
//! depends on the pixels alone: not on the parts, nor on their order.

use super::{
    OutputError,
    zarr_array::{Label, SHARD_CHUNKS, ShardChunks, ZarrArray},
};
use crate::geometry::{Rect, Target};
use rayon::prelude::*;
use std::{
    collections::{BTreeMap, HashSet},
    mem,
};

/// Side of the squares in which parts are planned, px.
const CELL_PX: u32 = 256;
/// Bytes of pixels in open chunks above which they are encoded early.
const OPEN_BYTES: usize = 64 << 20;
const SLOTS: usize = (SHARD_CHUNKS * SHARD_CHUNKS) as usize;

type ShardKey = (u32, u32, u32);

#[derive(Debug)]
enum Slot<T> {
    Encoded(Option<Vec<u8>>),
    Pixels(Vec<T>),
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::Encoded(None)
    }
}

#[derive(Debug)]
struct OpenShard<T> {
    slots: [Slot<T>; SLOTS],
    /// Planned pixels of each chunk that have not arrived.
    missing_px: [u64; SLOTS],
}

/// A chunk while it is worked on, taken out of its shard.
struct Job<T> {
    key: ShardKey,
    index: usize,
    rect: Rect<Target>,
    slot: Slot<T>,
    missing_px: u64,
}

/// The squares in which parts are planned, by row and then column, cut at the edge of a `w` × `h` image.
pub(super) fn cells(w: u32, h: u32) -> impl Iterator<Item = Rect<Target>> {
    let all = Rect::new(0, 0, w, h);
    let origins =
        (0..h).step_by(CELL_PX as usize).flat_map(move |y| (0..w).step_by(CELL_PX as usize).map(move |x| (x, y)));
    origins.map(move |(x, y)| Rect::new(x.into(), y.into(), CELL_PX, CELL_PX).intersect(&all))
}

/// Gathers parts of `array`.
#[derive(Debug)]
pub(super) struct Assembly<T> {
    array: ZarrArray<T>,
    cells_x: u32,
    planned: Vec<bool>,
    open: BTreeMap<ShardKey, OpenShard<T>>,
    written: HashSet<ShardKey>,
    open_bytes_max: usize,
}

impl<T: Label> Assembly<T> {
    /// Parts will arrive wherever `planned` says so.
    pub(super) fn new(array: ZarrArray<T>, planned: &dyn Fn(Rect<Target>) -> bool) -> Self {
        let cells_x = array.w.div_ceil(CELL_PX);
        let planned = cells(array.w, array.h).map(planned).collect();
        let open_bytes_max = OPEN_BYTES;
        Self { array, cells_x, planned, open: BTreeMap::new(), written: HashSet::new(), open_bytes_max }
    }

    /// Planned pixels inside `rect`.
    fn planned_px(&self, rect: Rect<Target>) -> u64 {
        let cell_px = i64::from(CELL_PX);
        let mut px = 0;
        for cy in rect.y / cell_px..(rect.bottom() + cell_px - 1) / cell_px {
            for cx in rect.x / cell_px..(rect.right() + cell_px - 1) / cell_px {
                if self.planned[(cy * i64::from(self.cells_x) + cx) as usize] {
                    px += Rect::new(cx * cell_px, cy * cell_px, CELL_PX, CELL_PX).intersect(&rect).area();
                }
            }
        }
        px
    }

    fn bounds(&self) -> Rect<Target> {
        Rect::new(0, 0, self.array.w, self.array.h)
    }

    fn chunk_rect(&self, (_, row, col): ShardKey, index: usize) -> Rect<Target> {
        let chunk = i64::from(self.array.chunk_px);
        let y = i64::from(row * SHARD_CHUNKS) + index as i64 / i64::from(SHARD_CHUNKS);
        let x = i64::from(col * SHARD_CHUNKS) + index as i64 % i64::from(SHARD_CHUNKS);
        Rect::new(x * chunk, y * chunk, self.array.chunk_px, self.array.chunk_px)
    }

    fn open_shard(&mut self, key: ShardKey) -> Result<(), OutputError> {
        if self.open.contains_key(&key) {
            return Ok(());
        }
        let mut shard = OpenShard { slots: Default::default(), missing_px: [0; SLOTS] };
        if self.written.remove(&key) {
            // A part the plan did not announce: take the shard back rather than lose pixels.
            let chunks = self.array.read_shard(key.0, key.1, key.2)?;
            shard.slots = chunks.map(Slot::Encoded);
        } else {
            for (index, missing_px) in shard.missing_px.iter_mut().enumerate() {
                *missing_px = self.planned_px(self.chunk_rect(key, index).intersect(&self.bounds()));
            }
        }
        self.open.insert(key, shard);
        Ok(())
    }

    /// Takes `data` (`[core.h, core.w]`) for `core` of `plane`.
    pub(super) fn write(&mut self, plane: u32, core: Rect<Target>, data: &[T]) -> Result<(), OutputError> {
        if data.len() as u64 != core.area() {
            let reason = format!("a part holds `{}` px, expected `{}`", data.len(), core.area());
            return Err(OutputError::format("OME-Zarr", &self.array.dir)(reason));
        }
        let inside = core.intersect(&self.bounds());
        if inside.is_empty() {
            return Ok(());
        }
        let mut jobs = self.take_jobs(plane, inside)?;
        let array = &self.array;
        let planned: Vec<u64> = jobs.iter().map(|job| self.planned_px(job.rect.intersect(&inside))).collect();
        jobs.par_iter_mut().zip(planned).try_for_each(|(job, planned_px)| {
            fill_chunk(array, job, core, inside, data)?;
            job.missing_px = job.missing_px.saturating_sub(planned_px);
            if job.missing_px == 0 {
                close(array, &mut job.slot)?;
            }
            Ok(())
        })?;
        let mut touched = Vec::new();
        for job in jobs {
            let shard = self.open.get_mut(&job.key).expect("opened by take_jobs");
            shard.slots[job.index] = job.slot;
            shard.missing_px[job.index] = job.missing_px;
            if touched.last() != Some(&job.key) {
                touched.push(job.key);
            }
        }
        for key in touched {
            if self.open.get(&key).is_some_and(|shard| shard.missing_px.iter().all(|&px| px == 0)) {
                self.write_out(key)?;
            }
        }
        self.keep_within_memory()
    }

    fn take_jobs(&mut self, plane: u32, inside: Rect<Target>) -> Result<Vec<Job<T>>, OutputError> {
        let chunk = i64::from(self.array.chunk_px);
        let mut jobs = Vec::new();
        for chunk_row in inside.y / chunk..=(inside.bottom() - 1) / chunk {
            for chunk_col in inside.x / chunk..=(inside.right() - 1) / chunk {
                let (row, col) = (chunk_row as u32, chunk_col as u32);
                let key = (plane, row / SHARD_CHUNKS, col / SHARD_CHUNKS);
                let index = (row % SHARD_CHUNKS * SHARD_CHUNKS + col % SHARD_CHUNKS) as usize;
                self.open_shard(key)?;
                let shard = self.open.get_mut(&key).expect("opened just above");
                let (slot, missing_px) = (mem::take(&mut shard.slots[index]), shard.missing_px[index]);
                jobs.push(Job { key, index, rect: self.chunk_rect(key, index), slot, missing_px });
            }
        }
        Ok(jobs)
    }

    fn write_out(&mut self, key: ShardKey) -> Result<(), OutputError> {
        let Some(shard) = self.open.remove(&key) else { return Ok(()) };
        let mut chunks: ShardChunks = Default::default();
        for (chunk, mut slot) in chunks.iter_mut().zip(shard.slots) {
            close(&self.array, &mut slot)?;
            if let Slot::Encoded(encoded) = slot {
                *chunk = encoded;
            }
        }
        self.written.insert(key);
        self.array.write_shard(key.0, key.1, key.2, &chunks)
    }

    fn keep_within_memory(&mut self) -> Result<(), OutputError> {
        let slots = || self.open.values().flat_map(|shard| &shard.slots);
        let open_chunks = slots().filter(|slot| matches!(slot, Slot::Pixels(_))).count();
        if open_chunks * self.array.chunk_area() * T::BYTES <= self.open_bytes_max {
            return Ok(());
        }
        let array = &self.array;
        let mut slots: Vec<_> = self.open.values_mut().flat_map(|shard| &mut shard.slots).collect();
        slots.par_iter_mut().try_for_each(|slot| close(array, slot))
    }

    /// Writes what is still open: planned pixels that never came stay at the fill value.
    pub(super) fn finish(&mut self) -> Result<(), OutputError> {
        let keys: Vec<_> = self.open.keys().copied().collect();
        keys.into_iter().try_for_each(|key| self.write_out(key))
    }
}

fn close<T: Label>(array: &ZarrArray<T>, slot: &mut Slot<T>) -> Result<(), OutputError> {
    if let Slot::Pixels(px) = slot {
        *slot = Slot::Encoded(array.encode(px)?);
    }
    Ok(())
}

fn fill_chunk<T: Label>(
    array: &ZarrArray<T>,
    job: &mut Job<T>,
    core: Rect<Target>,
    inside: Rect<Target>,
    data: &[T],
) -> Result<(), OutputError> {
    let here = job.rect.intersect(&inside);
    let line = |y: i64| {
        let from = (y - core.y) as usize * core.w as usize + (here.x - core.x) as usize;
        &data[from..from + here.w as usize]
    };
    if matches!(job.slot, Slot::Encoded(None))
        && (here.y..here.bottom()).all(|y| line(y).iter().all(|&v| v == array.fill))
    {
        return Ok(());
    }
    if let Slot::Encoded(encoded) = &job.slot {
        let mut px = vec![array.fill; array.chunk_area()];
        array.decode(encoded.as_deref(), &mut px)?;
        job.slot = Slot::Pixels(px);
    }
    if let Slot::Pixels(px) = &mut job.slot {
        let side = array.chunk_px as usize;
        for y in here.y..here.bottom() {
            let to = (y - job.rect.y) as usize * side + (here.x - job.rect.x) as usize;
            px[to..to + here.w as usize].copy_from_slice(line(y));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::OmeZarrVersion;

    fn array(dir: &std::path::Path) -> ZarrArray<u8> {
        let (dir, version) = (dir.to_owned(), OmeZarrVersion::V05);
        ZarrArray { dir, planes: None, h: 1500, w: 2300, chunk_px: 256, version, zstd_level: 1, fill: 255 }
    }

    fn class_at(x: i64, y: i64) -> u8 {
        if x < 600 && y > 700 { 255 } else { ((x / 37 + y / 91) % 5) as u8 }
    }

    fn part(rect: Rect<Target>) -> Vec<u8> {
        (rect.y..rect.bottom()).flat_map(|y| (rect.x..rect.right()).map(move |x| class_at(x, y))).collect()
    }

    fn shards(side: u32, shuffle: u64, open_bytes_max: usize, planned: bool) -> Vec<ShardChunks> {
        let dir = tempfile::tempdir().unwrap();
        let array = array(dir.path());
        let mut assembly = Assembly::new(array.clone(), &|_| planned);
        assembly.open_bytes_max = open_bytes_max;
        let all = Rect::new(0, 0, array.w, array.h);
        let mut cores = Vec::new();
        for y in (0..i64::from(array.h)).step_by(side as usize) {
            for x in (0..i64::from(array.w)).step_by(side as usize) {
                cores.push(Rect::new(x, y, side, side).intersect(&all));
            }
        }
        cores.sort_by_key(|r| (r.x as u64 * 7919 + r.y as u64 * 104_729 + 1).wrapping_mul(shuffle | 1) >> 7);
        for core in cores {
            assembly.write(0, core, &part(core)).unwrap();
        }
        assembly.finish().unwrap();
        super::super::pyramid::shards_of(&array)
            .into_iter()
            .map(|(p, r, c)| array.read_shard(p, r, c).unwrap())
            .collect()
    }

    #[test]
    fn bytes_do_not_depend_on_parts_order_memory_or_plan() {
        let reference = shards(4096, 0, OPEN_BYTES, true);
        assert!(reference.iter().flatten().flatten().count() > 20);
        for (side, shuffle, open, planned) in [
            (256, 0x9e37, OPEN_BYTES, true),
            (300, 0x1234_5679, 0, true),
            (512, 77, OPEN_BYTES, false),
            (100, 3, 0, false),
        ] {
            assert!(shards(side, shuffle, open, planned) == reference, "side {side}");
        }
    }

    #[test]
    fn a_shard_is_written_when_its_last_planned_px_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let array = array(dir.path());
        let mut assembly = Assembly::new(array.clone(), &|r| r.x < 512);
        for x in [0, 256] {
            assert!(array.read_shard(0, 0, 0).unwrap().iter().all(Option::is_none));
            let core = Rect::new(x, 0, 256, 1024);
            assembly.write(0, core, &part(core)).unwrap();
        }
        assert!(assembly.open.is_empty());
        assert!(array.read_shard(0, 0, 0).unwrap().iter().any(Option::is_some));
    }
}
