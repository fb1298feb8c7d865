//! The canvas: where tile predictions of one slide meet until a region of them is whole.
//!
//! Owns: [`SlideCanvas`], [`ReadyRegions`]. Must not know: what heads mean, threads, files.
//!
//! Blocks exist while some region still needs them. A region is handed out when the last tile that touches it or its
//! halo has arrived (predicted or not); a block is freed with the last region that touches it. All sums are
//! integers: the result is the same in whatever order tiles arrive.
//!
//! A head that is listed (values of few pixels, many each) is kept as it comes, with a number per pixel that says where.

use crate::{
    config::settings::Window,
    geometry::{Rect, Target},
    model::{BlockAt, HeadMap, ModelError, SlideBlend},
    stitch::{
        block::{Block, copy_blended},
        canvas_maps::CanvasMaps,
        placement::{block_rect, blocks_touching},
        pool::RegionPool,
        region::{Plane, Region},
        window::hann,
    },
    tiling::{TilePlan, TileSpec},
};
use std::{collections::HashMap, sync::Arc};

/// What the plan and the model's maps disagree on, or that a model lost its sums.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StitchError {
    /// The model gave a map of another size than its spec says.
    #[error("head map is [{w}, {h}] px, expected [{expected}, {expected}]")]
    MapSize {
        /// Width found.
        w: u32,
        /// Height found.
        h: u32,
        /// Side expected.
        expected: u32,
    },
    /// More or other heads than the first tile had.
    #[error("tile has {found} head channels, expected {expected}")]
    Heads {
        /// Channels found.
        found: usize,
        /// Channels expected.
        expected: usize,
    },
    /// Sums that are kept where the model runs cannot be read.
    #[error(transparent)]
    Blend(#[from] ModelError),
}

/// The canvas of one slide.
pub struct SlideCanvas {
    plan: Arc<TilePlan>,
    maps: CanvasMaps,
    window: Vec<u8>,
    /// Where sums are kept, if not in the blocks.
    away: Option<Arc<SlideBlend>>,
    /// By column, row and strip.
    blocks: HashMap<BlockAt, Block>,
    pool: Arc<RegionPool>,
    /// Freed blocks, kept to be used again.
    spare: Vec<Block>,
    /// Tiles each region still waits for.
    tiles_left: Vec<u32>,
    most_blocks: usize,
    /// Most listed values there was room for.
    most_listed: usize,
}

/// The regions that a tile completed, each cut out when it is asked for: it is some 10 MB, and where tissue ends a tile may
/// complete several. An error is [`StitchError::Blend`].
#[must_use = "regions that are not taken are lost"]
pub struct ReadyRegions<'a> {
    canvas: &'a mut SlideCanvas,
    ready: std::vec::IntoIter<usize>,
    strip: u32,
}

impl Iterator for ReadyRegions<'_> {
    type Item = Result<Region, StitchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let region = self.ready.next()?;
        Some(self.canvas.hand_out(region, self.strip))
    }
}

impl SlideCanvas {
    /// An empty canvas for `plan`; `pool` is where regions go when they were used.
    pub fn new(plan: Arc<TilePlan>, maps: CanvasMaps, pool: Arc<RegionPool>) -> Self {
        let window = hann(plan.tiler.core_px());
        let tiles_left = plan.region_tiles.clone();
        let (away, blocks, spare) = (None, HashMap::new(), vec![]);
        Self { plan, maps, window, away, blocks, pool, spare, tiles_left, most_blocks: 0, most_listed: 0 }
    }

    /// The same, of tiles whose maps were added to `away` where [`placement`](super::placement) says, each before it
    /// comes here.
    #[must_use]
    pub fn with_sums_away(self, away: Option<Arc<SlideBlend>>) -> Self {
        Self { away, ..self }
    }

    /// Adds one tile's prediction and hands out the regions it completes.
    ///
    /// # Shapes
    /// - `maps`: `[C, core_px, core_px]` each, or listed, in the order of the heads given to [`SlideCanvas::new`]
    /// - `rgb`: `[tile_px, tile_px, 3]`, the tile as the model saw it; ignored unless pixels are kept
    ///
    /// # Errors
    /// [`StitchError`] when the maps do not fit the plan.
    pub fn add(&mut self, tile: &TileSpec, maps: &[HeadMap], rgb: &[u8]) -> Result<ReadyRegions<'_>, StitchError> {
        let core_px = self.plan.tiler.core_px();
        let as_told = maps.iter().filter(|m| m.pixels.is_some() == self.maps.is_listed(m.head));
        let (found, expected) =
            (as_told.map(|m| m.channels as usize).sum(), self.maps.heads.iter().map(|h| h.1 as usize).sum());
        if found != expected {
            return Err(StitchError::Heads { found, expected });
        }
        if let Some(m) = maps.iter().find(|m| m.w != core_px || m.h != core_px) {
            return Err(StitchError::MapSize { w: m.w, h: m.h, expected: core_px });
        }
        self.add_to_blocks(tile, maps, rgb);
        if self.maps.lists_rays {
            let room: usize = self.blocks.values().chain(&self.spare).map(|block| block.listed.capacity()).sum();
            self.most_listed = self.most_listed.max(room);
        }
        Ok(self.tile_done(tile))
    }

    /// Counts a tile whose maps were added away, and hands out the regions it completes.
    pub fn add_blended(&mut self, tile: &TileSpec, rgb: &[u8]) -> ReadyRegions<'_> {
        self.add_to_blocks(tile, &[], rgb);
        self.tile_done(tile)
    }

    /// Counts a tile that has no prediction (unreadable, or its slide failed); its pixels stay not computed.
    pub fn skip(&mut self, tile: &TileSpec) -> ReadyRegions<'_> {
        self.tile_done(tile)
    }

    /// Bytes the canvas has held at most.
    pub fn peak_bytes(&self) -> u64 {
        let px = u64::from(self.plan.tiler.block_px).pow(2);
        let channels = self.maps.dense() as u64;
        let per_px = match self.plan.tiler.window {
            _ if self.away.is_some() => 0,
            Window::Crop => 2 * channels + 1,
            Window::Hann => 4 * channels + 4,
        } + if self.maps.keeps_rgb { 3 } else { 0 }
            + if self.maps.lists_rays { 4 } else { 0 };
        self.most_blocks as u64 * px * per_px + 2 * self.most_listed as u64
    }

    /// A block for `at`, unless every region that touches it was handed out already.
    fn new_block(&mut self, at: BlockAt) -> Option<Block> {
        let square = block_rect(at, self.plan.tiler.block_px);
        let waiting = |&region: &usize| self.tiles_left[region] > 0;
        let regions_left = self.plan.regions_touching(square, at.2).filter(waiting).count() as u32;
        if regions_left == 0 {
            return None;
        }
        if let Some(mut block) = self.spare.pop() {
            block.clear(regions_left);
            return Some(block);
        }
        Some(Block::new(&self.maps, &self.plan.tiler, self.away.is_some(), regions_left))
    }

    fn add_to_blocks(&mut self, tile: &TileSpec, maps: &[HeadMap], rgb: &[u8]) {
        let block_px = self.plan.tiler.block_px;
        for at in blocks_touching(tile.used, block_px, tile.strip) {
            if !self.blocks.contains_key(&at) {
                let Some(block) = self.new_block(at) else { continue };
                self.blocks.insert(at, block);
                self.most_blocks = self.most_blocks.max(self.blocks.len() + self.spare.len());
            }
            let block = self.blocks.get_mut(&at).expect("inserted above");
            block.add(block_rect(at, block_px), tile, maps, rgb, (&self.plan.tiler, &self.window));
        }
    }

    fn tile_done(&mut self, tile: &TileSpec) -> ReadyRegions<'_> {
        let mut ready = vec![];
        for region in self.plan.regions_touching(tile.used, tile.strip) {
            self.tiles_left[region] -= 1;
            if self.tiles_left[region] == 0 {
                ready.push(region);
            }
        }
        ReadyRegions { canvas: self, ready: ready.into_iter(), strip: tile.strip }
    }

    /// A region with nothing computed.
    fn blank_region(&self, core: Rect<Target>, rect: Rect<Target>) -> Region {
        let px = rect.area() as usize;
        // Room for the largest region at once: growing to fit the next one would take twice what it needs.
        let most_px = (self.plan.tiler.region_px as usize + 2 * self.plan.tiler.halo_px as usize).pow(2);
        let rgb_per_px = if self.maps.keeps_rgb { 3 } else { 0 };
        let mut region =
            self.pool.take().unwrap_or(Region { core, rect, computed: vec![], planes: vec![], rgb: vec![] });
        (region.core, region.rect) = (core, rect);
        refill(&mut region.computed, px, most_px, 0);
        refill(&mut region.rgb, px * rgb_per_px, most_px * rgb_per_px, 255);
        let heads = &self.maps.heads;
        let blank = || Plane { head: heads[0].0, channels: 0, data: vec![], pixels: None };
        region.planes.resize_with(heads.len(), blank);
        for (plane, &(head, channels)) in region.planes.iter_mut().zip(heads) {
            (plane.head, plane.channels) = (head, channels);
            if self.maps.is_listed(head) {
                plane.data.clear();
                plane.pixels.get_or_insert_default().clear();
            } else {
                refill(&mut plane.data, channels as usize * px, channels as usize * most_px, 0);
                plane.pixels = None;
            }
        }
        region
    }

    /// Lists what the blocks have listed of `region`, row by row.
    fn list_out(&self, region: &mut Region, strip: u32) {
        let (rect, channels) = (region.rect, self.maps.listed());
        let b = i64::from(self.plan.tiler.block_px);
        let Some(plane) = region.planes.iter_mut().find(|plane| plane.pixels.is_some()) else { return };
        let pixels = plane.pixels.get_or_insert_default();
        for y in rect.y..rect.bottom() {
            for bx in rect.x.div_euclid(b)..=(rect.right() - 1).div_euclid(b) {
                let Some(block) = self.blocks.get(&(bx as u32, y.div_euclid(b) as u32, strip)) else { continue };
                let (left, right) = (rect.x.max(bx * b), rect.right().min((bx + 1) * b));
                let row = (y.rem_euclid(b) * b + left - bx * b) as usize;
                let to = (y - rect.y) * i64::from(rect.w) + left - rect.x;
                each_place(&block.places[row..row + (right - left) as usize], |x, place| {
                    if self.plan.cells.contains(left + x as i64, y) {
                        pixels.push((to + x as i64) as u32);
                        let first = (place as usize - 1) * channels;
                        plane.data.extend_from_slice(&block.listed[first..first + channels]);
                    }
                });
            }
        }
    }

    fn hand_out(&mut self, index: usize, strip: u32) -> Result<Region, StitchError> {
        let (core, rect) = (self.plan.region_core(index), self.plan.region_rect(index));
        let mut region = self.blank_region(core, rect);
        if self.maps.lists_rays {
            self.list_out(&mut region, strip);
        }
        if let Some(away) = &self.away {
            away.read(rect, strip, &mut |rows| copy_blended(&rows, &self.plan, &mut region))?;
        }
        let block_px = self.plan.tiler.block_px;
        for at in blocks_touching(rect, block_px, strip) {
            let Some(block) = self.blocks.get_mut(&at) else { continue };
            block.regions_left -= 1;
            let free = block.regions_left == 0;
            block.copy_out(block_rect(at, block_px), &self.plan, &mut region);
            if free && let Some(block) = self.blocks.remove(&at) {
                self.spare.push(block);
                // What was added away came with tiles of which each made this block, unless it was there.
                self.away.iter().for_each(|away| away.free(at));
            }
        }
        Ok(region)
    }
}

/// Calls `f` with the position and the content of each place that is not empty.
fn each_place(places: &[u32], mut f: impl FnMut(usize, u32)) {
    // Most are empty, and so are most stretches of them.
    for (i, chunk) in places.chunks(16).enumerate() {
        if chunk.iter().fold(0, |all, place| all | place) != 0 {
            chunk.iter().enumerate().filter(|(_, place)| **place > 0).for_each(|(k, &place)| f(16 * i + k, place));
        }
    }
}

/// Makes `values` `n` times `value`, with room for `most` if it has to grow.
fn refill<T: Copy>(values: &mut Vec<T>, n: usize, most: usize, value: T) {
    values.clear();
    if values.capacity() < n {
        *values = Vec::with_capacity(most.max(n));
    }
    values.resize(n, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        geometry::{Size, TargetGrid},
        model::{Blend, Blended, Head, ModelTile, Placement, Wanted},
        stitch::placement,
        tiling::{Borders, CellMask, Tiler},
        tissue::TissueMask,
        units::{Mpp, MppXy},
    };
    use proptest::prelude::*;
    use std::sync::Mutex;

    /// A value that depends on the pixel alone, as a translation-invariant model gives.
    fn truth(x: i64, y: i64) -> i16 {
        ((x * 31 + y * 17).rem_euclid(32_749) - 16_000) as i16
    }

    fn plan(w: u32, h: u32, tile: (u32, u32, u32), window: Window, regions: (u32, u32, u32)) -> Arc<TilePlan> {
        let mpp = Mpp::new(0.5).unwrap();
        let grid = TargetGrid::new(Size::new(w, h), MppXy::square(mpp), mpp);
        let bits = (0..(w / 16 + 1) * (h / 16 + 1)).map(|i| u8::from(i % 7 < 3)).collect();
        let mask = TissueMask { bits, w: w / 16 + 1, h: h / 16 + 1, step_x: 16.0, step_y: 16.0 };
        Arc::new(Tiler::new(tile, window, regions).unwrap().plan(grid, CellMask::new(&grid, &mask, 0.4)))
    }

    fn semantic(keeps_rgb: bool) -> CanvasMaps {
        CanvasMaps { heads: vec![(Head::Semantic, 1)], lists_rays: false, keeps_rgb }
    }

    /// Every pixel of every region core, after adding all tiles in an order given by `seed`.
    fn stitched(plan: &Arc<TilePlan>, seed: u64, broken: Option<usize>) -> HashMap<(i64, i64), (i16, u8)> {
        let pool = Arc::new(RegionPool::new(2));
        let mut canvas = SlideCanvas::new(plan.clone(), semantic(true), pool.clone());
        let mut order: Vec<usize> = (0..plan.tiles.len()).collect();
        order.sort_by_key(|&i| (i as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let side = plan.tiler.core_px();
        let mut px = HashMap::new();
        let mut regions = 0;
        for i in order {
            let t = plan.tiles[i];
            let data = (0..i64::from(side) * i64::from(side))
                .map(|k| truth(t.core.x + k % i64::from(side), t.core.y + k / i64::from(side)))
                .collect();
            let map = HeadMap { head: Head::Semantic, channels: 1, w: side, h: side, data, pixels: None };
            let rgb = vec![9; (plan.tiler.tile_px * plan.tiler.tile_px * 3) as usize];
            let ready = if Some(i) == broken {
                canvas.skip(&t)
            } else {
                canvas.add(&t, std::slice::from_ref(&map), &rgb).unwrap()
            };
            for r in ready.map(Result::unwrap) {
                regions += 1;
                for y in r.rect.y..r.rect.bottom() {
                    for x in r.rect.x..r.rect.right() {
                        let at = ((y - r.rect.y) * i64::from(r.rect.w) + x - r.rect.x) as usize;
                        let value = (r.planes[0].data[at], r.computed[at]);
                        assert_eq!(r.rgb[at * 3], if value.1 == 1 { 9 } else { 255 });
                        if r.core.contains(x, y) {
                            assert!(px.insert((x, y), value).is_none(), "({x}, {y}) handed out twice");
                        }
                    }
                }
                pool.give(r);
            }
        }
        assert_eq!(regions, plan.region_count());
        assert!(canvas.blocks.is_empty(), "{} blocks were never freed", canvas.blocks.len());
        px
    }

    /// Sums of values and weights, px by px.
    type Px = HashMap<(i64, i64), (i64, i64)>;

    /// Sums of one channel of whatever model.
    #[derive(Default)]
    struct Sums(Mutex<HashMap<BlockAt, Px>>);

    impl Sums {
        fn put(&self, to: &Placement, window: &[u8], values: &[i16], block_px: u32) {
            let mut blocks = self.0.lock().unwrap();
            for at in &to.blocks {
                let (block, part) = (blocks.entry(*at).or_default(), to.used.intersect(&block_rect(*at, block_px)));
                for (y, x) in (part.y..part.bottom()).flat_map(|y| (part.x..part.right()).map(move |x| (y, x))) {
                    let (i, j) = ((x - to.core.x) as usize, (y - to.core.y) as usize);
                    let weight = (u32::from(window[i]) * u32::from(window[j])).div_ceil(255);
                    let (sum, weights) = block.entry((x, y)).or_default();
                    *sum += i64::from(weight) * i64::from(values[j * window.len() + i]);
                    *weights += i64::from(weight);
                }
            }
        }
    }

    impl Blend for Sums {
        fn add(&self, _: &mut [ModelTile<'_>], _: u32, _: &[Placement]) -> Result<(), ModelError> {
            unreachable!("the test puts maps there itself")
        }

        fn read(&self, _: u64, rect: Rect<Target>, _: u32, to: &mut dyn FnMut(Blended<'_>)) -> Result<(), ModelError> {
            let blocks = self.0.lock().unwrap();
            for y in rect.y..rect.bottom() {
                let px = (rect.x..rect.right()).map(|x| blocks.values().find_map(|block| block.get(&(x, y))));
                let mean = |px: Option<&(i64, i64)>| {
                    px.map_or(0, |(sum, weight)| (*sum as f64 / *weight as f64).round() as i16)
                };
                let computed: Vec<u8> = px.clone().map(|px| u8::from(px.is_some())).collect();
                let values: Vec<i16> = px.map(mean).collect();
                to(Blended { rect: Rect::new(rect.x, y, rect.w, 1), values: &values, computed: &computed });
            }
            Ok(())
        }

        fn most_bytes(&self) -> u64 {
            u64::MAX
        }

        fn free(&self, _: u64, at: BlockAt) {
            self.0.lock().unwrap().remove(&at);
        }

        fn end(&self, _: u64) {
            self.0.lock().unwrap().clear();
        }
    }

    /// All regions of a plan whose tiles say something else each, in the order of `seed`; with `away`, sums are kept
    /// there, up to `ahead` tiles before the canvas hears of one.
    fn blended(plan: &Arc<TilePlan>, seed: u64, away: Option<(&Arc<Sums>, usize)>) -> Vec<Region> {
        let slide = away.map(|(sums, _)| Arc::new(SlideBlend::new(sums.clone())));
        let canvas = SlideCanvas::new(plan.clone(), semantic(true), Arc::new(RegionPool::new(0)));
        let mut canvas = canvas.with_sums_away(slide.clone());
        let mut order: Vec<usize> = (0..plan.tiles.len()).collect();
        order.sort_by_key(|&i| (i as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let side = plan.tiler.core_px();
        let (window, rgb) = (hann(side), vec![9; (plan.tiler.tile_px.pow(2) * 3) as usize]);
        let map = |i: usize| -> Vec<i16> { (0..side * side).map(|k| truth(i64::from(k), 97 * i as i64)).collect() };
        let is_skipped = |i: usize| i % 11 == 4;
        let (mut put, mut regions) = (0, vec![]);
        for (n, &i) in order.iter().enumerate() {
            let tile = &plan.tiles[i];
            if let (Some((sums, ahead)), Some(slide)) = (away, &slide) {
                while put <= (n + ahead).min(order.len() - 1) {
                    let to = placement(plan, &plan.tiles[order[put]], slide.slide());
                    if !is_skipped(order[put]) {
                        sums.put(&to, &window, &map(order[put]), plan.tiler.block_px);
                    }
                    put += 1;
                }
            }
            let whole = if is_skipped(i) {
                canvas.skip(tile)
            } else if away.is_some() {
                canvas.add_blended(tile, &rgb)
            } else {
                let map = HeadMap { head: Head::Semantic, channels: 1, w: side, h: side, data: map(i), pixels: None };
                canvas.add(tile, &[map], &rgb).unwrap()
            };
            regions.extend(whole.map(Result::unwrap));
        }
        if let Some((sums, _)) = away {
            assert!(sums.0.lock().unwrap().is_empty(), "blocks are freed before the slide ends");
        }
        regions
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn sums_kept_away_give_the_same_regions_and_are_freed_however_far_ahead_tiles_are_added(
            w in 1u32..400, h in 1u32..400, tile in 50u32..150, margin in 0u32..20, seed: u64, ahead in 0usize..40,
            region in 100u32..300, halo in 0u32..60, block in prop_oneof![Just(32u32), Just(128)], again: bool,
        ) {
            let core = tile - 2 * margin;
            let plan = plan(w, h, (tile, core - core / 3, margin), Window::Hann, (region, halo, block));
            let borders = if again { Borders::Again } else { Borders::Kept };
            let plan = Arc::new(plan.tiler.with_borders(borders).plan(plan.grid, plan.cells.clone()));
            let sums = Arc::new(Sums::default());
            prop_assert!(blended(&plan, seed, Some((&sums, ahead))) == blended(&plan, seed, None));
        }

        #[test]
        fn the_canvas_gives_back_every_computed_pixel_once_in_any_order(
            w in 1u32..900, h in 1u32..900, tile in 100u32..400, margin in 0u32..30, seed: u64, hann: bool,
            region in prop_oneof![Just(256u32), Just(333), Just(512)], halo in 0u32..100,
        ) {
            let window = if hann { Window::Hann } else { Window::Crop };
            let core = tile - 2 * margin;
            let plan = plan(w, h, (tile, core - core / 3, margin), window, (region, halo, 128));
            for ((x, y), (value, computed)) in stitched(&plan, seed, None) {
                let expected = plan.cells.contains(x, y);
                prop_assert_eq!(computed == 1, expected, "({}, {})", x, y);
                prop_assert_eq!(value, if expected { truth(x, y) } else { 0 }, "({}, {})", x, y);
            }
        }
    }

    #[test]
    fn a_slide_that_ends_early_leaves_no_sums() {
        let sums = Arc::new(Sums::default());
        let slide = SlideBlend::new(sums.clone());
        sums.0.lock().unwrap().insert((3, 4, 0), HashMap::new());
        drop(slide);
        assert!(sums.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_listed_head_comes_out_row_by_row_whatever_the_tiles_and_blocks() {
        let listed_of = |tile: (u32, u32, u32), block: u32, seed: u64| -> Vec<((i64, i64), Vec<i16>)> {
            let plan = plan(700, 500, tile, Window::Crop, (333, 40, block));
            let heads = vec![(Head::NuclearPixel, 1), (Head::StarDistance, 3)];
            let maps = CanvasMaps { heads, lists_rays: true, keeps_rgb: false };
            let pool = Arc::new(RegionPool::new(2));
            let mut canvas = SlideCanvas::new(plan.clone(), maps, pool.clone());
            let mut order: Vec<usize> = (0..plan.tiles.len()).collect();
            order.sort_by_key(|&i| (i as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let side = plan.tiler.core_px();
            let mut found = vec![];
            for i in order {
                let t = plan.tiles[i];
                let px = || {
                    (0..i64::from(side * side))
                        .map(|k| (t.core.x + k % i64::from(side), t.core.y + k / i64::from(side)))
                };
                let map = |head, channels, data| HeadMap { head, channels, w: side, h: side, data, pixels: None };
                let nuclear = map(Head::NuclearPixel, 1, px().map(|(x, y)| truth(x, y)).collect());
                let rays = (0..3).flat_map(|c| px().map(move |(x, y)| truth(x + 9 * c, y))).collect();
                let maps = Wanted { core_px: side, rays_above: Some(12_000) }
                    .of(vec![nuclear, map(Head::StarDistance, 3, rays)]);
                for region in canvas.add(&t, &maps, &[]).unwrap().map(Result::unwrap) {
                    let (nuclear, rays) = (&region.planes[0], &region.planes[1]);
                    let pixels = rays.pixels.as_ref().unwrap();
                    let above = (0..).zip(&nuclear.data).filter(|(_, v)| **v > 12_000).map(|(at, _)| at);
                    assert!(above.eq(pixels.iter().copied()), "all that is above is listed, row by row");
                    for (&at, values) in pixels.iter().zip(rays.data.chunks_exact(3)) {
                        let (x, y) = (i64::from(at % region.rect.w), i64::from(at / region.rect.w));
                        found.push(((region.rect.x + x, region.rect.y + y), values.to_vec()));
                    }
                    pool.give(region);
                }
            }
            assert!(canvas.blocks.is_empty());
            found.sort();
            found
        };
        let expected = listed_of((200, 200, 0), 512, 0);
        assert!(expected.len() > 1000);
        assert!(expected.iter().all(|((x, y), v)| (0..3).all(|c| v[c as usize] == truth(x + 9 * c, *y))));
        assert!(listed_of((260, 170, 20), 128, 3) == expected);
        // Maps of all pixels are not what was told.
        let plan = plan(300, 300, (200, 200, 0), Window::Crop, (256, 0, 128));
        let maps = CanvasMaps { heads: vec![(Head::StarDistance, 3)], lists_rays: true, keeps_rgb: false };
        let mut canvas = SlideCanvas::new(plan.clone(), maps, Arc::new(RegionPool::new(0)));
        let map =
            HeadMap { head: Head::StarDistance, channels: 3, w: 200, h: 200, data: vec![0; 120_000], pixels: None };
        let error = canvas.add(&plan.tiles[0], &[map], &[]).err().unwrap();
        assert_eq!(error, StitchError::Heads { found: 0, expected: 3 });
    }

    #[test]
    fn a_tile_without_prediction_leaves_its_pixels_not_computed_and_the_rest_whole() {
        let plan = plan(700, 500, (200, 180, 10), Window::Crop, (256, 64, 128));
        let broken = plan.tiles.len() / 2;
        let hole = plan.tiles[broken].used;
        let px = stitched(&plan, 3, Some(broken));
        for ((x, y), (value, computed)) in px {
            let expected = plan.cells.contains(x, y) && !hole.contains(x, y);
            assert_eq!((value, computed == 1), (if expected { truth(x, y) } else { 0 }, expected), "({x}, {y})");
        }
    }

    #[test]
    fn regions_that_one_tile_completes_are_cut_out_one_after_another() {
        let plan = plan(300, 300, (320, 320, 0), Window::Crop, (64, 0, 128));
        let pool = Arc::new(RegionPool::new(1));
        let mut canvas = SlideCanvas::new(plan.clone(), semantic(false), pool.clone());
        let data = vec![1; 320 * 320];
        let map = HeadMap { head: Head::Semantic, channels: 1, w: 320, h: 320, data, pixels: None };
        assert_eq!(plan.tiles.len(), 1);
        let mut buffers = vec![];
        for region in canvas.add(&plan.tiles[0], &[map], &[]).unwrap() {
            let region = region.unwrap();
            buffers.push(region.planes[0].data.as_ptr());
            // The next one is cut out into what this one was.
            pool.give(region);
        }
        assert!(buffers.len() > 9 && buffers.len() == plan.region_count());
        assert!(buffers.iter().all(|b| *b == buffers[0]), "{buffers:?}");
    }

    #[test]
    fn maps_of_another_size_are_refused() {
        let plan = plan(300, 300, (200, 180, 10), Window::Crop, (256, 0, 128));
        let mut canvas = SlideCanvas::new(plan.clone(), semantic(false), Arc::new(RegionPool::new(0)));
        let map = HeadMap { head: Head::Semantic, channels: 1, w: 10, h: 10, data: vec![0; 100], pixels: None };
        assert_eq!(
            canvas.add(&plan.tiles[0], &[map], &[]).err().unwrap(),
            StitchError::MapSize { w: 10, h: 10, expected: 180 }
        );
    }
}
