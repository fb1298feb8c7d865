//! Targets against the originals' own definitions (`fixtures/targets/make.py`).

use std::{path::Path, sync::Arc};
use wsi_run::{
    model::{ClassInfo, Head},
    pixels::RgbImage,
    train::{
        class_tree::{BACKGROUND, ClassNode, ClassTree, UNKNOWN},
        data::npy::read_npz,
        sample::{Dot, Sample, Truth},
        target::{DotRules, DotShape, OutputPlan, Target, TargetPlan, TargetValues, star_dist},
    },
};

struct Golden {
    shape: Vec<usize>,
    data: Vec<f32>,
}

fn golden(name: &str) -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/targets/targets.npz");
    let array = read_npz(&path, Some(name)).unwrap();
    Golden { data: array.numbers().map(|v| v as f32).collect(), shape: array.shape }
}

fn tree() -> Arc<ClassTree> {
    let node = |name: &str, parent| ClassNode { class: ClassInfo { name: name.into(), color: [0; 3] }, parent };
    let nodes = vec![node("nucleus", None), node("a", Some(0)), node("b", Some(0)), node("c", Some(2))];
    Arc::new(ClassTree::new(nodes).unwrap())
}

fn blank(w: u32, h: u32) -> Sample {
    Sample { image: RgbImage::white(w, h), truth: Truth::default(), mpp: Some(0.5), kind: 0 }
}

fn of_labels(golden: &Golden) -> Sample {
    let instances: Vec<u32> = golden.data.iter().map(|&v| v as u32).collect();
    let count = instances.iter().copied().max().unwrap() as usize;
    let sample = blank(golden.shape[1] as u32, golden.shape[0] as u32);
    let truth = Truth { instances: Some(instances), instance_nodes: vec![1; count], ..Truth::default() };
    Sample { truth, ..sample }
}

fn ask(sample: &Sample, output: &str, head: Head, channels: u32, (w, h): (u32, u32), out_stride: u32) -> Target {
    let outputs = vec![OutputPlan { output: output.into(), head, channels, w, h, out_stride }];
    let rules =
        DotRules { shape: DotShape::Gaussian { sigma_um: 1.0 }, background_from_um: Some(6.0), ..Default::default() };
    TargetPlan { outputs, tree: tree(), dots: rules }.targets(sample).unwrap().remove(0)
}

fn numbers(target: &Target) -> &[f32] {
    match &target.values {
        TargetValues::Numbers { data, .. } => data,
        TargetValues::Channels { .. } => panic!("numbers expected"),
    }
}

fn masks(target: &Target) -> &[u32] {
    match &target.values {
        TargetValues::Channels { data, .. } => data,
        TargetValues::Numbers { .. } => panic!("channels expected"),
    }
}

fn farthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn hv_maps_equal_those_of_hover_net() {
    let sample = of_labels(&golden("inner"));
    let target = ask(&sample, "hv", Head::HorizontalVertical, 2, (60, 60), 1);
    assert!(farthest(numbers(&target), &golden("hv").data) < 1e-6);
    assert!(target.weight.iter().all(|&w| w == 1.0));
}

#[test]
fn object_probability_and_rays_equal_those_of_stardist() {
    let labels = golden("edge");
    let sample = of_labels(&labels);
    let size = (labels.shape[1] as u32, labels.shape[0] as u32);
    let prob = ask(&sample, "prob", Head::NuclearPixel, 1, size, 1);
    assert!(farthest(numbers(&prob), &golden("edge_prob").data) < 1e-6);
    let dist = ask(&sample, "dist", Head::StarDistance, 32, size, 1);
    assert!(farthest(numbers(&dist), &golden("edge_dist").data) < 1e-4);
    assert_eq!(farthest(&dist.weight, numbers(&prob)), 0.0);
    let instances = sample.truth.instances.as_ref().unwrap();
    let w = size.0 as usize;
    let every_second = (0..size.1 as usize / 2).flat_map(|j| (0..w / 2).map(move |i| 2 * j * w + 2 * i));
    let dist = star_dist(instances, w, 8, every_second, 0.0);
    assert!(farthest(&dist, &golden("edge_dist_2").data) < 1e-4);
}

#[test]
fn at_half_the_size_rays_begin_in_the_middle_of_four_px() {
    // Columns 4 to 11 of 16, all rows.
    let mut sample = blank(16, 16);
    sample.truth.instances = Some((0..256).map(|i| u32::from((4..12).contains(&(i % 16)))).collect());
    sample.truth.instance_nodes = vec![0];
    let dist = ask(&sample, "dist", Head::StarDistance, 4, (8, 8), 2);
    let at = |ray: usize, i: usize| numbers(&dist)[ray * 64 + 3 * 8 + i];
    // The middle of px 6 and 7 is 5 px from the right edge, and 3 from the left one.
    assert!((at(0, 3) - 5.0).abs() <= 0.25 && (at(2, 3) - 3.0).abs() <= 0.25 && at(0, 1) == 0.0);
    let prob = ask(&sample, "prob", Head::NuclearPixel, 1, (8, 8), 2);
    assert_eq!((numbers(&prob)[3], dist.weight[3]), (0.875, 0.875));
}

#[test]
fn an_object_that_fills_the_picture_has_a_border_around_it() {
    let full = golden("full_prob");
    let mut sample = blank(9, 7);
    sample.truth.instances = Some(vec![1; 63]);
    sample.truth.instance_nodes = vec![0];
    let prob = ask(&sample, "prob", Head::NuclearPixel, 1, (9, 7), 1);
    assert!(farthest(numbers(&prob), &full.data) < 1e-6);
}

#[test]
fn a_coarse_label_may_be_any_of_its_leaves() {
    let mut sample = blank(5, 1);
    sample.truth.instances = Some(vec![0, 1, 2, 3, 4]);
    sample.truth.instance_nodes = vec![0, 1, 2, UNKNOWN];
    // Leaves are `a` and `c`; `b` is `c` alone.
    let target = ask(&sample, "tp", Head::TypeProbability, 3, (5, 1), 1);
    assert_eq!(masks(&target), [0b001, 0b110, 0b010, 0b100, 0b110]);
    assert_eq!(target.weight, [1.0; 5]);
    let target = ask(&sample, "np", Head::NuclearPixel, 2, (5, 1), 1);
    assert_eq!(masks(&target), [1, 2, 2, 2, 2]);
}

#[test]
fn unknown_px_teach_nothing_and_background_has_its_channel() {
    let mut sample = blank(4, 1);
    sample.truth.semantic = Some(vec![BACKGROUND, UNKNOWN, 1, 0]);
    let target = ask(&sample, "mask", Head::Semantic, 3, (4, 1), 1);
    assert_eq!((masks(&target), target.weight.as_slice()), (&[1, 0, 2, 6][..], &[1.0, 0.0, 1.0, 1.0][..]));
    let target = ask(&sample, "mask", Head::Semantic, 2, (4, 1), 1);
    assert_eq!((masks(&target), target.weight.as_slice()), (&[0, 0, 1, 3][..], &[0.0, 0.0, 1.0, 1.0][..]));
    let target = ask(&sample, "mask", Head::Semantic, 1, (4, 1), 1);
    assert_eq!((numbers(&target), target.weight.as_slice()), (&[0.0, 0.0, 1.0, 1.0][..], &[1.0, 0.0, 1.0, 1.0][..]));
    let target = ask(&sample, "hv", Head::HorizontalVertical, 2, (4, 1), 1);
    assert_eq!(target.weight, [0.0; 4]);
}

#[test]
fn edges_are_the_morphological_gradient_of_the_mask() {
    let mut sample = blank(7, 3);
    let row = [BACKGROUND, BACKGROUND, 1, 1, 1, 1, UNKNOWN];
    sample.truth.semantic = Some([row; 3].concat());
    let target = ask(&sample, "edge", Head::Semantic, 1, (7, 3), 1);
    assert_eq!(numbers(&target)[7..14], [0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
    assert_eq!(target.weight[7..14], [1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    // Two nuclei that touch have an edge between them.
    sample.truth =
        Truth { instances: Some([1, 1, 1, 2, 2, 2, 2].repeat(3)), instance_nodes: vec![0, 0], ..Truth::default() };
    let target = ask(&sample, "edge", Head::Semantic, 1, (7, 3), 1);
    assert_eq!(numbers(&target)[..7], [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn dots_become_hills_around_them_and_classes_only_near_them() {
    let mut sample = blank(64, 64);
    sample.truth.dots = Some(vec![Dot { x: 20.5, y: 30.5, node: 1 }, Dot { x: 50.0, y: 10.0, node: 3 }]);
    let prob = ask(&sample, "prob", Head::NuclearPixel, 1, (64, 64), 1);
    let at = |x: usize, y: usize| numbers(&prob)[y * 64 + x];
    assert_eq!(at(20, 30), 1.0);
    // 2 px are 1 µm are one σ.
    assert!((at(22, 30) - (-0.5_f32).exp()).abs() < 1e-6 && at(40, 50) == 0.0);
    let types = ask(&sample, "tp", Head::TypeProbability, 3, (64, 64), 1);
    let at = |x: usize, y: usize| masks(&types)[y * 64 + x];
    assert_eq!((at(20, 30), at(26, 30), at(27, 30), at(40, 50), at(49, 9)), (2, 2, 0, 1, 4));
    assert_eq!(ask(&sample, "dist", Head::StarDistance, 32, (64, 64), 1).weight, vec![0.0; 64 * 64]);
    // At half the size the place of a px is the middle of its four.
    let half = ask(&sample, "prob", Head::NuclearPixel, 1, (32, 32), 2);
    let value = numbers(&half)[5 * 32 + 25];
    assert!((value - (-0.25_f32).exp()).abs() < 1e-6, "{value}");
}

#[test]
fn a_sample_smaller_than_the_output_and_dots_without_resolution_are_errors() {
    let outputs =
        vec![OutputPlan { output: "np".into(), head: Head::NuclearPixel, channels: 1, w: 9, h: 9, out_stride: 1 }];
    let plan = TargetPlan { outputs, tree: tree(), dots: DotRules::default() };
    assert!(plan.targets(&blank(8, 9)).unwrap_err().message.contains("[8, 9]"));
    let mut sample = blank(9, 9);
    sample.mpp = None;
    sample.truth.dots = Some(vec![]);
    assert!(plan.targets(&sample).unwrap_err().hint.unwrap().contains("mpp"));
}
