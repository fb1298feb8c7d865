//! Sizes of every node for a given image, and what does not fit.
//!
//! Owns: [`Shape`], [`ShapeError`], [`Graph::shapes`]. Must not know: how an operation is run.

use super::{Conv, Crop, Graph, Node, NodeId, Op, Pool};
use std::fmt;

/// `[c, h, w]` of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Channels.
    pub c: usize,
    /// Height.
    pub h: usize,
    /// Width.
    pub w: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}, {}]", self.c, self.h, self.w)
    }
}

/// A node that cannot take what it is given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{network}`: {kind} `{node}` does not fit: {message}")]
pub struct ShapeError {
    /// The network.
    pub network: &'static str,
    /// Kind of operation.
    pub kind: &'static str,
    /// The node, as in [`Graph::label`].
    pub node: String,
    /// Found, expected.
    pub message: String,
}

impl Graph {
    /// Shape of every node for an image of `h × w` px.
    ///
    /// # Errors
    /// [`ShapeError`] names the first node that does not fit.
    pub fn shapes(&self, h: usize, w: usize) -> Result<Vec<Shape>, ShapeError> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for (i, node) in self.nodes.iter().enumerate() {
            let inputs: Vec<Shape> = node.inputs.iter().map(|n| shapes[n.0]).collect();
            let shape = node_shape(node, &inputs, h, w).map_err(|message| ShapeError {
                network: self.name,
                kind: node.op.kind(),
                node: self.label(NodeId(i)),
                message,
            })?;
            shapes.push(shape);
        }
        Ok(shapes)
    }
}

fn node_shape(node: &Node, inputs: &[Shape], h: usize, w: usize) -> Result<Shape, String> {
    let Some(&x) = inputs.first() else {
        let (h, w) = if matches!(node.op, Op::Embedding { .. }) { (1, 1) } else { (h, w) };
        return Ok(Shape { c: node.channels, h, w });
    };
    let per_axis = |side: &dyn Fn(usize) -> Result<usize, String>| -> Result<Shape, String> {
        Ok(Shape { c: node.channels, h: side(x.h)?, w: side(x.w)? })
    };
    match &node.op {
        Op::Conv(conv) => {
            if x.c % conv.groups != 0 || conv.out % conv.groups != 0 {
                return Err(format!("`{}` groups do not divide `{}` and `{}` channels", conv.groups, x.c, conv.out));
            }
            per_axis(&|side| conv_side(conv, side))
        }
        Op::TransposedConv(conv) => per_axis(&|side| Ok((side - 1) * conv.stride + conv.kernel)),
        Op::GroupNorm { groups, .. } if x.c % groups != 0 => {
            Err(format!("`{groups}` groups do not divide `{}` channels", x.c))
        }
        Op::MaxPool(pool) | Op::AvgPool(pool) => per_axis(&|side| pool_side(*pool, side)),
        Op::Attention { heads } if x.c % heads != 0 || inputs[1].c != 2 * x.c => Err(format!(
            "queries `{x}` and keys with values `{}`, expected twice the channels, in `{heads}` heads",
            inputs[1]
        )),
        Op::WindowAttention { heads, window_px, shift_px } => {
            window_fits(x, *heads, *window_px, *shift_px)?;
            Ok(Shape { c: node.channels, ..x })
        }
        Op::Add => match inputs.iter().find(|s| **s != x) {
            Some(other) => Err(format!("`{other}`, expected `{x}`")),
            None => Ok(x),
        },
        Op::Concat => match inputs.iter().find(|s| (s.h, s.w) != (x.h, x.w)) {
            Some(other) => Err(format!("`{other}`, expected `[any, {}, {}]`", x.h, x.w)),
            None => Ok(Shape { c: node.channels, ..x }),
        },
        Op::Multiply => {
            let gate = inputs[1];
            let fits = (gate.c == x.c || gate.c == 1) && ((gate.h, gate.w) == (x.h, x.w) || (gate.h, gate.w) == (1, 1));
            if fits { Ok(x) } else { Err(format!("gate `{gate}`, expected it to spread over `{x}`")) }
        }
        Op::SpaceToDepth if x.h % 2 + x.w % 2 > 0 => Err(format!("`{x}`, expected even sides")),
        Op::SpaceToDepth => Ok(Shape { c: node.channels, h: x.h / 2, w: x.w / 2 }),
        Op::GlobalAvgPool | Op::GlobalMaxPool => Ok(Shape { h: 1, w: 1, ..x }),
        Op::SpreadLike if (x.h, x.w) != (1, 1) => Err(format!("`{x}`, expected `[any, 1, 1]`")),
        Op::SpreadLike => Ok(Shape { c: x.c, ..inputs[1] }),
        Op::Resize { factor, .. } => per_axis(&|side| Ok(side * factor)),
        Op::Crop(crop) => crop_shape(*crop, x, inputs.get(1).copied()),
        Op::Input { .. }
        | Op::Linear { .. }
        | Op::BatchNorm { .. }
        | Op::GroupNorm { .. }
        | Op::LayerNorm { .. }
        | Op::GlobalResponseNorm
        | Op::LayerScale { .. }
        | Op::Attention { .. }
        | Op::Embedding { .. }
        | Op::Activation(_)
        | Op::ChannelMean
        | Op::ChannelMax
        | Op::Dropout { .. } => Ok(Shape { c: node.channels, ..x }),
    }
}

fn window_fits(x: Shape, heads: usize, window_px: usize, shift_px: usize) -> Result<(), String> {
    if !x.c.is_multiple_of(3 * heads) {
        return Err(format!("`{x}`, expected queries, keys and values in `{heads}` heads"));
    }
    if !x.h.is_multiple_of(window_px) || !x.w.is_multiple_of(window_px) {
        return Err(format!("`{x}`, expected sides that are multiples of the window of `{window_px}` px"));
    }
    if shift_px >= window_px {
        return Err(format!("shift of `{shift_px}` px, expected less than the window of `{window_px}` px"));
    }
    Ok(())
}

fn conv_side(conv: &Conv, side: usize) -> Result<usize, String> {
    let (before, after) = conv.padding.before_after(side, conv.kernel, conv.stride);
    let reach = conv.dilation * (conv.kernel - 1) + 1;
    match (side + before + after).checked_sub(reach) {
        Some(room) => Ok(room / conv.stride + 1),
        None => Err(format!("side of `{}` px, padding counted, expected at least `{reach}`", side + before + after)),
    }
}

fn pool_side(pool: Pool, side: usize) -> Result<usize, String> {
    if 2 * pool.pad > pool.kernel {
        return Err(format!("padding of `{}`, expected at most half of `{}`", pool.pad, pool.kernel));
    }
    match (side + 2 * pool.pad).checked_sub(pool.kernel) {
        Some(room) => Ok(room / pool.stride + 1),
        None => Err(format!("side of `{side}` px, expected at least `{}`", pool.kernel - 2 * pool.pad)),
    }
}

fn crop_shape(crop: Crop, x: Shape, like: Option<Shape>) -> Result<Shape, String> {
    let (h, w) = match (crop, like) {
        (Crop::By(px), _) => (x.h.saturating_sub(px), x.w.saturating_sub(px)),
        (Crop::To(px), _) => (px, px),
        (Crop::Like, Some(like)) => (like.h, like.w),
        (Crop::Like, None) => return Err("one input, expected two".to_owned()),
    };
    if h == 0 || w == 0 || h > x.h || w > x.w {
        return Err(format!("`{h} × {w}` px cannot be cut out of `{x}`"));
    }
    Ok(Shape { c: x.c, h, w })
}

#[cfg(test)]
mod tests {
    use super::super::{Conv, Graph, Pool, ResizeMode};

    #[test]
    fn a_sum_of_unequal_shapes_names_the_node() {
        let mut g = Graph::new("toy", 3);
        let a = g.conv("a", g.input(), Conv::new(8, 3).pad(1));
        let b = g.conv("b", g.input(), Conv::new(8, 3).pad(1).stride(2));
        g.add(&[a, b]);
        let error = g.shapes(8, 8).unwrap_err().to_string();
        assert_eq!(error, "`toy`: add `add #3` does not fit: `[8, 4, 4]`, expected `[8, 8, 8]`");
    }

    #[test]
    fn windows_must_tile_the_map() {
        let mut g = Graph::new("toy", 3);
        let x = g.conv("qkv", g.input(), Conv::new(12, 1));
        let x = g.window_attention("attn", x, 2, 7, 3);
        g.space_to_depth(x);
        let embedded = g.embedding("organ", 5, 8);
        let shapes = g.shapes(14, 28).unwrap();
        assert_eq!((shapes[2].c, shapes[3].to_string()), (4, "[16, 7, 14]".to_owned()));
        assert_eq!(shapes[embedded.index()].to_string(), "[8, 1, 1]");
        assert!(g.shapes(14, 30).unwrap_err().to_string().contains("`attn`"));
        assert!(g.shapes(7, 14).unwrap_err().message.contains("expected even sides"));
    }

    #[test]
    fn a_kernel_larger_than_its_image_is_an_error() {
        let mut g = Graph::new("toy", 3);
        g.conv("stem", g.input(), Conv::new(8, 7));
        assert!(g.shapes(6, 9).unwrap_err().to_string().contains("`stem`"));
        assert!(g.shapes(7, 9).is_ok());
    }

    #[test]
    fn groups_must_divide_the_channels() {
        let mut g = Graph::new("toy", 3);
        g.conv("grouped", g.input(), Conv::new(8, 1).groups(2));
        assert!(g.shapes(8, 8).is_err());
    }

    #[test]
    fn tf_same_pads_as_tensorflow_does() {
        let side = |size, kernel, stride| {
            let mut g = Graph::new("toy", 1);
            g.conv("c", g.input(), Conv::new(1, kernel).stride(stride).tf_same());
            g.shapes(size, size).unwrap()[1].h
        };
        assert_eq!([side(32, 7, 1), side(32, 3, 2), side(33, 3, 2), side(31, 3, 2)], [32, 16, 17, 16]);
        let pad = |size, kernel, stride| super::super::Padding::TfSame.before_after(size, kernel, stride);
        assert_eq!([pad(32, 3, 2), pad(33, 3, 2), pad(32, 7, 1)], [(0, 1), (1, 1), (3, 3)]);
    }

    #[test]
    fn pools_crops_and_resizes_have_pytorchs_sizes() {
        let mut g = Graph::new("toy", 1);
        g.max_pool(g.input(), Pool { kernel: 3, stride: 2, pad: 1 });
        let halved = g.avg_pool(g.input(), Pool { kernel: 2, stride: 2, pad: 0 });
        let doubled = g.resize(halved, 2, ResizeMode::Nearest);
        g.crop_by(g.input(), 4);
        g.crop_to(doubled, 30);
        let sides: Vec<usize> = g.shapes(33, 34).unwrap().iter().map(|s| s.h).collect();
        assert_eq!(sides, [33, 17, 16, 32, 29, 30]);
        g.crop_to(halved, 17);
        assert!(g.shapes(33, 34).unwrap_err().message.contains("cannot be cut out of `[1, 16, 17]`"));
    }
}
