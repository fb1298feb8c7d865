//! What the YAML file may say: one serde type per key, one table of all keys.
//!
//! Owns: [`Document`] and its parts, [`keys`], [`PIPELINE`], [`TRAINING`]. Must not know: files, slides, devices.
//!
//! The types are what is left after defaults are filled in, so every field is there but those that may stay unset.
//! Each file holds the rows of its keys beside its types, in the order of the flow; [`keys`] joins them.

mod data;
mod forms;
mod instances;
mod model;
mod output;
mod pixels;
mod run;
mod slides;
mod stitch;
mod table;
mod tiling;
mod tissue;
mod train;
mod training;

pub use data::{Data, DataAugment, DataSet};
pub use instances::{Instances, Lesions, NpHv, Star, Watershed};
pub use model::{Batch, Hematoxylin, Model, Network, StainThreshold};
pub use output::{Geojson, OmeZarr, Output, Overview, Parquet};
pub use pixels::{Pixels, Reference, Stain};
pub use run::Run;
pub use slides::{Slides, Synthetic};
pub use stitch::{Blend, Stitch};
pub use table::Table;
pub use tiling::Tiling;
pub use tissue::{Fixed, Otsu, Tissue};
pub use train::{LossOfOutput, Train};
pub use training::{TrainModel, TrainOutput, TrainRun, TrainingDocument};

use super::key::Key;
use super::settings;
use serde::Deserialize;

/// The whole file, defaults filled in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    slides: Slides,
    tissue: Tissue,
    tiling: Tiling,
    pixels: Pixels,
    batch: Batch,
    model: Model,
    stitch: Stitch,
    instances: Instances,
    output: Output,
    run: Run,
}

/// The keys of a pipeline.
pub static PIPELINE: Table = Table {
    parts: &[
        slides::KEYS,
        tissue::KEYS,
        tiling::KEYS,
        pixels::KEYS,
        model::BATCH_KEYS,
        model::KEYS,
        stitch::KEYS,
        instances::KEYS,
        output::KEYS,
        run::KEYS,
    ],
    source: Some(("slides", "slides: { glob: \"data/**/*.svs\" }")),
};

/// The keys of a training file.
pub static TRAINING: Table = Table {
    parts: &[
        data::KEYS,
        data::SET_KEYS,
        data::AUGMENT_KEYS,
        training::MODEL_KEYS,
        train::KEYS,
        train::LOSS_KEYS,
        training::KEYS,
    ],
    source: None,
};

/// Every key of a pipeline, sections before what is in them, in the order of the flow.
pub fn keys() -> impl Iterator<Item = &'static Key> + Clone {
    PIPELINE.keys()
}

impl Document {
    /// The run it describes, with `threads` where the file leaves that open.
    pub fn into_settings(self, threads: u32) -> settings::Settings {
        settings::Settings {
            slides: self.slides.into_settings(),
            tissue: self.tissue.into_settings(),
            tiling: self.tiling.into_settings(),
            pixels: self.pixels.into_settings(),
            batch: self.batch.into_settings(),
            model: self.model.into_settings(),
            stitch: self.stitch.into_settings(),
            instances: self.instances.into_settings(),
            output: self.output.into_settings(),
            run: self.run.into_settings(threads),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_path_is_unique_and_its_section_comes_first() {
        for table in [&PIPELINE, &TRAINING] {
            let mut seen = BTreeSet::from([""]);
            for key in table.keys() {
                assert!(seen.contains(key.parent()), "{} comes before its section", key.path);
                assert!(seen.insert(key.path), "{} twice", key.path);
                assert!(!key.meaning.is_empty() && !key.meaning.ends_with('.'), "{}", key.path);
            }
        }
    }

    #[test]
    fn a_name_that_ends_in_a_unit_says_so_in_the_table() {
        for key in PIPELINE.keys().chain(TRAINING.keys()) {
            for (suffix, unit) in
                [("_px", "px"), ("_um", "µm"), ("_um2", "µm²"), ("mpp", "µm/px"), ("_od", "optical density")]
            {
                if key.name().ends_with(suffix) {
                    assert_eq!(key.unit, unit, "{}", key.path);
                }
            }
        }
    }
}
