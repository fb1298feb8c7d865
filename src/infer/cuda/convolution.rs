//! Convolutions as launches: which block size, which granule, how weights lie.
//!
//! Owns: dense, grouped, depthwise and transposed convolutions. Must not know: other steps, drivers.
//!
//! On compute capability 9.0 wide products may be those of a warpgroup (`kernels/conv_wgmma.cu`), which alone reach the
//! peak rate; whether they win was not measured, so nothing takes them unasked ([`Batch::wgmma`](super::Batch::wgmma)).

use super::{
    argument::{Argument, Place, activation},
    lower::{LayerNorm, Lowering},
    map::{Map, width},
};
use crate::{
    infer::{
        cpu::{ConvSpec, TransposedSpec},
        plan::PlanStep,
        program::{Affine, ConvStep, RawWeights, TransposedStep},
    },
    model::graph::Activation,
};

/// Products of a piece, as in `kernels/conv.cu`.
const PIECE: usize = 32;
/// Pieces of the ring, as in `kernels/conv.cu`.
const STAGES: usize = 4;
/// Blocks below which smaller ones are taken: the multiprocessors of an H100.
const FEW_BLOCKS: usize = 132;

/// A kernel of `kernels/conv.cu`: rows, columns, granule, threads.
type Form = (&'static str, usize, usize, usize, usize);
const FORMS: [Form; 10] = [
    ("conv_128x128_g8", 128, 128, 8, 256),
    ("conv_128x64_g8", 128, 64, 8, 128),
    ("conv_64x64_g8", 64, 64, 8, 128),
    ("conv_128x32_g8", 128, 32, 8, 128),
    ("conv_128x16_g8", 128, 16, 8, 128),
    ("conv_128x8_g8", 128, 8, 8, 128),
    ("conv_128x64_g4", 128, 64, 4, 128),
    ("conv_128x32_g4", 128, 32, 4, 128),
    ("conv_128x64_g1", 128, 64, 1, 128),
    ("conv_128x16_g1", 128, 16, 1, 128),
];

/// What is computed, whatever it came from.
pub(super) struct Dense<'a> {
    pub spec: ConvSpec,
    /// Zeros above and to the left; less than none where the first rows are left out.
    pub pad: (isize, isize),
    pub x: Map,
    pub out: Map,
    pub residual: Option<(Map, usize)>,
    pub gate: Option<Map>,
    pub prologue: Option<&'a Affine>,
    pub activation: Option<Activation>,
    pub is_residual_first: bool,
    /// Which of the step's tables the weights are.
    pub table: usize,
    /// `[cout, cin / groups, kh, kw]`.
    pub weights: &'a dyn Fn() -> Vec<f32>,
    pub bias: Option<&'a [f32]>,
}

/// Products of a piece, and the fewest of all, of `kernels/conv_wgmma.cu`.
const WIDE_PIECE: usize = 64;
const FEWEST_WIDE: usize = 128;
/// As `FORMS`, and pieces of the ring.
const WIDE_FORMS: [(Form, usize); 2] =
    [(("conv_wgmma_128x256", 128, 256, 8, 256), 4), (("conv_wgmma_128x128", 128, 128, 8, 256), 3)];

/// Columns of the weights' table: the output's channels of a group, to whole blocks.
fn columns(cout: usize, granule: usize) -> usize {
    let steps: &[usize] = match granule {
        8 => &[8, 16, 32, 64],
        4 => &[32, 64],
        _ => &[16, 64],
    };
    match steps.iter().find(|step| cout <= **step) {
        Some(step) => *step,
        // Blocks of 128 waste at most half of the last one.
        None if granule == 8 && (cout.is_multiple_of(128) || cout % 128 > 64) => cout.next_multiple_of(128),
        None => cout.next_multiple_of(64),
    }
}

/// The kernel for a product of this many rows.
fn form(columns: usize, granule: usize, rows: usize, groups: usize) -> Form {
    let blocks = |f: &Form| rows.div_ceil(f.1) * (columns / f.2) * groups;
    let mut fitting =
        FORMS.iter().filter(|f| f.3 == granule && columns.is_multiple_of(f.2) && (columns < 64) == (f.2 < 64));
    let mut best = fitting.next().expect("columns are made for the kernels there are");
    for smaller in fitting {
        // Smaller blocks read more; they are for what would leave multiprocessors idle.
        let is_for_few = columns >= 64 && smaller.1 * smaller.2 < best.1 * best.2 && blocks(best) < FEW_BLOCKS;
        if is_for_few || (columns < 64 && smaller.2 == columns) {
            best = smaller;
        }
    }
    *best
}

/// The kernel of warpgroups for a product of this many rows, and pieces of its ring; none where it would leave
/// multiprocessors idle.
fn wide_form(columns: usize, rows: usize) -> Option<(Form, usize)> {
    let is_enough = |f: &Form| rows.div_ceil(f.1) * (columns / f.2) >= FEW_BLOCKS;
    WIDE_FORMS.into_iter().find(|(f, _)| columns.is_multiple_of(f.2) && is_enough(f))
}

/// `[groups][columns][k]`: taps row by row, each with its channels.
fn table(spec: &ConvSpec, weights: &[f32], columns: usize, tap_channels: usize, k: usize) -> Vec<f32> {
    let ConvSpec { cin, cout, kernel: (kh, kw), groups, .. } = *spec;
    let (cin, cout) = (cin / groups, cout / groups);
    let mut table = vec![0.0; groups * columns * k];
    for o in 0..groups * cout {
        let row = &mut table[(o / cout * columns + o % cout) * k..][..k];
        for (i, tap) in (0..cin).flat_map(|i| (0..kh * kw).map(move |tap| (i, tap))) {
            row[tap * tap_channels + i] = weights[(o * cin + i) * kh * kw + tap];
        }
    }
    table
}

impl Lowering<'_> {
    /// A convolution of the program with this image size's padding.
    pub(super) fn conv(&mut self, step: &PlanStep, conv: &ConvStep, spec: &ConvSpec) {
        let raw = conv.raw.as_ref().expect("programs for a GPU keep their weights");
        let (x, out) = (self.map(&step.inputs[0]), self.map(&step.output));
        let residual = conv.residual_factor.and_then(|f| Some((self.map(step.inputs.last()?), f)));
        if spec.groups == spec.cin && spec.cin == spec.cout && spec.groups > 1 && conv.prologue.is_none() {
            return self.depthwise((spec, raw), (x, out), residual, conv);
        }
        self.dense(&Dense {
            spec: *spec,
            pad: (spec.pad.0 as isize, spec.pad.1 as isize),
            x,
            out,
            residual,
            gate: conv.is_gated.then(|| self.map(&step.inputs[1])),
            prologue: conv.prologue.as_ref(),
            activation: conv.activation,
            is_residual_first: conv.is_residual_first,
            table: 0,
            weights: &|| raw.weights.clone(),
            bias: raw.bias.as_deref(),
        });
    }

    /// Told by the shape alone, not by the rows: weights lie the same for all batches.
    fn is_for_warpgroups(&self, columns: usize, products: usize) -> bool {
        self.has_wgmma() && columns.is_multiple_of(128) && products >= FEWEST_WIDE
    }

    /// The launch of a product; tables `table` to `table + 3` of the step.
    pub(super) fn dense(&mut self, of: &Dense<'_>) {
        let Dense { spec, x, out, .. } = of;
        let (cin, cout, (kh, kw)) = (spec.cin / spec.groups, spec.cout / spec.groups, spec.kernel);
        let has_prologue = of.prologue.is_some() || of.gate.is_some();
        let granule = match x.granule() {
            8 if spec.groups == 1 || cin.is_multiple_of(8) => 8,
            8 | 4 if spec.groups == 1 && !has_prologue => 4,
            _ => 1,
        };
        let tap_channels = cin.next_multiple_of(granule);
        let columns = columns(cout, granule);
        let products = kh * kw * tap_channels;
        let is_wide_product = granule == 8 && spec.groups == 1 && self.is_for_warpgroups(columns, products);
        let k = products.next_multiple_of(if is_wide_product { WIDE_PIECE } else { PIECE });
        let weights = self.store.numbers(self.key(of.table), || table(spec, &(of.weights)(), columns, tap_channels, k));
        let bias = of.bias.map(|bias| self.store.floats(self.key(of.table + 1), bias));
        let scale = of.prologue.map(|p| self.store.floats(self.key(of.table + 2), &p.scale));
        let shift = of.prologue.map(|p| self.store.floats(self.key(of.table + 3), &p.shift));
        // The kernel counts pixels, and steps within an image, in 32 bits.
        let rows = self.images() * out.pixels();
        assert!(rows.max(x.image) < 1 << 31, "{rows} outputs of a convolution");
        let wide_form = wide_form(columns, rows).filter(|_| is_wide_product);
        let (kernel, block_rows, block_columns, _, threads) =
            wide_form.map_or_else(|| form(columns, granule, rows, spec.groups), |(form, _)| form);
        let residual = of.residual.map(|(map, _)| map);
        let wide = [Some(*out), residual].into_iter().flatten().all(|map| map.granule() == 8)
            && (spec.groups == 1 || cout.is_multiple_of(8));
        let at = |map: Option<Map>| map.map(|map| map.place);
        let step = |map: Option<Map>, of: fn(Map) -> usize| map.map_or(0, of);
        let mut launch = Argument::new()
            .pointer(Some(x.place))
            .pointer(Some(weights))
            .pointer(bias)
            .pointer(Some(out.place))
            .pointer(at(residual))
            .pointer(scale)
            .pointer(shift)
            .pointer(at(of.gate))
            .long(x.image)
            .long(out.image)
            .long(step(residual, |m| m.image))
            .long(step(of.gate, |m| m.image))
            .ints(&[self.images(), x.h, x.w, x.row, x.pixel, out.h, out.w, out.row, out.pixel])
            .ints(&[step(residual, |m| m.row), step(residual, |m| m.pixel), of.residual.map_or(1, |(_, f)| f.max(1))])
            .ints(&[cin, cout, kh, kw, spec.stride, spec.dilation])
            .signed(of.pad.0)
            .signed(of.pad.1)
            .ints(&[tap_channels, k, columns])
            .ints(&[usize::from(of.prologue.is_some_and(|p| p.relu)), activation(of.activation)])
            .ints(&[usize::from(of.is_residual_first), usize::from(wide)])
            .launch(kernel, [rows.div_ceil(block_rows) * (columns / block_columns), 1, spec.groups], threads);
        // Rings of warpgroups begin at multiples of 1024.
        let ring = |stages: usize, piece: usize| stages * (block_rows + block_columns) * piece * 2;
        launch.shared_bytes = wide_form.map_or(ring(STAGES, PIECE), |(_, n)| ring(n, WIDE_PIECE) + 1024) as u32;
        self.push(launch);
    }

    /// `[kh][kw][c]`.
    fn depthwise_table(&mut self, spec: &ConvSpec, raw: &RawWeights) -> (Place, Option<Place>) {
        let taps = spec.kernel.0 * spec.kernel.1;
        let turned = || (0..taps * spec.cin).map(|i| raw.weights[i % spec.cin * taps + i / spec.cin]).collect();
        let weights = self.store.numbers(self.key(0), turned);
        (weights, raw.bias.as_ref().map(|bias| self.store.floats(self.key(1), bias)))
    }

    fn depthwise(
        &mut self,
        (spec, raw): (&ConvSpec, &RawWeights),
        (x, out): (Map, Map),
        residual: Option<(Map, usize)>,
        conv: &ConvStep,
    ) {
        let tables = self.depthwise_table(spec, raw);
        let residual = residual.map(|(map, _)| map);
        let maps: Vec<&Map> = [Some(&x), Some(&out), residual.as_ref()].into_iter().flatten().collect();
        let v = width(&maps, spec.cin);
        let is_run = v == 8 && spec.stride == 1 && spec.dilation == 1 && out.w >= 4;
        let (kernel, r) = match (v, is_run) {
            (8, true) => ("depthwise_v8_r4", 4),
            (8, false) => ("depthwise_v8_r1", 1),
            _ => ("depthwise_v1_r1", 1),
        };
        let threads = self.images() * out.h * out.w.div_ceil(r) * (spec.cin / v);
        let norm = (None, None, 0.0);
        let form = (activation(conv.activation), conv.is_residual_first, 1);
        let argument = self.depthwise_argument(spec, tables, (x, out, residual), norm, form);
        self.push(argument.launch(kernel, [threads.div_ceil(128), 1, 1], 128));
    }

    /// A depthwise convolution and the layer normalisation after it, where one kernel can do both.
    pub(super) fn depthwise_layer_norm(
        &mut self,
        (step, conv, spec): (&PlanStep, &ConvStep, &ConvSpec),
        out: Map,
        (eps, weight, bias): LayerNorm<'_>,
    ) -> bool {
        let x = self.map(&step.inputs[0]);
        let is_plain = conv.activation.is_none() && conv.residual_factor.is_none() && conv.prologue.is_none();
        let parts = spec.cin / 8;
        let fits = spec.groups == spec.cin && spec.cin == spec.cout && spec.stride == 1 && spec.dilation == 1;
        if !(is_plain && !conv.is_gated && fits && width(&[&x, &out], spec.cin) == 8 && parts <= 256) {
            return false;
        }
        let raw = conv.raw.as_ref().expect("programs for a GPU keep their weights");
        let tables = self.depthwise_table(spec, raw);
        let weight = self.store.floats(self.key(2), weight);
        let shift = self.store.floats(self.key(3), bias);
        let runs = (256 / parts).min(8);
        let threads = (runs * parts).next_multiple_of(32);
        let norm = (Some(weight), Some(shift), eps);
        let argument = self.depthwise_argument(spec, tables, (x, out, None), norm, (0, false, runs));
        let all = self.images() * out.h * out.w.div_ceil(4);
        let mut launch = argument.launch("depthwise_layer_norm_r4", [all.div_ceil(runs), 1, 1], threads);
        launch.shared_bytes = (4 * runs * 4 * (parts + 1)) as u32;
        self.push(launch);
        true
    }

    fn depthwise_argument(
        &self,
        spec: &ConvSpec,
        (weights, bias): (Place, Option<Place>),
        (x, out, residual): (Map, Map, Option<Map>),
        (weight, shift, eps): (Option<Place>, Option<Place>, f32),
        (activation, is_residual_first, runs): (usize, bool, usize),
    ) -> Argument {
        Argument::new()
            .pointer(Some(x.place))
            .pointer(Some(weights))
            .pointer(bias)
            .pointer(Some(out.place))
            .pointer(residual.map(|r| r.place))
            .pointer(weight)
            .pointer(shift)
            .long(x.image)
            .long(out.image)
            .long(residual.map_or(0, |r| r.image))
            .ints(&[self.images(), x.h, x.w, x.row, x.pixel, out.h, out.w, out.row, out.pixel])
            .ints(&[residual.map_or(0, |r| r.row), residual.map_or(0, |r| r.pixel)])
            .ints(&[spec.cin, spec.kernel.0, spec.kernel.1, spec.stride, spec.dilation, spec.pad.0, spec.pad.1])
            .ints(&[activation, usize::from(is_residual_first), runs])
            .float(eps)
    }

    /// A transposed convolution: outputs of one phase of rows and columns are a convolution of stride 1 by the taps that
    /// reach them.
    pub(super) fn transposed(&mut self, step: &PlanStep, conv: &TransposedStep, spec: &TransposedSpec) {
        let raw = conv.raw.as_ref().expect("programs for a GPU keep their weights");
        let (x, out) = (self.map(&step.inputs[0]), self.map(&step.output));
        let TransposedSpec { cin, cout, kernel: k, stride, crop } = *spec;
        for phase in 0..stride * stride {
            let (py, px) = (phase / stride, phase % stride);
            let (Some(ys), Some(xs)) = (Axis::new(py, stride, crop.0, out.h), Axis::new(px, stride, crop.1, out.w))
            else {
                continue;
            };
            let (kh, kw) = ((k - py).div_ceil(stride), (k - px).div_ceil(stride));
            // The last tap reaches the nearest pixel: taps run backwards.
            let weights = || {
                let tap = |i: usize| {
                    let (o, c, ky, kx) = (i / (cin * kh * kw), i / (kh * kw) % cin, i / kw % kh, i % kw);
                    let (ky, kx) = (py + stride * (kh - 1 - ky), px + stride * (kw - 1 - kx));
                    raw.weights[((c * cout + o) * k + ky) * k + kx]
                };
                (0..cout * cin * kh * kw).map(tap).collect()
            };
            self.dense(&Dense {
                spec: ConvSpec { kernel: (kh, kw), ..ConvSpec::linear(cin, cout) },
                pad: (kh as isize - 1 - ys.skip as isize, kw as isize - 1 - xs.skip as isize),
                x,
                out: out.grid((ys.first, xs.first), stride, (ys.count, xs.count)),
                residual: None,
                gate: None,
                prologue: None,
                activation: conv.activation,
                is_residual_first: false,
                table: 4 * phase,
                weights: &weights,
                bias: raw.bias.as_deref(),
            });
        }
    }
}

/// The outputs of one phase along one axis: the first after the crop, how many, and how many the crop cut off.
struct Axis {
    first: usize,
    count: usize,
    skip: usize,
}

impl Axis {
    fn new(phase: usize, stride: usize, crop: usize, size: usize) -> Option<Self> {
        let skip = crop.saturating_sub(phase).div_ceil(stride);
        let first = phase + skip * stride - crop;
        (first < size).then(|| Self { first, count: (size - first).div_ceil(stride), skip })
    }
}
