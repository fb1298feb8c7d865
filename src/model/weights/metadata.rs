//! What a weights file says of itself.
//!
//! Owns: [`WeightsMetadata`], [`Normalisation`]. Must not know: tensors.
//!
//! In the file it is safetensors' `__metadata__`, a map of strings: `model`, `classes` (JSON: name and colour),
//! `input_mpp`, `normalisation` (JSON), `licence`, `training_data`, and `sha256`, which `weights.rs` makes and checks; where
//! they are known, `prob_threshold` and `about`.

use crate::{model::spec::ClassInfo, units::Mpp};
use std::collections::HashMap;

/// What is subtracted from and divides an RGB value in 0–1 before the network sees it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// Subtracted, by channel.
    pub mean: [f32; 3],
    /// Divisor, by channel.
    pub std: [f32; 3],
}

impl Normalisation {
    /// ImageNet's mean and standard deviation, as torchvision and timm print them.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    /// Values in 0–1.
    pub const UNIT: Self = Self { mean: [0.0; 3], std: [1.0; 3] };
}

/// What a weights file says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightsMetadata {
    /// Network, as in [`zoo`](crate::model::zoo).
    pub model: String,
    /// Classes the weights were trained for, background left out.
    pub classes: Vec<ClassInfo>,
    /// Resolution of the training images.
    pub input_mpp: Mpp,
    /// How the training images were normalised.
    pub normalisation: Normalisation,
    /// Licence of the weights, as their authors state it.
    pub licence: String,
    /// Data the weights were trained on.
    pub training_data: String,
    /// For star-convex nuclei: the probability above which a pixel best proposes one.
    pub prob_threshold: Option<f64>,
    /// How they were trained and how good they are.
    pub about: Option<String>,
}

impl WeightsMetadata {
    pub(super) fn to_map(&self) -> HashMap<String, String> {
        let json = "strings and finite numbers always have a JSON form";
        let maybe = [("prob_threshold", self.prob_threshold.map(|t| t.to_string())), ("about", self.about.clone())];
        let maybe = maybe.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let said = [
            ("model".to_owned(), self.model.clone()),
            ("classes".to_owned(), serde_json::to_string(&self.classes).expect(json)),
            ("input_mpp".to_owned(), self.input_mpp.um_per_px().to_string()),
            ("normalisation".to_owned(), serde_json::to_string(&self.normalisation).expect(json)),
            ("licence".to_owned(), self.licence.clone()),
            ("training_data".to_owned(), self.training_data.clone()),
        ];
        said.into_iter().chain(maybe).collect()
    }

    /// # Errors
    /// What is missing or cannot be read.
    pub(super) fn from_map(map: &HashMap<String, String>) -> Result<Self, String> {
        let text = |key: &str| map.get(key).ok_or_else(|| format!("metadata lacks `{key}`"));
        let mpp = text("input_mpp")?;
        let normalisation: Normalisation = serde_json::from_str(text("normalisation")?)
            .map_err(|e| format!("metadata `normalisation` cannot be read: {e}"))?;
        if !normalisation.std.iter().all(|&s| s.is_finite() && s > 0.0)
            || !normalisation.mean.iter().all(|m| m.is_finite())
        {
            return Err(format!("metadata `normalisation` is `{normalisation:?}`, expected finite means, std above 0"));
        }
        let prob_threshold = map.get("prob_threshold").map(|said| {
            let share = said.parse().ok().filter(|t: &f64| (0.0..=1.0).contains(t));
            share.ok_or_else(|| format!("metadata `prob_threshold` is `{said}`, expected a number from 0 to 1"))
        });
        Ok(Self {
            prob_threshold: prob_threshold.transpose()?,
            about: map.get("about").cloned(),
            model: text("model")?.clone(),
            classes: serde_json::from_str(text("classes")?)
                .map_err(|e| format!("metadata `classes` cannot be read: {e}"))?,
            input_mpp: mpp
                .parse()
                .ok()
                .and_then(Mpp::new)
                .ok_or_else(|| format!("metadata `input_mpp` is `{mpp}`, expected a number above 0"))?,
            normalisation,
            licence: text("licence")?.clone(),
            training_data: text("training_data")?.clone(),
        })
    }
}
