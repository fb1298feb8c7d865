//! Overlapping maps on the device, run by the emulation: regions are those of the processor's canvas, to the byte.

use crate::emulation::{Build, emulation, run};
use std::{collections::BTreeMap, path::Path, sync::Arc};
use wsi_run::{
    config::settings::Window,
    geometry::{Rect, Size, Target, TargetGrid},
    infer::cuda::{CanvasPass, Format, Launch, Region as Memory},
    model::{BlockAt, Head, HeadMap, Placement},
    stitch::{CanvasMaps, Region, RegionPool, SlideCanvas, hann, placement},
    tiling::{CellMask, TilePlan, Tiler},
    tissue::TissueMask,
    units::{Mpp, MppXy},
};

/// Runs launches on memory; what that holds then.
type Run<'a> = &'a dyn Fn(&[Launch], &[Vec<u8>]) -> Vec<Vec<u8>>;

/// Two heads, of one channel and of two.
const HEADS: [(Head, u32); 2] = [(Head::NuclearPixel, 1), (Head::HorizontalVertical, 2)];
const CHANNELS: usize = 3;

/// Tiles of a slide, what is said of each, and what is made of them on either side.
struct Scene {
    plan: Arc<TilePlan>,
    pass: CanvasPass,
    /// Where each block lies in memory.
    blocks: BTreeMap<BlockAt, usize>,
}

impl Scene {
    /// A slide of `w × h` px, tiles `(side, stride, margin)`, regions `(side, halo)` and blocks of odd tissue.
    fn new((w, h): (u32, u32), tile: (u32, u32, u32), (region, halo, block): (u32, u32, u32)) -> Self {
        let mpp = Mpp::new(0.5).unwrap();
        let grid = TargetGrid::new(Size::new(w, h), MppXy::square(mpp), mpp);
        let (across, down) = (w / 16 + 1, h / 16 + 1);
        let bits = (0..across * down).map(|i| u8::from(i % 9 != 4)).collect();
        let mask = TissueMask { bits, w: across, h: down, step_x: 16.0, step_y: 16.0 };
        let tiler = Tiler::new(tile, Window::Hann, (region, halo, block)).unwrap();
        let plan = Arc::new(tiler.plan(grid, CellMask::new(&grid, &mask, 0.4)));
        let pass = CanvasPass { core_px: tiler.core_px() as usize, block_px: block as usize, channels: CHANNELS };
        let mut scene = Self { plan, pass, blocks: BTreeMap::new() };
        for at in scene.placements().iter().flat_map(|to| &to.blocks) {
            let next = scene.blocks.len();
            scene.blocks.entry(*at).or_insert(next);
        }
        scene
    }

    fn placements(&self) -> Vec<Placement> {
        self.plan.tiles.iter().map(|tile| placement(&self.plan, tile, 0)).collect()
    }

    /// Value of channel `c` at px `px` of the map of tile `i`: all that 16 bits can be.
    fn value(i: usize, c: usize, px: usize) -> i16 {
        let n = ((i * CHANNELS + c) * 65_537 + px) as u32;
        [(n.wrapping_mul(2_654_435_761) >> 16) as i16, i16::MIN, i16::MAX][(n % 23).saturating_sub(20) as usize]
    }

    /// The regions, by the processor.
    fn expected(&self) -> Vec<Region> {
        let maps = CanvasMaps { heads: HEADS.to_vec(), lists_rays: false, keeps_rgb: false };
        let mut canvas = SlideCanvas::new(self.plan.clone(), maps, Arc::new(RegionPool::new(0)));
        let side = self.pass.core_px;
        let tiles = self.plan.tiles.iter().enumerate().flat_map(|(i, tile)| {
            let mut first = 0;
            let maps = HEADS.map(|(head, channels)| {
                let of = first;
                first += channels as usize;
                let planes = (of..of + channels as usize).flat_map(|c| (0..side * side).map(move |px| (c, px)));
                let data = planes.map(|(c, px)| Self::value(i, c, px)).collect();
                HeadMap { head, channels, w: side as u32, h: side as u32, data, pixels: None }
            });
            canvas.add(tile, &maps, &[]).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
        });
        tiles.collect()
    }

    fn place(&self, at: BlockAt) -> Option<u64> {
        self.blocks.get(&at).map(|i| (i * self.pass.block_bytes()) as u64)
    }

    /// Launches that add all tiles, in one batch, and the memory they need: blocks where partial results are else.
    fn adding(&self) -> (Vec<Launch>, Vec<Vec<u8>>) {
        let (placements, side) = (self.placements(), self.pass.core_px);
        let images = placements.len();
        let mut tables = vec![0xff; self.pass.table_bytes(images)];
        self.pass.write_window(&mut tables, &hann(side as u32));
        for (image, to) in placements.iter().enumerate() {
            let place = |column: i64, row: i64| {
                let at = to.blocks.iter().find(|at| (i64::from(at.0), i64::from(at.1)) == (column, row));
                at.and_then(|at| self.place(*at))
            };
            self.pass.write_spot(&mut tables, image, to, &place);
        }
        let (mut heads, mut maps, mut first) = (vec![], vec![], 0);
        for (_, channels) in HEADS {
            maps.push((channels as usize, heads.len()));
            for i in 0..images {
                for c in first..first + channels as usize {
                    heads.extend((0..side * side).flat_map(|px| Self::value(i, c, px).to_le_bytes()));
                }
            }
            first += channels as usize;
        }
        let mut regions = vec![vec![]; Memory::ALL.len()];
        regions[at(Memory::Partial)] = vec![0; self.blocks.len() * self.pass.block_bytes()];
        (regions[at(Memory::Heads)], regions[at(Memory::Canvas)]) = (heads, tables);
        (self.pass.add(images, &maps, Some(Memory::Partial)), regions)
    }

    /// The launch that reads `rect`, and the memory it needs beside the blocks.
    fn reading(&self, rect: Rect<Target>, blocks: &[u8]) -> (Launch, Vec<Vec<u8>>) {
        let (table, means) = self.pass.read_bytes(rect);
        let mut regions = vec![vec![]; Memory::ALL.len()];
        regions[at(Memory::Partial)] = blocks.to_vec();
        (regions[at(Memory::Heads)], regions[at(Memory::Canvas)]) = (vec![0xff; means], vec![0xff; table]);
        let place = |column, row| self.place((u32::try_from(column).ok()?, u32::try_from(row).ok()?, 0));
        assert!(self.pass.write_places(&mut regions[at(Memory::Canvas)], rect, &place));
        (self.pass.read(rect, Some(Memory::Partial)), regions)
    }

    /// Whether `found`, means and what is computed of a region, is what the processor has where anything is computed.
    fn check(&self, expected: &Region, found: &[u8]) {
        let (rect, px) = (expected.rect, expected.rect.area() as usize);
        let (means, computed) = found.split_at(2 * CHANNELS * px);
        let planes: Vec<i16> = expected.planes.iter().flat_map(|plane| plane.data.iter().copied()).collect();
        let mut count = 0;
        for i in 0..px {
            let (x, y) = (rect.x + i as i64 % i64::from(rect.w), rect.y + i as i64 / i64::from(rect.w));
            if self.plan.cells.contains(x, y) {
                assert_eq!(computed[i], expected.computed[i], "({x}, {y})");
                for c in 0..CHANNELS {
                    let k = 2 * (c * px + i);
                    assert_eq!(i16::from_le_bytes([means[k], means[k + 1]]), planes[c * px + i], "{c} of ({x}, {y})");
                }
                count += 1;
            }
        }
        assert!(count > 0);
    }

    /// Everything, by `run`.
    fn regions_are_those_of_the_processor(&self, run: Run<'_>) {
        let (launches, regions) = self.adding();
        let blocks = run(&launches, &regions)[at(Memory::Partial)].clone();
        let expected = self.expected();
        assert_eq!(expected.len(), self.plan.region_count());
        for region in &expected {
            let (launch, memory) = self.reading(region.rect, &blocks);
            self.check(region, &run(&[launch], &memory)[at(Memory::Heads)]);
        }
    }
}

fn at(region: Memory) -> usize {
    Memory::ALL.iter().position(|r| *r == region).unwrap()
}

/// Odd sizes: a map over four blocks, maps within a block and over many, each px from many tiles; maps at all edges.
fn scenes() -> [Scene; 3] {
    [
        Scene::new((151, 97), (45, 19, 2), (70, 9, 32)),
        Scene::new((83, 121), (24, 7, 1), (64, 5, 128)),
        Scene::new((131, 75), (83, 40, 5), (90, 16, 16)),
    ]
}

fn with<'a>(program: &'a Path, environment: &'a [(&str, &str)]) -> impl Fn(&[Launch], &[Vec<u8>]) -> Vec<Vec<u8>> {
    move |launches, regions| run(program, regions, launches, environment).unwrap()
}

#[test]
fn blended_regions_are_those_of_the_processor_to_the_byte() {
    let Some(program) = emulation(Build::Fast, Format::Half) else { return };
    let [first, second, third] = scenes();
    // Maps at borders of blocks and of the slide.
    let over = |scene: &Scene| scene.placements().iter().map(|to| to.blocks.len()).max();
    assert_eq!([over(&first), over(&second), over(&third)], [Some(9), Some(1), Some(24)]);
    assert!(first.plan.tiles.iter().any(|t| t.core.x < 0 && t.core.y < 0));
    first.regions_are_those_of_the_processor(&with(&program, &[]));
    second.regions_are_those_of_the_processor(&with(&program, &[]));
    third.regions_are_those_of_the_processor(&with(&program, &[("EMULATION_ORDER", "shuffled")]));
}

#[test]
fn blending_touches_nothing_outside_its_memory() {
    let Some(program) = emulation(Build::Address, Format::Half) else { return };
    let scene = Scene::new((43, 29), (19, 7, 2), (25, 3, 8));
    scene.regions_are_those_of_the_processor(&with(&program, &[("EMULATION_CORES", "1")]));
}

/// A block of threads that has the same px of several tiles.
#[test]
fn tiles_added_at_once_do_not_race() {
    let Some(program) = emulation(Build::Threads, Format::Half) else { return };
    let scene = Scene::new((13, 11), (8, 4, 0), (16, 2, 8));
    let (mut launches, regions) = scene.adding();
    assert!(launches.iter().all(|l| l.grid[0] > 2), "more than one block of threads");
    launches.iter_mut().for_each(|l| l.grid = [2, 1, 1]);
    let blocks = &regions[at(Memory::Partial)];
    let (launch, memory) = scene.reading(Rect::new(0, 0, 13, 11), blocks);
    for (launches, memory) in [(&launches[..], &regions), (&[launch], &memory)] {
        match run(&program, memory, launches, &[("TSAN_OPTIONS", "halt_on_error=1")]) {
            Ok(_) => {}
            // A machine may forbid what the sanitizer needs.
            Err(e) if e.contains("unexpected memory mapping") => {
                return println!("skipped: the sanitizer does not start");
            }
            Err(e) => panic!("{e}"),
        }
    }
}

/// The same on a GPU.
#[cfg(feature = "cuda")]
mod on_a_gpu {
    use super::*;
    use wsi_run::infer::cuda::{buffer::Buffer, devices, driver::Device, stream::Stream};

    #[test]
    fn blended_regions_are_those_of_the_processor_to_the_byte() {
        let device = match devices::count() {
            Ok(_) => Arc::new(Device::open(0, Format::Half).unwrap()),
            Err(why) => return println!("skipped: {why}"),
        };
        let run = |launches: &[Launch], regions: &[Vec<u8>]| -> Vec<Vec<u8>> {
            let buffers: Vec<Buffer> = regions.iter().map(|bytes| Buffer::of(&device, bytes).unwrap()).collect();
            let stream = Stream::new(&device).unwrap();
            for launch in launches {
                // SAFETY: buffers are as large as the launches were made for, and live until the stream was waited for.
                unsafe { stream.launch(launch, &|region| buffers[at(region)].address()) }.unwrap();
            }
            stream.wait().unwrap();
            buffers.iter().map(|buffer| buffer.read().unwrap()).collect()
        };
        // Blocks as large as those of a run, too.
        let large = Scene::new((1500, 1100), (256, 82, 46), (1024, 96, 512));
        scenes().iter().chain([&large]).for_each(|scene| scene.regions_are_those_of_the_processor(&run));
    }
}
