//! From what a network's last layers give to head maps.
//!
//! Owns: [`HeadValues`], [`HeadPlan`]. Must not know: networks, tiles' positions.
//!
//! Logits become probabilities here, in f32, and are rounded to fixed point.

use super::{
    graph::{Activation, Graph, Op},
    spec::{Head, HeadMap, HeadSpec},
};

/// Rows of one head of one image, as they lie in memory: value `(c, y, x)` at `c·channel_stride + (y·w + x)·pixel_stride`.
#[derive(Debug, Clone, Copy)]
pub struct HeadValues<'a> {
    /// The values.
    pub data: &'a [f32],
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Values from a pixel to the next.
    pub pixel_stride: usize,
    /// Values from a channel to the next.
    pub channel_stride: usize,
}

/// What is made of one output of a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadPlan {
    /// Which output of the graph.
    pub output: usize,
    /// What it becomes.
    pub spec: HeadSpec,
    rule: HeadRule,
}

/// How values are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HeadRule {
    /// They are what they mean, times a factor.
    Value {
        /// The factor.
        factor: f32,
    },
    /// Logits of one channel.
    Sigmoid,
    /// Logits of two channels, of which the second is asked for.
    SecondOfTwo,
    /// Logits of channels that exclude each other.
    Softmax,
}

/// What is made of each output of `graph`, heads in the order of [`Head`].
///
/// Of two channels that exclude each other the first is background, and one channel is kept. Star distances are
/// brought from px of the image to px of the output by `out_stride`.
pub fn head_plans(graph: &Graph, out_stride: u32) -> Vec<HeadPlan> {
    let mut plans: Vec<HeadPlan> = (0..)
        .zip(graph.outputs())
        .map(|(output, o)| {
            let channels = graph.channels(o.node);
            let is_prob = matches!(
                graph.nodes()[o.node.index()].op,
                Op::Activation(Activation::Sigmoid) | Op::Activation(Activation::Softmax)
            );
            let (rule, channels) = match (o.head, channels) {
                (Head::HorizontalVertical, n) => (HeadRule::Value { factor: 1.0 }, n),
                (Head::StarDistance, n) => (HeadRule::Value { factor: 1.0 / out_stride as f32 }, n),
                (_, n) if is_prob => (HeadRule::Value { factor: 1.0 }, n),
                (Head::Semantic | Head::NuclearPixel, 1) => (HeadRule::Sigmoid, 1),
                (Head::Semantic | Head::NuclearPixel, 2) => (HeadRule::SecondOfTwo, 1),
                (_, n) => (HeadRule::Softmax, n),
            };
            HeadPlan { output, spec: HeadSpec { head: o.head, channels: channels as u32 }, rule }
        })
        .collect();
    plans.sort_by_key(|p| p.spec.head);
    plans
}

impl HeadPlan {
    /// How its values are read.
    pub fn rule(&self) -> HeadRule {
        self.rule
    }

    /// A map of `h × w` px to be filled by [`HeadPlan::fill`].
    pub fn blank(&self, w: usize, h: usize) -> HeadMap {
        let HeadSpec { head, channels } = self.spec;
        let data = vec![0; channels as usize * h * w];
        HeadMap { head, channels, w: w as u32, h: h as u32, data, pixels: None }
    }

    /// A map of `h × w` px to be filled by [`HeadPlan::list`].
    pub fn unlisted(&self, w: usize, h: usize) -> HeadMap {
        HeadMap { w: w as u32, h: h as u32, pixels: Some(vec![]), ..self.blank(0, 0) }
    }

    /// Fills what `map` has of the rows from `first_row` on, as many as `values` has; `map` is the square in the middle
    /// of what the network says, or all of it.
    pub fn fill(&self, map: &mut HeadMap, first_row: usize, values: &HeadValues<'_>) {
        // Row by row: a row's channels stay near while each is read in its turn.
        for (row, values) in rows_of(map, first_row, values) {
            self.fill_row(map, row, &values);
        }
    }

    /// [`HeadPlan::fill`] for a map of listed pixels: lists those where `nuclear`, of the same size and filled before, is
    /// above `above`. Only for heads whose values are what they mean.
    pub fn list(
        &self,
        map: &mut HeadMap,
        first_row: usize,
        values: &HeadValues<'_>,
        (nuclear, above): (&HeadMap, i16),
    ) {
        let HeadRule::Value { factor } = self.rule else { unreachable!("distances are what they mean") };
        let scale = self.spec.head.scale();
        let w = map.w as usize;
        for (row, values) in rows_of(map, first_row, values) {
            for x in 0..w {
                if nuclear.data[row * w + x] <= above {
                    continue;
                }
                map.pixels.get_or_insert_default().push((row * w + x) as u32);
                let data = &values.data[x * values.pixel_stride..];
                if values.channel_stride == 1 {
                    map.data.extend(data[..values.channels].iter().map(|v| fixed(v * factor * scale)));
                } else {
                    let channels = data.iter().step_by(values.channel_stride).take(values.channels);
                    map.data.extend(channels.map(|v| fixed(v * factor * scale)));
                }
            }
        }
    }

    fn fill_row(&self, map: &mut HeadMap, row: usize, values: &HeadValues<'_>) {
        let px = map.h as usize * map.w as usize;
        let (first, count) = (row * values.w, values.w);
        let scale = self.spec.head.scale();
        let at = |c: usize, i: usize| values.data[c * values.channel_stride + i * values.pixel_stride];
        let planes = map.data.chunks_exact_mut(px).map(|plane| &mut plane[first..first + count]);
        match self.rule {
            HeadRule::Value { factor } => planes.enumerate().for_each(|(c, plane)| {
                plane.iter_mut().enumerate().for_each(|(i, to)| *to = fixed(at(c, i) * factor * scale));
            }),
            HeadRule::Sigmoid => planes.for_each(|plane| {
                plane.iter_mut().enumerate().for_each(|(i, to)| *to = fixed(sigmoid(at(0, i)) * scale));
            }),
            HeadRule::SecondOfTwo => planes.for_each(|plane| {
                plane.iter_mut().enumerate().for_each(|(i, to)| *to = fixed(sigmoid(at(1, i) - at(0, i)) * scale));
            }),
            HeadRule::Softmax => {
                let mut probs = vec![0.0_f32; self.spec.channels as usize];
                for i in 0..count {
                    let most = (0..probs.len()).map(|c| at(c, i)).fold(f32::NEG_INFINITY, f32::max);
                    probs.iter_mut().enumerate().for_each(|(c, p)| *p = (at(c, i) - most).exp());
                    let sum: f32 = probs.iter().sum();
                    probs.iter().enumerate().for_each(|(c, p)| map.data[c * px + first + i] = fixed(p / sum * scale));
                }
            }
        }
    }
}

/// The rows of `values` that lie in `map`, each with its row there; of each, what lies in `map`.
fn rows_of<'a>(
    map: &HeadMap,
    first_row: usize,
    values: &HeadValues<'a>,
) -> impl Iterator<Item = (usize, HeadValues<'a>)> + use<'a> {
    let (values, w, h) = (*values, map.w as usize, map.h as usize);
    // What the network says is as much higher than the map as it is wider.
    let cut = values.w.saturating_sub(w) / 2;
    (0..values.h).filter(move |row| (cut..cut + h).contains(&(first_row + row))).map(move |row| {
        let data = &values.data[(row * values.w + cut) * values.pixel_stride..];
        (first_row + row - cut, HeadValues { data, h: 1, w, ..values })
    })
}

/// The nearest whole number, ties to even, as `round_ties_even` and a cast give it: that is a call per value where the
/// compiler may not assume SSE 4.1.
#[inline]
fn fixed(v: f32) -> i16 {
    // Added to 1.5 · 2²³ a number has no room for a fraction, and its last bits are the whole number.
    const MAGIC: f32 = 12_582_912.0;
    let v = if v.is_nan() { 0.0 } else { v.clamp(f32::from(i16::MIN), f32::from(i16::MAX)) };
    ((v + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32) as i16
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HoverNetMode, crescent_seg_net, hover_net, stardist_unet};

    impl HeadPlan {
        fn map(&self, values: &HeadValues<'_>) -> HeadMap {
            let mut map = self.blank(values.w, values.h);
            self.fill(&mut map, 0, values);
            map
        }
    }

    fn values(data: &[f32], channels: usize) -> HeadValues<'_> {
        let px = data.len() / channels;
        HeadValues { data, channels, h: 1, w: px, pixel_stride: 1, channel_stride: px }
    }

    #[test]
    fn logits_become_probabilities_and_distances_stay_what_they_are() {
        let plans = head_plans(&hover_net(HoverNetMode::Fast, Some(3)), 1);
        let heads: Vec<_> = plans.iter().map(|p| (p.output, p.spec.head, p.spec.channels)).collect();
        let expected = [(1, Head::NuclearPixel, 1), (2, Head::HorizontalVertical, 2), (0, Head::TypeProbability, 3)];
        assert_eq!(heads, expected);
        let one = 16384;
        // Background and nucleus: equal, and ln 3 apart.
        assert_eq!(plans[0].map(&values(&[0.0, 0.0, 0.0, 3.0_f32.ln()], 2)).data, [one / 2, one / 4 * 3]);
        assert_eq!(plans[1].map(&values(&[-1.0, 0.5], 2)).data, [-one, one / 2]);
        assert_eq!(plans[2].map(&values(&[0.0, 2.0_f32.ln(), 0.0], 3)).data, [one / 4, one / 2, one / 4]);
    }

    #[test]
    fn probabilities_of_the_graph_are_not_taken_for_logits_and_rays_are_in_px_of_the_output() {
        let plans = head_plans(&stardist_unet(32, Some(2)), 2);
        assert_eq!(plans[0].map(&values(&[0.25], 1)).data, [4096]);
        let star = plans.iter().find(|p| p.spec.head == Head::StarDistance).unwrap();
        assert_eq!(star.map(&values(&[10.0; 32], 32)).data, [80; 32], "10 px of the image are 5 px, in sixteenths");
        let types = plans.iter().find(|p| p.spec.head == Head::TypeProbability).unwrap();
        assert_eq!(types.map(&values(&[0.5, 0.25, 0.25], 3)).data, [8192, 4096, 4096]);
    }

    #[test]
    fn rounding_is_to_the_nearest_and_saturates() {
        for i in -140_000..140_000 {
            let v = i as f32 / 4.0;
            assert_eq!(fixed(v), v.round_ties_even() as i16, "{v}");
        }
        for v in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, -0.0] {
            assert_eq!(fixed(v), v as i16, "{v}");
        }
    }

    #[test]
    fn both_layouts_give_the_same_map() {
        let plan = head_plans(&crescent_seg_net(3), 1)[0];
        let chw: Vec<f32> = (0..12).map(|i| (i * 7 % 5) as f32).collect();
        let hwc: Vec<f32> = (0..12).map(|i| chw[i % 3 * 4 + i / 3]).collect();
        let a = HeadValues { data: &chw, channels: 3, h: 2, w: 2, pixel_stride: 1, channel_stride: 4 };
        let b = HeadValues { data: &hwc, channels: 3, h: 2, w: 2, pixel_stride: 3, channel_stride: 1 };
        assert_eq!(plan.map(&a), plan.map(&b));
        // Row by row is the same.
        let mut rows = plan.blank(2, 2);
        for row in [1, 0] {
            plan.fill(&mut rows, row, &HeadValues { data: &hwc[row * 6..], h: 1, ..b });
        }
        assert_eq!(plan.map(&b), rows);
    }
}
