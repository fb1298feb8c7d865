//! Where images to correct come from: a folder of images, or slides cut into squares of tissue.
//!
//! Owns: [`RefineTiles`], [`FolderTiles`], [`SlideTiles`]. Must not know: entropy, models' answers.

use super::super::{EvaluateError, patient_of};
use crate::{
    config::settings::Settings,
    geometry::{Rect, Target},
    pipeline::{Setup, find_slides, plan_slide},
    pixels::{ReadScratch, RgbImage, TargetReader, stain::reference},
    units::Mpp,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// A square of a slide is taken when this share of its cells is computed.
const MIN_TISSUE: f64 = 0.5;

/// An image that may be corrected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefineTile {
    /// A safe file name.
    pub name: String,
    /// The slide or image it was cut from.
    pub slide: String,
    /// What it shows.
    pub organ: Option<String>,
    /// Whose it is.
    pub patient: String,
    /// Its corner in the slide, level-0 px; (0, 0) of an image.
    pub corner_px: (i64, i64),
}

/// Images that may be corrected, read one at a time.
pub trait RefineTiles: Sync {
    /// All of them.
    fn tiles(&self) -> &[RefineTile];

    /// Pixels of one, and their resolution.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn read(&self, index: usize) -> Result<(RgbImage, Mpp), EvaluateError>;
}

/// Images of a folder.
pub struct FolderTiles {
    tiles: Vec<RefineTile>,
    paths: Vec<PathBuf>,
    mpp: Mpp,
}

impl FolderTiles {
    /// Every picture in a folder; `groups` is a CSV `image,organ,patient`.
    ///
    /// # Errors
    /// A folder or CSV that cannot be read; a folder without pictures.
    pub fn new(dir: &Path, groups: Option<&Path>, mpp: Mpp) -> Result<Self, EvaluateError> {
        let unreadable =
            |path: &Path, e: &std::io::Error| EvaluateError::new(format!("cannot read: {e}: {}", path.display()));
        let is_picture = |path: &PathBuf| {
            let end = path.extension().map(|e| e.to_string_lossy().to_lowercase());
            matches!(end.as_deref(), Some("png" | "jpg" | "jpeg" | "tif" | "tiff"))
        };
        let entries = fs::read_dir(dir).map_err(|e| unreadable(dir, &e))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).filter(is_picture).collect();
        paths.sort();
        if paths.is_empty() {
            return Err(EvaluateError::new(format!("no picture found: {}", dir.display())));
        }
        let groups = match groups {
            Some(csv) => super::super::folder::read_groups(csv)?,
            None => BTreeMap::new(),
        };
        let tile = |path: &PathBuf| {
            let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
            let (organ, patient) = groups.get(&name).cloned().unwrap_or_default();
            let patient = patient.unwrap_or_else(|| patient_of(&name));
            RefineTile { slide: name.clone(), name, organ, patient, corner_px: (0, 0) }
        };
        Ok(Self { tiles: paths.iter().map(tile).collect(), paths, mpp })
    }
}

impl RefineTiles for FolderTiles {
    fn tiles(&self) -> &[RefineTile] {
        &self.tiles
    }

    fn read(&self, index: usize) -> Result<(RgbImage, Mpp), EvaluateError> {
        let image = reference::read(&self.paths[index]).map_err(|e| EvaluateError::new(e.to_string()))?;
        Ok((image, self.mpp))
    }
}

/// Squares of the slides of a pipeline, at the resolution its model sees.
pub struct SlideTiles {
    tiles: Vec<RefineTile>,
    places: Vec<(usize, Rect<Target>)>,
    readers: Vec<TargetReader>,
    mpp: Mpp,
}

impl SlideTiles {
    /// Finds tissue on every slide, as a run would, and cuts it into squares of `tile_px`; slides that cannot be opened
    /// are left out and named by the second value. `organs` tells a slide's organ and patient by its file name.
    ///
    /// # Errors
    /// No slide found; a CSV that cannot be read.
    pub fn new(
        settings: &Settings,
        setup: &Setup,
        tile_px: u32,
        organs: Option<&Path>,
    ) -> Result<(Self, Vec<String>), EvaluateError> {
        let groups = match organs {
            Some(csv) => super::super::folder::read_groups(csv)?,
            None => BTreeMap::new(),
        };
        let mut all = Self { tiles: vec![], places: vec![], readers: vec![], mpp: setup.input_mpp };
        let mut left_out = Vec::new();
        for entry in find_slides(settings)? {
            let plan = match plan_slide(&entry, setup) {
                Ok(plan) => plan,
                Err(error) => {
                    left_out.push(format!("{}: {error}", entry.id));
                    continue;
                }
            };
            let stem = entry.path.file_stem().map_or_else(|| entry.id.clone(), |s| s.to_string_lossy().into_owned());
            let (organ, patient) = groups.get(&stem).cloned().unwrap_or_default();
            let patient = patient.unwrap_or_else(|| patient_of(&stem));
            let (grid, step) = (*plan.reader.grid(), setup.tiler.out_stride);
            let reader = all.readers.len();
            // Cells are counted in px of what the model says, squares in px of what it sees.
            let side = (tile_px / step).max(1);
            let tile_px = side * step;
            for j in 0..grid.size.h / tile_px {
                for i in 0..grid.size.w / tile_px {
                    let said = Rect::new(i64::from(i * side), i64::from(j * side), side, side);
                    if plan.tiles.cells.share(said) < MIN_TISSUE {
                        continue;
                    }
                    let seen = Rect::new(i64::from(i * tile_px), i64::from(j * tile_px), tile_px, tile_px);
                    let corner = grid.level0_from_target(seen);
                    all.places.push((reader, seen));
                    all.tiles.push(RefineTile {
                        name: format!("{}_{}_{}", entry.id, corner.x, corner.y),
                        slide: entry.id.clone(),
                        organ: organ.clone(),
                        patient: patient.clone(),
                        corner_px: (corner.x, corner.y),
                    });
                }
            }
            all.readers.push(plan.reader);
        }
        Ok((all, left_out))
    }
}

impl RefineTiles for SlideTiles {
    fn tiles(&self) -> &[RefineTile] {
        &self.tiles
    }

    fn read(&self, index: usize) -> Result<(RgbImage, Mpp), EvaluateError> {
        let (reader, place) = self.places[index];
        let mut image = RgbImage::white(place.w, place.h);
        let read = self.readers[reader].read(place, &mut image.data, &mut ReadScratch::default());
        read.map_err(|e| EvaluateError::new(e.to_string()))?;
        Ok((image, self.mpp))
    }
}
