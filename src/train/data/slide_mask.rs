//! Masks of whole slides: a TIFF or picture of label numbers, or the OME-Zarr that a run writes.
//!
//! Owns: [`SlideMask`]. Must not know: slides' pixels, squares.
//!
//! A mask covers its slide corner on corner at any resolution; its px are taken by the nearest. An OME-Zarr has
//! `labels/semantic` (255: unknown) and, where nuclei are asked for, `labels/instances`; others may name the array itself.

use super::{labels::LabelMap, outlines::without_gaps, source::Place};
use crate::{
    config::settings::data::Outlines,
    geometry::{InLevel, Rect, Target, TargetGrid},
    slides::{self, Level, SlideReader},
    train::{
        TrainError,
        class_tree::{BACKGROUND, NodeIndex, UNKNOWN},
        sample::Truth,
    },
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use zarrs::{
    array::{Array, ArraySubset},
    filesystem::FilesystemStore,
};

/// Masks of one slide.
pub struct SlideMask {
    path: PathBuf,
    outlines: Outlines,
    grid: TargetGrid,
    classes: Option<Plane>,
    nuclei: Option<Plane>,
}

/// An array of label numbers.
enum Plane {
    /// The red of a picture of few levels.
    Picture { reader: Arc<dyn SlideReader>, level: Level, size: (u32, u32) },
    /// The last two axes of an array.
    Zarr { array: Box<Array<FilesystemStore>>, size: (u32, u32) },
}

/// Px of the largest chunk that is read: a file of some bytes may claim to unpack to any size.
const MAX_CHUNK_PX: u64 = 1 << 28;
/// How much finer than its slide a mask may be, along each axis.
const MAX_FINER: u32 = 4;

/// Label of px that were not computed, in the masks a run writes.
const NOT_COMPUTED: u32 = 255;

impl SlideMask {
    /// Opens the mask of a slide.
    ///
    /// # Errors
    /// Not a mask that can be read, or of another shape than the slide.
    pub fn open(path: &Path, grid: &TargetGrid, outlines: Outlines) -> Result<Self, TrainError> {
        let fail = |message: String| {
            TrainError::new(format!("mask cannot be used: {message}: {}", path.display())).hint(
                "a mask is a TIFF or PNG of a number per px, or an OME-Zarr with `labels/semantic` or `labels/instances`",
            )
        };
        let mut this = Self { path: path.to_owned(), outlines, grid: *grid, classes: None, nuclei: None };
        if path.is_dir() {
            let find = |names: &[&str]| names.iter().map(|n| path.join(n)).find(|p| is_array(p));
            let nuclei = find(&["labels/instances/0"]);
            let classes = find(&["labels/semantic/0", "0"]).or_else(|| is_array(path).then(|| path.to_owned()));
            let open = |p: Option<PathBuf>| p.map(|p| Plane::zarr(&p)).transpose().map_err(fail);
            this.classes = open(classes)?;
            if outlines == Outlines::Nuclei {
                this.nuclei = open(nuclei)?;
                if this.nuclei.is_none() {
                    std::mem::swap(&mut this.classes, &mut this.nuclei);
                }
            }
        } else {
            let plane = Plane::picture(path, grid).map_err(|e| fail(e.message))?;
            *(if outlines == Outlines::Nuclei { &mut this.nuclei } else { &mut this.classes }) = Some(plane);
        }
        if this.classes.is_none() && this.nuclei.is_none() {
            return Err(fail("no array in it".to_owned()));
        }
        for (w, h) in [&this.classes, &this.nuclei].into_iter().flatten().map(Plane::size) {
            if w / MAX_FINER > grid.level0.w || h / MAX_FINER > grid.level0.h {
                let slide = format!("the slide has [{}, {}]", grid.level0.w, grid.level0.h);
                return Err(fail(format!("[{w}, {h}] px, expected at most {MAX_FINER} times its slide's: {slide}")));
            }
            let ratio = f64::from(w) * f64::from(grid.level0.h) / (f64::from(h) * f64::from(grid.level0.w));
            if ratio.ln().abs() > (0.01 + 1.0 / f64::from(w) + 1.0 / f64::from(h)).ln_1p() {
                let found = format!("[{w}, {h}] px, expected the shape of the slide");
                return Err(fail(format!("{found}, [{}, {}]", grid.level0.w, grid.level0.h)));
            }
        }
        Ok(this)
    }

    /// What is known of `rect`.
    ///
    /// # Errors
    /// A mask that cannot be read, or a label that the set does not explain.
    pub fn truth(&self, rect: Rect<Target>, labels: &LabelMap) -> Result<Truth, TrainError> {
        let name = self.path.display().to_string();
        let fail = |e: String| TrainError::new(format!("mask cannot be read: {e}: {name}"));
        let read = |plane: &Plane, outside| plane.read(rect, &self.grid, outside).map_err(fail);
        let classes = self.classes.as_ref().map(|plane| read(plane, 0)).transpose()?;
        let nodes = |numbers: &[u32]| {
            let known: Vec<u32> = numbers.iter().map(|&n| if n == NOT_COMPUTED { 0 } else { n }).collect();
            let mut nodes = labels.of_px(&known, &name)?;
            let open = numbers.iter().zip(&mut nodes).filter(|(n, _)| **n == NOT_COMPUTED);
            open.for_each(|(_, node)| *node = UNKNOWN);
            Ok::<_, TrainError>(nodes)
        };
        if self.outlines == Outlines::Regions {
            let semantic = classes.map(|c| nodes(&c)).transpose()?;
            return Ok(Truth { semantic, ..Truth::default() });
        }
        let Some(plane) = &self.nuclei else { return Ok(Truth::default()) };
        let ids = read(plane, 0)?;
        let nodes = classes.map(|c| nodes(&c)).transpose()?;
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        let mut votes: Vec<HashMap<NodeIndex, u32>> = vec![];
        let mut instances = vec![0; ids.len()];
        for (at, &id) in ids.iter().enumerate().filter(|&(_, &id)| id > 0) {
            let number = *numbers.entry(id).or_insert_with(|| {
                votes.push(HashMap::new());
                votes.len() as u32
            });
            instances[at] = number;
            if let Some(node) = nodes.as_ref().map(|n| n[at]).filter(|n| !matches!(*n, BACKGROUND | UNKNOWN)) {
                *votes[number as usize - 1].entry(node).or_default() += 1;
            }
        }
        let most = |v: &HashMap<NodeIndex, u32>| {
            v.iter().max_by_key(|&(&node, &n)| (n, std::cmp::Reverse(node))).map(|m| *m.0)
        };
        let instance_nodes: Vec<NodeIndex> =
            votes.iter().map(|v| most(v).map_or_else(|| labels.class(&name), Ok)).collect::<Result<_, _>>()?;
        let (instances, instance_nodes) = without_gaps(&instances, &instance_nodes);
        // Only where nothing was computed is anything unknown.
        let semantic = nodes.filter(|n| n.contains(&UNKNOWN));
        Ok(Truth { semantic, instances: Some(instances), instance_nodes, ..Truth::default() })
    }

    /// A place of every class in every square of the slide that has it.
    ///
    /// # Errors
    /// A mask that cannot be read, or a label that the set does not explain.
    pub fn places(&self, grid: &TargetGrid, labels: &LabelMap) -> Result<Vec<Place>, TrainError> {
        const SIDE: u32 = 512;
        let mut places = vec![];
        for y in (0..grid.size.h).step_by(SIDE as usize) {
            for x in (0..grid.size.w).step_by(SIDE as usize) {
                let rect = Rect::<Target>::new(x.into(), y.into(), SIDE, SIDE).intersect(&grid.size.rect());
                let truth = self.truth(rect, labels)?;
                let mut seen: HashMap<NodeIndex, (u64, u64, u64)> = HashMap::new();
                let mut add = |at: usize, node: NodeIndex| {
                    let s = seen.entry(node).or_default();
                    let (i, j) = (at % rect.w as usize, at / rect.w as usize);
                    // The middle one of those seen so far stands for all.
                    s.2 += 1;
                    if s.2.is_power_of_two() {
                        (s.0, s.1) = (i as u64, j as u64);
                    }
                };
                if let Some(instances) = &truth.instances {
                    for (at, &id) in instances.iter().enumerate().filter(|&(_, &id)| id > 0) {
                        add(at, truth.instance_nodes[id as usize - 1]);
                    }
                } else if let Some(map) = &truth.semantic {
                    map.iter().enumerate().for_each(|(at, &node)| add(at, node));
                }
                let mut seen: Vec<_> = seen.into_iter().collect();
                seen.sort_unstable();
                let at = |v: u64, first: u32| v as f64 + f64::from(first) + 0.5;
                places.extend(seen.into_iter().map(|(node, (i, j, _))| Place { x: at(i, x), y: at(j, y), node }));
            }
        }
        Ok(places)
    }
}

fn is_array(path: &Path) -> bool {
    path.join("zarr.json").is_file() || path.join(".zarray").is_file()
}

impl Plane {
    fn size(&self) -> (u32, u32) {
        match self {
            Self::Picture { size, .. } | Self::Zarr { size, .. } => *size,
        }
    }

    fn picture(path: &Path, grid: &TargetGrid) -> Result<Self, crate::error::SlideError> {
        let reader = slides::open_file(path, None)?;
        // Of levels not coarser than the grid the coarsest: numbers are not averaged, and few px are read.
        let wanted = f64::from(reader.info().level0().w) / f64::from(grid.size.w);
        let levels = &reader.info().levels;
        let fits = |&k: &usize| levels[k].downsample_x <= wanted.max(1.0) * 1.001;
        let level = (0..levels.len()).rev().find(fits).unwrap_or(0);
        let size = levels[level].size;
        let size = (size.w, size.h);
        Ok(Self::Picture { reader, level: Level(level as u8), size })
    }

    fn zarr(path: &Path) -> Result<Self, String> {
        let store = Arc::new(FilesystemStore::new(path).map_err(|e| e.to_string())?);
        let array = Array::open(store, "/").map_err(|e| e.to_string())?;
        let shape = array.shape();
        let [.., h, w] = *shape else { return Err(format!("an array of shape {shape:?}, expected rows and columns")) };
        let side = |n: u64| u32::try_from(n).ok().filter(|&n| n > 0).ok_or(format!("an array of shape {shape:?}"));
        let size = (side(w)?, side(h)?);
        let chunk = array.chunk_shape(&vec![0; shape.len()]).map_err(|e| e.to_string())?;
        if chunk.iter().try_fold(1_u64, |n, side| n.checked_mul(side.get())).is_none_or(|n| n > MAX_CHUNK_PX) {
            return Err(format!("chunks of {chunk:?} px, expected at most {MAX_CHUNK_PX} px in each"));
        }
        Ok(Self::Zarr { array: Box::new(array), size })
    }

    /// Numbers of the px nearest to those of `rect`; `outside` beyond the mask.
    fn read(&self, rect: Rect<Target>, grid: &TargetGrid, outside: u32) -> Result<Vec<u32>, String> {
        let (w, h) = self.size();
        // A place of the target grid in px of the mask; both cover level 0 corner on corner.
        let (sx, sy) = grid.level0_px_per_target_px();
        let near = |at: i64, step: f64, level0: u32, n: u32| {
            let px = ((at as f64 + 0.5) * step * f64::from(n) / f64::from(level0)).floor() as i64;
            (0..i64::from(n)).contains(&px).then_some(px as u32)
        };
        let columns: Vec<Option<u32>> = (rect.x..rect.right()).map(|i| near(i, sx, grid.level0.w, w)).collect();
        let rows: Vec<Option<u32>> = (rect.y..rect.bottom()).map(|j| near(j, sy, grid.level0.h, h)).collect();
        let ends = |all: &[Option<u32>]| {
            let known = || all.iter().flatten().copied();
            known().min().zip(known().max())
        };
        let (Some((x0, x1)), Some((y0, y1))) = (ends(&columns), ends(&rows)) else {
            return Ok(vec![outside; rect.area() as usize]);
        };
        let (pw, ph) = (x1 - x0 + 1, y1 - y0 + 1);
        let px = self.part(x0, y0, pw, ph)?;
        let at = |i: Option<u32>, j: Option<u32>| match (i, j) {
            (Some(i), Some(j)) => px[(j - y0) as usize * pw as usize + (i - x0) as usize],
            _ => outside,
        };
        Ok(rows.iter().flat_map(|&j| columns.iter().map(move |&i| (i, j))).map(|(i, j)| at(i, j)).collect())
    }

    fn part(&self, x: u32, y: u32, w: u32, h: u32) -> Result<Vec<u32>, String> {
        match self {
            Self::Picture { reader, level, .. } => {
                let mut rgb = vec![0; w as usize * h as usize * 3];
                let region = Rect::<InLevel>::new(x.into(), y.into(), w, h);
                reader.read_region(*level, region, &mut rgb).map_err(|e| e.to_string())?;
                Ok(rgb.chunks_exact(3).map(|px| u32::from(px[0])).collect())
            }
            Self::Zarr { array, .. } => {
                let rank = array.shape().len();
                let with_rest = |rest: u64, a: u32, b: u32| {
                    let mut all = vec![rest; rank - 2];
                    all.extend([u64::from(a), u64::from(b)]);
                    all
                };
                let subset = ArraySubset::new_with_start_shape(with_rest(0, y, x), with_rest(1, h, w));
                numbers(array, &subset.map_err(|e| e.to_string())?)
            }
        }
    }
}

/// Numbers of any unsigned type.
fn numbers(array: &Array<FilesystemStore>, subset: &ArraySubset) -> Result<Vec<u32>, String> {
    if let Ok(px) = array.retrieve_array_subset::<Vec<u8>>(subset) {
        return Ok(px.into_iter().map(u32::from).collect());
    }
    if let Ok(px) = array.retrieve_array_subset::<Vec<u16>>(subset) {
        return Ok(px.into_iter().map(u32::from).collect());
    }
    if let Ok(px) = array.retrieve_array_subset::<Vec<i32>>(subset) {
        return Ok(px.into_iter().map(|v| v.max(0) as u32).collect());
    }
    array.retrieve_array_subset::<Vec<u32>>(subset).map_err(|e| e.to_string())
}
