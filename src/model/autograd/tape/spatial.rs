//! Operations of the tape that move pixels or sum over them: pools, resizes, spreads.
//!
//! Owns: their forward and backward. Must not know: convolutions, norms.

use super::{
    memory::{Map, banded, view},
    step::{Saved, Sink, Step},
};
use crate::{
    kernels::{
        Pool,
        cpu::{
            elementwise,
            gradient::{AxisTaps, channel_sums, max_pool_gradient, max_pool_winners, resize_gradient},
            pool, resize,
        },
    },
    model::graph::Op,
};
use rayon::prelude::*;

/// Max pooling, with its winners.
pub(super) fn max_pool(step: &Step<'_>, pool: Pool, x: &Map, size: [usize; 4]) -> (Map, Saved) {
    if !step.mode.gradients {
        let y = Map::filled(step.home, size, |to| {
            banded(size, 1, to, |image, band, rows| pool::max_pool(step.isa, view(x, image), pool, band, rows));
        });
        return (y, Saved::Nothing);
    }
    let mut winners = vec![0; size.iter().product()];
    let y = Map::filled(step.home, size, |to| {
        max_pool_winners(step.isa, x.maps(), pool, (size[1], size[2]), (to, &mut winners));
    });
    (y, Saved::Winners(winners))
}

/// The gradient of [`max_pool`].
pub(super) fn max_pool_backward(
    step: &Step<'_>,
    pool: Pool,
    winners: &[u8],
    dy: &Map,
    size: [usize; 4],
    sink: &mut Sink<'_>,
) {
    if sink.wants(0) {
        let dx = Map::filled(step.home, size, |to| {
            max_pool_gradient(step.isa, dy.maps(), winners, pool, (size[1], size[2]), to);
        });
        sink.add(0, dx);
    }
}

/// The result of an operation of this file.
pub(super) fn forward(step: &Step<'_>, op: &Op, x: &Map, size: [usize; 4]) -> Map {
    let [_, h, w, c] = x.size;
    match op {
        Op::AvgPool(windows) => Map::filled(step.home, size, |to| {
            banded(size, 1, to, |image, band, rows| pool::avg_pool(step.isa, view(x, image), *windows, band, rows));
        }),
        Op::Resize { mode, .. } => Map::filled(step.home, size, |to| {
            banded(size, 1, to, |image, band, rows| resize::resize(step.isa, view(x, image), *mode, band, rows));
        }),
        Op::GlobalAvgPool => {
            let sums = channel_sums(step.isa, x.maps());
            Map::filled(step.home, size, |to| {
                to.iter_mut().zip(&sums).for_each(|(to, s)| *to = (s / (h * w) as f64) as f32);
            })
        }
        Op::GlobalMaxPool => Map::filled(step.home, size, |to| {
            to.par_chunks_mut(c).enumerate().for_each(|(image, to)| {
                to.fill(f32::NEG_INFINITY);
                for pixel in x.maps().rows(image, 0..h).chunks_exact(c) {
                    to.iter_mut().zip(pixel).for_each(|(a, b)| *a = a.max(*b));
                }
            });
        }),
        Op::SpreadLike => Map::filled(step.home, size, |to| {
            banded(size, 1, to, |image, band, rows| {
                elementwise::copy(step.isa, view(x, image).spread(size[1], size[2]), band, rows);
            });
        }),
        op => unreachable!("{} is another file's", op.kind()),
    }
}

/// The gradient of an operation of this file.
pub(super) fn backward(
    step: &Step<'_>,
    op: &Op,
    (x, y, dy): (Option<&Map>, Option<&Map>, &Map),
    size: [usize; 4],
    sink: &mut Sink<'_>,
) {
    if !sink.wants(0) {
        return;
    }
    let [_, h, w, c] = size;
    let filled = |fill: &dyn Fn(&mut [f32])| Map::filled(step.home, size, fill);
    let dx = match op {
        Op::AvgPool(pool) => {
            let axes = [(h, dy.size[1]), (w, dy.size[2])].map(|(from, to)| AxisTaps::average(*pool, from, to));
            filled(&|to| resize_gradient(step.isa, dy.maps(), &axes[0], &axes[1], to))
        }
        Op::Resize { mode, .. } => {
            let axes = [(h, dy.size[1]), (w, dy.size[2])].map(|(from, to)| AxisTaps::resize(*mode, from, to));
            filled(&|to| resize_gradient(step.isa, dy.maps(), &axes[0], &axes[1], to))
        }
        Op::GlobalAvgPool => filled(&|to| {
            let part = 1.0 / (h * w) as f32;
            to.par_chunks_mut(w * c).enumerate().for_each(|(row, to)| {
                let given = &dy.values()[row / h * c..][..c];
                to.chunks_exact_mut(c).for_each(|to| to.iter_mut().zip(given).for_each(|(to, g)| *to = g * part));
            });
        }),
        Op::GlobalMaxPool => {
            let (x, y) = x.zip(y).expect("maxima keep input and result");
            filled(&|to| {
                to.par_chunks_mut(h * w * c).enumerate().for_each(|(image, to)| {
                    to.fill(0.0);
                    let values = x.maps().rows(image, 0..h);
                    for i in 0..c {
                        // The first of equals takes it all.
                        let largest = y.values()[image * c + i];
                        if let Some(px) = values.iter().skip(i).step_by(c).position(|v| *v == largest) {
                            to[px * c + i] = dy.values()[image * c + i];
                        }
                    }
                });
            })
        }
        Op::SpreadLike => {
            let sums = channel_sums(step.isa, dy.maps());
            filled(&|to| to.iter_mut().zip(&sums).for_each(|(to, s)| *to = *s as f32))
        }
        op => unreachable!("{} is another file's", op.kind()),
    };
    sink.add(0, dx);
}
