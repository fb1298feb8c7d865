//! How factors are rounded where bfloat16 is asked for, and how much of a network stays in single precision.
//!
//! Owns: [`rounding`], [`Single`]. Must not know: which layers those are, kernels.
//!
//! What rounded factors do to the heads depends on the network and on its weights, so it is measured: two images are run in
//! single precision and rounded. Where bfloat16 does not keep the heads, 1×1 convolutions multiply whole numbers of 16 bits,
//! and as few products stay single as keep the heads. Every layer of rounded factors adds about the same to the error,
//! however little it computes, so the smallest stay single first. Where even that is too rough, Winograd's products stay
//! single: all of them, which costs most.

use super::{
    CompileError, Compiled, HeadRows, Options,
    cpu::{Isa, Precision},
    lock,
};
use crate::model::{graph::Graph, weights::Weights};
use std::sync::Mutex;

/// How far a value of a head may be off, of the largest: little more than half of the hundredth that is promised, since
/// other images differ, most where a head has few values.
const LIMIT: f32 = 0.0055;
/// The fewest tenths with bfloat16: the layers that compute next to nothing, heads among them, bring as much of the error
/// as any other.
const LEAST: u64 = 1;
/// Tenths of a network whose images' size is not known.
const UNKNOWN: u64 = 4;
/// Side of the spots of the image, px.
const SPOT_PX: usize = 12;

/// What stays in single precision where factors are rounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Single {
    /// Tenths of the products that are not Winograd's, the smallest layers first.
    pub tenths: u64,
    /// Whether Winograd's products do.
    pub winograd: bool,
}

/// How factors are rounded, and what stays in single precision.
///
/// # Errors
/// A tensor that `weights` lacks.
pub(super) fn rounding(
    graph: &Graph,
    weights: &Weights,
    options: Options,
) -> Result<(Precision, Single), CompileError> {
    let rounds = options.precision == Precision::Bf16 && options.isa == Isa::Avx512Bf16;
    let Some(size) = options.size.filter(|size| rounds && graph.shapes(size.0, size.1).is_ok()) else {
        return Ok((options.precision, Single { tenths: UNKNOWN, winograd: false }));
    };
    let images = [spots(size), noise(size)];
    let heads = |precision, single| {
        Ok(run(&Compiled::of(graph, weights, Options { precision, ..options }, single)?, &images, size, weights))
    };
    let exact = heads(Precision::F32, Single { tenths: 0, winograd: false })?;
    let keeps = |precision, tenths, winograd| {
        heads(precision, Single { tenths, winograd }).map(|rounded| distance(&rounded, &exact) <= LIMIT)
    };
    if keeps(Precision::Bf16, LEAST, false)? {
        return Ok((Precision::Bf16, Single { tenths: LEAST, winograd: false }));
    }
    let at_once = keeps(Precision::Int16, 0, false)?;
    let winograd = !at_once && !keeps(Precision::Int16, 10, false)?;
    if at_once || winograd && keeps(Precision::Int16, 0, true)? {
        return Ok((Precision::Int16, Single { tenths: 0, winograd }));
    }
    let (mut too_few, mut enough) = (0, 10);
    while enough - too_few > 1 {
        let tenths = (too_few + enough) / 2;
        *(if keeps(Precision::Int16, tenths, winograd)? { &mut enough } else { &mut too_few }) = tenths;
    }
    Ok((Precision::Int16, Single { tenths: enough, winograd }))
}

/// The heads of the images, one after another: so there is one arena.
fn run(compiled: &Compiled, images: &[Vec<u8>], size: (usize, usize), weights: &Weights) -> Vec<Vec<f32>> {
    let of_image = |image: &Vec<u8>| {
        let heads = Mutex::new(vec![]);
        let keep = |rows: HeadRows<'_>| {
            let (mut heads, first) = (lock(&heads), rows.first_row * rows.w * rows.c);
            let heads: &mut Vec<Vec<f32>> = &mut heads;
            heads.resize(heads.len().max(rows.head + 1), vec![]);
            let head = &mut heads[rows.head];
            head.resize(head.len().max(first + rows.values.len()), f32::NAN);
            head[first..][..rows.values.len()].copy_from_slice(rows.values);
        };
        compiled.run(&[image], size, &weights.metadata.normalisation, &keep).expect("the network takes this size");
        heads.into_inner().unwrap_or_default()
    };
    images.iter().flat_map(of_image).collect()
}

/// The largest difference over the largest value, of the head where that is most; infinite where one is not a number.
fn distance(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f32 {
    let of_head = |(found, expected): (&Vec<f32>, &Vec<f32>)| {
        let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
        let off = off.fold(0.0, |m: f32, d| if d.is_nan() { f32::INFINITY } else { m.max(d) });
        if off == 0.0 { 0.0 } else { off / largest }
    };
    found.iter().zip(expected).map(of_head).fold(0.0, f32::max)
}

/// A number from 0 to 1 for two.
fn random(a: usize, b: usize) -> f32 {
    let mixed = (a as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (b as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    (mixed.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 40) as f32 / (1 << 24) as f32
}

/// `[h, w, 3]`: values that know nothing of each other.
fn noise((h, w): (usize, usize)) -> Vec<u8> {
    (0..h * w * 3).map(|at| (256.0 * random(at, w)) as u8).collect()
}

/// `[h, w, 3]`: dark spots on pink, and noise.
fn spots((h, w): (usize, usize)) -> Vec<u8> {
    const PALE: [f32; 3] = [236.0, 184.0, 210.0];
    const DARK: [f32; 3] = [84.0, 56.0, 136.0];
    const NOISE: f32 = 24.0;
    let value = |at: usize| {
        let (y, x, c) = (at / 3 / w, at / 3 % w, at % 3);
        let part = |v: usize| (v % SPOT_PX) as f32 / SPOT_PX as f32;
        let row = |y: usize| {
            let (left, right) = (random(y, x / SPOT_PX), random(y, x / SPOT_PX + 1));
            left + (right - left) * part(x)
        };
        let (above, below) = (row(y / SPOT_PX), row(y / SPOT_PX + 1));
        let density = above + (below - above) * part(y);
        PALE[c] + (DARK[c] - PALE[c]) * density + NOISE * (random(at, h) - 0.5)
    };
    (0..h * w * 3).map(|at| value(at) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::zoo::zoo;

    #[test]
    fn as_few_products_stay_single_as_keep_the_heads() {
        if Isa::best() != Isa::Avx512Bf16 {
            println!("this processor has no bfloat16, nothing is rounded");
            return;
        }
        let px = 64;
        let options = Options { precision: Precision::Bf16, isa: Isa::best(), size: Some((px, px)) };
        let mut kinds = std::collections::HashSet::new();
        for name in ["crescent_dense_net", "stardist_unet", "clin_seg_net", "hybrid_effnet_resnet"] {
            let graph = (zoo().into_iter().find(|entry| entry.name == name).unwrap().build)();
            let weights = Weights::from_names(&graph);
            let (precision, Single { tenths, winograd }) = rounding(&graph, &weights, options).unwrap();
            let heads = |precision, tenths| {
                let options = Options { precision, ..options };
                let compiled = Compiled::of(&graph, &weights, options, Single { tenths, winograd }).unwrap();
                run(&compiled, &[spots((px, px)), noise((px, px))], (px, px), &weights)
            };
            let single = heads(Precision::F32, 0);
            let off = |precision, tenths| distance(&heads(precision, tenths), &single);
            println!("{name}: {precision:?}, {tenths} tenths, {:e}", off(precision, tenths));
            assert!(off(precision, tenths) <= LIMIT, "{name}");
            match precision {
                Precision::Bf16 => assert_eq!(tenths, LEAST, "{name}"),
                _ => assert!(off(Precision::Bf16, LEAST) > LIMIT, "{name}"),
            }
            assert!(precision == Precision::Bf16 || tenths == 0 || off(precision, tenths - 1) > LIMIT, "{name}");
            assert!(off(Precision::Bf16, LEAST) > 0.0, "{name}: something is rounded");
            kinds.insert(precision);
        }
        assert_eq!(kinds.len(), 2, "both ways are needed: {kinds:?}");
    }
}
