//! What `wsi-run refine` may be told.
//!
//! Owns: the clap types of the verb. Must not know: how anything is ranked.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Examples of the verb.
pub const EXAMPLES: &str = "\
Examples:
  The 40 images a network is least sure of, evenly from the organs, for correction in QuPath
    wsi-run refine export --weights net.safetensors --images train/images --groups train/groups.csv --mpp 0.5 \\
        --count 40 -o refine
  The same of slides, cut into squares of 512 px
    wsi-run refine export --pipeline lesions.yaml --tile-px 512 --by slide --count 40 -o refine
  In QuPath: open refine/images/NAME.png, drop refine/geojson/NAME.geojson on it, correct the annotations,
  File > Export objects as GeoJSON, as corrected/NAME.geojson
    wsi-run refine import refine --corrected corrected -o corrections
    wsi-run corrections/refine.yaml                          trains decoder, heads and conditioning
  Before and after, on images nobody has corrected
    wsi-run evaluate val.yaml --weights net.safetensors -o before
    wsi-run evaluate val.yaml --weights corrections/training/weights.safetensors --before before -o after";

/// `refine`.
#[derive(Debug, Clone, Subcommand)]
pub enum RefineVerb {
    /// Export the images a model is least sure of, with its outlines, for correction
    Export(ExportArgs),
    /// Make a data set and a training file of corrected outlines
    Import(ImportArgs),
}

/// `refine export`.
#[derive(Debug, Clone, Args)]
#[command(group(clap::ArgGroup::new("judged").required(true)))]
pub struct ExportArgs {
    /// A model that needs no file: nuclei, hematoxylin, stain_threshold
    #[arg(long, value_name = "NAME", group = "judged", requires = "images")]
    pub model: Option<String>,
    /// A network's weights
    #[arg(long, value_name = "SAFETENSORS", group = "judged", requires = "images")]
    pub weights: Option<PathBuf>,
    /// A pipeline; without `--images`, its slides are cut into squares
    #[arg(long, value_name = "YAML", group = "judged")]
    pub pipeline: Option<PathBuf>,
    /// Set a key over the pipeline; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder of images
    #[arg(long, value_name = "DIR", requires = "mpp")]
    pub images: Option<PathBuf>,
    /// Resolution of the images, µm/px
    #[arg(long, value_name = "MPP", requires = "images")]
    pub mpp: Option<f64>,
    /// CSV with columns image (or name of a slide), organ, patient
    #[arg(long, value_name = "CSV")]
    pub groups: Option<PathBuf>,
    /// Side of the squares slides are cut into, px at the model's resolution
    #[arg(long, value_name = "PX", default_value_t = 512, value_parser = clap::value_parser!(u32).range(64..=4096), conflicts_with = "images")]
    pub tile_px: u32,
    /// How many images to export
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub count: usize,
    /// What images are taken from evenly
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub by: By,
    /// Where they go
    #[arg(short, long, value_name = "DIR", default_value = "refine")]
    pub output: PathBuf,
}

/// What images are taken from evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum By {
    /// Organs of `--groups`
    #[default]
    Organ,
    /// Slides
    Slide,
    /// Nothing: the most uncertain of all
    None,
}

/// `refine import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The directory `refine export` has written
    #[arg(value_name = "DIR")]
    pub exported: PathBuf,
    /// Where the corrected GeoJSON files are; default: where they were exported to
    #[arg(long, value_name = "DIR")]
    pub corrected: Option<PathBuf>,
    /// Where the data set goes
    #[arg(short, long, value_name = "DIR", default_value = "corrections")]
    pub output: PathBuf,
}
