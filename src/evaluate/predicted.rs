//! What was said of an image, on the pixels of that image.
//!
//! Owns: [`Predicted`], [`FoundNucleus`]. Must not know: who said it, what is true.

/// What was said of an image. What a model does not tell is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Predicted {
    /// Nuclei.
    pub nuclei: Option<Vec<FoundNucleus>>,
    /// `[h, w]` class of each px: 0 background, `i + 1` class `i` of the model, 255 not computed.
    pub semantic: Option<Vec<u8>>,
    /// `[h, w]` probability of foreground (a nucleus, or any class), `round(255 · prob)`.
    pub foreground: Option<Vec<u8>>,
    /// Probability of each class for the whole image.
    pub label_probs: Option<Vec<f32>>,
    /// Mean over the pixels of the entropy of what the model said there, as share of the largest there could be.
    pub mean_entropy: Option<f64>,
}

/// A nucleus that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundNucleus {
    /// Outline in px of the image counted at pixel edges, closed: the exterior, then holes.
    pub rings: Vec<Vec<[f64; 2]>>,
    /// Mean of its pixels' centres, px of the image counted at pixel edges.
    pub centroid: (f64, f64),
    /// Class of the model, from 0; `None` where it has none.
    pub class: Option<usize>,
}

impl Predicted {
    /// The nuclei as a map: the number of a nucleus is its place + 1; where outlines overlap the later one.
    ///
    /// # Shapes
    /// - returns `[h, w]`
    pub fn instance_map(&self, w: u32, h: u32) -> Option<Vec<u32>> {
        let nuclei = self.nuclei.as_ref()?;
        let mut map = vec![0; w as usize * h as usize];
        for (number, nucleus) in (1..).zip(nuclei) {
            fill(&nucleus.rings, w, h, |at| map[at] = number);
        }
        Some(map)
    }
}

/// Calls `mark` for each pixel of a picture whose centre lies inside the rings (even-odd rule).
pub fn fill(rings: &[Vec<[f64; 2]>], w: u32, h: u32, mut mark: impl FnMut(usize)) {
    let ys = rings.iter().flatten().map(|p| p[1]);
    let (low, high) = ys.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), y| (a.min(y), b.max(y)));
    if low > high {
        return;
    }
    let first = low.floor().clamp(0.0, f64::from(h)) as u32;
    let last = high.ceil().clamp(0.0, f64::from(h)) as u32;
    let mut crossings = Vec::new();
    for y in first..last {
        let middle = f64::from(y) + 0.5;
        crossings.clear();
        for ring in rings {
            for edge in ring.windows(2) {
                let ([x0, y0], [x1, y1]) = (edge[0], edge[1]);
                if (y0 <= middle) != (y1 <= middle) {
                    crossings.push(x0 + (middle - y0) / (y1 - y0) * (x1 - x0));
                }
            }
        }
        crossings.sort_by(f64::total_cmp);
        for span in crossings.chunks_exact(2) {
            // Pixels whose centre x + 0.5 lies in [span[0], span[1]).
            let px = |x: f64| (x - 0.5).ceil().clamp(0.0, f64::from(w)) as usize;
            let row = y as usize * w as usize;
            (row + px(span[0])..row + px(span[1])).for_each(&mut mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instances::{Run, rings};

    #[test]
    fn an_outline_along_pixel_edges_is_filled_with_its_pixels() {
        let runs = [(1, 1, 6), (2, 1, 3), (2, 4, 6), (3, 1, 6)].map(|(y, x0, x1)| Run { y, x0, x1 });
        let mut map = vec![0; 7 * 5];
        fill(&rings(&runs), 7, 5, |at| map[at] += 1);
        let expected: Vec<i32> =
            (0..35).map(|i| i32::from(runs.iter().any(|r| r.y == i / 7 && (r.x0..r.x1).contains(&(i % 7))))).collect();
        assert_eq!(map, expected);
    }

    #[test]
    fn what_reaches_outside_the_picture_is_cut() {
        let ring = vec![[-3.0, -3.0], [2.0, -3.0], [2.0, 9.0], [-3.0, 9.0], [-3.0, -3.0]];
        let mut count = 0;
        fill(&[ring], 4, 4, |_| count += 1);
        assert_eq!(count, 8);
    }
}
