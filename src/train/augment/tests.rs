use super::*;
use crate::{
    config::settings::data::Beyond,
    pixels::RgbImage,
    train::{
        class_tree::UNKNOWN,
        sample::{Dot, Truth},
    },
};

/// Nuclei as discs with a dot in the middle of each; a px' red tells its nucleus, dots and px can be compared.
fn scene(w: u32, h: u32, discs: &[(f64, f64, f64)]) -> Sample {
    let mut image = RgbImage::white(w, h);
    let mut instances = vec![0_u32; w as usize * h as usize];
    for (at, slot) in instances.iter_mut().enumerate() {
        let (x, y) = ((at % w as usize) as f64 + 0.5, (at / w as usize) as f64 + 0.5);
        for (k, &(cx, cy, r)) in discs.iter().enumerate() {
            if (x - cx).hypot(y - cy) <= r {
                *slot = k as u32 + 1;
                image.data[at * 3..][..3].copy_from_slice(&[20 * (k as u8 + 1), 0, 0]);
            }
        }
    }
    let dots = discs.iter().zip(0..).map(|(&(x, y, _), k)| Dot { x: x as f32, y: y as f32, node: k }).collect();
    let truth = Truth {
        instances: Some(instances),
        instance_nodes: (0..discs.len() as u8).collect(),
        dots: Some(dots),
        ..Truth::default()
    };
    Sample { image, truth, mpp: Some(0.5), kind: 0 }
}

const DISCS: [(f64, f64, f64); 4] = [(30.0, 30.0, 9.0), (60.5, 40.0, 7.0), (45.0, 70.5, 10.0), (80.0, 78.0, 6.0)];

fn drawn(settings: &Augment, index: usize) -> Map {
    Augmenter::new(settings, index, 0, 1).map((64, 64), (50.0, 52.0))
}

fn wild() -> Augment {
    use crate::config::settings::data::Elastic;
    Augment {
        flip_prob: 0.5,
        turns: true,
        affine_prob: 1.0,
        rotate_deg: 45.0,
        scale: 0.3,
        shear_deg: 10.0,
        elastic: Elastic { prob: 1.0, alpha_px: 20.0, sigma_px: 6.0 },
        ..Augment::default()
    }
}

#[test]
fn flips_and_quarter_turns_copy_px_exactly() {
    let source = scene(100, 100, &DISCS);
    let settings = Augment { flip_prob: 0.5, turns: true, ..Augment::default() };
    for index in 0..32 {
        let map = drawn(&settings, index);
        let out = warp(&source, &map, (64, 64), Beyond::Mirror);
        for j in 0..64 {
            for i in 0..64 {
                let (x, y) = map.source_of(f64::from(i) + 0.5, f64::from(j) + 0.5);
                assert_eq!((x.fract(), y.fract()), (0.5, 0.5));
                assert_eq!(out.image.get(i, j), source.image.get(x as u32, y as u32));
            }
        }
    }
}

#[test]
fn nuclei_keep_their_classes_and_dots_stay_in_the_middle_of_them() {
    let source = scene(100, 100, &DISCS);
    for index in 0..60 {
        let map = drawn(&wild(), index);
        let out = warp(&source, &map, (64, 64), Beyond::Mirror);
        let (instances, nodes) = (out.truth.instances.unwrap(), out.truth.instance_nodes);
        // Numbered from 1 without gaps.
        let most = instances.iter().copied().max().unwrap() as usize;
        assert_eq!(most, nodes.len());
        assert!((1..=most as u32).all(|id| instances.contains(&id)));
        for dot in out.truth.dots.unwrap() {
            let at = dot.y as usize * 64 + dot.x as usize;
            let id = instances[at];
            assert!(id > 0 && nodes[id as usize - 1] == dot.node, "{index}: {dot:?}");
            // The middle of a disc's px is its dot, when all of it is seen.
            let px: Vec<usize> = (0..64 * 64).filter(|&i| instances[i] == id).collect();
            let whole = px.iter().all(|i| (1..63).contains(&(i % 64)) && (1..63).contains(&(i / 64)));
            if whole {
                let mean = |f: fn(usize) -> usize| px.iter().map(|&i| f(i) as f64 + 0.5).sum::<f64>() / px.len() as f64;
                let (x, y) = (mean(|i| i % 64), mean(|i| i / 64));
                let off = (x - f64::from(dot.x)).hypot(y - f64::from(dot.y));
                assert!(off < 1.5, "{index}: {off} px off");
            }
        }
    }
}

#[test]
fn labels_and_pixels_stay_aligned_when_bent() {
    let source = scene(100, 100, &DISCS);
    for index in 0..20 {
        let out = warp(&source, &drawn(&wild(), index), (64, 64), Beyond::Mirror);
        let (instances, nodes) = (out.truth.instances.unwrap(), out.truth.instance_nodes);
        let mut apart = 0;
        for (at, &id) in instances.iter().enumerate() {
            let [red, green, _] = out.image.get(at as u32 % 64, at as u32 / 64);
            let expected = if id == 0 { 255 } else { 20 * (nodes[id as usize - 1] + 1) };
            // Px of an edge are a mixture.
            let is_edge = green > 0 && green < 255;
            apart += usize::from(!is_edge && red != expected);
        }
        assert_eq!(apart, 0, "{index}");
    }
}

#[test]
fn a_place_goes_where_its_px_comes_from() {
    for index in 0..50 {
        let map = drawn(&wild(), index);
        for (x, y) in [(3.0, 60.0), (32.5, 31.0), (50.0, 8.25)] {
            let (sx, sy) = map.source_of(x, y);
            let (bx, by) = map.result_of(sx, sy);
            assert!((bx - x).hypot(by - y) < 1e-3, "{index}: ({x}, {y}) became ({bx}, {by})");
        }
    }
}

#[test]
fn a_mirrored_nucleus_is_another_one_unless_it_touches_the_edge() {
    // One at the left edge, one 12 px away from it.
    let source = scene(40, 40, &[(2.0, 10.0, 6.0), (12.0, 30.0, 6.0)]);
    let map = Map::centred((64, 40), (20.0, 20.0));
    let out = warp(&source, &map, (64, 40), Beyond::Mirror);
    let instances = out.truth.instances.unwrap();
    let at = |x: i32, y: usize| instances[y * 64 + (x + 12) as usize];
    assert_eq!(at(2, 10), at(-3, 10));
    assert!(at(12, 30) > 0 && at(-11, 30) > 0 && at(12, 30) != at(-11, 30));
    let white = warp(&source, &map, (64, 40), Beyond::White);
    assert_eq!(white.image.get(0, 5), [255; 3]);
    assert_eq!(white.truth.instance_nodes.len(), 2);
}

#[test]
fn of_mirrored_px_nothing_is_known_where_only_dots_are() {
    let mut source = scene(40, 40, &[(20.0, 20.0, 5.0)]);
    source.truth.instances = None;
    source.truth.instance_nodes = vec![];
    let out = warp(&source, &Map::centred((64, 40), (20.0, 20.0)), (64, 40), Beyond::Mirror);
    let semantic = out.truth.semantic.unwrap();
    assert_eq!(semantic.iter().filter(|&&n| n == UNKNOWN).count(), 24 * 40);
    assert_eq!(out.truth.dots.unwrap(), [Dot { x: 32.0, y: 20.0, node: 0 }]);
    let inside = warp(&source, &Map::centred((30, 30), (20.0, 20.0)), (30, 30), Beyond::Mirror);
    assert_eq!(inside.truth.semantic, None);
}

#[test]
fn targets_of_a_turned_sample_are_the_turned_targets() {
    use crate::{
        model::{ClassInfo, Head},
        train::{
            class_tree::{ClassNode, ClassTree},
            target::{DotRules, OutputPlan, TargetPlan, TargetValues},
        },
    };
    // A disc about the corner of four px: as far from its middle on every side.
    let mut source = scene(64, 64, &[(32.0, 32.0, 9.0), (12.0, 40.0, 7.0)]);
    source.truth.dots = None;
    let class = ClassInfo { name: "nucleus".into(), color: [0; 3] };
    let nodes = vec![ClassNode { class, parent: None }];
    source.truth.instance_nodes = vec![0, 0];
    let output = |output: &str, head, channels| OutputPlan {
        output: output.into(),
        head,
        channels,
        w: 64,
        h: 64,
        out_stride: 1,
    };
    let plan = TargetPlan {
        outputs: vec![output("hv", Head::HorizontalVertical, 2), output("dist", Head::StarDistance, 8)],
        tree: std::sync::Arc::new(ClassTree::new(nodes).unwrap()),
        dots: DotRules::default(),
    };
    let numbers = |sample: &Sample| {
        plan.targets(sample)
            .unwrap()
            .into_iter()
            .map(|t| match t.values {
                TargetValues::Numbers { data, .. } => data,
                TargetValues::Channels { data, .. } => panic!("{data:?}"),
            })
            .collect::<Vec<_>>()
    };
    let before = numbers(&source);
    let n = 64 * 64;
    for (across, quarters) in [(false, 1), (false, 2), (false, 3), (true, 0)] {
        let map = Map::centred((64, 64), (32.0, 32.0)).flipped(across, false).turned(quarters);
        let after = numbers(&warp(&source, &map, (64, 64), Beyond::Mirror));
        for at in 0..n {
            let (x, y) = ((at % 64) as f64 + 0.5, (at / 64) as f64 + 0.5);
            let (sx, sy) = map.source_of(x, y);
            let from = sy as usize * 64 + sx as usize;
            // Steps right and down of the result, in steps of the source.
            let s = &map.straight;
            let h = s[0] * f64::from(before[0][from]) + s[3] * f64::from(before[0][n + from]);
            let v = s[1] * f64::from(before[0][from]) + s[4] * f64::from(before[0][n + from]);
            // HoVer-Net counts from the px right of the middle: a flip moves whole maps by up to a px of the nucleus.
            assert!((f64::from(after[0][at]) - h).abs() < 0.16 && (f64::from(after[0][n + at]) - v).abs() < 0.16);
            for ray in 0..8_usize {
                // A turn by a quarter is two of eight rays; a flip runs the rays backwards from the other side.
                let source_ray = if across { (12 - ray) % 8 } else { (ray + 8 - 2 * quarters as usize) % 8 };
                let (a, b) = (after[1][ray * n + at], before[1][source_ray * n + from]);
                assert!((a - b).abs() < 1e-3, "{across} {quarters} ray {ray}: {a} and {b}");
            }
        }
    }
}

#[test]
fn the_field_has_the_spread_of_smoothed_noise() {
    let (alpha, sigma) = (30.0, 6.0);
    let field = Elastic::new((400, 400), alpha, sigma, 5);
    let all: Vec<f64> = (0..4000).map(|k| field.at(f64::from(k % 63) * 6.3, f64::from(k / 63) * 6.3).0).collect();
    let spread = (all.iter().map(|d| d * d).sum::<f64>() / all.len() as f64).sqrt();
    // Uniform noise smoothed by a Gaussian: 1/√3 · 1/(2σ√π).
    let expected = alpha / 3_f64.sqrt() / (2.0 * sigma * std::f64::consts::PI.sqrt());
    assert!((spread / expected - 1.0).abs() < 0.1, "{spread}, expected {expected}");
    let mut row = vec![[0.0; 2]; 50];
    field.row(7.5, &mut row);
    let (x, y) = field.at(20.5, 7.5);
    assert!((f64::from(row[20][0]) - x).abs() < 1e-5 && (f64::from(row[20][1]) - y).abs() < 1e-5);
}

#[test]
fn colours_without_change_stay_and_filters_keep_what_is_even() {
    let mut rgb: Vec<u8> = (0..64 * 64 * 3).map(|i| (i * 7 % 251) as u8).collect();
    let before = rgb.clone();
    let mut rng = Rng::new(&[1]);
    let none = crate::config::settings::data::ColorJitter { prob: 1.0, ..Default::default() };
    color::jitter(&mut rgb, &none, 0.0, &mut rng);
    color::gamma(&mut rgb, 1.0);
    let most = rgb.iter().zip(&before).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(most <= Some(1), "{most:?}");
    let mut flat = vec![200_u8; 64 * 64 * 3];
    filter::blur(&mut flat, 64, 1.3);
    filter::sharpen(&mut flat, 64, 0.2);
    assert!(flat.iter().all(|&v| v == 200));
    let mut step: Vec<u8> = (0..64 * 64 * 3).map(|i| if (i / 3) % 64 < 32 { 0 } else { 255 }).collect();
    filter::blur(&mut step, 64, 2.0);
    let row: Vec<u8> = step[..64 * 3].iter().step_by(3).copied().collect();
    assert!(row.is_sorted() && row[31] + row[32] >= 254 && row[10] == 0 && row[60] == 255);
    let mut grey = vec![128_u8; 90_000];
    filter::noise(&mut grey, 0.02, 3);
    let mean = grey.iter().map(|&v| f64::from(v)).sum::<f64>() / 90_000.0;
    let spread = (grey.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / 90_000.0).sqrt();
    assert!((mean - 128.0).abs() < 0.1 && (spread / 5.1 - 1.0).abs() < 0.03, "{mean} {spread}");
}

#[test]
fn a_stain_transferred_has_the_other_look() {
    let own: Vec<u8> =
        (0..4000_u32).flat_map(|i| [150 + (i % 60) as u8, 80 + (i % 90) as u8, 150 + (i % 50) as u8]).collect();
    let other: Vec<u8> =
        (0..4000_u32).flat_map(|i| [120 + (i % 80) as u8, 60 + (i % 70) as u8, 110 + (i % 90) as u8]).collect();
    use crate::config::settings::data::TransferMethod;
    for method in [TransferMethod::Reinhard, TransferMethod::Od] {
        let (a, b) = (Look::of(&own, method).unwrap(), Look::of(&other, method).unwrap());
        let mean = |rgb: &[u8], c: usize| rgb.iter().skip(c).step_by(3).map(|&v| f64::from(v)).sum::<f64>() / 4000.0;
        let (mut all, mut half) = (own.clone(), own.clone());
        stain::transfer(&mut all, &a, &b, 1.0);
        stain::transfer(&mut half, &a, &b, 0.5);
        for c in 0..3 {
            assert!((mean(&all, c) - mean(&other, c)).abs() < 8.0, "{method:?} {c}");
            let middle = (mean(&own, c) + mean(&other, c)) / 2.0;
            assert!((mean(&half, c) - middle).abs() < 12.0, "{method:?} {c}");
        }
    }
    assert_eq!(Look::of(&[255; 3000], TransferMethod::Reinhard), None);
}
