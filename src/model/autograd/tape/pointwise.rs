//! Operations of the tape that see one pixel at a time.
//!
//! Owns: forward and backward of activations, sums, gates, concatenations, crops, dropout, means and maxima over
//! channels. Must not know: windows.

use super::{
    memory::{CHUNK, Map, banded, view},
    step::{Sink, Step},
};
use crate::{
    kernels::{
        Activation,
        cpu::{
            elementwise,
            gradient::{Clamp, Factors, clamped, norm_sums},
        },
    },
    model::{autograd::dropout::Mask, graph::Op},
};
use rayon::prelude::*;

/// The result, or none for an operation of other kinds.
pub(super) fn forward(step: &Step<'_>, op: &Op, inputs: &[Map], size: [usize; 4]) -> Option<Map> {
    let x = &inputs[0];
    let isa = step.isa;
    let rows = |work: &(dyn Fn(usize, &mut crate::kernels::cpu::ViewMut<'_>, std::ops::Range<usize>) + Sync)| {
        Some(Map::filled(step.home, size, |to| banded(size, 1, to, work)))
    };
    match op {
        Op::Activation(activation) => {
            rows(&|image, band, rows| elementwise::activate(isa, view(x, image), *activation, band, rows))
        }
        Op::Add => {
            let (first, others) = inputs.split_at(inputs.len().min(elementwise::MAX_ADDENDS));
            let activation = step.activation.filter(|_| others.is_empty());
            let mut sum = Map::filled(step.home, size, |to| {
                banded(size, 1, to, |image, band, rows| {
                    let views: Vec<_> = first.iter().map(|x| view(x, image)).collect();
                    elementwise::add(isa, &views, activation, band, rows);
                });
            });
            for (i, other) in others.iter().enumerate() {
                let activation = step.activation.filter(|_| i + 1 == others.len());
                sum = Map::filled(step.home, size, |to| {
                    banded(size, 1, to, |image, band, rows| {
                        elementwise::add(isa, &[view(&sum, image), view(other, image)], activation, band, rows);
                    });
                });
            }
            Some(sum)
        }
        Op::Multiply => {
            rows(&|image, band, rows| elementwise::multiply(isa, view(x, image), view(&inputs[1], image), band, rows))
        }
        Op::Concat => rows(&|image, band, rows| {
            let mut first = 0;
            for x in inputs {
                let mut to = band.channels(first..first + x.size[3]);
                elementwise::copy(isa, view(x, image), &mut to, rows.clone());
                first += x.size[3];
            }
        }),
        Op::ChannelMean => rows(&|image, band, rows| elementwise::channel_mean(isa, view(x, image), band, rows)),
        Op::ChannelMax => rows(&|image, band, rows| elementwise::channel_max(isa, view(x, image), band, rows)),
        Op::Crop(_) => {
            let (top, left) = corner(x.size, size);
            rows(&|image, band, rows| {
                elementwise::copy(isa, view(x, image).crop(top, left, size[1], size[2]), band, rows);
            })
        }
        Op::Dropout { .. } => Some(dropped(step, op, x.clone())),
        _ => None,
    }
}

/// Where a crop to `to` starts.
fn corner(from: [usize; 4], to: [usize; 4]) -> (usize, usize) {
    ((from[1] - to[1]) / 2, (from[2] - to[2]) / 2)
}

/// Dropout, which is its own gradient.
fn dropped(step: &Step<'_>, op: &Op, x: Map) -> Map {
    let (Op::Dropout { prob, whole_channels }, Some(seed)) = (op, step.mode.dropout_seed) else { return x };
    let mask = Mask::new(*prob, seed, step.index as u64);
    let [_, h, w, c] = x.size;
    x.changed(|values| {
        values.par_chunks_mut((w * c).max(1)).enumerate().for_each(|(row, values)| {
            let (image, y) = (row / h, row % h);
            for (i, value) in values.iter_mut().enumerate() {
                let (x, channel) = (i / c, image * c + i % c);
                let at = if *whole_channels { channel } else { (channel * h + y) * w + x };
                *value *= mask.at(at as u64);
            }
        });
    })
}

/// Gives the gradients of an operation of this file; false for another.
pub(super) fn backward(
    step: &Step<'_>,
    op: &Op,
    (inputs, y, dy): (&[Option<Map>], Option<&Map>, &Map),
    sizes: &[[usize; 4]],
    sink: &mut Sink<'_>,
) -> bool {
    let input = |i: usize| inputs[i].as_ref().expect("what a step needs is kept");
    match op {
        Op::Activation(activation) => {
            sink.add(0, through(step, *activation, y.expect("activations keep their result"), dy.clone()));
        }
        Op::Add => (0..sizes.len()).for_each(|i| sink.add(i, dy.clone())),
        Op::Multiply => multiply_backward(step, (input(0), input(1)), dy, sink),
        Op::Concat => {
            let mut first = 0;
            for (i, size) in sizes.iter().enumerate() {
                let part = first..first + size[3];
                first = part.end;
                if sink.wants(i) {
                    let dx = Map::filled(step.home, *size, |to| {
                        banded(*size, 1, to, |image, band, rows| {
                            elementwise::copy(step.isa, view(dy, image).channels(part.clone()), band, rows);
                        });
                    });
                    sink.add(i, dx);
                }
            }
        }
        Op::ChannelMean => {
            let c = sizes[0][3];
            let dx = by_pixel(step, sizes[0], |pixel, dx| dx.fill(dy.values()[pixel] / c as f32));
            sink.add(0, dx);
        }
        Op::ChannelMax => {
            let (x, c) = (input(0), sizes[0][3]);
            let y = y.expect("maxima keep their result").values();
            let dx = by_pixel(step, sizes[0], |pixel, dx| {
                dx.fill(0.0);
                // The first of equals takes it all.
                if let Some(i) = x.values()[pixel * c..][..c].iter().position(|v| *v == y[pixel]) {
                    dx[i] = dy.values()[pixel];
                }
            });
            sink.add(0, dx);
        }
        Op::Crop(_) => sink.add(0, uncropped(step, sizes[0], dy)),
        Op::Dropout { .. } => sink.add(0, dropped(step, op, dy.clone())),
        _ => return false,
    }
    true
}

/// A crop's gradient in the place it was cut from, and zeros.
fn uncropped(step: &Step<'_>, size: [usize; 4], dy: &Map) -> Map {
    let (top, left) = corner(size, dy.size);
    let ([_, h, w, c], [_, out_h, out_w, _]) = (size, dy.size);
    Map::filled(step.home, size, |to| {
        to.par_chunks_mut(w * c).enumerate().for_each(|(row, to)| {
            to.fill(0.0);
            if let Some(y) = (row % h).checked_sub(top).filter(|&y| y < out_h) {
                let from = &dy.values()[(row / h * out_h + y) * out_w * c..][..out_w * c];
                to[left * c..][..out_w * c].copy_from_slice(from);
            }
        });
    })
}

/// A map of which `fill` writes each pixel.
fn by_pixel(step: &Step<'_>, size: [usize; 4], fill: impl Fn(usize, &mut [f32]) + Sync) -> Map {
    let each = (CHUNK / size[3]).max(1);
    Map::filled(step.home, size, |to| {
        to.par_chunks_mut(each * size[3]).enumerate().for_each(|(i, to)| {
            to.chunks_exact_mut(size[3]).enumerate().for_each(|(k, to)| fill(i * each + k, to));
        });
    })
}

/// The gradient of an activation's argument, from its result.
pub(super) fn through(step: &Step<'_>, activation: Activation, y: &Map, dy: Map) -> Map {
    let c = y.size[3];
    dy.changed(|dy| match activation {
        Activation::Relu => clamped(step.isa, y.values(), dy, Clamp::RELU),
        Activation::Relu6 => clamped(step.isa, y.values(), dy, Clamp::RELU6),
        Activation::Sigmoid => {
            let chunks = dy.par_chunks_mut(CHUNK).zip(y.values().par_chunks(CHUNK));
            chunks.for_each(|(dy, y)| dy.iter_mut().zip(y).for_each(|(g, y)| *g *= y * (1.0 - y)));
        }
        Activation::Softmax => {
            let each = (CHUNK / c).max(1) * c;
            let chunks = dy.par_chunks_mut(each).zip(y.values().par_chunks(each));
            chunks.for_each(|(dy, y)| {
                for (dy, y) in dy.chunks_exact_mut(c).zip(y.chunks_exact(c)) {
                    let all: f32 = dy.iter().zip(y).map(|(g, y)| g * y).sum();
                    dy.iter_mut().zip(y).for_each(|(g, y)| *g = y * (*g - all));
                }
            });
        }
        Activation::Gelu | Activation::Silu => unreachable!("candle's"),
    })
}

/// `x · gate`, the gate spread over pixels or over channels.
fn multiply_backward(step: &Step<'_>, (x, gate): (&Map, &Map), dy: &Map, sink: &mut Sink<'_>) {
    let [n, h, w, c] = x.size;
    let product = |dy: &Map, by: &Map, size: [usize; 4]| {
        Map::filled(step.home, size, |to| {
            banded(size, 1, to, |image, band, rows| {
                elementwise::multiply(step.isa, view(dy, image), view(by, image), band, rows);
            });
        })
    };
    if sink.wants(0) {
        sink.add(0, product(dy, gate, x.size));
    }
    if !sink.wants(1) {
        return;
    }
    let dgate = if gate.size == x.size {
        product(dy, x, x.size)
    } else if gate.size[3] == 1 && (gate.size[1], gate.size[2]) == (h, w) {
        by_pixel(step, gate.size, |pixel, to| {
            to[0] = dot(&x.values()[pixel * c..][..c], &dy.values()[pixel * c..][..c]);
        })
    } else {
        let ones = (vec![0.0; c], vec![0.0; c]);
        let factors = Factors { scale: &ones.0, shift: &ones.1 };
        let [_, sums] = norm_sums(step.isa, x.maps(), dy.maps(), (factors, Clamp::NONE), &ones.1);
        let sums = if gate.size[3] == 1 { sums.chunks_exact(c).map(|s| s.iter().sum()).collect() } else { sums };
        Map::filled(step.home, [n, 1, 1, gate.size[3]], |to| {
            to.iter_mut().zip(&sums).for_each(|(to, s): (&mut f32, &f64)| *to = *s as f32);
        })
    };
    sink.add(1, dgate);
}

/// `Σ a · b` in sixteen sums.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    let whole = a.len() / 16 * 16;
    for (a, b) in a[..whole].chunks_exact(16).zip(b[..whole].chunks_exact(16)) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a[whole..].iter().zip(&b[whole..]).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
