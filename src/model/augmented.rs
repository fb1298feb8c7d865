//! Test-time augmentation: a model asked several times, the tile flipped and turned, and its answers averaged.
//!
//! Owns: [`Augmented`]. Must not know: networks, slides.
//!
//! Every view is undone exactly: pixels go back where they came from, horizontal and vertical distances are turned with
//! them, rays change their order. Sums are of integers, so the order of the views does not matter.

use super::spec::{Head, HeadMap, Model, ModelError, ModelSpec};
use std::sync::Arc;

/// One of the eight symmetries of the square: first transposed, then mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct View {
    transpose: bool,
    flip_x: bool,
    flip_y: bool,
}

impl View {
    /// The first `count` of: as it is, the three flips, the four of the transposed.
    fn first(count: usize) -> impl Iterator<Item = Self> {
        let flips = |transpose| {
            [(false, false), (true, false), (false, true), (true, true)].map(|(flip_x, flip_y)| Self {
                transpose,
                flip_x,
                flip_y,
            })
        };
        flips(false).into_iter().chain(flips(true)).take(count)
    }

    /// Where in the tile the view's pixel `(x, y)` comes from.
    fn source(self, x: usize, y: usize, side: usize) -> (usize, usize) {
        let (x, y) = (if self.flip_x { side - 1 - x } else { x }, if self.flip_y { side - 1 - y } else { y });
        if self.transpose { (y, x) } else { (x, y) }
    }

    /// The tile as the view shows it.
    fn of_tile(self, rgb: &[u8], side: usize) -> Vec<u8> {
        let mut to = Vec::with_capacity(rgb.len());
        for y in 0..side {
            for x in 0..side {
                let (from_x, from_y) = self.source(x, y, side);
                to.extend_from_slice(&rgb[(from_y * side + from_x) * 3..][..3]);
            }
        }
        to
    }

    /// The channel of the view's map that holds channel `c` of the tile, and its sign.
    fn channel(self, head: Head, c: usize, channels: usize) -> (usize, i32) {
        match head {
            // Channel 0 grows with x, 1 with y.
            Head::HorizontalVertical => {
                let seen = if self.transpose { 1 - c } else { c };
                let flipped = if seen == 0 { self.flip_x } else { self.flip_y };
                (seen, if flipped { -1 } else { 1 })
            }
            // Ray k points at the angle 2πk/n, x by its cosine and y by its sine.
            Head::StarDistance => {
                let n = channels;
                let mut ray = c;
                if self.transpose {
                    ray = (n / 4 + n - ray) % n;
                }
                if self.flip_x {
                    ray = (n / 2 + n - ray) % n;
                }
                if self.flip_y {
                    ray = (n - ray) % n;
                }
                (ray, 1)
            }
            _ => (c, 1),
        }
    }

    /// Adds the view's map to `sums`, turned back.
    fn add_to(self, map: &HeadMap, sums: &mut [i32]) {
        let (side, channels) = (map.w as usize, map.channels as usize);
        for c in 0..channels {
            let (seen, sign) = self.channel(map.head, c, channels);
            let (from, to) = (&map.data[seen * side * side..][..side * side], &mut sums[c * side * side..]);
            for y in 0..side {
                for x in 0..side {
                    let (to_x, to_y) = self.source(x, y, side);
                    to[to_y * side + to_x] += sign * i32::from(from[y * side + x]);
                }
            }
        }
    }
}

/// A model whose answer is the mean over several views of a tile.
pub struct Augmented {
    model: Arc<dyn Model>,
    views: Vec<View>,
}

impl Augmented {
    /// `views`: 4 (flips) or 8 (flips and turns).
    ///
    /// # Errors
    /// [`ModelError`] when rays of a star cannot be turned into each other.
    pub fn new(model: Arc<dyn Model>, views: usize) -> Result<Self, ModelError> {
        let rays = model.spec().heads.iter().find(|h| h.head == Head::StarDistance).map(|h| h.channels);
        match rays {
            Some(rays) if !rays.is_multiple_of(4) => {
                Err(ModelError(format!("{rays} rays cannot be turned by 90°, expected a multiple of 4")))
            }
            _ => Ok(Self { model, views: View::first(views).collect() }),
        }
    }
}

impl Model for Augmented {
    fn spec(&self) -> &ModelSpec {
        self.model.spec()
    }

    fn is_one_core(&self) -> bool {
        self.model.is_one_core()
    }

    fn is_cheap(&self) -> bool {
        self.model.is_cheap()
    }

    fn batches_at_once(&self) -> usize {
        self.model.batches_at_once()
    }

    fn forward(&self, images: &[&[u8]], tile_px: u32) -> Result<Vec<Vec<HeadMap>>, ModelError> {
        let mut sums: Vec<Vec<(HeadMap, Vec<i32>)>> = vec![];
        for (i, view) in self.views.iter().enumerate() {
            let seen: Vec<Vec<u8>> = images.iter().map(|rgb| view.of_tile(rgb, tile_px as usize)).collect();
            let seen: Vec<&[u8]> = seen.iter().map(Vec::as_slice).collect();
            let answers = self.model.forward(&seen, tile_px)?;
            if i == 0 {
                let blank = |map: &HeadMap| (map.clone(), vec![0; map.data.len()]);
                sums = answers.iter().map(|maps| maps.iter().map(blank).collect()).collect();
            }
            for (maps, sums) in answers.iter().zip(&mut sums) {
                maps.iter().zip(sums).for_each(|(map, (_, sums))| view.add_to(map, sums));
            }
        }
        let n = self.views.len() as i32;
        // Halves go up: a rule without a sign keeps ties the same wherever they are.
        let mean = |sum: i32| (sum + n / 2).div_euclid(n) as i16;
        let finish = |(map, sums): (HeadMap, Vec<i32>)| HeadMap { data: sums.into_iter().map(mean).collect(), ..map };
        Ok(sums.into_iter().map(|maps| maps.into_iter().map(finish).collect()).collect())
    }

    fn bytes(&self, tile_px: u32, batch: u32) -> u64 {
        self.model.bytes(tile_px, batch)
    }

    fn weight_bytes(&self) -> u64 {
        self.model.weight_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::spec::HeadSpec, units::Mpp};

    /// Says of each pixel what can be seen of it whichever way the tile is turned: its red as a probability, the
    /// gradient of its green as distances, and as rays how far the green rises towards each side.
    struct Equivariant(ModelSpec);

    const SIDE: usize = 6;

    fn green(rgb: &[u8], x: i32, y: i32) -> i16 {
        let clamp = |v: i32| v.clamp(0, SIDE as i32 - 1) as usize;
        i16::from(rgb[(clamp(y) * SIDE + clamp(x)) * 3 + 1])
    }

    impl Model for Equivariant {
        fn spec(&self) -> &ModelSpec {
            &self.0
        }

        fn is_one_core(&self) -> bool {
            true
        }

        fn forward(&self, images: &[&[u8]], _: u32) -> Result<Vec<Vec<HeadMap>>, ModelError> {
            let side = SIDE as i32;
            let steps = [(1, 0), (0, 1), (-1, 0), (0, -1)];
            let map = |head, channels: u32, value: &dyn Fn(usize, i32, i32) -> i16| {
                let px = (0..channels as usize).flat_map(|c| (0..side * side).map(move |i| (c, i % side, i / side)));
                let data = px.map(|(c, x, y)| value(c, x, y)).collect();
                HeadMap { head, channels, w: SIDE as u32, h: SIDE as u32, data, pixels: None }
            };
            let answer = |rgb: &&[u8]| {
                let towards = |c: usize, x: i32, y: i32| green(rgb, x + steps[c].0, y + steps[c].1);
                vec![
                    map(Head::NuclearPixel, 1, &|_, x, y| i16::from(rgb[(y * side + x) as usize * 3])),
                    map(Head::HorizontalVertical, 2, &|c, x, y| towards(c, x, y) - towards(c + 2, x, y)),
                    map(Head::StarDistance, 4, &towards),
                ]
            };
            Ok(images.iter().map(answer).collect())
        }
    }

    #[test]
    fn a_model_that_turns_with_the_tile_gives_the_same_with_every_view() {
        let heads = [(Head::NuclearPixel, 1), (Head::HorizontalVertical, 2), (Head::StarDistance, 4)];
        let spec = ModelSpec {
            name: "equivariant",
            weights_sha256: None,
            input_mpp: Mpp::new(0.25).unwrap(),
            any_mpp: true,
            tile_px: SIDE as u32,
            tile_step_px: None,
            margin_px: 0,
            usual_margin_px: 0,
            is_certain: false,
            out_stride: 1,
            prob_threshold: None,
            heads: heads.map(|(head, channels)| HeadSpec { head, channels }).into(),
            classes: vec![],
        };
        let model: Arc<dyn Model> = Arc::new(Equivariant(spec));
        let rgb: Vec<u8> = (0..SIDE * SIDE * 3).map(|i| (i * 89 % 251) as u8).collect();
        let plain = model.forward(&[&rgb], SIDE as u32).unwrap();
        for views in [1, 4, 8] {
            let augmented = Augmented::new(model.clone(), views).unwrap();
            assert_eq!(augmented.forward(&[&rgb], SIDE as u32).unwrap(), plain, "{views} views");
        }
    }

    #[test]
    fn the_eight_views_are_different() {
        let rgb: Vec<u8> = (0..SIDE * SIDE * 3).map(|i| i as u8).collect();
        let mut seen: Vec<Vec<u8>> = View::first(8).map(|v| v.of_tile(&rgb, SIDE)).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 8);
    }
}
