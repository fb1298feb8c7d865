//! Where each px of a changed picture comes from.
//!
//! Owns: [`Map`]. Must not know: pixels, what is drawn.

use super::Elastic;

/// Places of the result to places of the source, both counting px edges: bent first, then straight.
#[derive(Debug, Clone)]
pub struct Map {
    /// `x' = a·x + b·y + c`, `y' = d·x + e·y + f`: `[a, b, c, d, e, f]`.
    pub straight: [f64; 6],
    /// Bending of the result's places.
    pub elastic: Option<Elastic>,
    /// Middle of the result.
    middle: (f64, f64),
}

impl Map {
    /// The middle of a result of `[h, w]` px is at `(x, y)` of the source; nothing else is changed.
    ///
    /// The shift is rounded so that px fall on px.
    pub fn centred((w, h): (u32, u32), (x, y): (f64, f64)) -> Self {
        let middle = (f64::from(w) / 2.0, f64::from(h) / 2.0);
        let straight = [1.0, 0.0, (x - middle.0).round(), 0.0, 1.0, (y - middle.1).round()];
        Self { straight, elastic: None, middle }
    }

    /// Follows a linear change of the result around its middle: rows of a 2×2 matrix.
    fn after(mut self, [[a, b], [c, d]]: [[f64; 2]; 2]) -> Self {
        let (mx, my) = self.middle;
        let s = self.straight;
        let (shift_x, shift_y) = (mx - a * mx - b * my, my - c * mx - d * my);
        self.straight = [
            s[0] * a + s[1] * c,
            s[0] * b + s[1] * d,
            s[0] * shift_x + s[1] * shift_y + s[2],
            s[3] * a + s[4] * c,
            s[3] * b + s[4] * d,
            s[3] * shift_x + s[4] * shift_y + s[5],
        ];
        self
    }

    /// Mirrored left-right, up-down.
    #[must_use]
    pub fn flipped(self, across: bool, down: bool) -> Self {
        let sign = |is: bool| if is { -1.0 } else { 1.0 };
        self.after([[sign(across), 0.0], [0.0, sign(down)]])
    }

    /// Turned by `quarters` of a circle, clockwise on the screen; of pictures that are not square, about the middle.
    #[must_use]
    pub fn turned(self, quarters: u32) -> Self {
        // Places of the result go back the other way.
        let (sin, cos) = [(0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0)][(quarters % 4) as usize];
        self.after([[cos, sin], [-sin, cos]])
    }

    /// Turned by any angle, clockwise on the screen.
    #[must_use]
    pub fn rotated(self, degrees: f64) -> Self {
        let (sin, cos) = degrees.to_radians().sin_cos();
        self.after([[cos, sin], [-sin, cos]])
    }

    /// Sheared along x.
    #[must_use]
    pub fn sheared(self, degrees: f64) -> Self {
        self.after([[1.0, degrees.to_radians().tan()], [0.0, 1.0]])
    }

    /// Enlarged by `factor`.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        self.after([[1.0 / factor, 0.0], [0.0, 1.0 / factor]])
    }

    /// Bent.
    #[must_use]
    pub fn bent(self, elastic: Elastic) -> Self {
        Self { elastic: Some(elastic), ..self }
    }

    /// The same for a source whose corner is at `(x, y)` of the one meant so far.
    #[must_use]
    pub fn from_corner(mut self, x: i64, y: i64) -> Self {
        self.straight[2] -= x as f64;
        self.straight[5] -= y as f64;
        self
    }

    /// Where a place of the result comes from.
    pub fn source_of(&self, x: f64, y: f64) -> (f64, f64) {
        let (dx, dy) = self.elastic.as_ref().map_or((0.0, 0.0), |e| e.at(x, y));
        let (x, y, s) = (x + dx, y + dy, &self.straight);
        (s[0] * x + s[1] * y + s[2], s[3] * x + s[4] * y + s[5])
    }

    /// Where a place of the source goes. The bending is undone by repetition: it is small and smooth.
    pub fn result_of(&self, x: f64, y: f64) -> (f64, f64) {
        let s = &self.straight;
        let det = s[0] * s[4] - s[1] * s[3];
        let (u, v) = (x - s[2], y - s[5]);
        let straight = ((s[4] * u - s[1] * v) / det, (s[0] * v - s[3] * u) / det);
        let Some(elastic) = &self.elastic else { return straight };
        let mut at = straight;
        for _ in 0..64 {
            let (dx, dy) = elastic.at(at.0, at.1);
            let next = (straight.0 - dx, straight.1 - dy);
            let change = (next.0 - at.0).abs().max((next.1 - at.1).abs());
            at = next;
            if change < 1e-4 {
                break;
            }
        }
        at
    }
}
