//! Losses against PyTorch: values and gradients on the same arrays.

use candle_core::{Device, Tensor, Var};
use serde::Deserialize;
use std::path::PathBuf;
use wsi_run::{
    config::settings::Term,
    model::Head,
    train::loss::{BatchValues, Losses, TargetBatch, of_term},
};

#[derive(Deserialize)]
struct Case {
    name: String,
    shape: [usize; 4],
    x: Vec<f32>,
    target: Truth,
    weight: Vec<f32>,
    loss: f64,
    gradient: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Truth {
    Numbers(Vec<f32>),
    Masks(Vec<u32>),
}

fn cases() -> Vec<Case> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/losses/losses.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn term(name: &str) -> Term {
    let (alpha, beta, smooth) = (0.3, 0.7, 1.0);
    let weighted =
        |coarse_weight| Term::CrossEntropy { class_weights: Some(vec![0.3, 1.23, 0.74, 1.03]), coarse_weight };
    match name {
        "bce" => Term::Bce,
        "dice" => Term::Dice { smooth },
        "structure" => Term::Structure { window_px: 31, edge_gain: 5.0 },
        "tversky" => Term::Tversky { alpha, beta, smooth },
        "focal_tversky" => Term::FocalTversky { alpha, beta, gamma: 0.75, smooth },
        "histo" => Term::Histo { bce: 0.3, tversky: 0.7, alpha, beta, smooth },
        "asymmetric_focal" => Term::AsymmetricFocal { gamma_positive: 1.0, gamma_negative: 4.0, clip: 0.05 },
        "focal" => Term::Focal { alpha: 0.25, gamma: 2.0 },
        "cross_entropy" => Term::CrossEntropy { class_weights: None, coarse_weight: None },
        "cross_entropy_weighted" => weighted(None),
        "cross_entropy_coarse" => weighted(Some(0.3)),
        "mse" => Term::Mse,
        "msge" => Term::Msge,
        "mae" => Term::Mae { relative_from: None },
        "mae_relative" => Term::Mae { relative_from: Some(0.25) },
        other => panic!("{other}"),
    }
}

fn target(case: &Case) -> TargetBatch {
    let values = match &case.target {
        Truth::Numbers(data) => BatchValues::Numbers(data.clone().into()),
        Truth::Masks(masks) => BatchValues::Channels(masks.clone().into()),
    };
    let weight = case.weight.clone().into();
    TargetBatch { output: case.name.clone(), head: Head::Semantic, shape: case.shape, values, weight }
}

#[test]
fn every_loss_and_its_gradient_is_that_of_pytorch() {
    let cases = cases();
    let mut seen = std::collections::BTreeSet::new();
    for (i, case) in cases.iter().enumerate() {
        let x = Var::from_tensor(&Tensor::from_vec(case.x.clone(), &case.shape, &Device::Cpu).unwrap()).unwrap();
        let target = target(case);
        let mut all = vec![target.clone()];
        if case.name == "msge" {
            // The nuclear px of the case are those whose distances are not both 0.
            assert!(matches!(target.values, BatchValues::Numbers(_)));
            all.push(TargetBatch { output: "tp".into(), ..target.clone() });
        }
        let loss = of_term(&term(&case.name), x.as_tensor(), &target, &all).unwrap();
        assert_eq!(loss.dims(), [0; 0], "{}", case.name);
        let value = f64::from(loss.to_scalar::<f32>().unwrap());
        assert!((value - case.loss).abs() < 2e-6 * (1.0 + case.loss.abs()), "{i} {}: {value} {}", case.name, case.loss);
        let gradient = loss.backward().unwrap().get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let most = case.gradient.iter().fold(0.0_f64, |m, g| m.max(g.abs()));
        for (found, expected) in gradient.iter().zip(&case.gradient) {
            let off = (f64::from(*found) - expected).abs();
            assert!(off < 3e-6 * most + 1e-8, "{i} {}: gradient {found}, expected {expected}", case.name);
        }
        seen.insert(case.name.clone());
    }
    assert_eq!(seen.len(), 15, "{seen:?}");
}

#[test]
fn px_that_are_unknown_have_no_gradient_whatever_the_network_says_there() {
    for case in cases().iter().filter(|c| c.name != "msge") {
        let mut x = case.x.clone();
        let px = case.shape[2] * case.shape[3];
        let is_unknown = |i: usize| case.weight[i / (case.shape[1] * px) * px + i % px] == 0.0;
        for (i, x) in x.iter_mut().enumerate().filter(|(i, _)| is_unknown(*i)) {
            *x = if i % 2 == 0 { 1e4 } else { -1e4 };
        }
        let x = Var::from_tensor(&Tensor::from_vec(x, &case.shape, &Device::Cpu).unwrap()).unwrap();
        let target = target(case);
        let loss = of_term(&term(&case.name), x.as_tensor(), &target, std::slice::from_ref(&target)).unwrap();
        let value = f64::from(loss.to_scalar::<f32>().unwrap());
        assert!((value - case.loss).abs() < 2e-6 * (1.0 + case.loss.abs()), "{}: {value} {}", case.name, case.loss);
        let gradient = loss.backward().unwrap().get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!((0..gradient.len()).all(|i| !is_unknown(i) || gradient[i] == 0.0), "{}", case.name);
    }
}

#[test]
fn extreme_logits_give_finite_losses_and_gradients() {
    for case in cases().iter().filter(|c| !["mse", "mae", "mae_relative", "msge"].contains(&c.name.as_str())) {
        let x: Vec<f32> = case.x.iter().map(|x| x.signum() * 3e4).collect();
        let x = Var::from_tensor(&Tensor::from_vec(x, &case.shape, &Device::Cpu).unwrap()).unwrap();
        let target = target(case);
        let loss = of_term(&term(&case.name), x.as_tensor(), &target, std::slice::from_ref(&target)).unwrap();
        assert!(loss.to_scalar::<f32>().unwrap().is_finite(), "{}", case.name);
        let gradient = loss.backward().unwrap().get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(gradient.iter().all(|g| g.is_finite()), "{}", case.name);
    }
}

#[test]
fn an_output_of_which_nothing_is_known_is_left_out_of_the_sum() {
    let graph = wsi_run::model::stardist_unet(32, Some(3));
    let losses = Losses::new(&graph, &[]).unwrap();
    let of = |head, output: &str, channels: usize, values, weight: f32| TargetBatch {
        output: output.to_owned(),
        head,
        shape: [1, channels, 2, 2],
        values,
        weight: vec![weight; 4].into(),
    };
    let numbers = |n: usize| BatchValues::Numbers(vec![0.5; n].into());
    let targets = [
        of(Head::NuclearPixel, "prob", 1, numbers(4), 1.0),
        of(Head::StarDistance, "dist", 32, numbers(128), 0.0),
        of(Head::TypeProbability, "prob_class", 4, BatchValues::Channels(vec![0b1110, 1, 2, 4].into()), 0.0),
    ];
    let answers: Vec<Tensor> =
        targets.iter().map(|t| Tensor::zeros(&t.shape, candle_core::DType::F32, &Device::Cpu).unwrap()).collect();
    let value = losses.of(&answers, &targets).unwrap();
    assert!((value.parts[0] - 2.0_f64.ln()).abs() < 1e-6 && value.parts[1].is_nan() && value.parts[2].is_nan());
    assert!((f64::from(value.total.unwrap().to_scalar::<f32>().unwrap()) - 2.0_f64.ln()).abs() < 1e-6);
    let unknown: Vec<TargetBatch> =
        targets.iter().map(|t| TargetBatch { weight: vec![0.0; 4].into(), ..t.clone() }).collect();
    assert!(losses.of(&answers, &unknown).unwrap().total.is_none());
}
