//! `wsi-run info SLIDE` and `wsi-run thumbnail SLIDE`: one slide, looked at.
//!
//! Owns: what is printed of a slide. Must not know: formats.

use crate::{
    cli::{
        args::{InfoArgs, ThumbnailArgs},
        style::Style,
    },
    error::{SlideError, exit},
    pixels::thumbnail,
    slides::{self, SlideInfo, SlideReader},
    units::{Mpp, MppXy},
};
use anyhow::Context;
use serde_json::json;
use std::{io::Write, path::Path, sync::Arc};

/// Opens one file as a run would; its error printed with its hint.
fn open(path: &Path, style: Style) -> Result<Arc<dyn SlideReader>, u8> {
    slides::open_file(path, None).map_err(|error| {
        let _ = std::io::stderr().write_all(style.paint(&as_text(&error)).as_bytes());
        exit::SLIDES
    })
}

fn as_text(error: &SlideError) -> String {
    let hint = error.hint.as_ref().map_or(String::new(), |h| format!("hint: {h}\n"));
    format!("error: {error}\n{hint}")
}

/// `info`.
pub(super) fn info(args: &InfoArgs, style: Style) -> anyhow::Result<u8> {
    let reader = match open(&args.slide, style) {
        Ok(reader) => reader,
        Err(code) => return Ok(code),
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", as_json(reader.info()))?;
    } else {
        print(reader.info(), &mut out)?;
        if let Err(error) = slides::check_mpp(reader.info()) {
            writeln!(out, "\na run would refuse this slide\n{}", as_text(&error).trim_end())?;
        }
    }
    Ok(exit::OK)
}

fn print(info: &SlideInfo, out: &mut dyn Write) -> std::io::Result<()> {
    let size = info.level0();
    writeln!(out, "{}", info.path.display())?;
    writeln!(out, "  format      {} (read by `{}`)", info.vendor, info.reader)?;
    writeln!(out, "  size        {} × {} px", size.w, size.h)?;
    match &info.mpp {
        Some((mpp, source)) => {
            let (x, y) = (mpp.x.um_per_px(), mpp.y.um_per_px());
            writeln!(out, "  resolution  {x} × {y} µm/px (from {})", source.name())?;
            let mm = |px: u32, um: f64| f64::from(px) * um / 1000.0;
            writeln!(out, "              {:.2} × {:.2} mm", mm(size.w, x), mm(size.h, y))?;
        }
        None => writeln!(out, "  resolution  unknown")?,
    }
    if let Some(power) = info.objective_power {
        writeln!(out, "  objective   {power}×")?;
    }
    if let Some(b) = &info.bounds {
        writeln!(out, "  scanned     {} × {} px at ({}, {})", b.w, b.h, b.x, b.y)?;
    }
    writeln!(out, "  levels")?;
    for (i, level) in info.levels.iter().enumerate() {
        let tile = level.tile_px.map_or(String::new(), |(w, h)| format!(", tiles {w} × {h}"));
        let down = (level.downsample_x * level.downsample_y).sqrt();
        writeln!(out, "    {i}: {} × {} px, 1/{down:.4}{tile}", level.size.w, level.size.h)?;
    }
    if !info.properties.is_empty() {
        writeln!(out, "  properties")?;
        for (name, value) in &info.properties {
            let line: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
            writeln!(out, "    {name}: {line}")?;
        }
    }
    Ok(())
}

fn as_json(info: &SlideInfo) -> serde_json::Value {
    let size = info.level0();
    json!({
        "path": info.path.display().to_string(),
        "vendor": info.vendor,
        "reader": info.reader,
        "width_px": size.w,
        "height_px": size.h,
        "mpp_x": info.mpp.map(|(m, _)| m.x.um_per_px()),
        "mpp_y": info.mpp.map(|(m, _)| m.y.um_per_px()),
        "mpp_source": info.mpp.map(|(_, s)| s.name()),
        "objective_power": info.objective_power,
        "bounds": info.bounds.map(|b| json!({ "x": b.x, "y": b.y, "w": b.w, "h": b.h })),
        "quickhash": info.quickhash,
        "levels": info.levels.iter().map(|l| json!({
            "width_px": l.size.w,
            "height_px": l.size.h,
            "downsample_x": l.downsample_x,
            "downsample_y": l.downsample_y,
            "tile_px": l.tile_px.map(|(w, h)| json!([w, h])),
        })).collect::<Vec<_>>(),
        "properties": info.properties,
    })
}

/// `thumbnail`.
pub(super) fn picture(args: &ThumbnailArgs, style: Style) -> anyhow::Result<u8> {
    let reader = match open(&args.slide, style) {
        Ok(reader) => reader,
        Err(code) => return Ok(code),
    };
    // Only the ratio of the two matters here, so a slide without resolution has a thumbnail too.
    let one = Mpp::new(1.0).context("1 is positive")?;
    let mpp = reader.info().mpp.map_or(MppXy::square(one), |(mpp, _)| mpp);
    let finest = if mpp.x.um_per_px() < mpp.y.um_per_px() { mpp.x } else { mpp.y };
    let image = thumbnail(&reader, mpp, finest, args.max_px)?.image;
    let path = args.output.clone().unwrap_or_else(|| {
        let stem = args.slide.file_stem().map_or_else(|| "slide".into(), ToOwned::to_owned);
        Path::new(&stem).with_extension("png")
    });
    let png = image.png().map_err(anyhow::Error::msg)?;
    std::fs::write(&path, png).with_context(|| format!("cannot write `{}`", path.display()))?;
    writeln!(std::io::stdout(), "{}: {} × {} px", path.display(), image.w, image.h)?;
    Ok(exit::OK)
}
