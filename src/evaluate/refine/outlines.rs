//! Outlines as GeoJSON that QuPath reads, corrects and writes again.
//!
//! Owns: [`Outline`], [`write_outlines`], [`read_outlines`]. Must not know: what is done with them.
//! Source: QuPath 0.5 `QuPathTypeAdapters`. Nothing read here is trusted.

use crate::model::ClassInfo;
use serde_json::{Value, json};

/// GeometryCollections within each other.
const MAX_DEPTH: usize = 16;

/// An area with a class.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// Name of its class; `None` where QuPath has none.
    pub class: Option<String>,
    /// The exterior, then holes; px of the image counted at pixel edges, closed.
    pub rings: Vec<Vec<[f64; 2]>>,
}

/// Outlines as a FeatureCollection of annotations, which can be edited (detections cannot).
pub fn write_outlines(outlines: &[Outline], classes: &[ClassInfo]) -> String {
    let number = |v: f64| {
        let v = (v * 100.0).round() / 100.0;
        if v.fract() == 0.0 { json!(v as i64) } else { json!(v) }
    };
    let feature = |outline: &Outline| {
        let rings: Vec<Vec<[Value; 2]>> =
            outline.rings.iter().map(|ring| ring.iter().map(|p| p.map(number)).collect()).collect();
        let mut properties = json!({ "objectType": "annotation" });
        if let Some(name) = &outline.class {
            let color = classes.iter().find(|c| c.name == *name).map_or([128; 3], |c| c.color);
            properties["classification"] = json!({ "name": name, "color": color });
        }
        json!({ "type": "Feature", "geometry": { "type": "Polygon", "coordinates": rings }, "properties": properties })
    };
    let features: Vec<String> = outlines.iter().map(|outline| feature(outline).to_string()).collect();
    format!("{{\"type\":\"FeatureCollection\",\"features\":[\n{}\n]}}\n", features.join(",\n"))
}

/// Outlines of a text of GeoJSON: a FeatureCollection, an array of features, or a feature. Polygons of a MultiPolygon are
/// outlines of their own; points and lines have no area and are left out.
///
/// # Errors
/// In words: no GeoJSON, or coordinates that are no numbers.
pub fn read_outlines(text: &[u8]) -> Result<Vec<Outline>, String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let value: Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    features(&value, 0, &mut found)?;
    Ok(found)
}

fn features(value: &Value, depth: usize, found: &mut Vec<Outline>) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("nested deeper than `{MAX_DEPTH}`"));
    }
    if let Value::Array(items) = value {
        return items.iter().try_for_each(|item| features(item, depth + 1, found));
    }
    match value["type"].as_str() {
        Some("FeatureCollection") => features(&value["features"], depth + 1, found),
        Some("Feature") => {
            // QuPath before 0.3 writes the class as text, later ones as an object, or a list of names.
            let class = &value["properties"]["classification"];
            let names = class["names"]
                .as_array()
                .map(|names| names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(": "));
            let class = class.as_str().or(class["name"].as_str()).map(str::to_owned).or(names);
            geometry(&value["geometry"], class.as_ref(), depth + 1, found)
        }
        found => Err(format!("type is `{}`, expected a feature of GeoJSON", found.unwrap_or("none"))),
    }
}

fn geometry(value: &Value, class: Option<&String>, depth: usize, found: &mut Vec<Outline>) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("nested deeper than `{MAX_DEPTH}`"));
    }
    let mut add = |rings: &Value| -> Result<(), String> {
        let rings = rings.as_array().ok_or("a polygon without rings")?;
        let rings = rings.iter().map(ring).collect::<Result<Vec<_>, String>>()?;
        found.push(Outline { class: class.cloned(), rings });
        Ok(())
    };
    match value["type"].as_str() {
        Some("Polygon") => add(&value["coordinates"]),
        Some("MultiPolygon") => {
            value["coordinates"].as_array().ok_or("a MultiPolygon without polygons")?.iter().try_for_each(add)
        }
        Some("GeometryCollection") => {
            let all = value["geometries"].as_array().ok_or("a GeometryCollection without geometries")?;
            all.iter().try_for_each(|g| geometry(g, class, depth + 1, found))
        }
        _ => Ok(()),
    }
}

fn ring(value: &Value) -> Result<Vec<[f64; 2]>, String> {
    let points = value.as_array().ok_or("a ring that is no list")?;
    let mut ring = Vec::with_capacity(points.len() + 1);
    for point in points {
        match (point[0].as_f64(), point[1].as_f64()) {
            (Some(x), Some(y)) if x.abs() < 1e8 && y.abs() < 1e8 => ring.push([x, y]),
            _ => return Err(format!("coordinate `{:.40}`, expected two numbers in px", point.to_string())),
        }
    }
    if let (Some(first), Some(last)) = (ring.first().copied(), ring.last())
        && first != *last
    {
        ring.push(first);
    }
    Ok(ring)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(x: f64, class: Option<&str>) -> Outline {
        let ring = vec![[x, 1.0], [x + 3.0, 1.0], [x + 3.0, 4.25], [x, 4.25], [x, 1.0]];
        Outline { class: class.map(str::to_owned), rings: vec![ring] }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let outlines = [square(2.0, Some("tumour")), square(9.0, None)];
        let classes = [ClassInfo { name: "tumour".into(), color: [200, 0, 0] }];
        let text = write_outlines(&outlines, &classes);
        assert!(text.contains("\"color\":[200,0,0]") && text.contains("annotation"));
        assert_eq!(read_outlines(text.as_bytes()).unwrap(), outlines);
    }

    #[test]
    fn older_and_newer_ways_of_qupath_are_read() {
        let polygon = r#"{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1]]]}"#;
        let of = |class: &str, geometry: &str| {
            format!(r#"[{{"type":"Feature","geometry":{geometry},"properties":{{"classification":{class}}}}}]"#)
        };
        let named = read_outlines(of(r#""Tumor""#, polygon).as_bytes()).unwrap();
        assert_eq!((named[0].class.as_deref(), named[0].rings[0].len()), (Some("Tumor"), 4));
        let names = read_outlines(of(r#"{"names":["A","b"]}"#, polygon).as_bytes()).unwrap();
        assert_eq!(names[0].class.as_deref(), Some("A: b"));
        let two = r#"{"type":"MultiPolygon","coordinates":[[[[0,0],[1,0],[1,1]]],[[[5,0],[6,0],[6,1]]]]}"#;
        assert_eq!(read_outlines(of("null", two).as_bytes()).unwrap().len(), 2);
        let point = r#"{"type":"Point","coordinates":[1,2]}"#;
        assert!(read_outlines(of("null", point).as_bytes()).unwrap().is_empty());
        assert!(read_outlines(br#"{"type":"Polygon"}"#).is_err() && read_outlines(b"{").is_err());
    }
}
