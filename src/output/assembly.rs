//! Rectangles in any order become whole blocks, each encoded once, in bounded memory.
//!
//! Owns: [`Assembly`]. Must not know: what the labels mean, pyramids.
//!
//! A block is held as pixels while some of its planned pixels are missing, then written. When too many are open,
//! those just touched are written early and read back when touched again: parts come strip by strip, so they are
//! the ones needed last. What is written depends on the pixels alone: not on the parts, nor on their order.

use super::{
    OutputError,
    zarr_array::{BlockKey, Label, ZarrArray},
};
use crate::geometry::{Rect, Target};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// Side of the squares in which parts are planned, px.
const CELL_PX: u32 = 256;
/// Bytes of pixels in open blocks above which some are written early.
const OPEN_BYTES: usize = 64 << 20;

#[derive(Debug)]
struct OpenBlock<T> {
    /// `[block_px, block_px]`; `None` while all have the fill value.
    px: Option<Vec<T>>,
    /// Planned pixels that have not arrived.
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
    open: BTreeMap<BlockKey, OpenBlock<T>>,
    /// Blocks on disk, and the planned pixels they still miss.
    written: HashMap<BlockKey, u64>,
    open_bytes_max: usize,
}

impl<T: Label> Assembly<T> {
    /// Parts will arrive wherever `planned` says so.
    pub(super) fn new(array: ZarrArray<T>, planned: &dyn Fn(Rect<Target>) -> bool) -> Self {
        let cells_x = array.layout.w.div_ceil(CELL_PX);
        let planned = cells(array.layout.w, array.layout.h).map(planned).collect();
        let open_bytes_max = OPEN_BYTES;
        Self { array, cells_x, planned, open: BTreeMap::new(), written: HashMap::new(), open_bytes_max }
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
        Rect::new(0, 0, self.array.layout.w, self.array.layout.h)
    }

    fn block_rect(&self, (_, row, col): BlockKey) -> Rect<Target> {
        let side = self.array.layout.block_px();
        Rect::new(i64::from(col) * i64::from(side), i64::from(row) * i64::from(side), side, side)
    }

    /// Takes a block out of those open; one already on disk is read back.
    fn take(&mut self, key: BlockKey) -> Result<OpenBlock<T>, OutputError> {
        if let Some(block) = self.open.remove(&key) {
            return Ok(block);
        }
        Ok(match self.written.remove(&key) {
            Some(missing_px) => OpenBlock { px: self.array.read_block(key, rayon::current_num_threads())?, missing_px },
            None => OpenBlock { px: None, missing_px: self.planned_px(self.block_rect(key).intersect(&self.bounds())) },
        })
    }

    /// Takes `data` (`[core.h, core.w]`) for `core` of `plane`.
    pub(super) fn write(&mut self, plane: u32, core: Rect<Target>, data: &[T]) -> Result<(), OutputError> {
        if data.len() as u64 != core.area() {
            let reason = format!("a part holds `{}` px, expected `{}`", data.len(), core.area());
            return Err(OutputError::format("OME-Zarr", self.array.dir())(reason));
        }
        let inside = core.intersect(&self.bounds());
        if inside.is_empty() {
            return Ok(());
        }
        let side = i64::from(self.array.layout.block_px());
        let mut touched = Vec::new();
        for row in inside.y / side..=(inside.bottom() - 1) / side {
            for col in inside.x / side..=(inside.right() - 1) / side {
                let key = (plane, row as u32, col as u32);
                touched.push((key, self.take(key)?));
            }
        }
        touched.par_iter_mut().for_each(|(key, block)| {
            let all = self.block_rect(*key);
            self.fill(block, all, core, all.intersect(&inside), data);
            block.missing_px = block.missing_px.saturating_sub(self.planned_px(all.intersect(&inside)));
        });
        let (whole, open): (Vec<_>, Vec<_>) = touched.into_iter().partition(|(_, block)| block.missing_px == 0);
        self.write_out(whole)?;
        let keys: Vec<_> = open.iter().map(|(key, _)| *key).collect();
        self.open.extend(open);
        self.keep_within_memory(&keys)
    }

    /// Copies `here` of `data` (for `core`) into the block that covers `all`.
    fn fill(&self, block: &mut OpenBlock<T>, all: Rect<Target>, core: Rect<Target>, here: Rect<Target>, data: &[T]) {
        let layout = &self.array.layout;
        let line = |y: i64| {
            let from = (y - core.y) as usize * core.w as usize + (here.x - core.x) as usize;
            &data[from..from + here.w as usize]
        };
        if block.px.is_none() && (here.y..here.bottom()).all(|y| line(y).iter().all(|&v| v == layout.fill)) {
            return;
        }
        let px = block.px.get_or_insert_with(|| vec![layout.fill; layout.block_area()]);
        for y in here.y..here.bottom() {
            let to = (y - all.y) as usize * all.w as usize + (here.x - all.x) as usize;
            px[to..to + here.w as usize].copy_from_slice(line(y));
        }
    }

    fn write_out(&mut self, blocks: Vec<(BlockKey, OpenBlock<T>)>) -> Result<(), OutputError> {
        let threads = (rayon::current_num_threads() / blocks.len().max(1)).max(1);
        blocks.par_iter().try_for_each(|(key, block)| match &block.px {
            Some(px) => self.array.write_block(*key, px, threads),
            None => Ok(()),
        })?;
        self.written.extend(blocks.into_iter().map(|(key, block)| (key, block.missing_px)));
        Ok(())
    }

    fn keep_within_memory(&mut self, touched: &[BlockKey]) -> Result<(), OutputError> {
        let block_bytes = self.array.layout.block_area() * size_of::<T>();
        let mut held = self.open.values().filter(|block| block.px.is_some()).count() * block_bytes;
        let mut early = Vec::new();
        for key in touched {
            if held > self.open_bytes_max
                && let Some(block) = self.open.remove(key)
            {
                held -= if block.px.is_some() { block_bytes } else { 0 };
                early.push((*key, block));
            }
        }
        self.write_out(early)
    }

    /// Writes what is still open: planned pixels that never came stay at the fill value.
    pub(super) fn finish(&mut self) -> Result<(), OutputError> {
        let open = std::mem::take(&mut self.open);
        self.write_out(open.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::settings::OmeZarrVersion, output::zarr_array::Layout};

    fn array(dir: &std::path::Path) -> ZarrArray<u8> {
        let version = OmeZarrVersion::V05;
        let layout = Layout { planes: None, h: 1500, w: 2300, chunk_px: 256, version, zstd_level: 1, fill: 255 };
        ZarrArray::create(dir.to_owned(), layout).unwrap()
    }

    fn class_at(x: i64, y: i64) -> u8 {
        if x < 600 && y > 700 { 255 } else { ((x / 37 + y / 91) % 5) as u8 }
    }

    fn part(rect: Rect<Target>) -> Vec<u8> {
        (rect.y..rect.bottom()).flat_map(|y| (rect.x..rect.right()).map(move |x| class_at(x, y))).collect()
    }

    fn blocks(side: u32, shuffle: u64, open_bytes_max: usize, planned: bool) -> Vec<Option<Vec<u8>>> {
        let dir = tempfile::tempdir().unwrap();
        let array = array(dir.path());
        let mut assembly = Assembly::new(array.clone(), &|_| planned);
        assembly.open_bytes_max = open_bytes_max;
        let all = Rect::new(0, 0, array.layout.w, array.layout.h);
        let mut cores = Vec::new();
        for y in (0..i64::from(array.layout.h)).step_by(side as usize) {
            for x in (0..i64::from(array.layout.w)).step_by(side as usize) {
                cores.push(Rect::new(x, y, side, side).intersect(&all));
            }
        }
        cores.sort_by_key(|r| (r.x as u64 * 7919 + r.y as u64 * 104_729 + 1).wrapping_mul(shuffle | 1) >> 7);
        for core in cores {
            assembly.write(0, core, &part(core)).unwrap();
        }
        assembly.finish().unwrap();
        let bytes = |(_, row, col): BlockKey| std::fs::read(dir.path().join(format!("c/{row}/{col}"))).ok();
        array.layout.blocks().into_iter().map(bytes).collect()
    }

    #[test]
    fn bytes_do_not_depend_on_parts_order_memory_or_plan() {
        let reference = blocks(4096, 0, OPEN_BYTES, true);
        assert!(reference.iter().flatten().count() == 6);
        for (side, shuffle, open, planned) in [
            (256, 0x9e37, OPEN_BYTES, true),
            (300, 0x1234_5679, 0, true),
            (512, 77, OPEN_BYTES, false),
            (100, 3, 0, false),
        ] {
            assert!(blocks(side, shuffle, open, planned) == reference, "side {side}");
        }
    }

    #[test]
    fn a_block_is_written_when_its_last_planned_px_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let array = array(dir.path());
        let mut assembly = Assembly::new(array.clone(), &|r| r.x < 512);
        for x in [0, 256] {
            assert!(array.block((0, 0, 0)).unwrap().is_none());
            let core = Rect::new(x, 0, 256, 1024);
            assembly.write(0, core, &part(core)).unwrap();
        }
        assert!(assembly.open.is_empty());
        assert!(array.block((0, 0, 0)).unwrap().is_some());
    }
}
