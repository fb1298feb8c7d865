//! Curves as a picture.
//!
//! Owns: [`Panel`], [`Curve`], [`write_plot`]. Must not know: what the curves mean.

use super::{
    OutputError,
    text::{Text, blend, trimmed},
    write_atomically,
};
use crate::pixels::RgbImage;
use std::path::Path;

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What the legend calls it.
    pub name: String,
    /// Its colour.
    pub color: [u8; 3],
    /// Its points, from left to right; those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
    /// Whether points are marked, as of a few that belong together.
    pub is_marked: bool,
}

/// Curves over one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// What stands above.
    pub title: String,
    /// What the horizontal axis counts.
    pub x_name: String,
    /// The curves.
    pub curves: Vec<Curve>,
}

/// Size of a panel, px.
const SIZE: (u32, u32) = (900, 340);
/// Left, top, right, bottom of the axes within a panel, px.
const FRAME: [f64; 4] = [78.0, 40.0, 880.0, 296.0];
const INK: Text = Text { size_px: 13.0, color: [60, 60, 60] };
const GREY: [u8; 3] = [215, 215, 215];

/// Draws panels below each other into a PNG.
///
/// # Errors
/// [`OutputError`] when the file cannot be written; the one before is still there.
pub fn write_plot(path: &Path, panels: &[Panel]) -> Result<(), OutputError> {
    let mut image = RgbImage::white(SIZE.0, SIZE.1 * panels.len().max(1) as u32);
    for (i, panel) in panels.iter().enumerate() {
        draw(&mut image, f64::from(SIZE.1) * i as f64, panel);
    }
    write_atomically(path, &image.png().map_err(OutputError::format("PNG", path))?)
}

fn finite(panel: &Panel) -> impl Iterator<Item = (f64, f64)> + '_ {
    panel.curves.iter().flat_map(|c| &c.points).copied().filter(|p| p.0.is_finite() && p.1.is_finite())
}

/// The range of an axis, and the distance of its marks: 1, 2 or 5 times a power of ten.
fn axis(values: impl Iterator<Item = f64>, marks: f64) -> (f64, f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let span = if high > low { high - low } else { low.abs().max(1.0) };
    let rough = span / marks;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|&s| s >= rough).unwrap_or(rough);
    ((low / step).floor() * step, (high / step - 1e-9).ceil().max((low / step).floor() + 1.0) * step, step)
}

fn draw(image: &mut RgbImage, top: f64, panel: &Panel) {
    let [left, up, right, down] = [FRAME[0], FRAME[1] + top, FRAME[2], FRAME[3] + top];
    let (x0, x1, x_step) = axis(finite(panel).map(|p| p.0), 10.0);
    // A few wild values of the first steps would flatten all the rest.
    let mut ys: Vec<f64> = finite(panel).map(|p| p.1).collect();
    ys.sort_by(f64::total_cmp);
    let kept = ys.len() - ys.len() / 100;
    let (y0, y1, y_step) = axis(ys[..kept].iter().copied(), 5.0);
    let at = |x: f64, y: f64| (left + (x - x0) / (x1 - x0) * (right - left), down - (y - y0) / (y1 - y0) * (down - up));
    let digits = |step: f64| (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    for i in 0..=((y1 - y0) / y_step).round() as u32 {
        let value = y0 + f64::from(i) * y_step;
        let y = at(x0, value).1;
        line(image, (left, y), (right, y), GREY, 1.0);
        let text = trimmed(value, digits(y_step));
        INK.draw(image, (left as f32 - 8.0 - INK.width_px(&text), y as f32 - 6.0), &text);
    }
    for i in 0..=((x1 - x0) / x_step).round() as u32 {
        let value = x0 + f64::from(i) * x_step;
        let x = at(value, y0).0;
        line(image, (x, down), (x, down + 5.0), INK.color, 1.0);
        let text = trimmed(value, digits(x_step));
        INK.draw(image, (x as f32 - INK.width_px(&text) / 2.0, down as f32 + 8.0), &text);
    }
    line(image, (left, down), (right, down), INK.color, 1.0);
    let name = &panel.x_name;
    INK.draw(image, (right as f32 - INK.width_px(name), down as f32 + 25.0), name);
    Text { size_px: 15.0, color: [20, 20, 20] }.draw(image, (left as f32, top as f32 + 12.0), &panel.title);
    let mut pen = right as f32;
    for curve in panel.curves.iter().rev() {
        pen -= INK.width_px(&curve.name);
        INK.draw(image, (pen, top as f32 + 14.0), &curve.name);
        let y = top + 20.0;
        line(image, (f64::from(pen) - 26.0, y), (f64::from(pen) - 6.0, y), curve.color, 2.5);
        pen -= 42.0;
    }
    for curve in &panel.curves {
        let points: Vec<(f64, f64)> =
            curve.points.iter().filter(|p| p.0.is_finite() && p.1.is_finite()).copied().collect();
        let seen = |p: (f64, f64)| at(p.0, p.1.clamp(y0, y1));
        points.windows(2).for_each(|w| line(image, seen(w[0]), seen(w[1]), curve.color, 1.6));
        for &p in points.iter().filter(|_| curve.is_marked || points.len() == 1) {
            let (x, y) = seen(p);
            line(image, (x - 0.1, y), (x + 0.1, y), curve.color, 5.0);
        }
    }
}

/// A line with round ends, its edges softened.
fn line(image: &mut RgbImage, a: (f64, f64), b: (f64, f64), color: [u8; 3], width: f64) {
    let half = width / 2.0 + 0.5;
    let range = |p: f64, q: f64, most: u32| {
        let clamp = |v: f64| v.clamp(0.0, f64::from(most)) as u32;
        clamp((p.min(q) - half).floor())..clamp((p.max(q) + half).ceil() + 1.0)
    };
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length2 = (dx * dx + dy * dy).max(1e-12);
    for y in range(a.1, b.1, image.h) {
        for x in range(a.0, b.0, image.w) {
            let (px, py) = (f64::from(x) + 0.5 - a.0, f64::from(y) + 0.5 - a.1);
            let along = ((px * dx + py * dy) / length2).clamp(0.0, 1.0);
            let distance = ((px - along * dx).powi(2) + (py - along * dy).powi(2)).sqrt();
            let ink = (half - distance).clamp(0.0, 1.0);
            if ink > 0.0 {
                blend(image, (x, y), color, ink as f32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_an_axis_are_round_numbers_around_the_values() {
        assert_eq!(axis([0.13, 0.92].into_iter(), 5.0), (0.0, 1.0, 0.2));
        assert_eq!(axis([1.0, 40.0].into_iter(), 10.0), (0.0, 40.0, 5.0));
        let (low, high, _) = axis([3.0].into_iter(), 5.0);
        assert!(low <= 3.0 && 3.0 < high);
        assert_eq!(axis(std::iter::empty(), 5.0), (0.0, 1.0, 0.2));
    }

    #[test]
    fn a_plot_without_points_and_one_with_wild_values_are_pictures() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let panel = |points| Panel {
            title: "loss".into(),
            x_name: "step".into(),
            curves: vec![Curve { name: "training".into(), color: [200, 0, 0], points, is_marked: true }],
        };
        for points in [vec![], vec![(0.0, f64::NAN), (1.0, 1e30), (2.0, 1.0)], vec![(1.0, 1.0)]] {
            write_plot(&path, &[panel(points), panel(vec![])]).unwrap();
            let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&path).unwrap()));
            assert_eq!(decoder.read_info().unwrap().info().size(), (SIZE.0, 2 * SIZE.1));
        }
    }
}
