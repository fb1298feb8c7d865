//! Convolutions of the tape.
//!
//! Owns: forward and backward of [`Op::Conv`], [`Op::Linear`], [`Op::TransposedConv`]. Must not know: other operations.

use super::{
    memory::{Map, banded, view, with_floats},
    step::{Sink, Step},
};
use crate::{
    kernels::{
        Activation,
        cpu::{
            ConvSpec, Epilogue, PackedConv, PackedTransposed, Precision, TransposedSpec, conv,
            gradient::{DataGradient, channel_sums, depthwise_weight_gradient, weight_gradient, with_scratch},
            transposed_conv,
        },
    },
    model::graph::{Conv, Op},
};
use candle_core::{Result, Tensor};

/// The settings of a convolution, or of a linear layer, of an input of this size; none for another operation.
pub(super) fn spec(op: &Op, [_, h, w, cin]: [usize; 4]) -> Option<ConvSpec> {
    match op {
        Op::Linear { out, .. } => Some(ConvSpec::linear(cin, *out)),
        Op::Conv(Conv { out, kernel, stride, padding, dilation, groups, .. }) => Some(ConvSpec {
            cin,
            cout: *out,
            kernel: (*kernel, *kernel),
            stride: *stride,
            pad: (padding.before_after(h, *kernel, *stride).0, padding.before_after(w, *kernel, *stride).0),
            dilation: *dilation,
            groups: *groups,
        }),
        _ => None,
    }
}

/// Rows of all images as those of one, where no window sees two rows.
fn flat(spec: &ConvSpec, [n, h, w, c]: [usize; 4]) -> [usize; 4] {
    if spec.kernel == (1, 1) && spec.stride == 1 && spec.pad == (0, 0) { [1, n * h, w, c] } else { [n, h, w, c] }
}

/// `activation(conv(x))`.
pub(super) fn forward(
    step: &Step<'_>,
    spec: ConvSpec,
    (x, out): (&Map, [usize; 4]),
    (weight, bias): (&Tensor, Option<&Tensor>),
    activation: Option<Activation>,
) -> Result<Map> {
    let bias = bias.map(|b| b.to_vec1::<f32>()).transpose()?;
    let op = with_floats(weight, |w| {
        PackedConv::sized_in(step.home.weights(), spec, (out[1], out[2]), (w, bias.as_deref()), step.isa)
    })?;
    let y = run(step, &op, (x, out), activation);
    step.home.weights_done(op.into_memory());
    Ok(y)
}

fn run(step: &Step<'_>, op: &PackedConv, (x, out): (&Map, [usize; 4]), activation: Option<Activation>) -> Map {
    let x = x.clone().reshaped(flat(op.spec(), x.size));
    let epilogue = Epilogue { activation, ..Epilogue::default() };
    Map::filled(step.home, out, |to| {
        banded(flat(op.spec(), out), op.row_step(), to, |image, band, rows| {
            with_scratch(op.scratch_floats(x.size[2]), |scratch| {
                conv(op, view(&x, image), None, &epilogue, band, rows, scratch);
            });
        });
    })
}

/// Gradients of `conv(x)`.
pub(super) fn backward(step: &Step<'_>, spec: ConvSpec, x: &Map, dy: &Map, sink: &mut Sink<'_>) -> Result<()> {
    bias_gradient(step, dy, sink);
    let name = step.parameter("weight");
    if sink.is_trained(&name) {
        let gradient = if spec.groups == 1 {
            weight_gradient(step.isa, &spec, x.maps(), dy.maps())
        } else if spec.groups == spec.cin && spec.cin == spec.cout {
            depthwise_weight_gradient(step.isa, &spec, x.maps(), dy.maps())
        } else {
            let (cin, cout) = (spec.cin / spec.groups, spec.cout / spec.groups);
            let group = ConvSpec { cin, cout, groups: 1, ..spec };
            let of = |i: usize| {
                weight_gradient(step.isa, &group, x.maps().channels(i * cin, cin), dy.maps().channels(i * cout, cout))
            };
            (0..spec.groups).flat_map(of).collect()
        };
        sink.weight(name, gradient);
    }
    if !sink.wants(0) {
        return Ok(());
    }
    let w = dy.size[2];
    let op = with_floats(&step.value("weight"), |weight| {
        DataGradient::new(spec, (x.size[1], x.size[2]), weight, step.isa, step.home.weights())
    })?;
    let op = op.expect("steps of other convolutions are candle's");
    let (given, size) = (dy.clone().reshaped(flat(&spec, dy.size)), flat(&spec, x.size));
    let before = sink.before(0).map(|map| map.reshaped(size));
    let dx = Map::filled(step.home, size, |to| {
        banded(size, op.row_step(), to, |image, band, rows| {
            with_scratch(op.scratch_floats(w), |scratch| {
                let before = before.as_ref().map(|map| view(map, image));
                op.run(view(&given, image), before, band, rows, scratch);
            });
        });
    });
    step.home.weights_done(op.into_memory());
    sink.put(0, dx.reshaped(x.size));
    Ok(())
}

/// Sums of the gradient over all pixels, where there is a bias.
fn bias_gradient(step: &Step<'_>, dy: &Map, sink: &mut Sink<'_>) {
    let name = step.parameter("bias");
    if step.has("bias") && sink.is_trained(&name) {
        let c = dy.size[3];
        let sums = channel_sums(step.isa, dy.maps());
        let all = (0..c).map(|i| sums.iter().skip(i).step_by(c).sum::<f64>() as f32);
        sink.weight(name, all.collect());
    }
}

/// `activation(transposed conv(x))`.
pub(super) fn transposed_forward(
    step: &Step<'_>,
    spec: TransposedSpec,
    (x, out): (&Map, [usize; 4]),
    activation: Option<Activation>,
) -> Result<Map> {
    let bias = step.value("bias").to_vec1::<f32>()?;
    let op =
        with_floats(&step.value("weight"), |w| PackedTransposed::new(spec, w, Some(&bias), step.isa, Precision::F32))?;
    let epilogue = Epilogue { activation, ..Epilogue::default() };
    Ok(Map::filled(step.home, out, |to| {
        banded(out, spec.stride, to, |image, band, rows| {
            with_scratch(op.scratch_floats(x.size[2]), |scratch| {
                transposed_conv(&op, view(x, image), &epilogue, band, rows, scratch);
            });
        });
    }))
}

/// Gradients of a transposed convolution: that of its input is a convolution, that of its weights one's with input and
/// result exchanged.
pub(super) fn transposed_backward(
    step: &Step<'_>,
    spec: TransposedSpec,
    x: &Map,
    dy: &Map,
    sink: &mut Sink<'_>,
) -> Result<()> {
    bias_gradient(step, dy, sink);
    let TransposedSpec { cin, cout, kernel, stride, .. } = spec;
    let back = ConvSpec { kernel: (kernel, kernel), stride, ..ConvSpec::linear(cout, cin) };
    let name = step.parameter("weight");
    if sink.is_trained(&name) {
        sink.weight(name, weight_gradient(step.isa, &back, dy.maps(), x.maps()));
    }
    if sink.wants(0) {
        let dx = forward(step, back, (dy, x.size), (&step.value("weight"), None), None)?;
        sink.add(0, dx);
    }
    Ok(())
}
