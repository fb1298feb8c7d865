//! Optimisers against PyTorch: the weights of twenty steps.

use std::{collections::BTreeMap, path::PathBuf};
use wsi_run::{
    config::settings::{self, Adam, Sgd},
    train::optimiser::{Moments, Optimiser},
};

fn rule(name: &str) -> settings::Optimiser {
    let sgd = |momentum, nesterov, weight_decay| settings::Optimiser::Sgd(Sgd { momentum, nesterov, weight_decay });
    match name {
        "adam" => settings::Optimiser::Adam(Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.02 }),
        "adamw" => settings::Optimiser::AdamW(Adam { beta1: 0.8, beta2: 0.95, epsilon: 1e-6, weight_decay: 0.1 }),
        "sgd" => sgd(0.0, false, 0.0),
        "momentum" => sgd(0.9, false, 0.01),
        "nesterov" => sgd(0.9, true, 0.0),
        other => panic!("{other}"),
    }
}

#[test]
fn twenty_steps_of_every_optimiser_are_those_of_pytorch() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/optimisers/optimisers.json");
    let cases: BTreeMap<String, Vec<Vec<f32>>> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(cases.len(), 5);
    for (name, rows) in cases {
        let (optimiser, mut moments) = (Optimiser::new(rule(&name)), Moments::default());
        let mut values = [0.5_f32, -1.0, 2.0, 0.0, 1e-3];
        for (t, expected) in rows.iter().enumerate() {
            let gradient: Vec<f32> = (0..values.len())
                .map(|i| (0.5 + 0.25 * i as f32) * values[i] + (0.3 * ((t + i) as f64).sin()) as f32)
                .collect();
            optimiser.step(&mut values, &gradient, &mut moments, 0.05);
            for (found, expected) in values.iter().zip(expected) {
                assert!((found - expected).abs() < 2e-6 * (1.0 + expected.abs()), "{name} {t}: {found} {expected}");
            }
        }
        assert_eq!(moments.steps, 20);
    }
}
