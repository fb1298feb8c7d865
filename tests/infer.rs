//! Compiled inference: every network gives what candle gives, whatever the instructions, the threads and the batch.
use crate::every_network::{every_network, graph};
use candle_core::{DType, Device, Tensor};
use std::{process::Command, sync::Mutex};
use wsi_run::{
    infer::{Compiled, HeadRows, Isa, Options, Precision},
    model::{
        autograd::{Mode, Network},
        graph::Graph,
        weights::{Normalisation, Weights},
        zoo::zoo,
    },
};

/// Byte `i` of image `n`.
fn image(n: usize, px: usize) -> Vec<u8> {
    let byte = |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(97 * n as u32) >> 13) as u8;
    (0..px * px * 3).map(byte).collect()
}

/// `[h, w, c]` of each head of each image.
type Heads = Vec<Vec<Vec<f32>>>;

fn run(compiled: &Compiled, images: &[Vec<u8>], kind: usize, px: usize, threads: usize) -> Heads {
    let plan = compiled.plan(px, px).unwrap();
    let empty: Vec<Vec<f32>> = plan
        .heads
        .iter()
        .map(|head| {
            let l = head.slot.layout;
            vec![f32::NAN; l.h * l.w * l.c]
        })
        .collect();
    let all = Mutex::new(vec![empty; images.len()]);
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let sink = |r: HeadRows<'_>| {
        let to = &mut all.lock().unwrap()[r.image][r.head][r.first_row * r.w * r.c..][..r.values.len()];
        assert!(to.iter().all(|v| v.is_nan()), "rows are given once");
        to.copy_from_slice(r.values);
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let kinds = vec![kind; images.len()];
        compiled.run_of_kinds(&images, &kinds, (px, px), &Normalisation::IMAGENET, &sink).unwrap();
    });
    all.into_inner().unwrap()
}

/// `[h, w, c]` of each head.
fn candle(graph: &Graph, weights: &Weights, image: &[u8], kind: usize, px: usize) -> Vec<Vec<f32>> {
    let n = Normalisation::IMAGENET;
    let mut planes = vec![0.0; image.len()];
    for (i, value) in image.iter().enumerate() {
        let (pixel, c) = (i / 3, i % 3);
        planes[c * px * px + pixel] = (f32::from(*value) / 255.0 - n.mean[c]) / n.std[c];
    }
    let x = Tensor::from_vec(planes, (1, 3, px, px), &Device::Cpu).unwrap();
    let network = Network::new(graph.clone(), weights, DType::F32, &Device::Cpu).unwrap();
    let heads = network.forward_of_kinds(&x, &[kind], Mode::INFER).unwrap();
    heads.iter().map(|y| y.permute((0, 2, 3, 1)).unwrap().flatten_all().unwrap().to_vec1().unwrap()).collect()
}

/// Largest difference over largest value.
fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |m: f32, d| if d.is_nan() { f32::INFINITY } else { m.max(d) }) / largest
}

fn compiled(graph: &Graph, weights: &Weights, precision: Precision, isa: Isa, px: usize) -> Compiled {
    Compiled::new(graph, weights, Options { precision, isa, size: Some((px, px)) }).unwrap()
}

/// Side of the image that a network is made for.
fn input_px(name: &str) -> usize {
    zoo().into_iter().find(|entry| entry.name == name).unwrap().input_px
}

fn buffers_are_apart_while_they_live(compiled: &Compiled, px: usize) {
    let plan = compiled.plan(px, px).unwrap();
    let used: Vec<_> = plan.buffers.iter().enumerate().filter(|(_, b)| b.floats > 0).collect();
    for (i, (at, a)) in used.iter().enumerate() {
        assert!(a.offset + a.floats <= plan.arena_floats);
        for (_, b) in &used[i + 1..] {
            if b.within == Some(*at) {
                // What is left of the first moves to its beginning when all of it is used for the last time.
                assert!(b.offset == a.offset && b.floats < a.floats && b.first_step == a.last_step, "{a:?} and {b:?}");
                continue;
            }
            let apart = a.offset + a.floats <= b.offset || b.offset + b.floats <= a.offset;
            assert!(apart || !a.lives_with(b), "{}: {a:?} and {b:?}", plan.network);
        }
    }
}

fn check(name: &str, px: usize) {
    let graph = graph(name);
    let weights = Weights::from_names(&graph);
    let kind = if name == "clin_seg_net" { 7 } else { 0 };
    let images = [image(0, px), image(1, px), image(0, px)];
    let expected = candle(&graph, &weights, &images[0], kind, px);
    // Where bfloat16 is slower than single precision it is not chosen, but it must be right.
    for (precision, isa, tolerance) in [(Precision::F32, Isa::detect(), 1e-4), (Precision::Bf16, Isa::best(), 1e-2)] {
        let compiled = compiled(&graph, &weights, precision, isa, px);
        let found = if precision == Precision::F32 {
            // Two of three images alone on a thread; the third, the first once more, shared out.
            let mut three = run(&compiled, &images, kind, px, 2);
            assert!(three[0] == three[2] && three[0] != three[1], "{name}: two threads, three images");
            assert!(run(&compiled, &images[..1], kind, px, 5)[0] == three[0], "{name}: five threads, one image");
            buffers_are_apart_while_they_live(&compiled, input_px(name));
            three.swap_remove(0)
        } else {
            run(&compiled, &images[..1], kind, px, 1).swap_remove(0)
        };
        for (head, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let off = distance(found, expected);
            assert!(off < tolerance, "{name}, head {head}, {precision:?}: {off}");
        }
    }
    // The instructions of other processors, as far as this one has them; the most able ones are done. Plain Rust takes
    // minutes for the two that compute most when the compiler was not asked to optimise.
    let is_slow = cfg!(debug_assertions) && ["histonext_tiny", "hover_net"].contains(&name);
    for isa in Isa::ALL.into_iter().filter(|isa| *isa < Isa::detect() && !(is_slow && *isa == Isa::Portable)) {
        let found = run(&compiled(&graph, &weights, Precision::F32, isa, px), &images[..1], kind, px, 2);
        for (head, (found, expected)) in found[0].iter().zip(&expected).enumerate() {
            let off = distance(found, expected);
            assert!(off < 1e-4, "{name}, head {head}, {isa:?}: {off}");
        }
    }
}

every_network! {
    /// Every network is as candle runs it, in f32 and bf16, for 1, 2 and 5 threads, alone and in a batch; its
    /// buffers do not meet.
    mod is_as_candle_runs_it
}

#[test]
fn steps_whose_rows_go_through_together_give_the_same() {
    let px = 192;
    for (name, fused) in [
        ("light_mu_seg", "conv + batch_norm + relu6 + conv + batch_norm + relu6 + conv + batch_norm + add"),
        ("u_net_efficientnet_b5", "conv + batch_norm + silu + conv + batch_norm + silu\n"),
        ("light_mu_seg", "conv + concat + conv\n"),
    ] {
        let graph = graph(name);
        let plan = compiled(&graph, &Weights::from_names(&graph), Precision::F32, Isa::detect(), px).plan(px, px);
        assert!(plan.unwrap().to_string().contains(fused), "{name}: {fused}");
    }
    check("light_mu_seg", px);
    check("u_net_efficientnet_b5", px);
    check("stardist_unet", px);
}

#[test]
fn the_environment_forces_lesser_instructions() {
    let bench = |isa: &str| {
        let arguments = ["bench", "stardist_unet", "--size", "32", "--threads", "2", "--secs", "0", "--json"];
        let told =
            Command::new(env!("CARGO_BIN_EXE_wsi-run")).args(arguments).env("WSI_RUN_ISA", isa).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&told.stdout).unwrap()
    };
    let values = |told: &serde_json::Value| -> Vec<f32> {
        let heads = told["heads"].as_array().unwrap().iter();
        heads.flat_map(|head| head["values"].as_array().unwrap()).map(|v| v.as_f64().unwrap() as f32).collect()
    };
    let portable = bench("portable");
    assert_eq!(portable["isa"], "portable");
    for isa in Isa::ALL {
        let told = bench(isa.name());
        assert_eq!(told["isa"], isa.available().name());
        assert!(distance(&values(&told), &values(&portable)) < 1e-4, "{isa:?}");
    }
}

#[test]
fn an_image_of_another_size_and_an_unknown_kind_are_errors() {
    let graph = graph("stardist_unet");
    let compiled = Compiled::new(&graph, &Weights::from_names(&graph), Options::default()).unwrap();
    let image = image(0, 32);
    let run = |kinds: &[usize], px: usize| {
        compiled.run_of_kinds(&[&image], kinds, (px, px), &Normalisation::UNIT, &|_| {}).unwrap_err().to_string()
    };
    assert_eq!(run(&[0], 16), "image `0` has the wrong size: `3072` bytes, expected `768`");
    assert_eq!(run(&[1], 32), "kinds `[1]` of `1` images, expected one each, below `1`");
}

#[test]
fn a_plan_prints_its_steps_buffers_and_memory() {
    let graph = graph("stardist_unet");
    let options = Options { isa: Isa::Portable, ..Options::default() };
    let plan = Compiled::new(&graph, &Weights::from_names(&graph), options).unwrap().plan(32, 32).unwrap();
    let text = plan.to_string();
    // How weights are packed and what a kernel needs besides is the kernels' affair.
    let text: Vec<&str> = text.lines().filter(|line| !line.contains("weights ")).collect();
    insta::assert_snapshot!(text.join("\n"));
}
