//! Getting one slide ready: opened, its resolution checked, tissue found, tiles planned, stain fitted.
//!
//! Owns: [`plan_slide`], [`SlidePlan`], [`fit_stain`]. Must not know: threads, what is written.

use crate::{
    config::settings::Stain,
    error::{SlideError, StageName},
    geometry::TargetGrid,
    model::Head,
    output::{ResultKind, SlideHeader},
    pipeline::{disk, setup::Setup},
    pixels::{
        ReadScratch, RgbImage, TargetReader,
        stain::{StainFit, reinhard::without_background},
        thumbnail,
    },
    slides::{self, EntrySource, LevelInfo, SlideEntry, SlideReader},
    tiling::{CELL_PX, CellMask, TilePlan},
    tissue::{self, ColorVerdict, FoundTissue},
};
use std::sync::Arc;

/// Most pixels along the longer side of the picture tissue is found on.
const TISSUE_PICTURE_MAX_PX: u32 = 8192;
/// A tile that is classified as a whole must have this share of its cells computed: a sliver of tissue says nothing.
const MIN_TISSUE_OF_A_TILE: f64 = 0.25;
/// Cells the stain is fitted on.
const STAIN_SAMPLES: usize = 100;

/// What is known of a slide before its first tile is read.
pub struct SlidePlan {
    /// Names, grid, classes.
    pub header: SlideHeader,
    /// Reads its pixels.
    pub reader: TargetReader,
    /// The whole slide at `tissue.mpp`.
    pub picture: RgbImage,
    /// Its tissue.
    pub tissue: FoundTissue,
    /// What its colours say.
    pub color: ColorVerdict,
    /// Tiles and regions.
    pub tiles: Arc<TilePlan>,
    /// Where its mpp came from.
    pub mpp_source: &'static str,
    /// Which of our readers opened it.
    pub reader_name: &'static str,
    /// The format.
    pub vendor: String,
    /// Identity by content.
    pub identity: Option<String>,
}

/// What painting, packing and sorting the results of one slide takes: a second slide of 1.3 mm² in flight took 90 MB
/// beside its canvas. It does not grow with the slide; a test compares plans with peaks.
const WRITING_BYTES: u64 = 100 << 20;

impl SlidePlan {
    /// Bytes this slide needs while it is worked on, beside what every slide of the run shares.
    pub fn slide_bytes(&self, setup: &Setup) -> u64 {
        // Sums that are kept with the model take nothing here.
        let channels = setup.blend_of(&self.tiles).is_none().then(|| setup.channels_held());
        let picture = self.picture.data.len() as u64 * 2 + self.tissue.mask.bits.len() as u64;
        self.tiles.canvas_bytes(channels, setup.keeps_rgb()) + picture + WRITING_BYTES
    }

    /// Bytes the slide's results will take, about: of what the run writes, at its resolution, by area computed.
    pub fn disk_bytes(&self, setup: &Setup) -> u64 {
        let grid = &self.header.grid;
        let cell_um2 = f64::from(CELL_PX).powi(2) * self.tiles.grid.px_area_um2();
        let computed_mm2 = self.tiles.cells.count() as f64 * cell_um2 / 1e6;
        let is_prob = |head: Head| match setup.kind {
            ResultKind::Nuclei => head == Head::NuclearPixel,
            ResultKind::Semantic => head == Head::Semantic,
            ResultKind::Tiles => head == Head::Classification,
        };
        let prob_heads = setup.heads().into_iter().filter(|(head, _)| setup.writes_prob() && is_prob(*head));
        let prob_channels = prob_heads.map(|(_, n)| n).sum();
        let um_per_px = grid.input_mpp.um_per_px();
        disk::result_bytes(setup.kind, &setup.settings.output, um_per_px, computed_mm2, prob_channels)
    }

    /// µm² of tissue.
    pub fn tissue_area_um2(&self) -> f64 {
        let mask = &self.tissue.mask;
        mask.count() as f64 * mask.step_x * mask.step_y * self.header.grid.slide_mpp.px_area_um2()
    }
}

/// Opens a slide, finds its tissue and plans its tiles.
///
/// # Errors
/// [`SlideError`] of whatever could not be done; the other slides go on.
pub fn plan_slide(entry: &SlideEntry, setup: &Setup) -> Result<SlidePlan, SlideError> {
    let settings = &setup.settings;
    let reader: Arc<dyn SlideReader> = slides::open(entry, &settings.slides)?;
    let slide_mpp = slides::check_mpp(reader.info())?;
    let info = reader.info();
    let [seen, grid, masks] = [setup.input_mpp, setup.target_mpp(), setup.mask_mpp()]
        .map(|mpp| TargetGrid::new(info.level0(), slide_mpp, mpp));
    let small = thumbnail(&reader, slide_mpp, settings.tissue.mpp, TISSUE_PICTURE_MAX_PX).map_err(|e| {
        SlideError::new(StageName::Tissue, format!("cannot read the whole slide small: {e}"))
            .hint("the file is damaged; copy it again from the scanner, or give `tissue: { mask_dir: … }`")
    })?;
    let stem = entry.path.file_stem().map_or_else(|| entry.id.clone(), |s| s.to_string_lossy().into_owned());
    let picture = small.image;
    let mut tissue = tissue::find_tissue(&picture, info.level0(), slide_mpp, &stem, &settings.tissue)?;
    let plan_tiles = || {
        let cells = CellMask::new(&grid, &tissue.mask, settings.tiling.min_tissue);
        let mut tiles = setup.tiler.plan(grid, cells);
        if setup.kind == ResultKind::Tiles {
            tiles.keep_tiles_with(MIN_TISSUE_OF_A_TILE);
        }
        Arc::new(tiles)
    };
    let (color, tiles) = rayon::join(|| tissue::check_color(&picture, &tissue.mask), plan_tiles);
    let spec = setup.model.spec();
    let header = SlideHeader {
        id: entry.id.clone(),
        path: entry.path.clone(),
        grid: masks,
        bounds: info.bounds,
        model: spec.name.to_owned(),
        classes: spec.classes.clone(),
    };
    let (reader_name, vendor) = (info.reader, info.vendor.clone());
    let identity = match entry.source {
        EntrySource::File => info.quickhash.clone().or_else(|| slides::content_hash(&entry.path).ok()),
        EntrySource::Synthetic { .. } => None,
    };
    let mpp_source = info.mpp.map_or("none", |(_, source)| source.name());
    let reader = TargetReader::new(reader, seen, settings.pixels.resample);
    let mut distrusted: Vec<u8> = small.distrusted.iter().chain(reader.distrusted_levels()).map(|l| l.0).collect();
    distrusted.sort_unstable();
    distrusted.dedup();
    if !distrusted.is_empty() {
        let note = format!("levels {distrusted:?} do not show what level 0 shows and were not read");
        tissue.notes.push(note);
    }
    Ok(SlidePlan { header, reader, picture, tissue, color, tiles, mpp_source, reader_name, vendor, identity })
}

/// The picture the overview is drawn on: the whole slide, its longer side about what the settings ask for.
///
/// Takes the picture tissue was found on out of `plan`: nobody needs it any more, and it is large.
pub fn overview_picture(plan: &mut SlidePlan, setup: &Setup) -> RgbImage {
    let small = std::mem::replace(&mut plan.picture, RgbImage::white(0, 0));
    let Some(overview) = &setup.settings.output.overview else { return small };
    let mpp = plan.header.grid.slide_mpp;
    let finest = if mpp.x.um_per_px() < mpp.y.um_per_px() { mpp.x } else { mpp.y };
    let slide = plan.reader.slide();
    // A place that cannot be read at this size is no reason to go without a picture: tissue was found on one.
    thumbnail(slide, mpp, finest, overview_px(&slide.info().levels, overview.max_px)).map_or(small, |t| t.image)
}

/// Longest side of the overview: `max_px`, or up to a fifth less where the slide has a level of that size. Of an 8,000 px
/// slide with a level of 2,000 px, all of level 0 would be read for 2,048 px.
fn overview_px(levels: &[LevelInfo], max_px: u32) -> u32 {
    let sides = levels.iter().map(|level| level.size.w.max(level.size.h));
    sides.filter(|&px| px <= max_px && 5 * u64::from(px) >= 4 * u64::from(max_px)).max().unwrap_or(max_px)
}

/// Fits the run's stain normalisation on cells of tissue spread evenly over the slide; cells that cannot be read are
/// left out.
pub fn fit_stain(plan: &SlidePlan, setup: &Setup) -> StainFit {
    let mut sample = vec![];
    if setup.settings.pixels.stain != Stain::None {
        let mut scratch = ReadScratch::default();
        // Cells, not tiles: how a slide is cut must not change its colours.
        for cell in plan.tiles.cells.spread(STAIN_SAMPLES) {
            let cell = cell.enlarge(setup.tiler.out_stride);
            let at = sample.len();
            sample.resize(at + cell.area() as usize * 3, 0);
            if plan.reader.read(cell, &mut sample[at..], &mut scratch).is_err() {
                sample.truncate(at);
            }
        }
    }
    // Glass among the tissue says nothing of its stains.
    setup.stain.fit(&without_background(&sample))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;

    #[test]
    fn an_overview_is_a_level_where_one_is_nearly_as_large() {
        let levels = |sides: &[u32]| -> Vec<LevelInfo> {
            let level = |&px: &u32| {
                let downsample = f64::from(sides[0]) / f64::from(px);
                LevelInfo {
                    size: Size::new(px / 2, px),
                    downsample_x: downsample,
                    downsample_y: downsample,
                    tile_px: None,
                }
            };
            sides.iter().map(level).collect()
        };
        assert_eq!(overview_px(&levels(&[8000, 2000, 500]), 2048), 2000);
        assert_eq!(overview_px(&levels(&[8192, 2048, 1639]), 2048), 2048);
        assert_eq!(overview_px(&levels(&[6556, 1639, 410]), 2048), 1639);
        assert_eq!(overview_px(&levels(&[6552, 1638, 410]), 2048), 2048, "too small");
        assert_eq!(overview_px(&levels(&[40_000, 10_000]), 2048), 2048);
        assert_eq!(overview_px(&levels(&[1000]), 2048), 2048);
    }
}
