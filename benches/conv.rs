//! Convolutions of the networks, layer by layer, on one thread: GFLOP/s of the thread's own CPU time, best of several.
//!
//! `cargo bench --bench conv [name]`; the same shapes through PyTorch and ONNX Runtime: `benches/peers/conv.py`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::time::Duration;
use wsi_run::infer::cpu::{Aligned, ConvSpec, Epilogue, Isa, PackedConv, Precision, View, ViewMut, conv};

/// name, cin, cout, kernel, stride, pad, groups, side of the input
type Shape = (&'static str, usize, usize, usize, usize, usize, usize, usize);

const SHAPES: &[Shape] = &[
    ("resnet stem", 3, 64, 7, 2, 3, 1, 256),
    ("resnet 1", 64, 64, 3, 1, 1, 1, 64),
    ("resnet 2 down", 64, 128, 3, 2, 1, 1, 64),
    ("resnet 2", 128, 128, 3, 1, 1, 1, 32),
    ("resnet 3", 256, 256, 3, 1, 1, 1, 16),
    ("resnet 4", 512, 512, 3, 1, 1, 1, 8),
    ("fpn", 256, 128, 3, 1, 1, 1, 64),
    ("dense 1 3x3", 128, 32, 3, 1, 1, 1, 56),
    ("dense 2 3x3", 128, 32, 3, 1, 1, 1, 28),
    ("dense 4 3x3", 128, 32, 3, 1, 1, 1, 7),
    ("dense 1 1x1", 128, 128, 1, 1, 0, 1, 56),
    ("dense 3 1x1", 640, 128, 1, 1, 0, 1, 14),
    ("dense 4 1x1", 768, 128, 1, 1, 0, 1, 7),
    ("convnext stem", 3, 96, 4, 4, 0, 1, 270),
    ("convnext 1 up", 96, 384, 1, 1, 0, 1, 67),
    ("convnext 1 down", 384, 96, 1, 1, 0, 1, 67),
    ("convnext 3 up", 384, 1536, 1, 1, 0, 1, 16),
    ("convnext 4 down", 3072, 768, 1, 1, 0, 1, 8),
    ("convnext depthwise", 96, 96, 7, 1, 3, 96, 67),
    ("convnext 4 depthwise", 768, 768, 7, 1, 3, 768, 8),
    ("histonext dense", 1024, 192, 3, 1, 1, 1, 20),
    ("histonext dense 1", 768, 384, 3, 1, 1, 1, 16),
    ("histonext dense 3", 384, 96, 3, 1, 1, 1, 40),
    ("histonext dense 4", 288, 48, 3, 1, 1, 1, 80),
    ("histonext groups", 384, 384, 5, 1, 2, 12, 16),
    ("hover stem", 3, 64, 7, 1, 3, 1, 256),
    ("hover 1 1x1", 64, 256, 1, 1, 0, 1, 256),
    ("hover 1 3x3", 64, 64, 3, 1, 1, 1, 256),
    ("hover 4 1x1", 2048, 512, 1, 1, 0, 1, 32),
    ("hover 5x5", 1024, 256, 5, 1, 0, 1, 64),
    ("hover 3x3", 512, 128, 3, 1, 0, 1, 92),
    ("hover groups", 128, 32, 3, 1, 0, 4, 60),
    ("mobile expand", 24, 144, 1, 1, 0, 1, 128),
    ("mobile project", 144, 24, 1, 1, 0, 1, 128),
    ("mobile depthwise", 96, 96, 3, 2, 1, 96, 256),
    ("mobile depthwise 2", 144, 144, 3, 1, 1, 144, 128),
    ("mu 3x3", 16, 16, 3, 1, 1, 1, 256),
    ("mu 3x3 2", 24, 24, 3, 1, 1, 1, 128),
    ("mu 3x3 3", 32, 32, 3, 1, 1, 1, 64),
    ("mu 5x5", 16, 16, 5, 1, 2, 1, 256),
    ("mu 5x5 deep", 96, 96, 5, 1, 2, 1, 32),
    ("stardist", 32, 32, 3, 1, 1, 1, 256),
    ("stardist 2", 128, 128, 3, 1, 1, 1, 32),
];

fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn main() {
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let isa = Isa::detect();
    println!("{isa:?}, GFLOP/s\n{:24}{:>8}{:>8}", "layer", "f32", "bf16");
    for &(name, cin, cout, k, stride, pad, groups, side) in SHAPES.iter().filter(|s| s.0.contains(&wanted)) {
        let spec = ConvSpec { cin, cout, kernel: (k, k), stride, pad: (pad, pad), dilation: 1, groups };
        let out_side = (side + 2 * pad - k) / stride + 1;
        let flops = 2.0 * (out_side * out_side * cout * (cin / groups) * k * k) as f64;
        let mut x = Aligned::zeros(side * side * cin);
        x.iter_mut().enumerate().for_each(|(i, v)| *v = (i % 17) as f32 - 8.0);
        let weights: Vec<f32> = (0..spec.weight_count()).map(|i| (i % 13) as f32 * 0.01).collect();
        let mut out = Aligned::zeros(out_side * out_side * cout);
        let speeds = [Precision::F32, Precision::Bf16].map(|precision| {
            let op = PackedConv::sized(spec, (out_side, out_side), (&weights, None), isa, precision);
            let mut scratch = Aligned::zeros(op.scratch_floats(side));
            let mut once = || {
                let start = cpu_time();
                let mut to = ViewMut::dense(&mut out, out_side, out_side, cout);
                let x = View::dense(&x, side, side, cin);
                conv(&op, x, None, &Epilogue::default(), &mut to, 0..out_side, &mut scratch);
                cpu_time() - start
            };
            let times = ((0.3 / once().as_secs_f64()) as usize).clamp(3, 2000);
            let best = (0..times).map(|_| once()).min().expect("three times at least");
            flops / best.as_secs_f64() / 1e9
        });
        println!("{name:24}{:8.1}{:8.1}", speeds[0], speeds[1]);
    }
}
