//! Into what parts threads share a convolution.
//!
//! Owns: [`Winograd::cut`]. Must not know: transforms.

use super::Winograd;

/// What takes how long, per channel in: the transform of a tile's inputs, of a channel's far weights, and a tile's products
/// with them; measured of 3×3 in single precision.
const INPUT_TIME: usize = 7;
const WEIGHT_TIME: usize = 5;
const PRODUCT_TIME: usize = 1;

impl Winograd {
    /// Bands of rows, and of channels out, of an output of this size, at most `most` in all, that `threads` threads are
    /// done with soonest: every band of rows transforms far weights again, every one of channels the inputs.
    pub(in crate::kernels::cpu::conv) fn cut(
        &self,
        (h, w): (usize, usize),
        threads: usize,
        most: usize,
    ) -> (usize, usize) {
        let (units, across) = (h.div_ceil(self.side()).max(1), w.div_ceil(self.side()));
        if self.is_near() {
            return (most.min(units), 1);
        }
        let panels = self.padded().div_ceil(self.panel());
        let time = |(bands, cuts): (usize, usize)| {
            let tiles = units.div_ceil(bands) * across;
            let outs = panels.div_ceil(cuts) * self.panel();
            let one =
                INPUT_TIME * tiles + WEIGHT_TIME * outs * tiles.div_ceil(self.chunk()) + PRODUCT_TIME * tiles * outs;
            one * (bands * cuts).div_ceil(threads)
        };
        let cuts = |bands: usize| (1..=panels.min(most / bands)).map(move |cuts| (bands, cuts));
        (1..=units.min(most)).flat_map(cuts).min_by_key(|cut| time(*cut)).unwrap_or((1, 1))
    }
}
