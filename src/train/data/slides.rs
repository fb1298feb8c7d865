//! Data sets of slides, read as inference reads them: same readers, tissue, tiles, resolution and stain.
//!
//! Owns: [`Slides`]. Must not know: files' formats, how squares are drawn.
//!
//! A slide is opened when it is first needed. Squares of training are the tiles that inference would plan.

use super::{
    annotated::explained,
    geojson,
    labels::LabelMap,
    layout::Files,
    outline_xml,
    outlines::{Drawn, paint},
    slide_mask::SlideMask,
    source::{Entry, Piece, Place, Source, Window},
};
use crate::{
    config::settings::{
        Resample, Stain, Tissue, TissueChannel, TissueMethod, Window as Blend,
        data::{Beyond, DataSet, Layout, Unlabelled},
    },
    error::SlideError,
    geometry::{Rect, Target, TargetGrid},
    pixels::{
        ReadScratch, RgbImage, TargetReader,
        stain::{StainTarget, StainTransform, reinhard::without_background},
        thumbnail,
    },
    slides,
    tiling::{CellMask, Tiler},
    tissue::find_tissue,
    train::{
        TrainError,
        sample::{Sample, Truth},
    },
    units::{Mpp, MppXy},
};
use sha2::{Digest, Sha256};
use std::sync::{Arc, OnceLock};

/// Longest side of the picture tissue is found on, and the cells a stain is fitted on: as in inference.
const TISSUE_PICTURE_MAX_PX: u32 = 8192;
const STAIN_SAMPLES: usize = 256;
/// Least tissue of a cell, as in inference by default.
const MIN_TISSUE_OF_A_CELL: f64 = 0.05;

/// A data set of slides.
pub struct Slides {
    set: DataSet,
    files: Vec<Files>,
    entries: Vec<Entry>,
    labels: LabelMap,
    mpp: Mpp,
    stain: StainTarget,
    uses_stain: bool,
    kind: usize,
    open: Vec<OnceLock<Result<Opened, TrainError>>>,
}

/// A slide that was opened.
struct Opened {
    reader: TargetReader,
    cells: CellMask,
    stain: StainTransform,
    truth: Annotation,
}

/// What is known of a slide.
enum Annotation {
    Drawn(Vec<Drawn>),
    Mask(SlideMask),
}

impl Slides {
    /// Slides at `mpp`.
    ///
    /// # Errors
    /// A stain reference that cannot be used; annotations that are not there.
    pub fn new(
        set: &DataSet,
        files: Vec<Files>,
        labels: LabelMap,
        mpp: Mpp,
        stain: &Stain,
        kind: usize,
    ) -> Result<Self, TrainError> {
        if let Some(f) = files.iter().find(|f| !f.annotation.exists()) {
            let message = format!(
                "data set `{}`: slide {} has no annotation, expected {}",
                set.name,
                f.image.display(),
                f.annotation.display()
            );
            return Err(TrainError::new(message).hint(format!(
                "set `data.sets.{}.annotations`, for example `annotations/{{stem}}.geojson`, or narrow `images`",
                set.name
            )));
        }
        let target = StainTarget::new(stain).map_err(|e| TrainError::new(e.to_string()).hint(e.hint()))?;
        Ok(Self {
            set: set.clone(),
            entries: files.iter().map(|f| f.entry.clone()).collect(),
            open: files.iter().map(|_| OnceLock::new()).collect(),
            files,
            labels,
            mpp,
            stain: target,
            uses_stain: *stain != Stain::None,
            kind,
        })
    }

    fn opened(&self, entry: usize) -> Result<&Opened, TrainError> {
        let opened = self.open[entry].get_or_init(|| self.open_slide(&self.files[entry]));
        opened.as_ref().map_err(Clone::clone)
    }

    fn open_slide(&self, files: &Files) -> Result<Opened, TrainError> {
        let of_slide = |e: SlideError| TrainError { message: e.message, hint: e.hint };
        let stem = files.image.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mpp = files.mpp.and_then(Mpp::new).map(MppXy::square);
        let reader = slides::open_file(&files.image, mpp).map_err(of_slide)?;
        let slide_mpp = slides::check_mpp(reader.info()).map_err(of_slide)?;
        let level0 = reader.info().level0();
        let grid = TargetGrid::new(level0, slide_mpp, self.mpp);
        let tissue = Tissue {
            method: TissueMethod::Otsu { channel: TissueChannel::Saturation },
            mpp: Mpp::new(8.0).expect("8 is positive"),
            min_area_um2: 20_000.0,
            max_hole_um2: 5_000.0,
            exclude_pen: true,
            exclude_blur: false,
        };
        let name = || files.image.display();
        let small = thumbnail(&reader, slide_mpp, tissue.mpp, TISSUE_PICTURE_MAX_PX)
            .map_err(|e| TrainError::new(format!("cannot read the whole slide small: {e}: {}", name())))?;
        let found = find_tissue(&small.image, level0, slide_mpp, &stem, &tissue).map_err(of_slide)?;
        let cells = CellMask::new(&grid, &found.mask, MIN_TISSUE_OF_A_CELL);
        let reader = TargetReader::new(reader, grid, Resample::Area);
        let stain = if self.uses_stain { self.fit_stain(&reader, &cells) } else { StainTransform::Identity };
        let path = files.annotation.as_path();
        let truth = if self.set.layout == Some(Layout::SlidesMasks) {
            Annotation::Mask(SlideMask::open(path, &grid, self.set.outlines)?)
        } else {
            let is_xml = path.extension().is_some_and(|e| e == "xml");
            let outlines = if is_xml { outline_xml::read(path) } else { geojson::read(path) };
            let outlines =
                outlines.map_err(|e| TrainError::new(format!("annotation cannot be used: {e}: {}", path.display())))?;
            let step = grid.level0_px_per_target_px();
            Annotation::Drawn(explained(&outlines, &self.labels, &path.display().to_string(), step)?)
        };
        Ok(Opened { reader, cells, stain, truth })
    }

    /// As in inference: on cells of tissue evenly spread over the slide.
    fn fit_stain(&self, reader: &TargetReader, cells: &CellMask) -> StainTransform {
        let (mut sample, mut scratch) = (vec![], ReadScratch::default());
        for cell in cells.spread(STAIN_SAMPLES) {
            let at = sample.len();
            sample.resize(at + cell.area() as usize * 3, 0);
            if reader.read(cell, &mut sample[at..], &mut scratch).is_err() {
                sample.truncate(at);
            }
        }
        self.stain.fit(&without_background(&sample)).transform
    }

    fn truth(&self, opened: &Opened, rect: Rect<Target>) -> Result<Truth, TrainError> {
        match &opened.truth {
            Annotation::Drawn(drawn) => {
                Ok(paint(drawn, self.set.outlines, self.labels.unlabelled, (rect.x, rect.y), (rect.w, rect.h)))
            }
            Annotation::Mask(mask) => mask.truth(rect, &self.labels),
        }
    }
}

impl Source for Slides {
    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn size(&self, entry: usize) -> Result<(u32, u32), TrainError> {
        let size = self.opened(entry)?.reader.grid().size;
        Ok((size.w, size.h))
    }

    fn piece(&self, entry: usize, (x, y): (f64, f64), reach_px: f64) -> Result<Piece, TrainError> {
        let opened = self.opened(entry)?;
        let reach = reach_px.ceil() as i64 + 1;
        let (x, y) = (x.round() as i64, y.round() as i64);
        let rect = Rect::<Target>::from_edges(x - reach, y - reach, x + reach, y + reach);
        let mut image = RgbImage::white(rect.w, rect.h);
        opened.reader.read(rect, &mut image.data, &mut ReadScratch::default()).map_err(|e| {
            TrainError::new(format!("slide cannot be read: {e}: {}", self.files[entry].image.display()))
        })?;
        opened.stain.apply(&mut image.data);
        let truth = self.truth(opened, rect)?;
        let sample = Sample { image, truth, mpp: Some(self.mpp.um_per_px()), kind: self.kind };
        Ok(Piece { sample: Arc::new(sample), corner: (rect.x, rect.y), beyond: Beyond::White })
    }

    fn places(&self, entry: usize) -> Result<Vec<Place>, TrainError> {
        let opened = self.opened(entry)?;
        Ok(match &opened.truth {
            Annotation::Drawn(drawn) => drawn
                .iter()
                .map(|d| {
                    let (x, y) = d.middle();
                    Place { x, y, node: d.node }
                })
                .collect(),
            // A look at every window: the middle px of what is there.
            Annotation::Mask(mask) => mask.places(opened.reader.grid(), &self.labels)?,
        })
    }

    fn windows(&self, entry: usize, side_px: u32, min_tissue: f64) -> Result<Vec<Window>, TrainError> {
        let opened = self.opened(entry)?;
        let tiler = Tiler::new((side_px, side_px, 0), Blend::Crop, (side_px, 0, 256)).map_err(TrainError::new)?;
        let mut plan = tiler.plan(*opened.reader.grid(), opened.cells.clone());
        plan.keep_tiles_with(min_tissue);
        let half = f64::from(side_px) / 2.0;
        let is_labelled = |rect: &Rect<Target>| match &opened.truth {
            Annotation::Drawn(drawn) if self.set.unlabelled == Unlabelled::Unknown => drawn.iter().any(|d| {
                let [left, top, right, bottom] = d.bounds;
                left < rect.right() as f64
                    && right > rect.x as f64
                    && top < rect.bottom() as f64
                    && bottom > rect.y as f64
            }),
            _ => true,
        };
        let tiles = plan.tiles.iter().map(|t| t.input).filter(is_labelled);
        Ok(tiles.map(|r| Window { x: r.x as f64 + half, y: r.y as f64 + half }).collect())
    }

    fn bytes(&self, entry: usize) -> u64 {
        std::fs::metadata(&self.files[entry].image).map_or(0, |m| m.len())
    }

    fn fingerprint(&self, entry: usize) -> Result<[u8; 32], TrainError> {
        let path = &self.files[entry].image;
        let hash = slides::content_hash(path)
            .map_err(|e| TrainError::new(format!("slide cannot be read: {e}: {}", path.display())))?;
        Ok(Sha256::digest(hash.as_bytes()).into())
    }
}
