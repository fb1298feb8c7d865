//! QuPath's GeoJSON: outlines and points with the name of their class.
//!
//! Owns: [`read`]. Must not know: which class a name is.
//!
//! Read are features in a FeatureCollection, in an array (QuPath), or alone; the class is `properties.classification.name`
//! (also of old exports' `properties.classification` as text, and `properties.name` where there is no classification).
//! Coordinates are level-0 px. The file is not trusted: size, numbers and depth are bounded.

use super::outlines::{Outline, Shape};
use crate::tissue::read_geojson_text;
use serde_json::Value;
use std::path::Path;

/// 1,000,000 nuclei take some 500 MB.
const MAX_BYTES: u64 = 1 << 30;
/// Coordinates beyond this lie on no slide.
const MAX_COORDINATE_PX: f64 = 1e8;
const MAX_DEPTH: usize = 16;

/// Everything drawn in a file, plain or gzipped.
///
/// # Errors
/// In words: not readable, not GeoJSON, or beyond the bounds above.
pub fn read(path: &Path) -> Result<Vec<Outline>, String> {
    let text = read_geojson_text(path, MAX_BYTES)?;
    let value: Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    let mut outlines = vec![];
    collect(&value, None, 0, &mut outlines)?;
    Ok(outlines)
}

fn collect(value: &Value, class: Option<&str>, depth: usize, out: &mut Vec<Outline>) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("geometries nested deeper than {MAX_DEPTH}"));
    }
    if let Value::Array(items) = value {
        return items.iter().try_for_each(|item| collect(item, class, depth + 1, out));
    }
    let kind = value.get("type").and_then(Value::as_str).ok_or("no `type`, expected GeoJSON")?;
    let list = |key: &str| value.get(key).and_then(Value::as_array).ok_or(format!("a {kind} without `{key}`"));
    let mut push = |shape: Shape| {
        out.push(Outline { class: class.map(str::to_owned), shape });
        Ok(())
    };
    match kind {
        "FeatureCollection" => list("features")?.iter().try_for_each(|f| collect(f, class, depth + 1, out)),
        "GeometryCollection" => list("geometries")?.iter().try_for_each(|g| collect(g, class, depth + 1, out)),
        "Feature" => match value.get("geometry") {
            None | Some(Value::Null) => Ok(()),
            Some(geometry) => collect(geometry, value.get("properties").and_then(class_of), depth + 1, out),
        },
        "Polygon" => push(polygon(list("coordinates")?)?),
        "MultiPolygon" => list("coordinates")?.iter().try_for_each(|part| {
            let rings = part.as_array().ok_or("a MultiPolygon whose part is no list")?;
            push(polygon(rings)?)
        }),
        "Point" => push(Shape::Point(point(value.get("coordinates").unwrap_or(&Value::Null))?)),
        "MultiPoint" => list("coordinates")?.iter().try_for_each(|p| push(Shape::Point(point(p)?))),
        // Rulers and the like.
        "LineString" | "MultiLineString" => Ok(()),
        other => Err(format!("type `{other:.40}`, expected a GeoJSON object")),
    }
}

fn class_of(properties: &Value) -> Option<&str> {
    let classification = properties.get("classification");
    let name = classification.and_then(|c| c.get("name").or(Some(c))).and_then(Value::as_str);
    name.or_else(|| properties.get("name").and_then(Value::as_str))
}

fn polygon(rings: &[Value]) -> Result<Shape, String> {
    let ring = |ring: &Value| {
        ring.as_array().ok_or("a ring that is no list")?.iter().map(point).collect::<Result<Vec<_>, String>>()
    };
    Ok(Shape::Polygon(rings.iter().map(ring).collect::<Result<_, _>>()?))
}

fn point(value: &Value) -> Result<[f64; 2], String> {
    let coordinate = |i: usize| value.get(i).and_then(Value::as_f64);
    match (coordinate(0), coordinate(1)) {
        (Some(x), Some(y)) if x.abs() <= MAX_COORDINATE_PX && y.abs() <= MAX_COORDINATE_PX => Ok([x, y]),
        (Some(x), Some(y)) => Err(format!("coordinate `[{x}, {y}]`, expected level-0 px")),
        _ => Err(format!("coordinate `{:.40}`, expected two numbers", value.to_string())),
    }
}
