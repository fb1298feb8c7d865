//! What looks at the tiles.
//!
//! Owns: [`ModelChoice`] and its parts. Must not know: how it was written (YAML, `--set`, environment).

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

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
    /// Products of 16-bit brain floats, summed in 32 bits; on the processor of whole numbers where those are closer.
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
