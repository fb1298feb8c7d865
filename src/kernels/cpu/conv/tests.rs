//! Every form on every instruction set against the definition.

use super::*;
use crate::kernels::cpu::reference;
use std::collections::HashSet;

/// Numbers from −1 to 1 that repeat with the seed.
pub(in crate::kernels::cpu) fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// The largest difference, relative to the largest value.
pub(in crate::kernels::cpu) fn difference(a: &[f32], b: &[f32]) -> f32 {
    let top = b.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    let worst =
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0f32, |m, d| if d > m || d.is_nan() { d } else { m });
    worst / top
}

struct Case {
    spec: ConvSpec,
    size: (usize, usize),
    prologue: bool,
    activation: Option<Activation>,
    residual: Option<(usize, bool)>,
    /// Whether the output holds the residual, where it can.
    in_place: bool,
    scale: bool,
    /// Whether a value in the middle of the input is NaN.
    nan: bool,
}

fn out_size(case: &Case) -> (usize, usize) {
    let s = &case.spec;
    let side = |n: usize, k: usize, pad: usize| (n + 2 * pad - (k - 1) * s.dilation - 1) / s.stride + 1;
    (side(case.size.0, s.kernel.0, s.pad.0), side(case.size.1, s.kernel.1, s.pad.1))
}

/// Rows and channels out.
type Part = (Range<usize>, Range<usize>);

/// Runs the case in bands on one instruction set, and by the definition if there are none; returns both outputs.
fn run(case: &Case, isa: Isa, precision: Precision, bands: &[usize]) -> (Vec<f32>, Vec<f32>) {
    let (out_h, cout) = (out_size(case).0, case.spec.cout);
    let ends = bands.iter().chain([&out_h]).map(|end| (*end).min(out_h));
    let rows = ends.scan(0, |start, end| Some(std::mem::replace(start, end)..end));
    run_parts(case, (isa, precision), bands.is_empty(), |_| rows.map(|rows| (rows, 0..cout)).collect())
}

/// Runs the parts of the case on one instruction set, and all of it by the definition if asked for; returns both outputs.
fn run_parts(
    case: &Case,
    (isa, precision): (Isa, Precision),
    is_defined: bool,
    parts: impl FnOnce(&PackedConv) -> Vec<Part>,
) -> (Vec<f32>, Vec<f32>) {
    let (s, (h, w)) = (case.spec, case.size);
    let (out_h, out_w) = out_size(case);
    let (in_px, out_px) = (s.cin + 3, s.cout + 5);
    let mut x = numbers(1, h * w * in_px);
    if case.nan {
        x[(h / 2 * w + w / 2) * in_px] = f32::NAN;
    }
    let weights = numbers(2, s.weight_count());
    let bias = numbers(3, s.cout);
    let (scale, shift) = (numbers(4, s.cin), numbers(5, s.cin));
    let factor = case.residual.map_or(1, |r| r.0);
    let residual = numbers(6, out_h.div_ceil(factor) * out_w.div_ceil(factor) * s.cout);
    let gamma = numbers(7, s.cout);
    let (factor_after, offset_after) = (numbers(9, s.cout), numbers(10, s.cout));
    let x = View::new(&x, h, w, s.cin, in_px);
    let op = PackedConv::sized(s, (out_h, out_w), (&weights, Some(&bias)), isa, precision);
    let in_place = case.in_place && op.accumulates();
    let prologue = case.prologue.then_some(Prologue { scale: &scale, shift: &shift, relu: true });
    let epilogue = Epilogue {
        residual: case.residual.map(|_| View::dense(&residual, out_h.div_ceil(factor), out_w.div_ceil(factor), s.cout)),
        residual_factor: factor,
        activation: case.activation,
        residual_before_activation: case.residual.is_some_and(|r| r.1),
        accumulate: false,
        scale: (case.scale && !in_place).then_some(&gamma),
        norm: case.scale.then_some((&factor_after, &offset_after)),
    };
    let mut want = vec![7.0; out_h * out_w * out_px];
    let mut got = want.clone();
    if is_defined {
        let mut to = ViewMut::new(&mut want, out_h, out_w, s.cout, out_px);
        reference::conv((&s, &weights, Some(&bias)), x, prologue, &epilogue, &mut to, 0..out_h);
    }
    let mut epilogue = epilogue;
    if in_place {
        let pixels = got.chunks_exact_mut(out_px).zip(residual.chunks_exact(s.cout));
        pixels.for_each(|(to, residual)| to[..s.cout].copy_from_slice(residual));
        epilogue = Epilogue { residual: None, accumulate: true, ..epilogue };
    }
    let mut scratch = numbers(8, op.scratch_floats(w));
    for part in parts(&op) {
        let mut to = ViewMut::new(&mut got, out_h, out_w, s.cout, out_px);
        conv_part(&op, x, prologue, &epilogue, &mut to, part, &mut scratch);
    }
    (got, want)
}

fn cases() -> Vec<Case> {
    let spec = |cin, cout, k: usize, stride, pad, dilation, groups| ConvSpec {
        cin,
        cout,
        kernel: (k, k),
        stride,
        pad: (pad, pad),
        dilation,
        groups,
    };
    let specs = [
        spec(3, 40, 7, 2, 3, 1, 1),
        spec(3, 16, 3, 1, 1, 1, 1),
        spec(3, 33, 4, 4, 0, 1, 1),
        spec(3, 8, 5, 1, 2, 1, 1),
        spec(1, 5, 3, 1, 1, 1, 1),
        spec(2, 1, 7, 1, 3, 1, 1),
        spec(1, 2, 3, 1, 1, 1, 1),
        spec(16, 3, 3, 1, 1, 1, 1),
        spec(5, 4, 5, 1, 0, 1, 1),
        spec(64, 4, 3, 1, 2, 2, 1),
        spec(16, 32, 3, 1, 1, 1, 1),
        spec(20, 17, 3, 2, 1, 1, 1),
        spec(37, 70, 3, 1, 1, 2, 1),
        spec(33, 24, 5, 1, 2, 1, 1),
        spec(40, 56, 3, 1, 1, 1, 1),
        spec(33, 64, 3, 1, 0, 1, 1),
        spec(64, 48, 1, 1, 0, 1, 1),
        spec(50, 9, 1, 1, 0, 1, 1),
        spec(24, 40, 1, 2, 0, 1, 1),
        spec(18, 36, 2, 2, 0, 1, 1),
        spec(36, 36, 3, 1, 1, 1, 4),
        spec(32, 32, 5, 1, 2, 1, 4),
        spec(128, 32, 3, 1, 1, 1, 4),
        spec(64, 128, 3, 2, 1, 1, 2),
        spec(48, 48, 5, 1, 2, 1, 6),
        spec(16, 16, 3, 1, 1, 1, 16),
        spec(37, 37, 3, 2, 1, 1, 37),
        spec(24, 24, 5, 1, 2, 1, 24),
        spec(40, 40, 7, 1, 3, 1, 40),
        spec(19, 19, 3, 1, 2, 2, 19),
        spec(5, 10, 3, 1, 1, 1, 5),
    ];
    let mut cases = vec![];
    for (i, spec) in specs.into_iter().enumerate() {
        let activations =
            [None, Some(Activation::Relu), Some(Activation::Gelu), Some(Activation::Relu6), Some(Activation::Silu)];
        let residuals = [None, Some((1, true)), Some((1, false)), Some((2, true))];
        for (j, size) in [(9, 17), (16, 31), (7, 7)].into_iter().enumerate() {
            let n = i + j;
            cases.push(Case {
                spec,
                size,
                prologue: n % 2 == 1,
                activation: activations[n % 5],
                residual: residuals[n % 4],
                in_place: false,
                scale: n % 3 == 0,
                nan: false,
            });
            cases.push(Case {
                spec,
                size,
                prologue: n % 2 == 0,
                activation: activations[n % 5],
                residual: residuals[1],
                in_place: true,
                scale: n % 3 == 1,
                nan: false,
            });
        }
    }
    cases
}

#[test]
fn every_isa_computes_what_is_defined() {
    for case in cases() {
        for isa in Isa::ALL.into_iter().filter(|&isa| isa <= Isa::best()) {
            let (got, want) = run(&case, isa, Precision::F32, &[]);
            let d = difference(&got, &want);
            // Winograd's transforms cost a digit.
            let limit = if Winograd::suits(&case.spec, Some(out_size(&case))) { 1e-5 } else { 2e-6 };
            assert!(d < limit, "{isa:?} {:?} of {:?}: {d}", case.spec, case.size);
        }
    }
}

#[test]
fn bfloat16_is_close() {
    for case in cases() {
        let (got, want) = run(&case, Isa::best(), Precision::Bf16, &[]);
        let d = difference(&got, &want);
        assert!(d < 1e-2, "{:?} of {:?}: {d}", case.spec, case.size);
    }
}

#[test]
fn whole_numbers_of_16_bits_are_closer() {
    // Few channels and many, a last block that is not whole, sums in parts, a step.
    let specs = [(16, 40), (70, 33), (256, 64), (1090, 48)].map(|(cin, cout)| ConvSpec::linear(cin, cout));
    let step = ConvSpec { stride: 2, ..ConvSpec::linear(96, 80) };
    for case in specs.into_iter().chain([step]).flat_map(|spec| alone(spec, (9, 17))) {
        let of = |precision| {
            let (got, want) = run(&case, Isa::best(), precision, &[]);
            difference(&got, &want)
        };
        let (whole, bfloats) = (of(Precision::Int16), of(Precision::Bf16));
        println!("{:?}: {whole:e} and {bfloats:e}", case.spec);
        assert!(whole < 5e-4, "{:?}: {whole}", case.spec);
        assert!(Isa::best() != Isa::Avx512Bf16 || whole > 2e-6 && whole * 3.0 < bfloats, "{:?}: {whole}", case.spec);
    }
}

#[test]
fn whole_numbers_of_16_bits_go_through_winograds_transforms() {
    // Near weights and far ones, blocks, panels and pairs that are not whole.
    let threes = [(48, 32), (50, 33), (64, 64), (129, 70), (136, 242), (512, 64)].map(|c| (c, 3));
    let fives = [(57, 40), (150, 130)].map(|c| (c, 5));
    for ((cin, cout), kernel) in threes.into_iter().chain(fives) {
        for case in alone(ConvSpec::same(cin, cout, kernel), (16, 31)) {
            assert!(Winograd::suits(&case.spec, Some(out_size(&case))));
            let (got, want) = run(&case, Isa::best(), Precision::Int16, &[]);
            let d = difference(&got, &want);
            println!("{:?}: {d:e}", case.spec);
            assert!(d < 5e-3, "{:?}: {d}", case.spec);
            assert!(Isa::best() != Isa::Avx512Bf16 || d > 1e-5, "{:?}: nothing is rounded", case.spec);
            assert!(got == run(&case, Isa::best(), Precision::Int16, &[4, 12]).0, "{:?}", case.spec);
        }
    }
}

#[test]
fn whole_numbers_of_16_bits_hold_the_extremes() {
    let (h, w) = (8, 8);
    let of = |spec: ConvSpec, value: f32, weights: &[f32]| {
        let op = PackedConv::sized(spec, (h, w), (weights, None), Isa::best(), Precision::Int16);
        let (x, mut out) = (vec![value; h * w * spec.cin], vec![f32::NAN; h * w * spec.cout]);
        let (x, mut view) = (View::dense(&x, h, w, spec.cin), ViewMut::dense(&mut out, h, w, spec.cout));
        conv(&op, x, None, &Epilogue::default(), &mut view, 0..h, &mut vec![0.0; op.scratch_floats(w)]);
        out
    };
    // Inputs and weights that point the same way: no sum is larger for its factors.
    for (cin, sign) in [1, 2, 16, 33, 300, 1090, 4096].into_iter().flat_map(|cin| [(cin, 1.0), (cin, -1.0)]) {
        let spec = ConvSpec::linear(cin, 20);
        let want = sign * 3.0 * cin as f32;
        for got in of(spec, 3.0, &vec![sign; spec.weight_count()]) {
            assert!((got - want).abs() < 1e-3 * want.abs(), "{cin}: {got}, not {want}");
        }
    }
    // Inputs of zeros and almost, and a channel whose weights are.
    for spec in [ConvSpec::same(48, 32, 3), ConvSpec::linear(48, 32)] {
        let (mut weights, one) = (numbers(1, spec.weight_count()), spec.weight_count() / spec.cout);
        weights[one..2 * one].fill(0.0);
        for value in [0.0, 1e-30] {
            assert!(of(spec, value, &weights).iter().all(|v| v.abs() < 1e-25), "{value}");
        }
        assert!(of(spec, 1.0, &weights).chunks_exact(32).all(|pixel| pixel[1] == 0.0 && pixel[0] != 0.0));
    }
}

#[test]
fn bands_do_not_change_bits() {
    for case in cases() {
        for isa in Isa::ALL.into_iter().filter(|&isa| isa <= Isa::best()) {
            for precision in [Precision::F32, Precision::Bf16, Precision::Int16] {
                let whole = run(&case, isa, precision, &[usize::MAX]).0;
                let bands = run(&case, isa, precision, &[1, 2, 5]).0;
                assert!(whole == bands, "{isa:?} {:?} of {:?}", case.spec, case.size);
            }
        }
    }
}

#[test]
fn a_nan_in_is_a_nan_out() {
    for case in cases() {
        // Half of the cases have a ReLU in front of the sum, two fifths a clamp behind it.
        let case = Case { nan: true, ..case };
        for isa in Isa::ALL.into_iter().filter(|&isa| isa <= Isa::best()) {
            for precision in [Precision::F32, Precision::Bf16, Precision::Int16] {
                let (got, want) = run(&case, isa, precision, &[]);
                assert!(want.iter().any(|v| v.is_nan()) || case.spec.stride > 1, "{:?}", case.spec);
                // Winograd's tiles and bfloat16's pairs spread it further.
                let lost = want.iter().zip(&got).filter(|(want, got)| want.is_nan() && !got.is_nan()).count();
                assert_eq!(lost, 0, "{isa:?} {precision:?} {:?} of {:?}", case.spec, case.size);
            }
        }
    }
}

/// A case of this size alone, with and without what it adds in its place.
fn alone(spec: ConvSpec, size: (usize, usize)) -> [Case; 2] {
    [false, true].map(|in_place| Case {
        spec,
        size,
        prologue: false,
        activation: Some(Activation::Relu),
        residual: Some((1, true)),
        in_place,
        scale: false,
        nan: false,
    })
}

#[test]
fn a_deep_sum_is_taken_in_parts() {
    for isa in Isa::ALL.into_iter().filter(|&isa| isa <= Isa::best()) {
        for case in alone(ConvSpec { stride: 2, ..ConvSpec::same(1024, 40, 3) }, (8, 9)) {
            let (got, want) = run(&case, isa, Precision::F32, &[]);
            assert!(difference(&got, &want) < 5e-6, "{isa:?}");
            assert!(got == run(&case, isa, Precision::F32, &[2]).0, "{isa:?}");
        }
    }
}

#[test]
fn weights_that_are_transformed_where_they_are_used_give_the_same() {
    // Parts of channels in and out, the last ones not whole.
    for case in [3, 5].into_iter().flat_map(|kernel| alone(ConvSpec::same(136, 242, kernel), (16, 31))) {
        for isa in Isa::ALL.into_iter().filter(|&isa| isa <= Isa::best()) {
            let (got, want) = run(&case, isa, Precision::F32, &[]);
            assert!(difference(&got, &want) < 1e-5, "{isa:?} {:?}", case.spec);
            assert!(got == run(&case, isa, Precision::F32, &[4, 12]).0, "{isa:?} {:?}", case.spec);
        }
    }
}

#[test]
fn parts_hold_every_output_once_and_do_not_change_bits() {
    let mut cut = HashSet::new();
    let squares = [ConvSpec::same(136, 242, 3), ConvSpec::same(24, 40, 3), ConvSpec::same(20, 36, 5)];
    let specs = squares.into_iter().chain([ConvSpec::same(40, 70, 1)]);
    let ways = Isa::ALL.map(|isa| (isa, Precision::F32)).into_iter().chain([(Isa::best(), Precision::Int16)]);
    let ways: Vec<_> = ways.collect();
    for (spec, size) in specs.flat_map(|spec| [(16, 31), (40, 36)].map(|size| (spec, size))) {
        let [case, in_place] = alone(spec, size);
        let behind = Case { activation: Some(Activation::Gelu), scale: true, ..alone(spec, size)[0] };
        for (case, &(isa, precision)) in [case, in_place, behind].iter().flat_map(|c| ways.iter().map(move |w| (c, w)))
        {
            let whole = run(case, isa, precision, &[usize::MAX]).0;
            for (threads, most) in [(1, 1), (2, 4), (4, 8), (5, 9), (16, 32)] {
                let got = run_parts(case, (isa, precision), false, |op| {
                    let parts = op.parts(out_size(case), threads, most);
                    assert!((1..=most).contains(&parts.count()));
                    let all: Vec<Part> = (0..parts.count()).rev().map(|i| parts.part(i)).collect();
                    cut.extend(all.iter().map(|(_, channels)| (spec.cin, channels.len())));
                    all
                });
                assert!(whole == got.0, "{isa:?} {precision:?} {spec:?} {threads}");
            }
        }
    }
    // Far weights are shared out where there are few tiles.
    assert!(cut.contains(&(136, 242)) && cut.iter().any(|&(cin, n)| cin == 136 && n <= 128), "{cut:?}");
    assert!(cut.contains(&(24, 40)) && cut.contains(&(40, 70)) && cut.len() > 3);
}
