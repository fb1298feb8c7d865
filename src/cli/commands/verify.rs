//! `wsi-run verify DIR`: whether the outputs of a run agree with each other and with its manifest.

use crate::{
    cli::{
        amount::counted,
        args::{CommonArgs, VerifyArgs},
        style::Style,
    },
    error::{RunError, exit},
    output,
};
use std::io::Write;

/// Prints every finding; exit code 3 when there is one.
pub(super) fn run(args: &VerifyArgs, common: &CommonArgs, style: Style) -> anyhow::Result<u8> {
    if !args.dir.join("slides.parquet").is_file() {
        let error = RunError::Setup {
            message: format!("no results of a run: expected `slides.parquet` in it: {}", args.dir.display()),
            hint: Some("name the directory of `output.dir`; a run writes `slides.parquet` when it ends".to_owned()),
        };
        return Ok(super::pipeline::report(&error, common, style));
    }
    let report = output::verify(&args.dir)?;
    let mut out = std::io::stdout().lock();
    for finding in &report.run {
        writeln!(out, "run: {finding}")?;
    }
    for slide in &report.slides {
        for finding in &slide.findings {
            writeln!(out, "{}: {finding}", slide.id)?;
        }
    }
    let count = report.run.len() + report.slides.iter().map(|s| s.findings.len()).sum::<usize>();
    let verdict = match count {
        0 => "everything agrees".to_owned(),
        1 => "1 disagreement".to_owned(),
        n => format!("{n} disagreements"),
    };
    writeln!(
        out,
        "{verdict}: {}, {}, {} looked at",
        counted(report.slides.len(), "slide"),
        counted(report.artifacts_checked as usize, "artifact"),
        counted(report.rows_checked as usize, "row")
    )?;
    Ok(if report.is_clean() { exit::OK } else { exit::SLIDES })
}
