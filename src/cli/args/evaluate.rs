//! What `wsi-run evaluate` may be told.
//!
//! Owns: the clap types of the verb. Must not know: how anything is measured.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Examples of the verb.
pub const EXAMPLES: &str = "\
Examples:
  A trained network on the pictures its training kept back
    wsi-run evaluate train.yaml --weights results/training/weights.safetensors -o evaluation
  The built-in model on dots (BRCA-M2C: `y x class` per line, 0.5 µm/px)
    wsi-run evaluate --model hematoxylin --images brca_m2c/images --dots brca_m2c/labels \\
        --list brca_m2c/brca_ds_val.txt --classes lymphocyte,epithelial,stromal --mpp 0.5 -o evaluation
  Weights on maps with a number per nucleus
    wsi-run evaluate --weights net.safetensors --images images --instances labels --mpp 0.25
  A pipeline as it would run on slides, with one key changed
    wsi-run evaluate --pipeline nuclei.yaml --set instances.star.nms_overlap=0.4 --images images --instances labels \\
        --mpp 0.5
  What a run has left, for images that were its slides
    wsi-run evaluate --results results/march --images images --masks masks --classes tumour,stroma --mpp 0.5

It leaves metrics.json, metrics.parquet and report.html.";

/// `evaluate`.
#[derive(Debug, Clone, Args)]
#[command(group(clap::ArgGroup::new("judged").required(true)), group(clap::ArgGroup::new("truth").required(true)))]
pub struct EvaluateArgs {
    /// A model that needs no file: nuclei, hematoxylin, stain_threshold
    #[arg(long, value_name = "NAME", group = "judged", help_heading = "What is evaluated")]
    pub model: Option<String>,
    /// A network's weights, with the settings of a pipeline that says no more
    #[arg(long, value_name = "SAFETENSORS", group = "judged", help_heading = "What is evaluated")]
    pub weights: Option<PathBuf>,
    /// A pipeline; its slides are not looked at
    #[arg(long, value_name = "YAML", group = "judged", help_heading = "What is evaluated")]
    pub pipeline: Option<PathBuf>,
    /// The output directory of a run whose slides were the images
    #[arg(long, value_name = "DIR", group = "judged", help_heading = "What is evaluated")]
    pub results: Option<PathBuf>,
    /// Set a key over the pipeline, for example `instances.watershed.threshold=0.4`; may be repeated
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "results", help_heading = "What is evaluated")]
    pub set: Vec<String>,
    /// A training file: the pictures it keeps back, set by set, with their classes, patients and organs
    #[arg(value_name = "TRAINING", group = "truth", conflicts_with_all = ["images", "results"], help_heading = "Images and truth")]
    pub training: Option<PathBuf>,
    /// Folder of images
    #[arg(long, value_name = "DIR", required_unless_present = "training", help_heading = "Images and truth")]
    pub images: Option<PathBuf>,
    /// Folder of text files, a line `y x class` per nucleus
    #[arg(long, value_name = "DIR", group = "truth", requires = "images", help_heading = "Images and truth")]
    pub dots: Option<PathBuf>,
    /// Folder of PNGs with a number per nucleus
    #[arg(long, value_name = "DIR", group = "truth", requires = "images", help_heading = "Images and truth")]
    pub instances: Option<PathBuf>,
    /// Folder of PNGs with a class per pixel, 0 background
    #[arg(long, value_name = "DIR", group = "truth", requires = "images", help_heading = "Images and truth")]
    pub masks: Option<PathBuf>,
    /// Names of the classes of the truth, in order; those of the model are told by their names
    #[arg(
        long,
        value_name = "CLASSES",
        default_value = "nucleus",
        conflicts_with = "training",
        help_heading = "Images and truth"
    )]
    pub classes: String,
    /// File with the name of an image per line: only these
    #[arg(long, value_name = "FILE", help_heading = "Images and truth")]
    pub list: Option<PathBuf>,
    /// CSV with columns image, organ, patient
    #[arg(long, value_name = "CSV", help_heading = "Images and truth")]
    pub groups: Option<PathBuf>,
    /// Resolution of the images, µm/px; with a training file, what its pictures are brought to, if not the model's
    #[arg(long, value_name = "MPP", required_unless_present = "training", help_heading = "Images and truth")]
    pub mpp: Option<f64>,
    /// The directory of an earlier evaluation on the same images, to compare with
    #[arg(long, value_name = "DIR")]
    pub before: Option<PathBuf>,
    /// Where the measures and the page go
    #[arg(short, long, value_name = "DIR", default_value = "evaluation")]
    pub output: PathBuf,
    /// What is said of how it is measured.
    #[command(flatten)]
    pub how: MeasureArgs,
}

/// How it is measured.
#[derive(Debug, Clone, Args)]
pub struct MeasureArgs {
    /// How near a prediction must be to a true nucleus' place, µm
    #[arg(long, value_name = "UM", default_value_t = 3.0, help_heading = "Measuring")]
    pub radius_um: f64,
    /// Draws of the intervals
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=100_000), help_heading = "Measuring")]
    pub draws: u32,
    /// Share of draws within an interval
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, help_heading = "Measuring")]
    pub level: f64,
    /// Seed of the draws
    #[arg(long, value_name = "SEED", default_value_t = 1, help_heading = "Measuring")]
    pub seed: u64,
    /// What is drawn: patients (known of TCGA barcodes and `--groups`) or images
    #[arg(long, value_enum, default_value_t, value_name = "WHAT", help_heading = "Measuring")]
    pub resample: Resample,
}

/// What is drawn for intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Resample {
    /// All images of a patient together
    #[default]
    Patient,
    /// Each image by itself
    Image,
}
