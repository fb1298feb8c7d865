//! The plan of a slide: which tiles are read, in which order, and which regions become of them.
//!
//! Owns: [`TilePlan`], [`Tiler`]. Must not know: pixel values, models. Integer arithmetic only.
//!
//! Tiles run in column strips (about [`STRIP_PX`] wide), each from top to bottom, so that the part of the canvas in use
//! stays small however large the slide is. Where strips meet, regions of both need the same pixels: a tile there is
//! either computed once and kept until the next strip comes by ([`Borders::Kept`], memory grows with the slide's
//! height), or computed for each strip ([`Borders::Again`], memory does not grow, up to a tenth more tiles).

use super::cells::CellMask;
use crate::{
    config::settings::Window,
    geometry::{Rect, Target, TargetGrid},
};

/// Width of a column strip in target px.
pub const STRIP_PX: u32 = 8192;

/// What happens to tiles that two strips need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Borders {
    /// Computed once, kept until the second strip has used them: for models whose tiles are dear.
    Kept,
    /// Computed once per strip: for models whose tiles are cheap.
    Again,
}

/// How tiles are cut; checked by [`Tiler::new`].
///
/// A model may say one thing per `out_stride` × `out_stride` pixels it sees. Regions, blocks and cells are then squares
/// of what it says (the target grid), while tile, step and margin are counted in the finer pixels it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiler {
    /// Side of a tile, in px the model sees.
    pub tile_px: u32,
    /// Step between tiles, in px the model sees.
    pub stride_px: u32,
    /// Ring of the tile whose prediction is dropped, in px the model sees.
    pub margin_px: u32,
    /// Px the model sees along one target px.
    pub out_stride: u32,
    /// Which pixels of a prediction are used.
    pub window: Window,
    /// Side of a region's core.
    pub region_px: u32,
    /// Context around a region's core.
    pub halo_px: u32,
    /// Side of a canvas block.
    pub block_px: u32,
    /// What happens to tiles that two strips need.
    pub borders: Borders,
}

/// One tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileSpec {
    /// What is read, in px the model sees; may reach outside the slide (white).
    pub input: Rect<Target>,
    /// What the prediction covers: `input` without the margin, in target px; may reach outside the slide.
    pub core: Rect<Target>,
    /// The part of the core that is used, inside the slide.
    pub used: Rect<Target>,
    /// The strip whose regions it is for; 0 for all tiles where borders are kept.
    pub strip: u32,
}

/// Which tiles of a slide are read and which regions they make.
#[derive(Debug, Clone)]
pub struct TilePlan {
    /// The target grid.
    pub grid: TargetGrid,
    /// How it was cut.
    pub tiler: Tiler,
    /// What is computed.
    pub cells: CellMask,
    /// The tiles in the order they are read.
    pub tiles: Vec<TileSpec>,
    /// Per region of the grid (row by row), the number of tiles it waits for; 0 where no region is.
    pub region_tiles: Vec<u32>,
    /// Regions along x.
    pub regions_x: u32,
    /// Regions along y.
    pub regions_y: u32,
    /// Regions that are there already, by index; empty when none is.
    pub finished: Vec<bool>,
}

impl Tiler {
    /// A tiler, when the numbers fit together.
    ///
    /// # Errors
    /// A sentence `found, expected` when the stride is zero or wider than the core, or the margin eats the tile.
    pub fn new(
        (tile_px, stride_px, margin_px): (u32, u32, u32),
        window: Window,
        (region_px, halo_px, block_px): (u32, u32, u32),
    ) -> Result<Self, String> {
        if 2 * margin_px >= tile_px {
            return Err(format!("`margin_px` {margin_px} on both sides leaves nothing of `tile_px` {tile_px}"));
        }
        let core = tile_px - 2 * margin_px;
        if stride_px == 0 || stride_px > core {
            return Err(format!(
                "`stride_px` is {stride_px}, expected 1 to {core} (`tile_px` {tile_px} − 2 × `margin_px` {margin_px})"
            ));
        }
        if region_px == 0 || block_px == 0 || !STRIP_PX.is_multiple_of(block_px) {
            return Err(format!("`block_px` is {block_px}, expected a divisor of {STRIP_PX}"));
        }
        let (out_stride, borders) = (1, Borders::Kept);
        Ok(Self { tile_px, stride_px, margin_px, out_stride, window, region_px, halo_px, block_px, borders })
    }

    /// The same for a model that says one thing per `out_stride` × `out_stride` px.
    ///
    /// # Errors
    /// A sentence `found, expected` when step or core are no multiples of it.
    pub fn with_out_stride(self, out_stride: u32) -> Result<Self, String> {
        let core = self.tile_px - 2 * self.margin_px;
        for (name, px) in [("stride_px", self.stride_px), ("tile_px − 2 × margin_px", core)] {
            if !px.is_multiple_of(out_stride) {
                return Err(format!("`{name}` is {px}, expected a multiple of the output's {out_stride} px"));
            }
        }
        Ok(Self { out_stride, ..self })
    }

    /// The same, with `borders` where strips meet.
    #[must_use]
    pub fn with_borders(self, borders: Borders) -> Self {
        Self { borders, ..self }
    }

    /// Region columns of a strip.
    fn strip_regions(&self) -> u32 {
        (STRIP_PX / self.region_px).max(1)
    }

    /// Columns of the target grid that the regions of strip `index` need.
    fn strip_columns(&self, index: u32) -> (i64, i64) {
        let px = i64::from(self.strip_regions()) * i64::from(self.region_px);
        let halo = i64::from(self.halo_px);
        (i64::from(index) * px - halo, (i64::from(index) + 1) * px + halo)
    }

    /// Side of what a prediction covers, in target px.
    pub fn core_px(&self) -> u32 {
        (self.tile_px - 2 * self.margin_px) / self.out_stride
    }

    /// Step between tiles, in target px.
    pub fn step_px(&self) -> u32 {
        self.stride_px / self.out_stride
    }

    /// Tile `(i, j)` of the infinite grid. Its stride cell is `[i·stride, (i+1)·stride)`; the core is centred on it.
    fn tile(&self, i: i64, j: i64, grid: &TargetGrid) -> TileSpec {
        let stride = i64::from(self.step_px());
        let lead = i64::from((self.core_px() - self.step_px()) / 2);
        let core = Rect::new(i * stride - lead, j * stride - lead, self.core_px(), self.core_px());
        let used = match self.window {
            Window::Crop => Rect::new(i * stride, j * stride, self.step_px(), self.step_px()),
            Window::Hann => core,
        };
        TileSpec {
            input: core.enlarge(self.out_stride).inflate(self.margin_px),
            core,
            used: used.intersect(&grid.size.rect()),
            strip: 0,
        }
    }

    /// Plans a slide.
    pub fn plan(self, grid: TargetGrid, cells: CellMask) -> TilePlan {
        let mut tiles = vec![];
        let strips = grid.size.w.div_ceil(self.strip_regions() * self.region_px);
        let stride = i64::from(self.step_px());
        let reach = if self.window == Window::Hann { i64::from(self.core_px()).div_euclid(stride) + 1 } else { 0 };
        let rows = i64::from(grid.size.h).div_euclid(stride) + 1 + reach;
        let columns = i64::from(grid.size.w).div_euclid(stride) + 1 + reach;
        for strip in 0..strips {
            let (left, right) = self.strip_columns(strip);
            for j in -reach..rows {
                for i in -reach..columns {
                    let mut tile = self.tile(i, j, &grid);
                    let in_strip = Rect::from_edges(
                        tile.used.x.max(left),
                        tile.used.y,
                        tile.used.right().min(right),
                        tile.used.bottom(),
                    );
                    let is_planned = match self.borders {
                        Borders::Again => cells.intersects(in_strip),
                        // Only the first strip that touches a tile has it, wherever in the tile the tissue lies.
                        Borders::Kept => {
                            let is_first = strip == 0 || tile.used.x >= self.strip_columns(strip - 1).1;
                            is_first && !in_strip.is_empty() && cells.intersects(tile.used)
                        }
                    };
                    if !is_planned {
                        continue;
                    }
                    if self.borders == Borders::Again {
                        tile.strip = strip;
                    }
                    tiles.push(tile);
                }
            }
        }
        let (regions_x, regions_y) = (grid.size.w.div_ceil(self.region_px), grid.size.h.div_ceil(self.region_px));
        let region_tiles = vec![0; regions_x as usize * regions_y as usize];
        let mut plan =
            TilePlan { grid, tiler: self, cells, tiles, region_tiles, regions_x, regions_y, finished: vec![] };
        for at in 0..plan.tiles.len() {
            let tile = plan.tiles[at];
            for region in plan.regions_touching(tile.used, tile.strip) {
                plan.region_tiles[region] += 1;
            }
        }
        plan
    }
}

impl TilePlan {
    /// Drops tiles of whose cells less than `share` are computed. For models that say one thing per tile: nothing is
    /// stitched, so no region waits for them.
    pub fn keep_tiles_with(&mut self, share: f64) {
        let cells = &self.cells;
        self.tiles.retain(|tile| cells.share(tile.used) >= share);
        self.region_tiles.fill(0);
    }

    /// The core of region `index`.
    pub fn region_core(&self, index: usize) -> Rect<Target> {
        let px = self.tiler.region_px;
        let (i, j) = (index as i64 % i64::from(self.regions_x), index as i64 / i64::from(self.regions_x));
        Rect::new(i * i64::from(px), j * i64::from(px), px, px).intersect(&self.grid.size.rect())
    }

    /// Core and halo of region `index`, cut at the slide's edge.
    pub fn region_rect(&self, index: usize) -> Rect<Target> {
        self.region_core(index).inflate(self.tiler.halo_px).intersect(&self.grid.size.rect())
    }

    /// Regions of `strip` (of all, where borders are kept) that have something to compute and whose core or halo
    /// touches `rect`, in order.
    pub fn regions_touching(&self, rect: Rect<Target>, strip: u32) -> impl Iterator<Item = usize> + use<> {
        let reach = rect.inflate(self.tiler.halo_px);
        let px = i64::from(self.tiler.region_px);
        let range = |lo: i64, hi: i64, n: u32| {
            lo.div_euclid(px).clamp(0, n.into())..((hi - 1).div_euclid(px) + 1).clamp(0, n.into())
        };
        let mut columns = range(reach.x, reach.right(), self.regions_x);
        if self.tiler.borders == Borders::Again {
            let of_strip = i64::from(self.tiler.strip_regions());
            let first = i64::from(strip) * of_strip;
            columns = columns.start.max(first)..columns.end.min(first + of_strip);
        }
        let mut found = vec![];
        for j in range(reach.y, reach.bottom(), self.regions_y) {
            for i in columns.clone() {
                let index = (j * i64::from(self.regions_x) + i) as usize;
                if !self.is_finished(index) && self.cells.intersects(self.region_core(index)) {
                    found.push(index);
                }
            }
        }
        found.into_iter()
    }

    /// Whether region `index` is there already.
    fn is_finished(&self, index: usize) -> bool {
        self.finished.get(index).copied().unwrap_or(false)
    }

    /// What remains to be done when the regions with these cores are there: tiles that no other region needs are
    /// dropped. Cores that are none of the plan's change nothing.
    pub fn without(&self, cores: &[Rect<Target>]) -> Self {
        let mut plan = self.clone();
        if cores.is_empty() {
            return plan;
        }
        plan.finished = vec![false; self.region_tiles.len()];
        for index in cores.iter().filter_map(|core| self.region_of(core)) {
            plan.finished[index] = true;
            plan.region_tiles[index] = 0;
        }
        let all = std::mem::take(&mut plan.tiles);
        let is_needed = |tile: &TileSpec| plan.regions_touching(tile.used, tile.strip).next().is_some();
        let tiles = all.into_iter().filter(is_needed).collect();
        plan.tiles = tiles;
        plan
    }

    /// The region that has this core and something to compute.
    pub fn region_of(&self, core: &Rect<Target>) -> Option<usize> {
        let px = i64::from(self.tiler.region_px);
        let (i, j) = (core.x.div_euclid(px), core.y.div_euclid(px));
        let inside = (0..i64::from(self.regions_x)).contains(&i) && (0..i64::from(self.regions_y)).contains(&j);
        let index = inside.then_some((j * i64::from(self.regions_x) + i) as usize)?;
        (self.region_tiles[index] > 0 && self.region_core(index) == *core).then_some(index)
    }

    /// Number of regions that will be made.
    pub fn region_count(&self) -> usize {
        self.region_tiles.iter().filter(|&&n| n > 0).count()
    }

    /// Most canvas bytes in use at once, for planes of `channels` in all, if sums are kept there, and pixels if
    /// `keeps_rgb`: one strip's front of a region row and its halo, and the border column that waits for the next strip.
    pub fn canvas_bytes(&self, channels: Option<u32>, keeps_rgb: bool) -> u64 {
        let of_sums = |channels: u32| match self.tiler.window {
            Window::Crop => 2 * u64::from(channels) + 1,
            Window::Hann => 4 * u64::from(channels) + 4,
        };
        let per_px = channels.map_or(0, of_sums) + if keeps_rgb { 3 } else { 0 };
        let t = &self.tiler;
        let block = u64::from(t.block_px);
        let up = |px: u64| px.div_ceil(block) * block;
        let width = up(u64::from(self.grid.size.w.min(STRIP_PX)) + u64::from(t.halo_px) + block);
        let front = up(u64::from(t.region_px + 2 * t.halo_px + t.step_px()) + block);
        let is_wide = self.grid.size.w > STRIP_PX && t.borders == Borders::Kept;
        let kept = up(2 * u64::from(t.halo_px + t.step_px())) * u64::from(self.grid.size.h);
        let border = if is_wide { kept } else { 0 };
        (width * front.min(up(self.grid.size.h.into())) + border) * per_px
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        geometry::Size,
        tissue::TissueMask,
        units::{Mpp, MppXy},
    };
    use proptest::prelude::*;

    fn grid(w: u32, h: u32) -> TargetGrid {
        let mpp = Mpp::new(0.5).unwrap();
        TargetGrid::new(Size::new(w, h), MppXy::square(mpp), mpp)
    }

    fn some_tissue(w: u32, h: u32, seed: u64) -> TissueMask {
        let (mw, mh) = (w.div_ceil(16), h.div_ceil(16));
        let bits = (0..u64::from(mw) * u64::from(mh))
            .map(|i| u8::from((i ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 62 == 0))
            .collect();
        TissueMask { bits, w: mw, h: mh, step_x: 16.0, step_y: 16.0 }
    }

    proptest! {
        #[test]
        fn used_parts_partition_what_is_computed(
            w in 1u32..3000, h in 1u32..3000, tile in 40u32..700, margin in 0u32..40, shrink in 0u32..30, seed: u64,
        ) {
            prop_assume!(2 * margin < tile);
            let core = tile - 2 * margin;
            let stride = core.saturating_sub(shrink).max(1 + core / 2);
            let tiler = Tiler::new((tile, stride, margin), Window::Crop, (512, 64, 256)).unwrap();
            let grid = grid(w, h);
            let cells = CellMask::new(&grid, &some_tissue(w, h, seed), 0.25);
            let plan = tiler.plan(grid, cells.clone());
            let mut times = vec![0u8; w as usize * h as usize];
            for t in &plan.tiles {
                prop_assert!(t.used.intersect(&t.core) == t.used && t.core.inflate(margin) == t.input);
                for y in t.used.y..t.used.bottom() {
                    for x in t.used.x..t.used.right() {
                        times[y as usize * w as usize + x as usize] += 1;
                    }
                }
            }
            for (i, &n) in times.iter().enumerate() {
                let (x, y) = (i as i64 % i64::from(w), i as i64 / i64::from(w));
                prop_assert!(n <= 1, "({x}, {y}) lies in {n} tiles");
                prop_assert!(n == 1 || !cells.contains(x, y), "({x}, {y}) is computed by no tile");
            }
        }

        #[test]
        fn every_region_waits_for_exactly_the_tiles_that_touch_it(
            w in 1u32..2500, h in 1u32..2500, region in 100u32..900, halo in 0u32..130, hann: bool, again: bool,
            seed: u64,
        ) {
            let window = if hann { Window::Hann } else { Window::Crop };
            let borders = if again { Borders::Again } else { Borders::Kept };
            let tiler = Tiler::new((200, 120, 20), window, (region, halo, 256)).unwrap().with_borders(borders);
            // Wide slides, so that strips meet.
            let (w, h) = (w * 8, h / 4 + 1);
            let grid = grid(w, h);
            let plan = tiler.plan(grid, CellMask::new(&grid, &some_tissue(w, h, seed), 0.25));
            for index in 0..plan.region_tiles.len() {
                let rect = plan.region_rect(index);
                let strip = index as u32 % plan.regions_x / (STRIP_PX / region);
                let touching = plan.tiles.iter().filter(|t| {
                    !t.used.intersect(&rect).is_empty() && (!again || t.strip == strip)
                });
                let (mut count, mut area) = (0, 0);
                touching.for_each(|t| {
                    count += 1;
                    area += t.used.intersect(&rect).area();
                });
                let computed = plan.cells.intersects(plan.region_core(index));
                prop_assert_eq!(plan.region_tiles[index], if computed { count } else { 0 });
                prop_assert!(!computed || count > 0);
                let cells: u64 = (rect.y..rect.bottom())
                    .map(|y| (rect.x..rect.right()).filter(|&x| plan.cells.contains(x, y)).count() as u64)
                    .sum();
                prop_assert!(!computed || hann || area >= cells, "{area} px of tiles for {cells} px to compute");
            }
        }
    }

    #[test]
    fn a_tile_where_strips_meet_is_planned_when_only_its_far_side_has_tissue() {
        let (w, h) = (15_768, 17);
        let grid = grid(w, h);
        let cells = CellMask::new(&grid, &some_tissue(w, h, 1_448_937_169_336_898_102), 0.25);
        let tiler = Tiler::new((200, 120, 20), Window::Crop, (102, 1, 256)).unwrap();
        let plan = tiler.plan(grid, cells.clone());
        for x in (0..i64::from(w)).filter(|&x| cells.contains(x, 0)) {
            assert_eq!(plan.tiles.iter().filter(|t| t.used.contains(x, 0)).count(), 1, "column {x}");
        }
    }

    #[test]
    fn a_stride_wider_than_the_core_is_refused_with_both_numbers() {
        let error = Tiler::new((256, 200, 46), Window::Crop, (1024, 96, 256)).unwrap_err();
        assert_eq!(error, "`stride_px` is 200, expected 1 to 164 (`tile_px` 256 − 2 × `margin_px` 46)");
    }

    #[test]
    fn what_remains_of_a_plan_makes_every_region_that_is_not_there() {
        let grid = grid(9000, 3000);
        for borders in [Borders::Again, Borders::Kept] {
            let cells = CellMask::new(&grid, &some_tissue(9000, 3000, 7), 0.25);
            let tiler = Tiler::new((256, 164, 46), Window::Crop, (512, 96, 256)).unwrap().with_borders(borders);
            let plan = tiler.plan(grid, cells);
            let made = |index: usize| plan.region_tiles[index] > 0 && !index.is_multiple_of(3);
            let all = 0..plan.region_tiles.len();
            let cores: Vec<_> = all.clone().filter(|&i| made(i)).map(|i| plan.region_core(i)).collect();
            let left = plan.without(&cores);
            assert!(!cores.is_empty() && left.tiles.len() < plan.tiles.len());
            let mut counts = vec![0; plan.region_tiles.len()];
            for tile in &left.tiles {
                left.regions_touching(tile.used, tile.strip).for_each(|region| counts[region] += 1);
            }
            let expected: Vec<u32> = all.map(|i| if made(i) { 0 } else { plan.region_tiles[i] }).collect();
            assert_eq!((&counts, &left.region_tiles), (&expected, &expected));
            let none: Vec<_> = (0..counts.len()).map(|i| plan.region_core(i)).collect();
            assert_eq!((plan.without(&none).tiles.len(), plan.without(&[]).tiles.len()), (0, plan.tiles.len()));
            assert_eq!(plan.without(&[Rect::new(-512, 1 << 40, 512, 512)]).tiles.len(), plan.tiles.len());
        }
    }

    #[test]
    fn tiles_run_in_column_strips_from_top_to_bottom() {
        let grid = grid(20_000, 3000);
        let cells = CellMask::new(&grid, &TissueMask::everything(grid.level0), 0.0);
        let plan = Tiler::new((1000, 1000, 0), Window::Crop, (1024, 96, 256)).unwrap().plan(grid, cells);
        let strip = |x: i64| (x - 96).max(0) / i64::from(STRIP_PX);
        let order: Vec<_> = plan.tiles.iter().map(|t| (strip(t.used.x), t.used.y, t.used.x)).collect();
        assert!(order.is_sorted() && order.len() == 60);
    }
}
