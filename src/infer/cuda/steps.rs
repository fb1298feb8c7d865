//! All steps but convolutions as launches.
//!
//! Owns: normalisations, sums, pools, attention, pixels and heads. Must not know: convolutions, drivers.

use super::{
    argument::{Argument, Over, Place, activation, resize_mode},
    launch::Region,
    lower::{HeadForm, Lowering},
    map::{Map, width},
};
use crate::{
    infer::{plan::PlanStep, program::StepOp},
    model::{
        graph::{Activation, Pool, ResizeMode},
        weights::Normalisation,
    },
};

/// Threads of a block of the kernels with a thread per piece.
const THREADS: usize = 256;
/// Pixels of a slab, and the most slabs of an image.
const SLAB_PX: usize = 256;
const MOST_SLABS: usize = 64;
/// The most sources of a sum.
const SOURCES: usize = 8;

fn blocks(threads: usize) -> [usize; 3] {
    [threads.div_ceil(THREADS), 1, 1]
}

fn by_width(v: usize, [wide, narrow]: [&'static str; 2]) -> &'static str {
    if v == 8 { wide } else { narrow }
}

impl Lowering<'_> {
    /// A step that is no convolution.
    pub(super) fn plain(&mut self, step: &PlanStep, op: &StepOp) {
        let inputs: Vec<Map> = step.inputs.iter().map(|slot| self.map(slot)).collect();
        let out = self.map(&step.output);
        match op {
            StepOp::Conv(_) | StepOp::Cascade(_) | StepOp::Transposed(_) => {
                unreachable!("convolutions are planned as such")
            }
            StepOp::Pixels => self.pixels(out),
            StepOp::Embedding { table, .. } => {
                let row = &table[self.kind() * out.c..][..out.c];
                let place = self.store.numbers(self.key(0), || row.to_vec());
                let row = Map { place, image: 0, row: 0, pixel: 0, ..out };
                self.combine(&[(row, 1)], None, out);
            }
            StepOp::Affine { scale, shift, activation } => {
                let factors = (self.store.floats(self.key(0), scale), self.store.floats(self.key(1), shift));
                self.affine((inputs[0], out), factors, (0, 0), *activation);
            }
            StepOp::Activation(Activation::Softmax) => self.pixel_wise("softmax", (inputs[0], out), (None, None, 0.0)),
            StepOp::Activation(activation) => self.combine(&[(inputs[0], 1)], Some(*activation), out),
            StepOp::Add { activation } => {
                let sources: Vec<(Map, usize)> = inputs.iter().map(|x| (*x, 1)).collect();
                self.combine(&sources, *activation, out);
            }
            StepOp::AddEnlarged { factor, activation } => {
                self.combine(&[(inputs[0], *factor), (inputs[1], 1)], *activation, out);
            }
            StepOp::Multiply => self.multiply(inputs[0], inputs[1], out),
            StepOp::GroupNorm { .. } | StepOp::GlobalResponseNorm { .. } => self.global_norm(op, inputs[0], out),
            StepOp::LayerNorm { eps, weight, bias } => self.layer_norm(inputs[0], (*eps, weight, bias), out),
            StepOp::Attention { heads } => self.attention(inputs[0], inputs[1], *heads, out),
            StepOp::WindowAttention { .. } => self.window_attention(op, inputs[0], out),
            StepOp::SpaceToDepth => {
                for quarter in 0..4 {
                    let from = inputs[0].grid((quarter % 2, quarter / 2), 2, (out.h, out.w));
                    self.combine(&[(from, 1)], None, out.channels(quarter * from.c, from.c));
                }
            }
            StepOp::MaxPool(pool) => self.window((inputs[0], out), Some((*pool, true)), ResizeMode::Nearest),
            StepOp::AvgPool(pool) => self.window((inputs[0], out), Some((*pool, false)), ResizeMode::Nearest),
            StepOp::Resize(mode) => self.window((inputs[0], out), None, *mode),
            StepOp::GlobalAvgPool => self.global_pool(inputs[0], Over::Sum, out),
            StepOp::GlobalMaxPool => self.global_pool(inputs[0], Over::Max, out),
            StepOp::ChannelMean => self.pixel_wise("channel_mean", (inputs[0], out), (None, None, 0.0)),
            StepOp::ChannelMax => self.pixel_wise("channel_max", (inputs[0], out), (None, None, 0.0)),
        }
    }

    /// A copy.
    pub(super) fn copy(&mut self, step: &PlanStep) {
        let (x, out) = (self.map(&step.inputs[0]), self.map(&step.output));
        self.combine(&[(x, 1)], None, out);
    }

    /// `activation(Σ sources)`, each enlarged by its factor.
    fn combine(&mut self, sources: &[(Map, usize)], of: Option<Activation>, out: Map) {
        assert!((1..=SOURCES).contains(&sources.len()), "{} addends", sources.len());
        let maps: Vec<&Map> = sources.iter().map(|(map, _)| map).chain([&out]).collect();
        let v = width(&maps, out.c);
        let mut argument = Argument::new();
        for i in 0..SOURCES {
            argument = match sources.get(i) {
                Some((x, factor)) => {
                    argument.pointer(Some(x.place)).long(x.image).ints(&[x.row, x.pixel, (*factor).max(1), 0])
                }
                None => argument.pointer(None).long(0).ints(&[0, 0, 1, 0]),
            };
        }
        let launch = argument
            .pointer(Some(out.place))
            .long(out.image)
            .ints(&[self.images(), out.h, out.w, out.c, out.row, out.pixel, sources.len(), activation(of)])
            .launch(
                by_width(v, ["combine_v8", "combine_v1"]),
                blocks(self.images() * out.pixels() * out.c / v),
                THREADS,
            );
        self.push(launch);
    }

    fn map_kernel(
        &mut self,
        (x, gate, out): (Map, Option<Map>, Map),
        factors: Option<(Place, Place)>,
        (scale_image, shift_image): (usize, usize),
        (is_narrow, of): (bool, Option<Activation>),
    ) {
        let wide = gate.as_ref().filter(|_| !is_narrow);
        let maps: Vec<&Map> = [Some(&x), Some(&out), wide].into_iter().flatten().collect();
        let v = width(&maps, out.c);
        let g = |of: fn(&Map) -> usize| gate.as_ref().map_or(0, of);
        let launch = Argument::new()
            .pointer(Some(x.place))
            .pointer(gate.map(|g| g.place))
            .pointer(factors.map(|f| f.0))
            .pointer(factors.map(|f| f.1))
            .pointer(Some(out.place))
            .long(x.image)
            .long(g(|g| g.image))
            .long(scale_image)
            .long(shift_image)
            .long(out.image)
            .ints(&[self.images(), out.h, out.w, out.c, x.row, x.pixel, g(|g| g.row), g(|g| g.pixel)])
            .ints(&[out.row, out.pixel, usize::from(is_narrow), activation(of)])
            .launch(by_width(v, ["map_v8", "map_v1"]), blocks(self.images() * out.pixels() * out.c / v), THREADS);
        self.push(launch);
    }

    fn affine(&mut self, (x, out): (Map, Map), factors: (Place, Place), steps: (usize, usize), of: Option<Activation>) {
        self.map_kernel((x, None, out), Some(factors), steps, (false, of));
    }

    fn multiply(&mut self, x: Map, gate: Map, out: Map) {
        let gate = if gate.pixels() == 1 { gate.spread() } else { gate };
        self.map_kernel((x, Some(gate), out), None, (0, 0), (gate.c == 1 && out.c != 1, None));
    }

    /// A kernel with a warp per pixel.
    fn pixel_wise(
        &mut self,
        kernel: &'static str,
        (x, out): (Map, Map),
        (weight, shift, eps): (Option<Place>, Option<Place>, f32),
    ) {
        let launch = Argument::new()
            .pointer(Some(x.place))
            .pointer(Some(out.place))
            .pointer(weight)
            .pointer(shift)
            .long(x.image)
            .long(out.image)
            .ints(&[self.images(), x.h, x.w, x.c, x.row, x.pixel, out.row, out.pixel])
            .float(eps)
            .launch(kernel, blocks(32 * self.images() * x.pixels()), THREADS);
        self.push(launch);
    }

    fn layer_norm(&mut self, x: Map, (eps, weight, bias): (f32, &[f32], &[f32]), out: Map) {
        let v = width(&[&x, &out], x.c);
        let factors = (self.store.floats(self.key(0), weight), self.store.floats(self.key(1), bias));
        let kernel = by_width(v, ["layer_norm_v8", "layer_norm_v1"]);
        self.pixel_wise(kernel, (x, out), (Some(factors.0), Some(factors.1), eps));
    }

    /// Results of slabs; how many there are, and where what comes of them may be put.
    fn slabs(&mut self, x: Map, over: Over) -> (usize, Place) {
        let slabs = x.pixels().div_ceil(SLAB_PX).clamp(1, MOST_SLABS);
        let results = self.images() * slabs * 2 * x.c;
        self.reserve_partial(4 * (results + self.images() * 2 * x.c));
        let launch = Argument::new()
            .pointer(Some(x.place))
            .pointer(Some(Place { region: Region::Partial, offset: 0 }))
            .long(x.image)
            .ints(&[self.images(), x.h, x.w, x.c, x.row, x.pixel, slabs, over as usize])
            .launch("slab_results", [slabs, x.c.div_ceil(32), self.images()], THREADS);
        self.push(launch);
        (slabs, Place { region: Region::Partial, offset: 4 * results as u64 })
    }

    /// What slabs' results come to: factors, or the output of a pool.
    fn factors(
        &mut self,
        (kernel, grid): (&'static str, [usize; 3]),
        x: Map,
        (slabs, factors): (usize, Place),
        (weight, bias): (Option<Place>, Option<Place>),
        (groups, over, eps, out): (usize, Over, f32, Option<Map>),
    ) {
        let launch = Argument::new()
            .pointer(Some(Place { region: Region::Partial, offset: 0 }))
            .pointer(weight)
            .pointer(bias)
            .pointer(Some(factors))
            .pointer(out.map(|out| out.place))
            .long(out.map_or(0, |out| out.image))
            .ints(&[self.images(), x.pixels(), x.c, slabs, groups, over as usize])
            .float(eps)
            .launch(kernel, grid, THREADS);
        self.push(launch);
    }

    fn global_pool(&mut self, x: Map, over: Over, out: Map) {
        let slabs = self.slabs(x, over);
        let grid = blocks(self.images() * x.c);
        self.factors(("pool_of_slabs", grid), x, slabs, (None, None), (1, over, 0.0, Some(out)));
    }

    fn global_norm(&mut self, op: &StepOp, x: Map, out: Map) {
        let after = |place: Place| Place { offset: place.offset + 4 * x.c as u64, ..place };
        match op {
            StepOp::GroupNorm { groups, eps, weight, bias, activation } => {
                let tables = (self.store.floats(self.key(0), weight), self.store.floats(self.key(1), bias));
                let slabs = self.slabs(x, Over::Moments);
                let form = ("group_norm_factors", [*groups, self.images(), 1]);
                let tables = (Some(tables.0), Some(tables.1));
                self.factors(form, x, slabs, tables, (*groups, Over::Moments, *eps as f32, None));
                self.affine((x, out), (slabs.1, after(slabs.1)), (2 * x.c, 2 * x.c), *activation);
            }
            StepOp::GlobalResponseNorm { weight, bias } => {
                let tables = (self.store.floats(self.key(0), weight), self.store.floats(self.key(1), bias));
                let slabs = self.slabs(x, Over::Squares);
                let form = ("response_norm_factors", [self.images(), 1, 1]);
                self.factors(form, x, slabs, (Some(tables.0), None), (1, Over::Squares, 0.0, None));
                self.affine((x, out), (slabs.1, tables.1), (2 * x.c, 0), None);
            }
            _ => unreachable!("only these two are over the image"),
        }
    }

    /// A pool, or without one a resize.
    fn window(&mut self, (x, out): (Map, Map), pool: Option<(Pool, bool)>, mode: ResizeMode) {
        let v = width(&[&x, &out], out.c);
        let names = if pool.is_some() { ["pool_v8", "pool_v1"] } else { ["resize_v8", "resize_v1"] };
        let (pool, is_max) = pool.unwrap_or((Pool { kernel: 1, stride: 1, pad: 0 }, false));
        let launch = Argument::new()
            .pointer(Some(x.place))
            .pointer(Some(out.place))
            .long(x.image)
            .long(out.image)
            .ints(&[self.images(), out.c, x.h, x.w, x.row, x.pixel, out.h, out.w, out.row, out.pixel])
            .ints(&[pool.kernel, pool.stride, pool.pad, usize::from(is_max), resize_mode(mode), 0])
            .launch(by_width(v, names), blocks(self.images() * out.pixels() * out.c / v), THREADS);
        self.push(launch);
    }

    fn attention_argument(
        &self,
        (queries, keys, out): (Map, Option<Map>, Map),
        bias: Option<Place>,
        heads: usize,
        (window, shift): (usize, [usize; 2]),
    ) -> Argument {
        let k = |of: fn(&Map) -> usize| keys.as_ref().map_or(0, of);
        Argument::new()
            .pointer(Some(queries.place))
            .pointer(keys.map(|k| k.place))
            .pointer(bias)
            .pointer(Some(out.place))
            .long(queries.image)
            .long(k(|k| k.image))
            .long(out.image)
            .ints(&[self.images(), out.h, out.w, queries.row, queries.pixel])
            .ints(&[k(|k| k.h), k(|k| k.w), k(|k| k.row), k(|k| k.pixel), out.row, out.pixel])
            .ints(&[heads, out.c / heads, window, shift[0], shift[1]])
    }

    fn attention(&mut self, queries: Map, keys: Map, heads: usize, out: Map) {
        let kernel = if out.c / heads <= 32 { "attention_d32" } else { "attention_d64" };
        let argument = self.attention_argument((queries, Some(keys), out), None, heads, (0, [0; 2]));
        self.push(argument.launch(kernel, [out.pixels().div_ceil(128), heads, self.images()], 128));
    }

    fn window_attention(&mut self, op: &StepOp, x: Map, out: Map) {
        let StepOp::WindowAttention { windows, bias } = op else { unreachable!("called for windows") };
        let (side, heads) = (windows.window_px, windows.heads);
        let (kernel, d) = if out.c / heads <= 32 { ("window_attention_d32", 32) } else { ("window_attention_d64", 64) };
        let bias = self.store.floats(self.key(0), bias);
        // A side that is one window is not shifted.
        let shift = [out.h, out.w].map(|length| if length == side { 0 } else { windows.shift_px });
        let argument = self.attention_argument((x, None, out), Some(bias), heads, (side, shift));
        let threads = (side * side).next_multiple_of(32).min(256);
        let grid = [out.h / side * (out.w / side), heads, self.images()];
        let mut launch = argument.launch(kernel, grid, threads);
        launch.shared_bytes = (2 * side * side * d * 4) as u32;
        self.push(launch);
    }

    /// The images' bytes, their stain normalised where that is asked for, as the network wants them.
    fn pixels(&mut self, out: Map) {
        let Normalisation { mean, std } = *self.normalisation();
        let first = (self.first_image() * out.pixels() * 3) as u64;
        let bytes = Place { region: Region::Pixels, offset: first };
        let (numbers, tables, is_kept) = match self.stain() {
            Some((numbers, tables, is_kept)) => (Some(numbers), Some(tables), is_kept),
            None => (None, None, false),
        };
        let mut argument = Argument::new()
            .pointer(Some(bytes))
            .pointer(Some(out.place))
            .pointer(numbers)
            .pointer(tables)
            .pointer(is_kept.then_some(bytes))
            .long(out.image)
            .ints(&[self.images(), out.h, out.w, out.row, out.pixel, 0]);
        for divisor in std {
            argument = argument.float(1.0 / (255.0 * divisor));
        }
        for (mean, divisor) in mean.into_iter().zip(std) {
            argument = argument.float(-mean / divisor);
        }
        self.push(argument.launch("from_rgb", blocks(self.images() * out.pixels()), THREADS));
    }

    /// A head's map in fixed point, to `offset` of the heads.
    pub(super) fn head(&mut self, x: Map, form: &HeadForm, offset: u64) {
        let first = (self.first_image() * form.channels * x.pixels() * 2) as u64;
        let launch = Argument::new()
            .pointer(Some(x.place))
            .pointer(Some(Place { region: Region::Heads, offset: offset + first }))
            .long(x.image)
            .ints(&[self.images(), x.h, x.w, x.row, x.pixel, form.channels, form.rule as usize])
            .float(form.factor)
            .float(form.scale)
            .launch("head_map", blocks(self.images() * x.pixels()), THREADS);
        self.push(launch);
    }
}
