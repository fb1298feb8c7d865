//! The masks of one slide.
//!
//! Owns: [`MaskWriter`]. Must not know: tables, pictures, final names.

use crate::{
    config::settings,
    geometry::{Rect, Target},
    output::{
        OutputError, ResultKind, SlideHeader,
        assembly::{self, Assembly},
        ome_zarr::{self, NOT_COMPUTED},
        paint,
        pyramid::{LabelPyramid, level_count},
        spool::SpoolPages,
    },
    tissue::TissueMask,
};
use std::path::{Path, PathBuf};

/// The class mask while parts arrive, and what the other masks need to be made.
pub(super) struct MaskWriter {
    root: PathBuf,
    /// Where probabilities go that are no output: lesions are told by them.
    prob_scratch: Option<PathBuf>,
    settings: settings::OmeZarr,
    levels: u32,
    pub semantic: LabelPyramid<u8>,
    pub classes: Assembly<u8>,
    /// Channels of the probabilities, and where they go; none before the first part.
    pub prob: Option<(u32, LabelPyramid<u8>, Assembly<u8>)>,
    /// Squares in which parts will arrive, kept for the probabilities, whose channels the first part tells.
    planned: Vec<Rect<Target>>,
}

/// Masks nobody will see: fast and small.
pub(super) fn scratch_settings() -> settings::OmeZarr {
    settings::OmeZarr { chunk_px: 512, version: settings::OmeZarrVersion::V05, zstd_level: 1, prob: false }
}

impl MaskWriter {
    /// Makes the groups of the masks, and takes the classes of the squares that are `planned`.
    pub(super) fn create(
        header: &SlideHeader,
        kind: ResultKind,
        (root, prob_scratch): (PathBuf, Option<PathBuf>),
        settings: settings::OmeZarr,
        tissue: &TissueMask,
        planned: &dyn Fn(Rect<Target>) -> bool,
    ) -> Result<Self, OutputError> {
        let size = (header.grid.size.w, header.grid.size.h);
        let levels = level_count(size.0, size.1, settings.chunk_px);
        ome_zarr::write_groups(&root, settings.version, header, kind, tissue, levels)?;
        let labels = root.join("labels");
        let semantic = LabelPyramid::create(&labels.join("semantic"), size, None, levels, NOT_COMPUTED, &settings)?;
        let expects_classes = kind != ResultKind::Nuclei;
        let classes = Assembly::new(semantic.base().clone(), &|rect| expects_classes && planned(rect));
        let keeps_prob = settings.prob || prob_scratch.is_some();
        let planned = if keeps_prob { planned_cells(size, planned) } else { Vec::new() };
        Ok(Self { root, prob_scratch, settings, levels, semantic, classes, prob: None, planned })
    }

    /// Takes the probabilities of a part, if anybody wants them.
    pub(super) fn write_prob(
        &mut self,
        header: &SlideHeader,
        core: Rect<Target>,
        channels: u32,
        data: &[u8],
    ) -> Result<(), OutputError> {
        if !self.settings.prob && self.prob_scratch.is_none() {
            return Ok(());
        }
        let (expected, _, assembly) = match &mut self.prob {
            Some(prob) => prob,
            None => {
                let size = (header.grid.size.w, header.grid.size.h);
                let pyramid = match self.prob_scratch.as_ref().filter(|_| !self.settings.prob) {
                    Some(dir) => LabelPyramid::create(dir, size, Some(channels), 1, 0, &scratch_settings())?,
                    None => {
                        ome_zarr::write_prob_group(&self.root, self.settings.version, header, channels, self.levels)?;
                        let dir = self.root.join("prob");
                        LabelPyramid::create(&dir, size, Some(channels), self.levels, 0, &self.settings)?
                    }
                };
                let cells = std::mem::take(&mut self.planned);
                let is_planned =
                    |rect: Rect<Target>| cells.binary_search_by_key(&(rect.y, rect.x), |c| (c.y, c.x)).is_ok();
                let assembly = Assembly::new(pyramid.base().clone(), &is_planned);
                self.prob.insert((channels, pyramid, assembly))
            }
        };
        if *expected != channels {
            let reason = format!("probabilities of a part have `{channels}` channels, expected `{expected}`");
            return Err(OutputError::format("OME-Zarr", &self.root)(reason));
        }
        let planes = data.chunks_exact((core.area() as usize).max(1));
        (0..).zip(planes).try_for_each(|(plane, data)| assembly.write(plane, core, data))
    }

    /// Paints, and builds every level of every mask.
    pub(super) fn finish(
        &mut self,
        header: &SlideHeader,
        kind: ResultKind,
        pages: &SpoolPages,
        tissue: &TissueMask,
        is_output: bool,
    ) -> Result<(), OutputError> {
        let labels = self.root.join("labels");
        let of_tissue = || write_tissue(&labels, tissue, self.levels, &self.settings);
        let (classes, tissue) = rayon::join(|| self.finish_classes(&labels, header, kind, pages, is_output), of_tissue);
        classes.and(tissue)?;
        if let Some((_, pyramid, assembly)) = &mut self.prob {
            assembly.finish()?;
            pyramid.build()?;
        }
        Ok(())
    }

    /// Paints nuclei, and builds every level of the classes.
    fn finish_classes(
        &self,
        labels: &Path,
        header: &SlideHeader,
        kind: ResultKind,
        pages: &SpoolPages,
        is_output: bool,
    ) -> Result<(), OutputError> {
        if kind != ResultKind::Nuclei || !is_output {
            return self.semantic.build();
        }
        let size = (header.grid.size.w, header.grid.size.h);
        let ids = LabelPyramid::create(&labels.join("instances"), size, None, self.levels, 0_u32, &self.settings)?;
        paint::paint(pages, self.semantic.base(), ids.base())?;
        // The coarsest levels are a block or two: side by side they keep more threads busy.
        let (ids, semantic) = rayon::join(|| ids.build(), || self.semantic.build());
        ids.and(semantic)
    }
}

/// Writes the tissue mask at every level.
fn write_tissue(
    labels: &Path,
    tissue: &TissueMask,
    levels: u32,
    settings: &settings::OmeZarr,
) -> Result<(), OutputError> {
    let size = (tissue.w, tissue.h);
    let pyramid = LabelPyramid::create(&labels.join("tissue"), size, None, levels, 0_u8, settings)?;
    let mut assembly = Assembly::new(pyramid.base().clone(), &|_| true);
    assembly.write(0, Rect::new(0, 0, tissue.w, tissue.h), &tissue.bits)?;
    assembly.finish()?;
    pyramid.build()
}

/// The squares in which parts will arrive, by row and then column.
fn planned_cells((w, h): (u32, u32), planned: &dyn Fn(Rect<Target>) -> bool) -> Vec<Rect<Target>> {
    assembly::cells(w, h).filter(|&cell| planned(cell)).collect()
}
