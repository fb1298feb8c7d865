//! A network that is told the organ, told that of each image.
//!
//! Owns: [`OrganPredictor`]. Must not know: what is true of images.

use super::{EvaluateError, Predictor};
use crate::{
    config::settings::{ModelChoice, Settings},
    model::CLIN_SEG_NET_ORGANS,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// A model, and the same model told each organ that was asked for.
pub struct OrganPredictor {
    settings: Settings,
    plain: Arc<Predictor>,
    told: Mutex<BTreeMap<String, Arc<Predictor>>>,
}

impl OrganPredictor {
    /// Loads the model of `settings`.
    ///
    /// # Errors
    /// As [`Predictor::new`].
    pub fn new(settings: &Settings) -> Result<Self, EvaluateError> {
        let plain = Arc::new(Predictor::new(settings)?);
        Ok(Self { settings: settings.clone(), plain, told: Mutex::default() })
    }

    /// The model, told what the settings say.
    pub fn plain(&self) -> &Predictor {
        &self.plain
    }

    /// The model told this organ: the plain one where it is told none, knows no such organ, or the settings name one.
    ///
    /// # Errors
    /// As [`Predictor::new`].
    pub fn told(&self, organ: Option<&str>) -> Result<Arc<Predictor>, EvaluateError> {
        let is_told = self.plain.spec().name == "clin_seg_net";
        let (Some(organ), true, ModelChoice::Network(network)) = (organ, is_told, &self.settings.model) else {
            return Ok(self.plain.clone());
        };
        if network.organ.is_some() || !CLIN_SEG_NET_ORGANS.contains(&organ) {
            return Ok(self.plain.clone());
        }
        // A panic elsewhere leaves a map that is still right.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = told.get(organ) {
            return Ok(found.clone());
        }
        let mut network = network.clone();
        network.organ = Some(organ.to_owned());
        let settings = Settings { model: ModelChoice::Network(network), ..self.settings.clone() };
        let made = Arc::new(Predictor::new(&settings)?);
        told.insert(organ.to_owned(), made.clone());
        Ok(made)
    }
}
