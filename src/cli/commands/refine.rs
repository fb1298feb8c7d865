//! `wsi-run refine export | import`: images to correct, and corrections as a data set.
//!
//! Owns: the verb, what it prints. Must not know: how images are ranked or outlines read.

use super::evaluate::{Judge, Stop, failed, settings};
use super::pipeline::use_threads;
use crate::{
    cli::{
        args::{
            CommonArgs,
            refine::{By, ExportArgs, ImportArgs, RefineVerb},
        },
        style::Style,
    },
    error::exit,
    evaluate::{
        EvaluateError, Predictor,
        refine::{FolderTiles, RefineTiles, SlideTiles, Stratum, export, import},
    },
    units::Mpp,
};
use std::io::Write;

/// Exports or imports.
///
/// # Errors
/// Standard output that cannot be written.
pub(super) fn run(verb: &RefineVerb, common: &CommonArgs, style: Style) -> anyhow::Result<u8> {
    let done = match verb {
        RefineVerb::Export(args) => exported(args, common, style),
        RefineVerb::Import(args) => imported(args).map_err(Stop::Failed),
    };
    match done {
        Ok(lines) => {
            if !common.quiet {
                let mut out = std::io::stdout().lock();
                lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
            }
            Ok(exit::OK)
        }
        Err(stop) => Ok(failed(stop, common, style)),
    }
}

fn exported(args: &ExportArgs, common: &CommonArgs, style: Style) -> Result<Vec<String>, Stop> {
    let judge = Judge {
        model: args.model.as_deref(),
        weights: args.weights.as_deref(),
        pipeline: args.pipeline.as_deref(),
        set: &args.set,
    };
    let (settings, name) = settings(&judge, common, style)?;
    use_threads(&settings);
    let predictor = Predictor::new(&settings)?;
    let mut lines = Vec::new();
    let tiles: Box<dyn RefineTiles> = match (&args.images, args.mpp) {
        (Some(images), Some(mpp)) => {
            let mpp = Mpp::new(mpp)
                .ok_or_else(|| EvaluateError::new(format!("`--mpp` is `{mpp}`, expected a number above 0")))?;
            Box::new(FolderTiles::new(images, args.groups.as_deref(), mpp)?)
        }
        _ => {
            let (tiles, left_out) =
                SlideTiles::new(&settings, predictor.setup(), args.tile_px, args.groups.as_deref())?;
            lines.extend(left_out.into_iter().map(|slide| format!("left out: {slide}")));
            Box::new(tiles)
        }
    };
    let stratum = match args.by {
        By::Organ => Stratum::Organ,
        By::Slide => Stratum::Slide,
        By::None => Stratum::None,
    };
    let done = export(&*tiles, &predictor, (stratum, args.count), (&name, &args.output))?;
    let range = match (done.images.first(), done.images.last()) {
        (Some((_, most)), Some((_, least))) => format!(", entropy {most:.3} to {least:.3}"),
        _ => String::new(),
    };
    lines.push(format!("{} of {} images exported{range}", done.images.len(), done.seen));
    lines.push(format!("open {0}/images in QuPath and drop {0}/geojson on them", args.output.display()));
    Ok(lines)
}

fn imported(args: &ImportArgs) -> Result<Vec<String>, EvaluateError> {
    let done = import(&args.exported, args.corrected.as_deref(), &args.output)?;
    let changed = if args.corrected.is_some() { format!(", {} changed", done.changed) } else { String::new() };
    let mut lines = vec![format!("{} images with {} outlines{changed}", done.images, done.outlines)];
    if !done.missing.is_empty() {
        lines.push(format!("without outlines, left out: {}", done.missing.join(", ")));
    }
    if done.is_trainable {
        lines.push(format!("train with: wsi-run {}", args.output.join("refine.yaml").display()));
    }
    Ok(lines)
}
