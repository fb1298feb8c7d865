//! The list of models, and the one place that makes them.
//!
//! Owns: [`build`], [`catalogue`]. Must not know: the insides of any model.

use super::{
    Augmented, HematoxylinModel, Model, ModelError, StainThresholdModel,
    network::{MakeExecute, NetworkModel},
};
use crate::{
    config::settings::{ModelChoice, Views},
    units::Mpp,
};
use std::sync::Arc;

/// One line of `wsi-run models`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelEntry {
    /// Name as in the YAML file.
    pub name: &'static str,
    /// What it gives: `nuclei` or `semantic`.
    pub task: &'static str,
    /// Resolution and tile it wants.
    pub input: &'static str,
    /// What it is, and whether it needs weights.
    pub summary: &'static str,
}

/// Makes the model of a run.
///
/// # Units
/// `input_mpp`: resolution asked for; `None` is the model's own. `make` says how networks are run.
///
/// # Errors
/// [`ModelError`] when the settings make no sense for the model at that resolution.
pub fn build(
    choice: &ModelChoice,
    input_mpp: Option<Mpp>,
    make: MakeExecute<'_>,
) -> Result<Arc<dyn Model>, ModelError> {
    Ok(match choice {
        ModelChoice::Hematoxylin(settings) => Arc::new(HematoxylinModel::new(settings, input_mpp)?),
        ModelChoice::StainThreshold(settings) => Arc::new(StainThresholdModel::new(settings, input_mpp)),
        ModelChoice::Network(settings) => {
            let network = Arc::new(NetworkModel::new(settings, input_mpp, make)?);
            match settings.views {
                Views::One => network,
                Views::Flips => Arc::new(Augmented::new(network, 4)?),
                Views::All => Arc::new(Augmented::new(network, 8)?),
            }
        }
    })
}

/// Every model there is.
pub fn catalogue() -> Vec<ModelEntry> {
    vec![
        ModelEntry {
            name: "nuclei",
            task: "nuclei",
            input: "0.5 µm/px, 256 px or more",
            summary: "nuclei with classes by a StarDist U-Net; the default, its weights are in the program",
        },
        ModelEntry {
            name: "hematoxylin",
            task: "nuclei",
            input: "0.5 µm/px or any, 512 px or any",
            summary: "nuclei by colour deconvolution and an adaptive local threshold; needs no weights",
        },
        ModelEntry {
            name: "stain_threshold",
            task: "semantic",
            input: "1 µm/px or any, 1024 px or any",
            summary: "one class where the optical density of a stain is above a value; needs no weights",
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::settings::{StainChannel, StainThreshold},
        model::{Execute, ExecuteOptions, HEMATOXYLIN_DEFAULTS, graph::Graph, weights::Weights},
    };

    fn only_models_without_weights(_: &Graph, _: &Weights, _: &ExecuteOptions) -> Result<Box<dyn Execute>, ModelError> {
        Err(ModelError("a network was asked for".into()))
    }

    #[test]
    fn every_model_of_the_catalogue_can_be_made_and_keeps_its_name_and_resolution() {
        let rule = StainThreshold { stain: StainChannel::Dab, threshold_od: 0.2, class: "c".into(), color: [0; 3] };
        let choices = [ModelChoice::Hematoxylin(HEMATOXYLIN_DEFAULTS), ModelChoice::StainThreshold(rule)];
        let mpp = Mpp::new(0.4);
        let made: Vec<_> = choices
            .iter()
            .map(|choice| build(choice, mpp, &only_models_without_weights).unwrap().spec().clone())
            .collect();
        let names: Vec<_> = catalogue().iter().map(|entry| entry.name).collect();
        assert_eq!((names[0], &names[1..]), ("nuclei", &*made.iter().map(|spec| spec.name).collect::<Vec<_>>()));
        assert!(made.iter().all(|spec| Some(spec.input_mpp) == mpp));
    }

    #[test]
    fn lengths_that_do_not_fit_the_resolution_are_an_error_that_names_them() {
        let choice = ModelChoice::Hematoxylin(HEMATOXYLIN_DEFAULTS);
        let error = build(&choice, Mpp::new(0.01), &only_models_without_weights).err().unwrap().to_string();
        assert!(error.contains("`local_radius_um`") && error.contains("`15` µm"), "{error}");
    }
}
