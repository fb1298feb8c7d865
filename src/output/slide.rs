//! Everything written for one slide, from the first part to the last rename.
//!
//! Owns: [`SlideWriter`], the names of a slide's outputs. Must not know: the insides of any format.
//!
//! While a slide runs, parts arrive in any order and are put where memory stays flat: classes into encoded chunks,
//! instances into a spool. `commit` does what needs the whole: canonical order, painting, pyramids, tables, picture.

mod masks;
mod resume;

use super::{
    Committed, OutputError, ResultKind, SlideHeader, SlidePart,
    commit::Staging,
    geojson::GeojsonFile,
    journal::Journal,
    ome_zarr::NOT_COMPUTED,
    overview::Overview,
    parquet::InstanceTable,
    pyramid::Rows,
    spool::{Outline, Spool},
};
use crate::{
    config::settings,
    geometry::{Rect, Target},
    instances::Instance,
    pixels::RgbImage,
    tissue::TissueMask,
};
use masks::{MaskWriter, scratch_settings};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Rows handled at once when no table says otherwise.
const BATCH_ROWS: usize = 20_000;

/// Takes a row of the class mask: y, `[w]` classes, and `[w]` probabilities of each class or none.
pub type TakeClassRow<'a> = dyn FnMut(u32, &[u8], &[&[u8]]) + 'a;

/// Takes the results of one slide. Dropping it before [`SlideWriter::commit`] removes everything it wrote, but for the
/// journal of a slide that keeps one.
pub struct SlideWriter {
    header: SlideHeader,
    kind: ResultKind,
    settings: settings::Output,
    tissue: TissueMask,
    thumbnail: RgbImage,
    staging: Staging,
    masks: MaskWriter,
    spool: Spool,
    journal: Option<Journal>,
    class_px: Vec<u64>,
    computed_px: u64,
}

/// Final names of a slide's outputs, relative to the output directory.
struct Names {
    masks: PathBuf,
    nuclei: PathBuf,
    lesions: PathBuf,
    tiles: PathBuf,
    geojson: PathBuf,
    overview: PathBuf,
}

impl Names {
    fn new(slide: &str) -> Self {
        Self {
            masks: Path::new("masks").join(format!("{slide}.ome.zarr")),
            nuclei: Path::new("nuclei").join(format!("{slide}.parquet")),
            lesions: Path::new("lesions").join(format!("{slide}.parquet")),
            tiles: Path::new("tiles").join(format!("{slide}.parquet")),
            geojson: Path::new("geojson").join(format!("{slide}.geojson.gz")),
            overview: Path::new("overviews").join(format!("{slide}.png")),
        }
    }

    fn table(&self, kind: ResultKind) -> &PathBuf {
        match kind {
            ResultKind::Nuclei => &self.nuclei,
            ResultKind::Semantic => &self.lesions,
            ResultKind::Tiles => &self.tiles,
        }
    }
}

impl SlideWriter {
    /// Starts a slide.
    ///
    /// # Shapes
    /// - `tissue`: covers level 0 corner on corner.
    /// - `thumbnail`: all of level 0, at most a few thousand px wide; the overview is drawn on it.
    /// - `planned`: whether parts with computed pixels will arrive inside a square of the target grid. Too generous
    ///   costs memory (shards stay open until the end), too narrow costs time; neither changes what is written.
    ///
    /// # Errors
    /// [`OutputError`] when the output directory cannot be written, or the slide's id is no plain file name.
    pub fn create(
        header: SlideHeader,
        kind: ResultKind,
        settings: &settings::Output,
        tissue: &TissueMask,
        thumbnail: RgbImage,
        planned: &dyn Fn(Rect<Target>) -> bool,
    ) -> Result<Self, OutputError> {
        let staging = Staging::new(&settings.dir, &header.id)?;
        let names = Names::new(&header.id);
        // Without masks among the outputs, classes still go through one: lesions and the overview are made from it.
        let (root, ome_zarr) = match &settings.ome_zarr {
            // The probabilities of tiles are their heat map, and small.
            Some(ome_zarr) => {
                let prob = ome_zarr.prob || kind == ResultKind::Tiles;
                (staging.path(&names.masks)?, settings::OmeZarr { prob, ..ome_zarr.clone() })
            }
            None => (staging.scratch("masks"), scratch_settings()),
        };
        let prob_scratch = (kind == ResultKind::Semantic).then(|| staging.scratch("prob"));
        let masks = MaskWriter::create(&header, kind, (root, prob_scratch), ome_zarr, tissue, planned)?;
        let spool = Spool::create(staging.scratch("instances"), kind == ResultKind::Nuclei)?;
        Ok(Self {
            class_px: vec![0; header.classes.len()],
            computed_px: 0,
            settings: settings.clone(),
            tissue: tissue.clone(),
            header,
            kind,
            thumbnail,
            staging,
            masks,
            spool,
            journal: None,
        })
    }

    /// Takes a part. Parts may come in any order; those of one kind must not overlap.
    ///
    /// # Errors
    /// [`OutputError`] when the disk says no, or an array does not fit its `core`.
    pub fn write(&mut self, part: SlidePart) -> Result<(), OutputError> {
        if let Some(journal) = &mut self.journal {
            journal.append(&part)?;
        }
        match part {
            SlidePart::Nuclei { core, computed, instances } => {
                self.check("computed map", computed.len(), core.area())?;
                self.computed_px += self.spool.push_computed(core, &computed)?;
                for instance in &instances {
                    let px: u64 = instance.runs.iter().map(|run| u64::from(run.x1 - run.x0)).sum();
                    self.count(instance.class, px);
                }
                self.spool.push(&instances)
            }
            SlidePart::Semantic { core, classes } => {
                self.check("class map", classes.len(), core.area())?;
                let px = histogram(&classes);
                self.computed_px += px[..usize::from(NOT_COMPUTED)].iter().sum::<u64>();
                (1..NOT_COMPUTED).for_each(|class| self.count(class, px[usize::from(class)]));
                self.masks.classes.write(0, core, &classes)
            }
            SlidePart::Tiles { tiles, .. } => self.spool.push(&tiles),
            SlidePart::Prob { core, channels, data } => {
                self.check("probabilities", data.len(), core.area() * u64::from(channels))?;
                self.masks.write_prob(&self.header, core, channels, &data)
            }
        }
    }

    fn check(&self, what: &str, found: usize, expected: u64) -> Result<(), OutputError> {
        if found as u64 == expected {
            return Ok(());
        }
        let reason = format!("{what} of a part holds `{found}` values, expected `{expected}`");
        Err(OutputError::format("output", &self.settings.dir)(reason))
    }

    fn count(&mut self, class: u8, px: u64) {
        if let Some(sum) = usize::from(class).checked_sub(1).and_then(|i| self.class_px.get_mut(i)) {
            *sum += px;
        }
    }

    /// Whether probabilities of the classes were written: [`SlideWriter::semantic_rows`] gives them then.
    pub fn has_probs(&self) -> bool {
        self.masks.prob.is_some()
    }

    /// Reads the class mask back, row by row from the top, once every part was written: what lesions are found in.
    /// `row` gets y, `[w]` classes (255 not computed), and `[w]` probabilities of each class, background left out (none
    /// when no part told any). Holds one row of chunks of each in memory.
    ///
    /// # Errors
    /// [`OutputError`] when a mask cannot be read.
    pub fn semantic_rows(&mut self, row: &mut TakeClassRow<'_>) -> Result<(), OutputError> {
        self.masks.classes.finish()?;
        let mut planes = Vec::new();
        if let Some((channels, pyramid, assembly)) = &mut self.masks.prob {
            assembly.finish()?;
            let first = channels.saturating_sub(self.header.classes.len() as u32);
            planes.extend((first..*channels).map(|plane| Rows::new(pyramid.base(), plane)));
        }
        let mut classes = Rows::new(self.masks.semantic.base(), 0);
        for y in 0..self.header.grid.size.h {
            let probs = planes.iter_mut().map(Rows::next).collect::<Result<Vec<_>, _>>()?;
            row(y, classes.next()?, &probs);
        }
        Ok(())
    }

    /// Takes lesions found in the rows of [`SlideWriter::semantic_rows`], in any order and as often as wanted. Their
    /// `runs` are not needed.
    ///
    /// # Errors
    /// [`OutputError`] when the disk says no.
    pub fn add_lesions(&mut self, lesions: &[Instance]) -> Result<(), OutputError> {
        self.spool.push(lesions)
    }

    /// Makes all outputs and puts them under their final names.
    ///
    /// # Errors
    /// [`OutputError`]; then nothing partial stands under a final name.
    pub fn commit(mut self) -> Result<Committed, OutputError> {
        let names = Names::new(&self.header.id);
        self.masks.classes.finish()?;
        let pages = self.spool.finish()?;
        let mut outputs = Vec::new();
        if self.settings.ome_zarr.is_some() {
            outputs.push(names.masks.clone());
        }
        let mut overview = self
            .settings
            .overview
            .as_ref()
            .map(|settings| Overview::new(&self.header, self.kind, &self.thumbnail, &self.tissue, settings.max_px));
        let of = (self.kind, &self.header, pages.outline);
        let (mut table, mut geojson) = tables(&self.settings, &self.staging, of, &names, &mut outputs)?;
        let px_area_um2 = self.header.grid.px_area_um2();
        let class_area_um2: Vec<f64> = self.class_px.iter().map(|&px| px as f64 * px_area_um2).collect();
        let computed_area_um2 = self.computed_px as f64 * px_area_um2;
        let picture = self.staging.path(&names.overview)?;
        let draw =
            |overview: Overview, counts: &[u64]| overview.write(&picture, counts, &class_area_um2, computed_area_um2);
        let batch = self.settings.parquet.as_ref().map_or(BATCH_ROWS, InstanceTable::batch_rows);
        let mut class_counts = vec![0; self.header.classes.len()];
        let rows = || {
            pages.batches(batch, &mut |rows| {
                for (_, instance) in rows {
                    if let Some(n) = usize::from(instance.class).checked_sub(1).and_then(|i| class_counts.get_mut(i)) {
                        *n += 1;
                    }
                }
                // Each takes the rows in order; none waits for the other, and two of the three use one core at a time.
                let drawn = || overview.as_mut().map_or((), |overview| overview.add(rows));
                let tabled = || table.as_mut().map_or(Ok(()), |table| table.write(rows));
                let exported = || geojson.as_mut().map_or(Ok(()), |geojson| geojson.write(rows));
                let ((), (tabled, exported)) = rayon::join(drawn, || rayon::join(tabled, exported));
                tabled.and(exported)
            })?;
            table.map_or(Ok(()), InstanceTable::finish)?;
            geojson.map_or(Ok(()), GeojsonFile::finish)?;
            // A picture of nuclei needs no mask: it is drawn while those are made.
            let ready = overview.take_if(|_| self.kind == ResultKind::Nuclei);
            ready.map_or(Ok(()), |overview| draw(overview, &class_counts))
        };
        // Masks and tables are made from the same spool and know nothing of each other.
        let is_output = self.settings.ome_zarr.is_some();
        let masks = || self.masks.finish(&self.header, self.kind, &pages, &self.tissue, is_output);
        let (masks_made, rows_written) = rayon::join(masks, rows);
        masks_made?;
        rows_written?;
        if let Some(mut overview) = overview {
            overview.add_classes(&self.masks.semantic)?;
            draw(overview, &class_counts)?;
        }
        if self.settings.overview.is_some() {
            outputs.push(names.overview.clone());
        }
        let all = [names.masks, names.nuclei, names.lesions, names.tiles, names.geojson, names.overview];
        let stale: Vec<_> = all.into_iter().filter(|name| !outputs.contains(name)).collect();
        let artifacts = self.staging.commit(&outputs, &stale)?;
        Ok(Committed { artifacts, instances: pages.count, class_counts, class_area_um2, computed_area_um2 })
    }
}

/// Tables without rows, as far as they are among the outputs; those are noted.
fn tables(
    settings: &settings::Output,
    staging: &Staging,
    (kind, header, outline): (ResultKind, &SlideHeader, Outline),
    names: &Names,
    outputs: &mut Vec<PathBuf>,
) -> Result<(Option<InstanceTable>, Option<GeojsonFile>), OutputError> {
    let mut place = |name: &PathBuf| {
        outputs.push(name.clone());
        staging.path(name)
    };
    let table = match &settings.parquet {
        Some(parquet) => Some(InstanceTable::create(&place(names.table(kind))?, kind, header, outline, parquet)?),
        None => None,
    };
    let geojson = match &settings.geojson {
        Some(geojson) => Some(GeojsonFile::create(&place(&names.geojson)?, kind, header, geojson)?),
        None => None,
    };
    Ok((table, geojson))
}

/// Pixels of each value.
fn histogram(classes: &[u8]) -> [u64; 256] {
    let count = |block: &[u8]| {
        // Neighbours are mostly equal: four tables keep one count from waiting for the last.
        let mut sums = [[0_u32; 256]; 4];
        for four in block.chunks(4) {
            for (sum, &class) in sums.iter_mut().zip(four) {
                sum[usize::from(class)] += 1;
            }
        }
        std::array::from_fn(|class| sums.iter().map(|sum| u64::from(sum[class])).sum())
    };
    let add = |a: [u64; 256], b: [u64; 256]| std::array::from_fn(|class| a[class] + b[class]);
    classes.par_chunks(1 << 16).map(count).reduce(|| [0; 256], add)
}
