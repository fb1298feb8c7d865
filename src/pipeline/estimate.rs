//! How much work each slide is, told from a small look at it: what tasks of a batch deal by.
//!
//! Owns: [`by_tissue`]. Must not know: how slides are dealt, where estimates are kept.
//!
//! Work goes with tissue, and bytes may mislead: glass that is stored uncompressed or scanned with dust is large and
//! no work. A slide is opened and its coarsest level read: 10 to 20 ms a slide on one core, 30 to 50 ms through OpenSlide
//! (levels of 1 to 7 Mpx, 2026-11-21; `-vv` tells).

use crate::{
    config::settings::{Resample, Settings, Tissue, TissueMethod},
    geometry::{Rect, Size},
    pixels::{Axis, RgbImage, resample},
    run::{Estimates, Shard, SlideList, StateDir, WorkEstimate, in_one_unit},
    slides::{self, Level, SlideEntry, SlideReader},
    tissue::find_tissue,
    units::MppXy,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread::scope,
    time::Instant,
};

/// Most px read of a slide; of a level with up to four times as many, every second tile along each side.
const MOST_PX: f64 = 4e6;
/// Longest side of the picture that tissue is found on, px.
const PICTURE_PX: u32 = 1024;
/// Tiles of a level that tells none, px.
const TILE_PX: u32 = 256;
/// Opening a slide, finding its tissue and writing its results, as µm² of tissue: `hematoxylin` takes 25 to 35 ms of a
/// core for as much, and a slide with hardly any tissue 27 to 29 ms (benches/batch.py).
const SLIDE_UM2: f64 = 50_000.0;
/// Pictures that are decoded whole to be opened: too dear for a look.
const PICTURES: [&str; 3] = ["png", "jpg", "jpeg"];

/// The list of a batch with the work of each slide, by tissue; of slides that cannot be looked at, by bytes.
///
/// Tasks that begin at the same time begin at different slides and take from each other what they find, so that each
/// looks at its part only.
pub(super) fn by_tissue(entries: &[SlideEntry], settings: &Settings, state: &StateDir, shard: Shard) -> SlideList {
    let began = Instant::now();
    let estimates = Estimates::new(state, settings);
    let found: Vec<OnceLock<WorkEstimate>> = entries.iter().map(|_| OnceLock::new()).collect();
    let first = entries.len() * (shard.index as usize - 1) / shard.count as usize;
    let next = AtomicUsize::new(0);
    let look = || {
        while let k = next.fetch_add(1, Ordering::Relaxed)
            && k < entries.len()
        {
            let at = (first + k) % entries.len();
            // What breaks a reader fails its slide when it is run; here it has no say.
            let work = || catch_unwind(AssertUnwindSafe(|| work_um2(&entries[at], settings))).ok().flatten();
            let _ = found[at].set(estimates.of(&entries[at], work));
        }
    };
    scope(|s| {
        for _ in 0..(settings.run.threads as usize).clamp(1, entries.len().max(1)) {
            s.spawn(look);
        }
    });
    tracing::debug!("the work of {} slides was estimated in {:.3} s", entries.len(), began.elapsed().as_secs_f64());
    let found: Vec<WorkEstimate> = found.into_iter().map(|e| e.into_inner().unwrap_or_default()).collect();
    SlideList::new(entries, in_one_unit(&found))
}

/// What a slide will cost, in µm² of tissue; nothing when it cannot be told cheaply.
fn work_um2(entry: &SlideEntry, settings: &Settings) -> Option<u64> {
    let extension = entry.path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if PICTURES.contains(&extension.as_str()) {
        return None;
    }
    let reader = slides::open(entry, &settings.slides).ok()?;
    let mpp = slides::check_mpp(reader.info()).ok()?;
    let stem = entry.path.file_stem().unwrap_or_default().to_string_lossy();
    Some((tissue_um2(&*reader, mpp, &stem, &settings.tissue)? + SLIDE_UM2) as u64)
}

fn tissue_um2(reader: &dyn SlideReader, mpp: MppXy, stem: &str, settings: &Tissue) -> Option<f64> {
    let level0 = reader.info().level0();
    let (picture, step) = match settings.method {
        TissueMethod::Everything => return Some(level0.area() as f64 * mpp.px_area_um2()),
        TissueMethod::Otsu { .. } | TissueMethod::Fixed { .. } => look_at(reader, mpp, settings.mpp.um_per_px())?,
        // Drawn by the user: the slide's pixels tell nothing.
        TissueMethod::MaskDir(_) | TissueMethod::GeojsonDir(_) => {
            let step = (f64::from(level0.w.max(level0.h)) / f64::from(PICTURE_PX)).max(1.0);
            let px = |side: u32| (f64::from(side) / step).round().max(1.0) as u32;
            (RgbImage::white(px(level0.w), px(level0.h)), (step, step))
        }
    };
    let size = Size::new((f64::from(picture.w) * step.0) as u32, (f64::from(picture.h) * step.1) as u32);
    let found = find_tissue(&picture, size, mpp, stem, settings).ok()?;
    Some(found.mask.count() as f64 * step.0 * step.1 * mpp.px_area_um2())
}

/// The coarsest level, or tiles spread over it, shrunk, side by side; and the level-0 px that one px stands for.
fn look_at(reader: &dyn SlideReader, mpp: MppXy, um_per_px: f64) -> Option<(RgbImage, (f64, f64))> {
    let info = reader.info();
    let coarsest = info.levels.len() - 1;
    let level = &info.levels[coarsest];
    let (tw, th) = level.tile_px.unwrap_or((TILE_PX, TILE_PX));
    let (tw, th) = (tw.clamp(64, 1024), th.clamp(64, 1024));
    let all = (level.size.w.div_ceil(tw), level.size.h.div_ceil(th));
    let px = f64::from(all.0) * f64::from(all.1) * f64::from(tw) * f64::from(th);
    if px > 4.0 * MOST_PX {
        // Tiles further apart miss biopsies; and slides without small levels are few.
        return None;
    }
    let every = if px > MOST_PX { 2 } else { 1 };
    let (columns, rows) = (all.0.div_ceil(every), all.1.div_ceil(every));
    let wanted = um_per_px / (level.downsample_x * mpp.x.um_per_px());
    let shrink = (columns * tw).max(rows * th).div_ceil(PICTURE_PX).max(wanted as u32).clamp(1, tw.min(th) / 4);
    let (pw, ph) = (tw / shrink, th / shrink);
    let mut picture = RgbImage::white(columns * pw, rows * ph);
    let axis = |len: u32| Axis::new(0, len, f64::from(shrink), Resample::Area);
    let (x_axis, y_axis) = (axis(pw), axis(ph));
    let mut tile = vec![0; x_axis.len * y_axis.len * 3];
    let (mut small, mut middle) = (vec![0; (pw * ph) as usize * 3], vec![]);
    for row in 0..rows {
        for column in 0..columns {
            let at = |k: u32, side: u32| i64::from(k) * i64::from(every) * i64::from(side);
            let region = Rect::new(at(column, tw), at(row, th), pw * shrink, ph * shrink);
            reader.read_region(Level(coarsest as u8), region, &mut tile).ok()?;
            resample(&tile, &x_axis, &y_axis, &mut small, &mut middle);
            put(&small, pw, &mut picture, (column * pw, row * ph));
        }
    }
    // A tile stands for those beside it that were passed over.
    let step = |tile: u32, count: u32, px: u32, down: f64| f64::from(tile * every.min(count)) / f64::from(px) * down;
    let step = (step(tw, all.0, pw, level.downsample_x), step(th, all.1, ph, level.downsample_y));
    Some((picture, step))
}

/// Puts small rows of `w` px into the picture, the first one at `[x, y]`.
fn put(small: &[u8], w: u32, picture: &mut RgbImage, (x, y): (u32, u32)) {
    for (j, row) in small.chunks_exact(w as usize * 3).enumerate() {
        let at = ((y as usize + j) * picture.w as usize + x as usize) * 3;
        picture.data[at..at + row.len()].copy_from_slice(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::settings::TissueChannel,
        geometry::InLevel,
        slides::{LevelInfo, ReadError, SlideInfo},
        units::Mpp,
    };

    /// One level of glass with a disc of tissue in its middle.
    struct Disc {
        info: SlideInfo,
        radius_px: f64,
    }

    impl Disc {
        fn new(w: u32, h: u32, radius_px: f64, tile_px: Option<(u32, u32)>) -> Self {
            let level = LevelInfo { size: Size::new(w, h), downsample_x: 1.0, downsample_y: 1.0, tile_px };
            let info = SlideInfo {
                path: "disc".into(),
                reader: "synthetic",
                vendor: "disc".into(),
                levels: vec![level],
                mpp: None,
                objective_power: None,
                bounds: None,
                quickhash: None,
                properties: Default::default(),
            };
            Self { info, radius_px }
        }
    }

    impl SlideReader for Disc {
        fn info(&self) -> &SlideInfo {
            &self.info
        }

        fn read_region(&self, _: Level, region: Rect<InLevel>, rgb: &mut [u8]) -> Result<(), ReadError> {
            let size = self.info.level0();
            let middle = (f64::from(size.w) / 2.0, f64::from(size.h) / 2.0);
            for (i, px) in rgb.chunks_exact_mut(3).enumerate() {
                let (x, y) = (region.x + i as i64 % i64::from(region.w), region.y + i as i64 / i64::from(region.w));
                let is_tissue = (x as f64 - middle.0).hypot(y as f64 - middle.1) < self.radius_px;
                px.copy_from_slice(if is_tissue { &[220, 150, 190] } else { &[244, 244, 244] });
            }
            Ok(())
        }
    }

    /// µm² that a look finds, over µm² of the disc.
    fn found(disc: &Disc, mpp: f64) -> Option<f64> {
        let settings = Tissue {
            method: TissueMethod::Otsu { channel: TissueChannel::Saturation },
            mpp: Mpp::new(8.0).unwrap(),
            min_area_um2: 20_000.0,
            max_hole_um2: 5_000.0,
            exclude_pen: true,
            exclude_blur: false,
        };
        let um2 = tissue_um2(disc, MppXy::square(Mpp::new(mpp).unwrap()), "disc", &settings)?;
        Some(um2 / (std::f64::consts::PI * (disc.radius_px * mpp).powi(2)))
    }

    #[test]
    fn a_look_at_all_tiles_or_at_every_second_tells_the_tissue() {
        for (disc, mpp) in [
            (Disc::new(900, 700, 250.0, Some((256, 256))), 8.0),
            (Disc::new(900, 700, 250.0, None), 2.0),
            (Disc::new(2000, 1500, 500.0, Some((512, 512))), 4.0),
            (Disc::new(1000, 3000, 400.0, Some((1000, 8))), 8.0),
            (Disc::new(3600, 3200, 1100.0, Some((256, 256))), 4.0),
            (Disc::new(3600, 3200, 1100.0, Some((240, 240))), 0.5),
        ] {
            let share = found(&disc, mpp).unwrap();
            assert!((share - 1.0).abs() < 0.1, "{share} of {:?}", disc.info.levels);
        }
    }

    #[test]
    fn a_slide_without_a_small_level_is_not_looked_at() {
        assert_eq!(found(&Disc::new(60_000, 40_000, 9_000.0, Some((256, 256))), 0.5), None);
    }
}
