//! Tissue from polygons the user drew: `<dir>/<slide stem>.geojson`, plain or gzipped.
//!
//! Owns: finding, reading and filling them. Must not know: other methods.
//!
//! Coordinates are level-0 px, as QuPath exports them. Read are Polygon, MultiPolygon and GeometryCollection, bare, in
//! a Feature, in a FeatureCollection, or in an array of these (QuPath). Holes are left out, overlapping polygons
//! united. Points and lines have no area and are counted in a note. The file is not trusted: its size, its numbers and
//! its depth are bounded.

use crate::error::{SlideError, StageName};
use serde_json::Value;
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// Text beyond this is no outline of tissue (100,000 corners take about 4 MB).
const MAX_BYTES: u64 = 64 << 20;
/// Coordinates beyond this lie on no slide.
const MAX_COORDINATE_PX: f64 = 1e8;
/// GeometryCollections within each other; serde_json itself stops at 128 levels of brackets.
const MAX_DEPTH: usize = 16;

/// Reads the polygons of `slide_stem` into `[h, w]` cells of `step` level-0 px: 1 where the centre of the cell lies
/// inside. Also returns what was left out.
///
/// # Errors
/// No such file, not GeoJSON, or beyond the bounds above.
pub(super) fn read_polygons(
    dir: &Path,
    slide_stem: &str,
    (w, h): (u32, u32),
    step: (f64, f64),
) -> Result<(Vec<u8>, Option<String>), SlideError> {
    let candidates: [PathBuf; 2] = ["geojson", "geojson.gz"].map(|ext| dir.join(format!("{slide_stem}.{ext}")));
    let path = candidates.iter().find(|p| p.is_file()).ok_or_else(|| {
        let message = format!("no tissue outline for slide `{slide_stem}`: expected {}", candidates[0].display());
        SlideError::new(StageName::Tissue, message)
            .hint("name outlines after the slide: `<slide stem>.geojson` or `.geojson.gz` in `tissue.geojson_dir`")
    })?;
    let fail = |reason: String| {
        SlideError::new(StageName::Tissue, format!("cannot use tissue outline: {reason}: {}", path.display()))
            .hint("export the annotations from QuPath as GeoJSON, or write polygons in level-0 px")
    };
    let text = read_geojson_text(path, MAX_BYTES).map_err(fail)?;
    fill_geojson(&text, (w, h), step).map_err(fail)
}

/// Fills the polygons of a GeoJSON text into `[h, w]` cells, and says what was left out.
///
/// # Shapes
/// - returns `[h, w]`: 1 where the centre of the cell lies inside, else 0
///
/// # Units
/// `step` is the level-0 px of a cell across and down, positive.
///
/// # Errors
/// In words: not GeoJSON, nested too deep, or coordinates that lie on no slide.
pub fn fill_geojson(text: &[u8], (w, h): (u32, u32), step: (f64, f64)) -> Result<(Vec<u8>, Option<String>), String> {
    let value: Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let mut polygons = Polygons::default();
    polygons.collect(&value, 0)?;
    drop(value);
    let mut bits = vec![0; w as usize * h as usize];
    for rings in &polygons.rings {
        fill_polygon(rings, (w as usize, h as usize), step, &mut bits);
    }
    let note = (polygons.without_area > 0)
        .then(|| format!("geojson: {} points or lines have no area and were left out", polygons.without_area));
    Ok((bits, note))
}

/// The text of a GeoJSON file, plain or gzipped.
///
/// # Errors
/// In words: not readable, or longer than `most_bytes`.
pub(crate) fn read_geojson_text(path: &Path, most_bytes: u64) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let mut text = Vec::new();
    let read = if path.extension().is_some_and(|e| e == "gz") {
        flate2::read::MultiGzDecoder::new(file).take(most_bytes + 1).read_to_end(&mut text)
    } else {
        file.take(most_bytes + 1).read_to_end(&mut text)
    };
    read.map_err(|e| e.to_string())?;
    if text.len() as u64 > most_bytes {
        return Err(format!("more than {} MiB of text", most_bytes >> 20));
    }
    // A byte-order mark is not JSON, but some editors write it.
    Ok(text.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(text))
}

/// A closed line, level-0 px.
type Ring = Vec<[f64; 2]>;

#[derive(Default)]
struct Polygons {
    /// Per polygon its outer ring and its holes.
    rings: Vec<Vec<Ring>>,
    without_area: u64,
}

impl Polygons {
    fn collect(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("geometries nested deeper than {MAX_DEPTH}"));
        }
        if let Value::Array(items) = value {
            return items.iter().try_for_each(|item| self.collect(item, depth + 1));
        }
        let kind = value.get("type").and_then(Value::as_str).ok_or("no `type`, expected GeoJSON")?;
        let list = |key: &str| value.get(key).and_then(Value::as_array).ok_or(format!("a {kind} without `{key}`"));
        match kind {
            "FeatureCollection" => list("features")?.iter().try_for_each(|f| self.collect(f, depth + 1)),
            "GeometryCollection" => list("geometries")?.iter().try_for_each(|g| self.collect(g, depth + 1)),
            "Feature" => match value.get("geometry") {
                // GeoJSON allows features without a place.
                None | Some(Value::Null) => Ok(()),
                Some(geometry) => self.collect(geometry, depth + 1),
            },
            "Polygon" => self.polygon(list("coordinates")?),
            "MultiPolygon" => list("coordinates")?
                .iter()
                .try_for_each(|p| self.polygon(p.as_array().ok_or("a MultiPolygon whose part is no list")?)),
            "Point" | "MultiPoint" | "LineString" | "MultiLineString" => {
                self.without_area += 1;
                Ok(())
            }
            other => Err(format!("type `{:.40}`, expected a GeoJSON object", other)),
        }
    }

    fn polygon(&mut self, rings: &[Value]) -> Result<(), String> {
        let rings = rings.iter().map(ring).collect::<Result<Vec<Ring>, String>>()?;
        self.rings.push(rings);
        Ok(())
    }
}

fn ring(value: &Value) -> Result<Ring, String> {
    let points = value.as_array().ok_or("a ring that is no list")?;
    points
        .iter()
        .map(|point| {
            // A third number is an altitude.
            let coordinate = |i: usize| point.get(i).and_then(Value::as_f64);
            match (coordinate(0), coordinate(1)) {
                (Some(x), Some(y)) if x.abs() <= MAX_COORDINATE_PX && y.abs() <= MAX_COORDINATE_PX => Ok([x, y]),
                (Some(x), Some(y)) => Err(format!("coordinate `[{x}, {y}]`, expected level-0 px")),
                _ => Err(format!("coordinate `{:.40}`, expected two numbers", point.to_string())),
            }
        })
        .collect()
}

/// Sets cells whose centre lies inside an odd number of `rings`: each crossing of an edge with the centre line of a row
/// flips the row from there on. Memory is that of the cells around the polygon, however often its edges cross a row.
///
/// # Shapes
/// - `rings`: outer ring and holes, `[x, y]`; `bits`: `[h, w]`, what is set stays set
pub fn fill_polygon(rings: &[Vec<[f64; 2]>], (w, h): (usize, usize), step: (f64, f64), bits: &mut [u8]) {
    // First cell whose centre `(i + 0.5)·step` is not before the coordinate.
    let cell = |at: f64, step: f64, n: usize| (at / step - 0.5).ceil().clamp(0.0, n as f64) as usize;
    let around = |axis: usize, step: f64, n: usize| {
        let along = rings.iter().flatten().map(|p| p[axis]);
        let (low, high) = along.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        (cell(low, step, n), cell(high, step, n))
    };
    let (left, right) = around(0, step.0, w);
    let (top, bottom) = around(1, step.1, h);
    if left >= right || top >= bottom {
        return;
    }
    // One column more: a crossing right of the last cell flips none.
    let across = right - left + 1;
    let mut flips = vec![false; across * (bottom - top)];
    for ring in rings {
        for (a, b) in ring.iter().zip(ring.iter().cycle().skip(1)) {
            let (a, b) = if a[1] <= b[1] { (a, b) } else { (b, a) };
            // Rows whose centre lies in `[a, b)`: half-open, so a corner counts once.
            for row in cell(a[1], step.1, h)..cell(b[1], step.1, h) {
                let share = ((row as f64 + 0.5) * step.1 - a[1]) / (b[1] - a[1]);
                // Rounding may leave the edge's ends by a bit.
                let column = cell(a[0] + share * (b[0] - a[0]), step.0, w).clamp(left, right);
                flips[(row - top) * across + column - left] ^= true;
            }
        }
    }
    for (row, flips) in (top..bottom).zip(flips.chunks(across)) {
        let mut inside = false;
        for (bit, flip) in bits[row * w + left..row * w + right].iter_mut().zip(flips) {
            inside ^= flip;
            *bit |= u8::from(inside);
        }
    }
}
