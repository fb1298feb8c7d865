//! Networks of a few steps that between them have every CUDA kernel, but those of large blocks.
#![allow(dead_code, reason = "tests and benches each use a part")]

use wsi_run::model::{
    Head,
    graph::{Activation, Conv, Graph, NodeId, Pool, ResizeMode, TransposedConv},
};

/// A network of a few steps.
pub(crate) struct Case {
    pub name: &'static str,
    /// Height and width of the image that the tests take.
    pub size: (usize, usize),
    /// Kernels that must be among its launches.
    pub kernels: &'static [&'static str],
    build: fn(&mut Graph, NodeId) -> NodeId,
}

/// The image's three channels to `c`, by a 1×1.
pub(crate) fn widen(g: &mut Graph, x: NodeId, c: usize) -> NodeId {
    g.conv("widen", x, Conv::new(c, 1))
}

/// Every kernel and every way it is called in.
pub(crate) const CASES: &[Case] = &[
    Case {
        name: "conv of an image, many channels",
        size: (17, 21),
        kernels: &["from_rgb", "conv_128x64_g4"],
        build: |g, x| g.conv("a", x, Conv::new(70, 7).stride(2).pad(3)),
    },
    Case {
        name: "conv of an image, few channels",
        size: (9, 8),
        kernels: &["conv_128x32_g4"],
        build: |g, x| {
            let x = g.conv("a", x, Conv::new(20, 3).pad(2).dilation(2));
            g.activation(x, Activation::Gelu)
        },
    },
    Case {
        name: "wide conv",
        size: (12, 13),
        kernels: &["conv_64x64_g8"],
        build: |g, x| {
            let x = widen(g, x, 40);
            let x = g.conv("a", x, Conv::new(256, 3).pad(1));
            g.relu(x)
        },
    },
    Case {
        name: "narrow convs with odd channels",
        size: (11, 14),
        kernels: &["conv_128x32_g8", "conv_128x16_g8", "conv_128x8_g8"],
        build: |g, x| {
            let x = widen(g, x, 37);
            let x = g.conv("a", x, Conv::new(27, 3).stride(2));
            let x = g.conv("b", x, Conv::new(11, 3).pad(1));
            g.conv("c", x, Conv::new(5, 1))
        },
    },
    Case {
        name: "a dense block: normalised inputs, channels written between others",
        size: (10, 9),
        kernels: &["conv_128x32_g8"],
        build: |g, x| {
            let mut all = vec![widen(g, x, 24)];
            for i in 0..3 {
                let x = if i == 0 { all[0] } else { g.concat(&all) };
                let x = g.batch_norm(&format!("norm{i}"), x);
                let x = g.relu(x);
                let x = g.conv(&format!("narrow{i}"), x, Conv::new(32, 1).no_bias());
                let x = g.batch_norm(&format!("again{i}"), x);
                let x = g.relu(x);
                all.push(g.conv(&format!("wide{i}"), x, Conv::new(16, 3).pad(1).no_bias()));
            }
            g.concat(&all)
        },
    },
    Case {
        name: "normalised input of a padded conv",
        size: (8, 7),
        kernels: &["conv_64x64_g8"],
        build: |g, x| {
            let x = widen(g, x, 36);
            let y = g.max_pool(x, Pool { kernel: 3, stride: 2, pad: 1 });
            let y = g.batch_norm("norm", y);
            let y = g.relu(y);
            g.conv("a", y, Conv::new(64, 3).pad(1))
        },
    },
    Case {
        name: "unaligned concatenation, normalised",
        size: (6, 7),
        kernels: &["conv_128x16_g1", "conv_128x64_g1"],
        build: |g, x| {
            let a = widen(g, x, 13);
            let b = g.conv("b", x, Conv::new(21, 3).pad(1));
            let both = g.concat(&[a, b]);
            let c = g.conv("c", b, Conv::new(40, 3).pad(1));
            let y = g.batch_norm("norm", both);
            let y = g.relu(y);
            let y = g.conv("d", y, Conv::new(70, 3).pad(1));
            let d = g.batch_norm("other", b);
            let d = g.relu(d);
            let d = g.conv("e", d, Conv::new(10, 3).pad(1));
            g.concat(&[y, c, d])
        },
    },
    Case {
        name: "grouped convs",
        size: (9, 9),
        kernels: &["conv_128x8_g8", "conv_128x16_g1"],
        build: |g, x| {
            let x = widen(g, x, 128);
            let x = g.conv("a", x, Conv::new(32, 5).groups(4).no_bias());
            g.conv("b", x, Conv::new(16, 3).pad(1).groups(8))
        },
    },
    Case {
        name: "residuals before and after the activation",
        size: (13, 6),
        kernels: &[],
        build: |g, x| {
            let a = widen(g, x, 32);
            let b = g.conv("b", a, Conv::new(32, 3).pad(1));
            let b = g.add(&[b, a]);
            let b = g.activation(b, Activation::Silu);
            let c = g.conv("c", b, Conv::new(32, 1));
            let c = g.relu(c);
            g.add(&[c, b])
        },
    },
    Case {
        name: "a pyramid's merge: a 1×1 plus the level above, enlarged",
        size: (12, 16),
        kernels: &[],
        build: |g, x| {
            let a = widen(g, x, 24);
            let above = g.conv("above", a, Conv::new(64, 3).stride(2).pad(1));
            let above = g.resize(above, 2, ResizeMode::Nearest);
            let side = g.conv("side", a, Conv::new(64, 1));
            let sum = g.add(&[side, above]);
            g.conv("smooth", sum, Conv::new(64, 3).pad(1))
        },
    },
    Case {
        name: "gates of squeezed channels",
        size: (8, 8),
        kernels: &["slab_results", "pool_of_slabs"],
        build: |g, x| {
            let a = widen(g, x, 40);
            let pooled = g.global_avg_pool(a);
            let gate = g.conv("squeeze", pooled, Conv::new(10, 1));
            let gate = g.activation(gate, Activation::Silu);
            let gate = g.conv("excite", gate, Conv::new(40, 1));
            let gate = g.sigmoid(gate);
            let y = g.multiply(a, gate);
            g.conv("project", y, Conv::new(24, 1))
        },
    },
    Case {
        name: "attention of channels and places",
        size: (17, 19),
        kernels: &["channel_mean", "channel_max", "map_v8", "pool_of_slabs"],
        build: |g, x| {
            let a = widen(g, x, 48);
            let most = g.global_max_pool(a);
            let gate = g.sigmoid(most);
            let a = g.multiply(a, gate);
            let (mean, most) = (g.channel_mean(a), g.channel_max(a));
            let both = g.concat(&[mean, most]);
            let place = g.conv("place", both, Conv::new(1, 7).pad(3));
            let place = g.sigmoid(place);
            let whole = g.multiply(a, place);
            g.multiply(whole, a)
        },
    },
    Case {
        name: "depthwise convs",
        size: (15, 13),
        kernels: &["depthwise_v8_r4", "depthwise_v8_r1", "depthwise_v1_r1"],
        build: |g, x| {
            let a = widen(g, x, 24);
            let a = g.conv("a", a, Conv::new(24, 5).pad(2).groups(24));
            let a = g.activation(a, Activation::Relu6);
            let b = g.conv("b", a, Conv::new(24, 3).pad(2).dilation(2).groups(24));
            let b = g.add(&[b, a]);
            let b = g.conv("c", b, Conv::new(24, 3).stride(2).tf_same().groups(24));
            let b = g.conv("narrow", b, Conv::new(7, 1));
            g.conv("d", b, Conv::new(7, 3).pad(1).groups(7).no_bias())
        },
    },
    Case {
        name: "a ConvNeXt block",
        size: (9, 11),
        kernels: &["depthwise_layer_norm_r4", "response_norm_factors", "layer_norm_v8", "layer_norm_v1"],
        build: |g, x| {
            let a = widen(g, x, 96);
            let a = g.layer_norm("first", a, 1e-6);
            let y = g.conv("deep", a, Conv::new(96, 7).pad(3).groups(96));
            let y = g.layer_norm("norm", y, 1e-6);
            let y = g.linear("up", y, 200);
            let y = g.activation(y, Activation::Gelu);
            let y = g.global_response_norm("response", y);
            let y = g.linear("down", y, 96);
            let y = g.layer_scale("scale", y, 0.5);
            let a = g.add(&[a, y]);
            let a = g.linear("odd", a, 30);
            g.layer_norm("last", a, 1e-6)
        },
    },
    Case {
        name: "group norms",
        size: (33, 31),
        kernels: &["group_norm_factors", "slab_results", "map_v8", "map_v1"],
        build: |g, x| {
            let a = widen(g, x, 32);
            let a = g.group_norm("norm", a, 4);
            let a = g.relu(a);
            let a = g.conv("a", a, Conv::new(9, 1));
            g.group_norm("again", a, 3)
        },
    },
    Case {
        name: "pools, resizes and copies",
        size: (14, 18),
        kernels: &["pool_v8", "pool_v1", "resize_v8", "resize_v1", "combine_v8", "combine_v1"],
        build: |g, x| {
            let a = widen(g, x, 16);
            let b = g.max_pool(a, Pool { kernel: 3, stride: 2, pad: 1 });
            let b = g.avg_pool(b, Pool { kernel: 2, stride: 1, pad: 0 });
            let b = g.resize(b, 2, ResizeMode::Bilinear);
            let c = g.conv("narrow", b, Conv::new(3, 1));
            let c = g.max_pool(c, Pool { kernel: 2, stride: 2, pad: 0 });
            let c = g.resize(c, 2, ResizeMode::BilinearCorners);
            let d = g.resize(c, 2, ResizeMode::Nearest);
            let d = g.activation(d, Activation::Silu);
            let b = g.resize(b, 2, ResizeMode::Nearest);
            let b = g.relu(b);
            g.concat(&[b, d, b, d])
        },
    },
    Case {
        name: "sums of several, one enlarged",
        size: (12, 8),
        kernels: &["combine_v8"],
        build: |g, x| {
            let a = widen(g, x, 16);
            let a = g.relu(a);
            let b = g.max_pool(a, Pool { kernel: 2, stride: 2, pad: 0 });
            let large = g.resize(b, 2, ResizeMode::Nearest);
            let sum = g.add(&[large, a]);
            let sum = g.relu(sum);
            g.add(&[sum, a, sum])
        },
    },
    Case {
        name: "transposed convs",
        size: (6, 7),
        kernels: &["conv_128x16_g8"],
        build: |g, x| {
            let a = widen(g, x, 16);
            let a = g.transposed_conv("a", a, TransposedConv { out: 24, kernel: 2, stride: 2 });
            let a = g.relu(a);
            let a = g.transposed_conv("b", a, TransposedConv { out: 12, kernel: 5, stride: 2 });
            g.crop_by(a, 3)
        },
    },
    Case {
        name: "attention to fewer pixels",
        size: (15, 16),
        kernels: &["attention_d32", "attention_d64"],
        build: |g, x| {
            let q = widen(g, x, 64);
            let few = g.conv("few", q, Conv::new(128, 2).stride(2));
            let a = g.attention(q, few, 2);
            let b = g.attention(a, few, 1);
            let few = g.conv("odd", q, Conv::new(40, 4).stride(4));
            let q = g.conv("odd_q", b, Conv::new(20, 1));
            g.attention(q, few, 1)
        },
    },
    Case {
        name: "attention in shifted windows",
        size: (8, 12),
        kernels: &["window_attention_d32", "window_attention_d64"],
        build: |g, x| {
            let a = widen(g, x, 96);
            let a = g.window_attention("one", a, 2, 4, 2);
            let a = g.linear("two", a, 144);
            let a = g.window_attention("three", a, 1, 4, 0);
            let a = g.space_to_depth(a);
            g.softmax_of(a)
        },
    },
];

trait Softmax {
    fn softmax_of(&mut self, x: NodeId) -> NodeId;
}

impl Softmax for Graph {
    fn softmax_of(&mut self, x: NodeId) -> NodeId {
        self.activation(x, Activation::Softmax)
    }
}

impl Case {
    pub(crate) fn graph(&self) -> Graph {
        let mut g = Graph::new("case", 3);
        let x = g.input();
        let y = (self.build)(&mut g, x);
        g.output("out", Head::Semantic, y);
        g
    }
}
