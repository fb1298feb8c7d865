//! A run, resolved: every default filled in, every choice made. The only export of `config` the flow reads.
//!
//! Owns: [`Settings`] and its parts. Must not know: how it was written (YAML, `--set`, environment).

pub mod data;
mod training;

pub use data::*;
pub use training::*;

use crate::units::{Mpp, MppXy};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything a run does, in the order of the flow.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Which slides.
    pub slides: Slides,
    /// How tissue is found.
    pub tissue: Tissue,
    /// How slides are cut into tiles.
    pub tiling: Tiling,
    /// What happens to pixels before the model.
    pub pixels: Pixels,
    /// How tiles are gathered.
    pub batch: Batch,
    /// Which model.
    pub model: ModelChoice,
    /// How tile predictions are put together.
    pub stitch: Stitch,
    /// How objects are found in the maps.
    pub instances: Instances,
    /// What is written.
    pub output: Output,
    /// Limits of the run.
    pub run: Run,
}

/// Which slides, and what to believe of their resolution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slides {
    /// Where they come from.
    pub source: SlideSource,
    /// Globs of what to leave out, matched like `glob`.
    pub exclude: Vec<String>,
    /// Resolution of every slide, over whatever the file says.
    pub mpp: Option<MppXy>,
    /// CSV with columns `slide,mpp_x[,mpp_y]`; the slide's file name, stem or relative path.
    pub mpp_csv: Option<PathBuf>,
    /// Which reader to use.
    pub reader: ReaderChoice,
}

/// Where slides come from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SlideSource {
    /// Files matching any of the globs, relative to the current directory.
    Glob(Vec<String>),
    /// Every slide under a directory, by file extension.
    Dir(PathBuf),
    /// Exactly these files.
    List(Vec<PathBuf>),
    /// Slides drawn by the program, with known nuclei.
    Synthetic(Synthetic),
}

/// Slides drawn by the program: H&E-like, the position of every nucleus known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Synthetic {
    /// How many slides; each has its own seed.
    pub count: u32,
    /// Width in level-0 px.
    pub width_px: u32,
    /// Height in level-0 px.
    pub height_px: u32,
    /// Resolution of level 0.
    pub mpp: Mpp,
    /// Seed of the first.
    pub seed: u64,
}

/// Which reader opens the slides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReaderChoice {
    /// Our TIFF reader where it can, else plain images, else OpenSlide.
    Auto,
    /// OpenSlide only.
    Openslide,
    /// Our TIFF reader only.
    Tiff,
}

/// How tissue is found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tissue {
    /// The method.
    pub method: TissueMethod,
    /// Resolution of the picture it works on.
    pub mpp: Mpp,
    /// Smaller pieces of tissue are dropped.
    pub min_area_um2: f64,
    /// Smaller holes are filled.
    pub max_hole_um2: f64,
    /// Leave out felt-pen marks (red, green, blue, black).
    pub exclude_pen: bool,
    /// Leave out areas out of focus.
    pub exclude_blur: bool,
}

/// The ways to find tissue.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TissueMethod {
    /// Otsu's threshold on `channel`.
    Otsu {
        /// What is thresholded.
        channel: TissueChannel,
    },
    /// A fixed threshold on `channel`.
    Fixed {
        /// What is thresholded.
        channel: TissueChannel,
        /// Tissue is above it: saturation 0–1, or optical density.
        threshold: f64,
    },
    /// A picture per slide, `<dir>/<slide stem>.png` or `.tif`, scaled to the slide; tissue where it is not 0.
    MaskDir(PathBuf),
    /// GeoJSON per slide, `<dir>/<slide stem>.geojson`, polygons in level-0 px.
    GeojsonDir(PathBuf),
    /// Everything is tissue.
    Everything,
}

/// What the tissue threshold looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TissueChannel {
    /// HSV saturation.
    Saturation,
    /// Mean optical density of red, green, blue.
    OpticalDensity,
}

/// How slides are cut into tiles. `None` is the model's own value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tiling {
    /// Resolution of the pixels the model sees.
    pub input_mpp: Option<Mpp>,
    /// Side of a tile.
    pub tile_px: Option<u32>,
    /// Step between tiles; default `tile_px − 2·margin_px`.
    pub stride_px: Option<u32>,
    /// Ring of a tile whose prediction is dropped.
    pub margin_px: Option<u32>,
    /// A cell of `cell_px` is computed when at least this share of it is tissue (and more than none).
    pub min_tissue: f64,
}

/// What happens to pixels before the model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pixels {
    /// How pixels are brought to `input_mpp`.
    pub resample: Resample,
    /// Stain normalisation.
    pub stain: Stain,
}

/// How pixels are brought to another resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resample {
    /// Mean over the area of each target px.
    Area,
    /// Bilinear with support widened to the scale (anti-aliased).
    Bilinear,
    /// Lanczos-3 with support widened to the scale.
    Lanczos,
}

/// Stain normalisation, fitted once per slide.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stain {
    /// Pixels as they are.
    None,
    /// Macenko 2009.
    Macenko(StainReference),
    /// Reinhard 2001.
    Reinhard(StainReference),
    /// Vahadane 2016.
    Vahadane(StainReference),
    /// The fixed vectors of Ruifrok and Johnston 2001, concentrations scaled to the reference's.
    Ruifrok(StainReference),
}

/// The look that slides are brought to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StainReference {
    /// The published reference (Macenko's H&E vectors and maximum concentrations), built in.
    Standard,
    /// Fitted on a picture of the user's.
    Image(PathBuf),
}

/// How tiles are gathered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Batch {
    /// Tiles per batch; `None`: 1 for models that run a tile on one core, 16 for the others.
    pub size: Option<u32>,
}

/// Which model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelChoice {
    /// Nucleus probability from colour deconvolution; needs no weights.
    Hematoxylin(Hematoxylin),
    /// One rule: optical density of a stain above a value is the class; needs no weights.
    StainThreshold(StainThreshold),
    /// A network with weights.
    Network(Network),
}

/// A network, its weights, and how it is asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Network {
    /// Network the weights must be for; `None` takes any.
    pub name: Option<String>,
    /// Its weights.
    pub weights: NetworkWeights,
    /// Numbers it computes with.
    pub precision: Precision,
    /// What computes.
    pub device: Device,
    /// What the slides show, for a network that is told the organ.
    pub organ: Option<String>,
    /// Views of each tile whose answers are averaged.
    pub views: Views,
}

/// Where a network's weights come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkWeights {
    /// Those of nuclei in H&E that the program has in itself.
    Nuclei,
    /// A file made by `wsi-run convert`.
    File(PathBuf),
    /// What the network starts training with: for trying out speed and memory, its results mean nothing.
    Random,
}

/// Numbers a network computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// `f32` on the processor, `f16` on a GPU.
    Usual,
    /// What is fastest: on the processor `bf16` where it multiplies it faster, else `f32`; on a GPU `f16`.
    Auto,
    /// 32-bit floats; only on the processor.
    F32,
    /// Products of 16-bit floats, summed in 32 bits; only on a GPU.
    F16,
    /// Products of 16-bit brain floats, summed in 32 bits.
    Bf16,
}

/// What computes a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// All GPUs there are, else the processor.
    Auto,
    /// The processor.
    Cpu,
    /// These GPUs, by their numbers.
    Cuda(Vec<u32>),
    /// What was written instead, which is none of these.
    Unknown(String),
}

impl Device {
    /// `auto`, `cpu`, `cuda`, or `cuda:` and the GPUs' numbers.
    pub fn from_name(name: &str) -> Self {
        let unknown = || Self::Unknown(name.to_owned());
        match name {
            "auto" => Self::Auto,
            "cpu" => Self::Cpu,
            "cuda" => Self::Cuda(vec![]),
            _ => {
                let Some(list) = name.strip_prefix("cuda:") else { return unknown() };
                let numbers: Result<Vec<u32>, _> = list.split(',').map(|n| n.trim().parse()).collect();
                let Ok(numbers) = numbers else { return unknown() };
                let is_repeated = |(i, n): (usize, &u32)| numbers[..i].contains(n);
                if numbers.iter().enumerate().any(is_repeated) { unknown() } else { Self::Cuda(numbers) }
            }
        }
    }
}

/// Views of a tile whose answers are averaged (test-time augmentation).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Views {
    /// The tile as it is.
    One,
    /// And its three mirror images.
    Flips,
    /// All eight turns and mirror images.
    All,
}

/// Settings of the `hematoxylin` model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hematoxylin {
    /// Gaussian smoothing of the hematoxylin density before thresholding.
    pub smooth_sigma_um: f64,
    /// Radius of the neighbourhood the local threshold is taken from.
    pub local_radius_um: f64,
    /// How far above its neighbourhood's mean a nucleus' hematoxylin density lies at probability 0.5.
    pub offset_od: f64,
    /// Hematoxylin density below which nothing is a nucleus.
    pub min_od: f64,
}

/// Settings of the `stain-threshold` model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StainThreshold {
    /// Which stain's density is compared.
    pub stain: StainChannel,
    /// The class is where the density is above it.
    pub threshold_od: f64,
    /// Name of the class.
    pub class: String,
    /// Colour of the class.
    pub color: [u8; 3],
}

/// A stain of Ruifrok and Johnston's, or all light absorbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StainChannel {
    /// Hematoxylin of the H&E pair.
    Hematoxylin,
    /// Eosin of the H&E pair.
    Eosin,
    /// DAB of the H-DAB pair.
    Dab,
    /// Mean optical density of red, green and blue.
    Total,
}

/// How tile predictions are put together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stitch {
    /// The weights.
    pub window: Window,
    /// Side of a canvas block.
    pub block_px: u32,
}

/// Weights of overlapping predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// Each pixel from the one tile whose stride cell holds it.
    Crop,
    /// All tiles that cover a pixel, weighted by a Hann window.
    Hann,
}

/// How objects are found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Instances {
    /// Nuclei from a probability map: threshold, distance transform, watershed.
    pub watershed: Watershed,
    /// Nuclei from nuclear pixels and distances to their centres: HoVer-Net's post-processing.
    pub np_hv: NpHv,
    /// Nuclei from star-convex predictions: non-maximum suppression.
    pub star: Star,
    /// Lesions from a semantic map: connected components.
    pub lesions: Lesions,
    /// Side of the region extracted at once.
    pub region_px: u32,
}

/// Settings of the watershed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Watershed {
    /// A pixel is foreground at or above it.
    pub threshold: f64,
    /// Smaller nuclei are dropped.
    pub min_area_um2: f64,
    /// Larger nuclei are dropped.
    pub max_area_um2: f64,
    /// Two peaks of the distance transform nearer than this are one nucleus.
    pub min_distance_um: f64,
    /// Smaller holes in nuclei are filled.
    pub max_hole_um2: f64,
}

/// Settings of HoVer-Net's post-processing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NpHv {
    /// A pixel is in a nucleus at or above this probability.
    pub np_threshold: f64,
    /// A pixel divides nuclei when the energy of its distance maps is at or above it.
    pub overall_threshold: f64,
    /// Smaller connected areas, and smaller nuclei, are dropped.
    pub min_area_um2: f64,
    /// Larger nuclei are dropped.
    pub max_area_um2: f64,
    /// Nuclei of a smaller middle are dropped.
    pub min_marker_um2: f64,
    /// Smaller holes in the middle of a nucleus are filled.
    pub max_hole_um2: f64,
}

/// Settings of star-convex nuclei.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Star {
    /// A pixel proposes a nucleus above it; `None`: what the weights say, or [`Star::USUAL_THRESHOLD`].
    pub prob_threshold: Option<f64>,
    /// Of two proposals that share more than this part of the smaller one's area, the less probable goes.
    pub nms_overlap: f64,
    /// Smaller nuclei are dropped.
    pub min_area_um2: f64,
    /// Larger nuclei are dropped.
    pub max_area_um2: f64,
    /// Distances from a nucleus' centre are cut here.
    pub max_radius_um: f64,
}

impl Star {
    /// Threshold of `stardist`'s network for H&E.
    pub const USUAL_THRESHOLD: f64 = 0.69;

    /// The threshold.
    pub fn threshold(&self) -> f64 {
        self.prob_threshold.unwrap_or(Self::USUAL_THRESHOLD)
    }
}

/// Settings of lesions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lesions {
    /// Smaller lesions are left out of the table (they stay in the mask).
    pub min_area_um2: f64,
}

/// What is written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Output {
    /// Directory of the run.
    pub dir: PathBuf,
    /// Masks.
    pub ome_zarr: Option<OmeZarr>,
    /// Tables of instances.
    pub parquet: Option<Parquet>,
    /// QuPath export.
    pub geojson: Option<Geojson>,
    /// Overview picture.
    pub overview: Option<Overview>,
    /// The batch on one page.
    pub report: bool,
}

/// Settings of the masks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OmeZarr {
    /// Side of a chunk.
    pub chunk_px: u32,
    /// OME-Zarr version.
    pub version: OmeZarrVersion,
    /// zstd level.
    pub zstd_level: i32,
    /// Also write the probabilities, as uint8.
    pub prob: bool,
}

/// OME-Zarr versions we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OmeZarrVersion {
    /// 0.4, on Zarr v2, unsharded.
    #[serde(rename = "0.4")]
    V04,
    /// 0.5, on Zarr v3, sharded.
    #[serde(rename = "0.5")]
    V05,
}

/// Settings of the tables.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parquet {
    /// Rows per row group.
    pub row_group_rows: u32,
    /// zstd level.
    pub zstd_level: i32,
}

/// Settings of the QuPath export.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Geojson {
    /// Where (0, 0) is.
    pub origin: Origin,
}

/// Where (0, 0) of an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The corner of the whole slide, padding included.
    Full,
    /// The corner of the scanned bounds (what QuPath shows of some MRXS slides).
    Bounds,
}

/// Settings of the overview picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overview {
    /// Longest side of the slide's picture.
    pub max_px: u32,
}

/// Limits of the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Compute threads; default: the CPUs this process may use (affinity, cgroup, Slurm).
    pub threads: u32,
    /// Slides worked on at the same time.
    pub slides_in_flight: u32,
    /// Most memory a slide's plan may ask for.
    pub memory_bytes: Option<u64>,
    /// What an unreadable tile does to its slide.
    pub on_tile_error: OnTileError,
    /// Time after which the run ends, whatever is left.
    pub time_limit_secs: Option<u64>,
    /// Failed slides after which the run ends.
    pub max_failures: Option<u32>,
    /// A slide that changed less than this long ago may still be being written.
    pub settle_secs: u32,
    /// Silence after which another process takes a slide over.
    pub lease_secs: u32,
}

/// What an unreadable tile does to its slide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTileError {
    /// The slide fails.
    FailSlide,
    /// The tile's pixels are marked not computed, and counted.
    LeaveUncomputed,
}
