use super::*;
use crate::model::{
    Head,
    graph::{Activation, Conv, NodeId, Pool, ResizeMode, TransposedConv},
    weights::{Normalisation, WeightsMetadata},
};
use crate::units::Mpp;

fn metadata(graph: &Graph) -> WeightsMetadata {
    WeightsMetadata {
        model: graph.name().to_owned(),
        classes: vec![],
        input_mpp: Mpp::new(0.5).unwrap(),
        normalisation: Normalisation::UNIT,
        licence: "CC0-1.0".to_owned(),
        training_data: "none".to_owned(),
        prob_threshold: None,
        about: None,
    }
}

/// Values without symmetry: a norm's weight of 1 or a bias of 0 would hide mistakes.
fn uneven(graph: &Graph) -> Weights {
    Weights::from_fn(graph, metadata(graph), |p| {
        (0..p.len()).map(|i| 0.2 + ((i * 37 + p.name.len() * 11) % 97) as f32 / 120.0).collect()
    })
}

fn image(n: usize, c: usize, h: usize, w: usize) -> Tensor {
    let values: Vec<f64> = (0..n * c * h * w).map(|j| ((j * 7919 + 13) % 1009) as f64 / 504.5 - 1.0).collect();
    Tensor::from_vec(values, (n, c, h, w), &Device::Cpu).unwrap()
}

/// The gradient of every weight against central finite differences, in f64.
fn check_gradients(graph: Graph, x: &Tensor, mode: Mode) {
    check_gradients_of(graph, x, &vec![0; x.dim(0).unwrap()], mode);
}

fn check_gradients_of(graph: Graph, x: &Tensor, kinds: &[usize], mode: Mode) {
    let network = Network::new(graph.clone(), &uneven(&graph), DType::F64, &Device::Cpu).unwrap();
    let loss = || {
        let y = network.forward_of_kinds(x, kinds, mode).unwrap().remove(0);
        let count = y.elem_count();
        let weights: Vec<f64> = (0..count).map(|j| ((j * 31 + 7) % 101) as f64 / 50.0 - 1.0).collect();
        (&y * Tensor::from_vec(weights, y.shape(), &Device::Cpu).unwrap()).unwrap().sum_all().unwrap()
    };
    let grads = loss().backward().unwrap();
    for (name, var) in network.weights() {
        let grad = grads.get(&var).unwrap_or_else(|| panic!("`{name}` has no gradient"));
        let grad = grad.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let (base, shape) = (var.flatten_all().unwrap().to_vec1::<f64>().unwrap(), var.shape().clone());
        for j in (0..base.len()).step_by(base.len().div_ceil(12)) {
            let at = |e: f64| {
                let mut moved = base.clone();
                moved[j] += e;
                var.set(&Tensor::from_vec(moved, &shape, &Device::Cpu).unwrap()).unwrap();
                loss().to_scalar::<f64>().unwrap()
            };
            let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
            at(0.0);
            let error = (grad[j] - expected).abs() / (1.0 + expected.abs());
            assert!(error < 1e-5, "`{name}` {j}: gradient {}, expected {expected}", grad[j]);
        }
    }
}

/// One of everything, each before a convolution that needs its gradient.
fn one_of_everything() -> Graph {
    let mut g = Graph::new("toy", 3);
    let stem = g.conv("stem", g.input(), Conv::new(8, 3).stride(2).tf_same().no_bias());
    let x = g.batch_norm("bn", stem);
    let x = g.relu(x);
    let pooled = g.max_pool(x, Pool { kernel: 3, stride: 2, pad: 1 });
    let x = g.conv("grouped", pooled, Conv::new(8, 3).pad(1).groups(4));
    let x = g.layer_norm("ln", x, 1e-6);
    let x = g.linear("fc1", x, 12);
    let x = g.activation(x, Activation::Gelu);
    let x = g.global_response_norm("grn", x);
    let keys_values = g.conv("kv", x, Conv::new(24, 2).stride(2));
    let seen = g.attention(x, keys_values, 3);
    let x = g.add(&[x, seen]);
    let x = g.linear_no_bias("fc2", x, 8);
    let x = g.layer_scale("gamma", x, 1e-6);
    let x = g.add(&[x, pooled]);
    let up = |g: &mut Graph, x: NodeId, mode| g.resize(x, 2, mode);
    let whole = g.global_avg_pool(x);
    let whole = g.spread_like(whole, x);
    let x = g.add(&[x, whole]);
    let (mean, maximum) = (g.channel_mean(x), g.channel_max(x));
    let pixels = g.concat(&[mean, maximum]);
    let pixels = g.conv("pixels", pixels, Conv::new(1, 3).pad(2).dilation(2));
    let x = g.multiply(x, pixels);
    let near = up(&mut g, x, ResizeMode::Nearest);
    let smooth = up(&mut g, x, ResizeMode::BilinearCorners);
    let edges = up(&mut g, x, ResizeMode::Bilinear);
    let deep = g.transposed_conv("up", x, TransposedConv { out: 8, kernel: 3, stride: 2 });
    let deep = g.crop_like(deep, near);
    let x = g.concat(&[near, smooth, edges, deep]);
    let x = g.group_norm("gn", x, 4);
    let (mean, maximum) = (g.global_avg_pool(x), g.global_max_pool(x));
    let gate = g.add(&[mean, maximum]);
    let gate = g.conv("squeeze", gate, Conv::new(32, 1));
    let gate = g.activation(gate, Activation::Relu6);
    let gate = g.activation(gate, Activation::Silu);
    let gate = g.sigmoid(gate);
    let x = g.multiply(x, gate);
    let x = g.avg_pool(x, Pool { kernel: 2, stride: 2, pad: 0 });
    let x = g.dropout(x, 0.3);
    let x = g.dropout_channels(x, 0.3);
    let x = g.conv("head", x, Conv::new(3, 1));
    let x = g.activation(x, Activation::Softmax);
    g.output("mask", Head::Semantic, x);
    g
}

#[test]
fn every_weight_has_the_gradient_of_finite_differences() {
    let frozen_statistics = Mode { gradients: true, ..Mode::INFER };
    for (mode, batch) in [(frozen_statistics, 1), (Mode::train(5), 2)] {
        check_gradients(one_of_everything(), &image(batch, 3, 13, 15), mode);
    }
}

/// Windows with and without shift, and a condition that scales and moves channels.
fn windows_and_conditions() -> Graph {
    let mut g = Graph::new("toy", 3);
    let organ = g.embedding("organ", 4, 5);
    let x = g.conv("stem", g.input(), Conv::new(6, 3).pad(1));
    let mut y = x;
    for shift in [0, 1] {
        let qkv = g.linear(&format!("qkv{shift}"), y, 18);
        y = g.window_attention(&format!("attn{shift}"), qkv, 2, 2, shift);
    }
    let x = g.add(&[x, y]);
    let scale = g.linear_no_bias("scale", organ, 6);
    let scale = g.sigmoid(scale);
    let x = g.multiply(x, scale);
    let bias = g.linear("bias", organ, 6);
    let bias = g.spread_like(bias, x);
    let x = g.add(&[x, bias]);
    let x = g.space_to_depth(x);
    let x = g.conv("head", x, Conv::new(3, 1));
    let x = g.activation(x, Activation::Softmax);
    g.output("mask", Head::Semantic, x);
    g
}

#[test]
fn windows_and_conditions_have_the_gradients_of_finite_differences() {
    // Several windows each way; one window high, where only the width is shifted.
    for (h, w) in [(4, 6), (2, 6)] {
        let frozen_statistics = Mode { gradients: true, ..Mode::INFER };
        check_gradients_of(windows_and_conditions(), &image(2, 3, h, w), &[3, 1], frozen_statistics);
    }
}

#[test]
fn a_kind_changes_only_its_own_image() {
    let graph = windows_and_conditions();
    let network = Network::new(graph.clone(), &uneven(&graph), DType::F64, &Device::Cpu).unwrap();
    let x = image(2, 3, 6, 6);
    let run = |kinds: &[usize]| -> Vec<Vec<f64>> {
        let y = network.forward_of_kinds(&x, kinds, Mode::INFER).unwrap().remove(0);
        y.flatten_from(1).unwrap().to_vec2().unwrap()
    };
    let (any, second) = (run(&[0, 0]), run(&[0, 2]));
    assert_eq!(any[0], second[0]);
    assert_ne!(any[1], second[1]);
    let unknown = network.forward(&x, Mode::INFER).unwrap().remove(0);
    assert_eq!(unknown.flatten_from(1).unwrap().to_vec2::<f64>().unwrap(), any);
    let error = |kinds: &[usize]| network.forward_of_kinds(&x, kinds, Mode::INFER).unwrap_err().to_string();
    assert!(error(&[0, 4]).contains("`organ`: kind `4`, expected less than `4`"));
    assert!(error(&[0]).contains("`1` kinds for `2` images"));
}

#[test]
fn shapes_foretell_what_forward_gives() {
    let graph = one_of_everything();
    let network = Network::new(graph.clone(), &uneven(&graph), DType::F64, &Device::Cpu).unwrap();
    for (h, w) in [(13, 15), (16, 32), (27, 10)] {
        let shape = graph.shapes(h, w).unwrap()[graph.outputs()[0].node.index()];
        let y = network.forward(&image(2, 3, h, w), Mode::INFER).unwrap().remove(0);
        assert_eq!(y.dims(), [2, shape.c, shape.h, shape.w]);
    }
}

#[test]
fn inference_does_not_depend_on_the_batch_and_training_does() {
    let graph = one_of_everything();
    let network = Network::new(graph.clone(), &uneven(&graph), DType::F64, &Device::Cpu).unwrap();
    let two = image(2, 3, 16, 16);
    let first = |x: &Tensor, mode| -> Vec<f64> {
        let y = network.forward(x, mode).unwrap().remove(0);
        y.get(0).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    let one = two.narrow(0, 0, 1).unwrap();
    let error = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(error(first(&two, Mode::INFER), first(&one, Mode::INFER)) < 1e-12);
    assert!(error(first(&two, Mode::train(1)), first(&one, Mode::train(1))) > 1e-9);
}

#[test]
fn running_statistics_move_a_tenth_of_the_way_to_the_batch() {
    let mut g = Graph::new("toy", 1);
    let x = g.batch_norm("bn", g.input());
    g.output("y", Head::Semantic, x);
    let weights = Weights::random(&g, metadata(&g), 0);
    let network = Network::new(g, &weights, DType::F64, &Device::Cpu).unwrap();
    let x = Tensor::new(&[[[[1f64, 3.]]], [[[5., 7.]]]], &Device::Cpu).unwrap();
    let y = network.forward(&x, Mode::train(0)).unwrap().remove(0);
    // Mean 4, biased variance 5, unbiased 20/3.
    let y = y.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    assert!((y[0] + 3.0 / (5.0 + 1e-5f64).sqrt()).abs() < 1e-9);
    let running = |name: &str| network.values[name].to_vec1::<f64>().unwrap()[0];
    assert!((running("bn.running_mean") - 0.4).abs() < 1e-7);
    assert!((running("bn.running_var") - (0.9 + 2.0 / 3.0)).abs() < 1e-7);
}

#[test]
fn an_image_that_does_not_fit_names_the_node() {
    let graph = one_of_everything();
    let network = Network::new(graph.clone(), &uneven(&graph), DType::F64, &Device::Cpu).unwrap();
    assert!(network.forward(&image(1, 1, 16, 16), Mode::INFER).is_err());
    let mut g = Graph::new("toy", 3);
    let x = g.conv("stem", g.input(), Conv::new(2, 7));
    g.output("y", Head::Semantic, x);
    let network = Network::new(g.clone(), &uneven(&g), DType::F64, &Device::Cpu).unwrap();
    assert!(network.forward(&image(1, 3, 4, 4), Mode::INFER).unwrap_err().to_string().contains("`stem`"));
}

/// Gradients by name.
type Named = Vec<(String, Vec<f64>)>;

/// Heads and every gradient of a pass, the images' last.
fn gradients_of(graph: &Graph, x: &Tensor, kinds: &[usize], mode: Mode, dtype: DType) -> (Vec<Vec<f64>>, Named) {
    let network = Network::new(graph.clone(), &uneven(graph), dtype, &Device::Cpu).unwrap();
    let x = Var::from_tensor(&x.to_dtype(dtype).unwrap()).unwrap();
    let values = |t: &Tensor| t.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
    let heads = network.forward_of_kinds(&x, kinds, mode).unwrap();
    let mut loss = Tensor::zeros((), dtype, &Device::Cpu).unwrap();
    for y in &heads {
        let weights: Vec<f64> = (0..y.elem_count()).map(|j| ((j * 31 + 7) % 101) as f64 / 50.0 - 1.0).collect();
        let weights = Tensor::from_vec(weights, y.shape(), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        loss = (loss + (y * weights).unwrap().sum_all().unwrap()).unwrap();
    }
    let grads = loss.backward().unwrap();
    let of = |(name, var): (String, Var)| {
        let grad = grads.get(&var).unwrap_or_else(|| panic!("`{name}` has no gradient"));
        assert_eq!(grad.shape(), var.shape());
        let grad = values(grad);
        (name, grad)
    };
    let mut all: Vec<_> = network.weights().into_iter().map(of).collect();
    all.push(("images".to_owned(), values(grads.get(&x).unwrap())));
    (heads.iter().map(&values).collect(), all)
}

/// Our tape in single precision against candle in double.
// Candle asks that a step leaves the same rest on both axes: the sizes below do.
fn check_tape(graph: &Graph, x: &Tensor, kinds: &[usize], mode: Mode) {
    let (heads, grads) = gradients_of(graph, x, kinds, mode, DType::F32);
    let (expected_heads, expected) = gradients_of(graph, x, kinds, mode, DType::F64);
    let error = |a: &[f64], b: &[f64]| {
        let largest = b.iter().map(|b| b.abs()).fold(1e-3, f64::max);
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest
    };
    for (y, expected) in heads.iter().zip(&expected_heads) {
        assert!(error(y, expected) < 1e-4, "heads: {}", error(y, expected));
    }
    for ((name, grad), (_, expected)) in grads.iter().zip(&expected) {
        assert!(error(grad, expected) < 1e-3, "`{name}`: {}", error(grad, expected));
    }
}

#[test]
fn the_tape_has_candles_gradients() {
    let frozen_statistics = Mode { gradients: true, ..Mode::INFER };
    for mode in [frozen_statistics, Mode::train(5)] {
        check_tape(&one_of_everything(), &image(2, 3, 29, 31), &[0, 0], mode);
        check_tape(&windows_and_conditions(), &image(2, 3, 4, 6), &[3, 1], mode);
        check_tape(&fused_and_shared(), &image(3, 3, 33, 41), &[0; 3], mode);
    }
}

/// What the tape fuses, and what it must not: activations with one reader and with two, a value read thrice, a head that
/// others read, depthwise and grouped convolutions of every step, kernels larger and smaller than their step.
fn fused_and_shared() -> Graph {
    let mut g = Graph::new("toy", 3);
    let x = g.conv("stem", g.input(), Conv::new(20, 7).stride(2).pad(3));
    let stem = g.relu(x);
    let x = g.conv("wide", stem, Conv::new(40, 3).pad(1).no_bias());
    let x = g.batch_norm("wide_norm", x);
    let wide = g.activation(x, Activation::Relu6);
    let x = g.conv("depthwise", wide, Conv::new(40, 3).stride(2).pad(1).groups(40));
    let x = g.conv("depthwise_wide", x, Conv::new(40, 5).pad(2).groups(40).no_bias());
    let down = g.conv("down", wide, Conv::new(40, 1).stride(2));
    let both = g.add(&[x, down]);
    let x = g.relu(both);
    let x = g.conv("grouped", x, Conv::new(40, 3).stride(2).pad(1).groups(4));
    let x = g.group_norm("group_norm", x, 8);
    let x = g.relu(x);
    let x = g.conv("dilated", x, Conv::new(48, 3).pad(2).dilation(2));
    let x = g.conv("same", x, Conv::new(36, 3).pad(1));
    let low = g.sigmoid(x);
    g.output("low", Head::NuclearPixel, low);
    let x = g.transposed_conv("up", low, TransposedConv { out: 20, kernel: 2, stride: 2 });
    let x = g.relu(x);
    let x = g.resize(x, 2, ResizeMode::Nearest);
    let x = g.crop_like(x, stem);
    let x = g.concat(&[x, stem, wide]);
    let x = g.max_pool(x, Pool { kernel: 2, stride: 2, pad: 0 });
    let x = g.conv("head", x, Conv::new(5, 3).pad(1));
    let negative = g.relu(x);
    let x = g.add(&[x, negative, negative]);
    g.output("mask", Head::Semantic, x);
    g
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let graph = fused_and_shared();
            gradients_of(&graph, &image(2, 3, 65, 49), &[0, 0], Mode::train(3), DType::F32)
        })
    };
    let one = run(1);
    assert!(one == run(2) && one == run(5));
}

#[test]
fn what_is_frozen_has_no_gradient_and_leaves_the_others_theirs() {
    let graph = fused_and_shared();
    let mut network = Network::new(graph.clone(), &uneven(&graph), DType::F32, &Device::Cpu).unwrap();
    let x = image(1, 3, 33, 31).to_dtype(DType::F32).unwrap();
    let run = |network: &Network| {
        let y = network.forward(&x, Mode::train(1)).unwrap().remove(1);
        let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let of = |(name, var): (String, Var)| {
            let grad = grads.get(&var).map(|g| g.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            (name, grad)
        };
        network.weights().into_iter().map(of).collect::<Vec<_>>()
    };
    let all = run(&network);
    network.freeze(|name| !name.starts_with("same") && !name.starts_with("head"));
    for ((name, some), (_, all)) in run(&network).into_iter().zip(all) {
        let is_trained = name.starts_with("same") || name.starts_with("head");
        assert_eq!(some, all.filter(|_| is_trained), "`{name}`");
    }
}

#[test]
fn a_held_batch_norm_works_as_in_inference() {
    for dtype in [DType::F32, DType::F64] {
        let mut graph = Graph::new("toy", 3);
        let x = graph.conv("stem", graph.input(), Conv::new(5, 3).pad(1));
        let x = graph.batch_norm("stem_norm", x);
        let x = graph.relu(x);
        let x = graph.conv("head", x, Conv::new(2, 1));
        graph.output("mask", Head::Semantic, x);
        let mut network = Network::new(graph.clone(), &uneven(&graph), dtype, &Device::Cpu).unwrap();
        let x = image(2, 3, 9, 7).to_dtype(dtype).unwrap();
        let run = |network: &Network, mode| {
            let y = network.forward(&x, mode).unwrap().remove(0).flatten_all().unwrap();
            y.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap()
        };
        let running = |network: &Network| {
            let of = |name: &str| network.values().into_iter().find(|(n, _)| n == name).unwrap().1;
            ["stem_norm.running_mean", "stem_norm.running_var"]
                .map(|name| of(name).to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap())
        };
        let (answers, before) = (run(&network, Mode::INFER), running(&network));
        network.hold_statistics(|name| name.starts_with("stem"));
        assert_eq!(run(&network, Mode::train(1)), answers, "{dtype:?}");
        assert_eq!(running(&network), before, "{dtype:?}");
        network.hold_statistics(|_| false);
        assert_ne!(run(&network, Mode::train(1)), answers, "{dtype:?}");
        assert_ne!(running(&network), before, "{dtype:?}");
    }
}

#[test]
fn a_result_leads_back_once() {
    let graph = fused_and_shared();
    let network = Network::new(graph.clone(), &uneven(&graph), DType::F32, &Device::Cpu).unwrap();
    let x = image(1, 3, 33, 31).to_dtype(DType::F32).unwrap();
    let loss = network.forward(&x, Mode::train(1)).unwrap().remove(0).sum_all().unwrap();
    loss.backward().unwrap();
    assert!(loss.backward().unwrap_err().to_string().contains("a second backward pass"));
}
