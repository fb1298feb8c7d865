//! `wsi-run plan pipeline.yaml`: what a run would do, before it does anything.
//!
//! Owns: what is printed of a plan. Must not know: how it is made.

use super::{
    pipeline::{load_file, report, use_threads},
    train,
};
use crate::{
    cli::{
        amount::{bytes, counted},
        args::{CommonArgs, PipelineArgs},
        style::Style,
    },
    config::LoadedFile,
    error::exit,
    pipeline::{Setup, SlidePlan, find_slides, plan_slide},
};
use std::io::Write;

/// `plan`.
pub(super) fn run(args: &PipelineArgs, common: &CommonArgs, style: Style) -> anyhow::Result<u8> {
    let loaded = match load_file(args, common, style) {
        Ok(LoadedFile::Pipeline(loaded)) => loaded,
        Ok(LoadedFile::Training(loaded)) => return train::plan(&loaded, args, common, style),
        Err(code) => return Ok(code),
    };
    use_threads(&loaded.settings);
    let prepared = Setup::new(&loaded.settings).and_then(|s| Ok((s, find_slides(&loaded.settings)?)));
    let (setup, entries) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Ok(report(&error, common, style)),
    };
    let mut out = std::io::stdout().lock();
    let t = &setup.tiler;
    writeln!(
        out,
        "model   {} at {} µm/px, {}, {}",
        setup.model.spec().name,
        setup.input_mpp.um_per_px(),
        counted(entries.len(), "slide"),
        counted(setup.threads(), "thread")
    )?;
    writeln!(
        out,
        "tiles   {} px every {} px, margin {} px, window {:?}; regions {} + 2·{} px",
        t.tile_px, t.stride_px, t.margin_px, t.window, t.region_px, t.halo_px
    )?;
    let (all, weights) = (setup.model_bytes(), setup.model.weight_bytes());
    if all > 0 {
        writeln!(out, "network {} of weights, {} of activations", bytes(weights), bytes(all.saturating_sub(weights)))?;
    }
    writeln!(out, "memory  {} in flight whatever the slide\n", bytes(setup.flow_bytes()))?;
    let (mut tiles, mut disk, mut most, mut failed) = (0, 0, 0, 0);
    for entry in &entries {
        match plan_slide(entry, &setup) {
            Ok(plan) => {
                tiles += plan.tiles.tiles.len();
                disk += plan.disk_bytes(&setup);
                most = most.max(plan.slide_bytes(&setup));
                print(&plan, &setup, &mut out)?;
            }
            Err(error) => {
                failed += 1;
                writeln!(out, "{}\n  cannot run: {error}", entry.id)?;
                if let Some(hint) = &error.hint {
                    writeln!(out, "  hint: {hint}")?;
                }
            }
        }
    }
    let memory = setup.flow_bytes() + most * setup.slots() as u64;
    writeln!(
        out,
        "\nin all  {}, about {} of memory, about {} on disk",
        counted(tiles, "tile"),
        bytes(memory),
        bytes(disk)
    )?;
    if failed > 0 {
        writeln!(out, "        {failed} of {} cannot run", counted(entries.len(), "slide"))?;
    }
    Ok(if failed > 0 { exit::SLIDES } else { exit::OK })
}

fn print(plan: &SlidePlan, setup: &Setup, out: &mut dyn Write) -> std::io::Result<()> {
    let (grid, reader) = (&plan.header.grid, &plan.reader);
    let (fx, fy) = reader.factor();
    let scale = match (fx == 1.0 && fy == 1.0, fx == fy) {
        (true, _) => "as it is".to_owned(),
        (_, true) => format!("÷ {fx:.4}"),
        _ => format!("÷ {fx:.4} × {fy:.4}"),
    };
    writeln!(out, "{}", plan.header.id)?;
    writeln!(
        out,
        "  {} ({}), {} × {} px at {} µm/px from {}",
        plan.vendor,
        plan.reader_name,
        grid.level0.w,
        grid.level0.h,
        grid.slide_mpp.mean().um_per_px(),
        plan.mpp_source
    )?;
    writeln!(out, "  reads level {} {scale} → {} × {} px", reader.level().0, grid.size.w, grid.size.h)?;
    let tissue = plan.tissue_area_um2() / 1e6;
    writeln!(
        out,
        "  {tissue:.2} mm² tissue, {}, {}, {} memory, about {} on disk",
        counted(plan.tiles.tiles.len(), "tile"),
        counted(plan.tiles.region_count(), "region"),
        bytes(plan.slide_bytes(setup)),
        bytes(plan.disk_bytes(setup))
    )?;
    for note in plan.tissue.notes.iter().chain(&plan.color.warning) {
        writeln!(out, "  note: {note}")?;
    }
    Ok(())
}
