//! Where a training stands, but for its numbers.
//!
//! Owns: [`State`], [`Best`]. Must not know: tensors, files' formats.

use crate::train::{TrainError, schedule::Plateau};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// Where a training stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// The epoch it is in, from 0.
    pub epoch: u32,
    /// Steps done of it.
    pub step_of_epoch: u64,
    /// Steps done of all.
    pub step: u64,
    /// What the schedule remembers.
    pub plateau: Plateau,
    /// The best validation.
    pub best: Option<Best>,
    /// Validations since.
    pub waited: u32,
    /// Whether nothing is left to do.
    pub is_finished: bool,
    /// Steps that each tensor has made.
    pub tensor_steps: Vec<u64>,
    /// Seconds of all processes so far.
    pub secs: f64,
}

/// The best validation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Best {
    /// What it was judged by, higher is better.
    #[serde(with = "maybe_nan")]
    pub value: f64,
    /// Its epoch, from 0.
    pub epoch: u32,
}

/// JSON has no NaN.
mod maybe_nan {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        // All 64 bits come back.
        value.to_bits().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(f64::from_bits(u64::deserialize(deserializer)?))
    }
}

impl State {
    pub(super) fn to_json(&self, fingerprint: &Value) -> String {
        json!({ "settings": fingerprint, "state": self }).to_string()
    }

    /// # Errors
    /// A state of other settings, naming one that differs.
    pub(super) fn read(text: &str, fingerprint: &Value, path: &Path) -> Result<Self, TrainError> {
        let fail = |message: String, hint: &str| TrainError::new(format!("{message}: {}", path.display())).hint(hint);
        let damaged = |why: &str| fail(format!("checkpoint cannot be read: {why}"), "remove it to begin anew");
        let value: Value = serde_json::from_str(text).map_err(|e| damaged(&e.to_string()))?;
        if let Some(key) = difference(&value["settings"], fingerprint, "") {
            return Err(fail(
                format!("the training there has another `{key}`"),
                "give this one another `output.dir`, or remove that checkpoint to begin anew",
            ));
        }
        serde_json::from_value(value["state"].clone()).map_err(|e| damaged(&e.to_string()))
    }
}

/// Path of the first value that differs.
fn difference(a: &Value, b: &Value, path: &str) -> Option<String> {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let keys = x.keys().chain(y.keys().filter(|key| !x.contains_key(*key)));
            let null = Value::Null;
            let get = |map: &serde_json::Map<String, Value>, key: &str| map.get(key).unwrap_or(&null).clone();
            keys.into_iter().find_map(|key| difference(&get(x, key), &get(y, key), &below(key)))
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            x.iter().zip(y).enumerate().find_map(|(i, (x, y))| difference(x, y, &below(&i.to_string())))
        }
        _ if a == b => None,
        _ => Some(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_bit_by_bit_and_only_to_its_own_settings() {
        let best = Some(Best { value: f64::NAN, epoch: 2 });
        let state = State { best, secs: 0.1 + 0.2, step: 7, tensor_steps: vec![7, 0], ..State::default() };
        let settings = json!({ "train": { "seed": 1, "loss": [["np", 1.0]] } });
        let text = state.to_json(&settings);
        let back = State::read(&text, &settings, Path::new("c")).unwrap();
        assert_eq!(back.best.unwrap().value.to_bits(), f64::NAN.to_bits());
        assert_eq!((back.secs.to_bits(), back.step, back.tensor_steps), (state.secs.to_bits(), 7, vec![7, 0]));
        for (other, key) in [
            (json!({ "train": { "seed": 2, "loss": [["np", 1.0]] } }), "train.seed"),
            (json!({ "train": { "seed": 1, "loss": [["np", 2.0]] } }), "train.loss.0.1"),
            (json!({ "train": { "seed": 1, "loss": [["np", 1.0]], "ema": {} } }), "train.ema"),
        ] {
            let message = State::read(&text, &other, Path::new("c")).unwrap_err().message;
            assert!(message.contains(&format!("`{key}`")), "{message}");
        }
    }
}
