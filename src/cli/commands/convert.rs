//! `wsi-run convert CHECKPOINT --model NAME -o FILE`: other people's checkpoints made into weights.
//!
//! Owns: the verb. Must not know: formats of checkpoints, names of tensors.

use crate::{
    cli::{
        args::{CommonArgs, ConvertArgs},
        style::{Style, grouped},
    },
    error::exit,
    model::{
        ClassInfo,
        convert::{Conversion, Converted, convert, parse_classes, parse_type_info},
        weights::{Normalisation, Selection, WeightsError},
        zoo::zoo,
    },
    units::Mpp,
};
use std::{io::Write, path::Path};

/// Converts and writes; exit code 2 for a command line that makes no sense, 1 for a checkpoint that cannot be used.
///
/// # Errors
/// Standard output that cannot be written.
pub(super) fn run(args: &ConvertArgs, common: &CommonArgs, style: Style) -> anyhow::Result<u8> {
    let conversion = match conversion(args) {
        Ok(conversion) => conversion,
        Err((message, hint)) => return Ok(report(&message, hint.as_deref(), exit::CONFIG, common, style)),
    };
    let done = convert(&args.checkpoint, &conversion).and_then(|c| c.weights.write(&args.output).map(|()| c));
    match done {
        Ok(converted) => {
            if !common.quiet {
                print(args, &converted)?;
            }
            Ok(exit::OK)
        }
        Err(error) => Ok(report_weights(&error, common, style)),
    }
}

/// A message and a hint.
type Failure = (String, Option<String>);

fn conversion(args: &ConvertArgs) -> Result<Conversion<'_>, Failure> {
    if zoo().iter().all(|entry| entry.name != args.model) {
        let names: Vec<&str> = zoo().iter().map(|entry| entry.name).collect();
        let message = format!("no network is named `{}`", args.model);
        return Err((message, Some(format!("the networks are {}", names.join(", ")))));
    }
    let same = |a: &Path, b: &Path| a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
    if same(&args.checkpoint, &args.output) {
        let message = format!("output is the checkpoint itself: {}", args.output.display());
        return Err((message, Some("give the weights another name with `-o`".to_owned())));
    }
    let input_mpp = match args.mpp {
        None => None,
        Some(mpp) => {
            Some(Mpp::new(mpp).ok_or_else(|| (format!("`--mpp` is `{mpp}`, expected a number above 0"), None))?)
        }
    };
    Ok(Conversion {
        model: &args.model,
        classes: classes(args)?,
        input_mpp,
        normalisation: args.normalisation.as_deref().map(normalisation).transpose()?,
        licence: &args.licence,
        training_data: &args.training_data,
        encoder_only: args.encoder_only,
        selection: Selection { entry: args.entry.as_deref(), prefix: args.prefix.as_deref() },
    })
}

fn classes(args: &ConvertArgs) -> Result<Vec<ClassInfo>, Failure> {
    if let Some(path) = &args.classes_from {
        let at = |message: String| (format!("{message}: {}", path.display()), None);
        let text = std::fs::read_to_string(path).map_err(|e| at(format!("type info cannot be read: {e}")))?;
        return parse_type_info(&text).map_err(at);
    }
    args.classes.as_deref().map_or(Ok(vec![]), |text| parse_classes(text).map_err(|message| (message, None)))
}

/// `imagenet`, `unit`, or six numbers: means and standard deviations of red, green, blue.
fn normalisation(text: &str) -> Result<Normalisation, Failure> {
    match text {
        "imagenet" => return Ok(Normalisation::IMAGENET),
        "unit" => return Ok(Normalisation::UNIT),
        _ => {}
    }
    let numbers: Vec<f32> = text.split([',', '/']).filter_map(|n| n.trim().parse().ok()).collect();
    match numbers[..] {
        [a, b, c, d, e, f] if numbers.iter().all(|n| n.is_finite()) && d > 0.0 && e > 0.0 && f > 0.0 => {
            Ok(Normalisation { mean: [a, b, c], std: [d, e, f] })
        }
        _ => {
            let hint = "the numbers are of red, green, blue in 0–1, the standard deviations above 0";
            let message =
                format!("normalisation is `{text}`, expected `imagenet`, `unit` or `mean,mean,mean/std,std,std`");
            Err((message, Some(hint.to_owned())))
        }
    }
}

/// Left-out tensors printed.
const NAMED: usize = 5;

fn print(args: &ConvertArgs, converted: &Converted) -> std::io::Result<()> {
    let (metadata, mut out) = (&converted.weights.metadata, std::io::stdout().lock());
    let part = if args.encoder_only { "encoder of " } else { "" };
    writeln!(out, "{}: {part}{}", args.output.display(), metadata.model)?;
    writeln!(out, "  tensors        {} ({} under another name)", converted.tensors, converted.renamed)?;
    writeln!(out, "  parameters     {}", grouped(converted.parameters as u64))?;
    if !args.encoder_only {
        let color = |c: &ClassInfo| {
            let [r, g, b] = c.color;
            format!("{} #{r:02x}{g:02x}{b:02x}", c.name)
        };
        let classes: Vec<String> = metadata.classes.iter().map(color).collect();
        writeln!(out, "  classes        {}", classes.join(", "))?;
    }
    let whose = |given: bool| if given { "" } else { " (the network's own)" };
    writeln!(out, "  input          {} µm/px{}", metadata.input_mpp.um_per_px(), whose(args.mpp.is_some()))?;
    let Normalisation { mean, std } = metadata.normalisation;
    writeln!(out, "  normalisation  mean {mean:?}, std {std:?}{}", whose(args.normalisation.is_some()))?;
    writeln!(out, "  licence        {}", metadata.licence)?;
    writeln!(out, "  training data  {}", metadata.training_data)?;
    if !converted.left_out.is_empty() {
        let named = &converted.left_out[..converted.left_out.len().min(NAMED)];
        let more = if converted.left_out.len() > NAMED { ", …" } else { "" };
        writeln!(out, "  left out       {}: {}{more}", converted.left_out.len(), named.join(", "))?;
    }
    writeln!(out, "  sha256         {}", converted.weights.sha256())
}

fn report_weights(error: &WeightsError, common: &CommonArgs, style: Style) -> u8 {
    report(&error.to_string(), error.hint, exit::RUN, common, style)
}

fn report(message: &str, hint: Option<&str>, code: u8, common: &CommonArgs, style: Style) -> u8 {
    let text = if common.log_json {
        format!("{}\n", serde_json::json!({ "event": "error", "message": message, "hint": hint }))
    } else {
        let hint = hint.map_or(String::new(), |h| format!("hint: {h}\n"));
        style.paint(&format!("error: {message}\n{hint}"))
    };
    // Standard error that is closed leaves the exit code.
    let _ = std::io::stderr().write_all(text.as_bytes());
    code
}
