//! What people drew: masks of tissue, outlines, dots.

use super::{files, scratch, texts, write};
use std::{path::PathBuf, sync::OnceLock};
use wsi_run::{
    config::{environment::Environment, resolve::load_training_text},
    evaluate::refine::read_outlines,
    geometry::Size,
    tissue::{fill_geojson, read_mask},
    train::data::{LabelMap, class_tree, read_dots, read_outline_geojson, read_outline_xml},
};

/// A picture of tissue is scaled to the slide, or refused.
pub fn mask(bytes: &[u8]) {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| scratch("mask"));
    for name in ["a.png", "b.tif"] {
        write(&dir.join(name), bytes);
        match read_mask(dir, &name[..1], Size::new(640, 480), (64, 48)) {
            Ok(cells) => assert!(cells.len() == 64 * 48 && cells.iter().all(|&cell| cell < 2)),
            Err(error) => assert!(error.hint.is_some()),
        }
    }
}

pub fn mask_seeds() -> Vec<Vec<u8>> {
    files("fixtures/slides", &[".png", ".tif"], 40_000)
}

/// Outlines of tissue are filled or refused.
pub fn geojson(bytes: &[u8]) {
    let (w, h) = (64, 48);
    match fill_geojson(bytes, (w, h), (16.0, 16.0)) {
        Ok((bits, _)) => assert!(bits.len() == (w * h) as usize && bits.iter().all(|&bit| bit < 2)),
        Err(reason) => assert!(reason.len() < 1000),
    }
}

pub fn geojson_seeds() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"type":"FeatureCollection","features":[{"type":"Feature","properties":{"classification":{"name":"Tumor"}},
           "geometry":{"type":"Polygon","coordinates":[[[0,0],[500,0],[500,400],[0,0]],[[10,10],[20,10],[20,20]]]}}]}"#,
        r#"[{"type":"Feature","geometry":{"type":"MultiPolygon","coordinates":[[[[0,0],[9.5,0],[1,1]]],[[[5,0],[6,0],[6,1]]]]},
           "properties":{"classification":"Stroma","name":"a"}}]"#,
        r#"{"type":"GeometryCollection","geometries":[{"type":"Point","coordinates":[1,2]},{"type":"LineString",
           "coordinates":[[1,2],[3,4]]},{"type":"Polygon","coordinates":[[[0,0],[1e3,0],[1,1e3]]]}]}"#,
    ])
}

/// Drawn outlines of every format are read, or refused; all their places are numbers.
pub fn outlines(bytes: &[u8]) {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let file = FILE.get_or_init(|| scratch("outlines").join("outlines"));
    write(file, bytes);
    for found in [read_outline_xml(file), read_outline_geojson(file)] {
        if let Err(reason) = found {
            assert!(!reason.is_empty());
        }
    }
    if let Ok(outlines) = read_outlines(bytes) {
        assert!(outlines.iter().flat_map(|o| &o.rings).flatten().flatten().all(|v| v.is_finite()));
    }
}

pub fn outlines_seeds() -> Vec<Vec<u8>> {
    let mut seeds = geojson_seeds();
    seeds.extend(texts(&[
        r#"<?xml version="1.0"?><ASAP_Annotations><Annotations><Annotation Name="a" Type="Polygon" PartOfGroup="Tumor">
           <Coordinates><Coordinate Order="0" X="1.5" Y="2"/><Coordinate Order="1" X="9" Y="2"/>
           <Coordinate Order="2" X="9" Y="8"/></Coordinates></Annotation><Annotation Name="b" Type="Dot" PartOfGroup="None">
           <Coordinates><Coordinate X="1" Y="1"/></Coordinates></Annotation></Annotations></ASAP_Annotations>"#,
        r#"<Annotations MicronsPerPixel="0.25"><Annotation Id="1" Name="tumor"><Regions><Region NegativeROA="0"><Vertices>
           <Vertex X="0" Y="0" Z="0"/><Vertex X="90" Y="0"/><Vertex X="90" Y="80"/></Vertices></Region><Region NegativeROA="1">
           <Vertices><Vertex X="60" Y="10"/><Vertex X="70" Y="10"/><Vertex X="70" Y="20"/></Vertices></Region></Regions>
           </Annotation></Annotations>"#,
    ]));
    seeds
}

/// Labels of a data set: 1 is `a`, 2 is `b`, any other `a`.
pub fn label_map() -> LabelMap {
    let yaml = "data:\n  classes: { a: { color: \"#ff0000\" }, b: { color: \"#00ff00\" } }\n  sets:\n    s: { path: s, \
                layout: brca_m2c, class: a, labels: { \"1\": a, \"2\": b } }\nmodel: { name: stardist_unet }\n";
    let environment = Environment { threads: None, cpus: 1 };
    let loaded = load_training_text("fuzz.yaml", yaml, &[], &environment).expect("the training is right");
    let data = loaded.settings.data;
    let tree = class_tree(&data).expect("the classes are right");
    LabelMap::new(&data.sets[0], &tree).expect("the labels are right")
}

/// Dots lie on their picture and have a class, or the file is refused.
pub fn dots(bytes: &[u8]) {
    static SET: OnceLock<(PathBuf, LabelMap)> = OnceLock::new();
    let (file, labels) = SET.get_or_init(|| (scratch("dots").join("dots.txt"), label_map()));
    write(file, bytes);
    if let Ok(dots) = read_dots(file, (200, 100), labels) {
        let is_inside = |x: f32, y: f32| (-1.0..=201.0).contains(&x) && (-1.0..=101.0).contains(&y);
        assert!(dots.iter().all(|dot| is_inside(dot.x, dot.y)));
    }
}

pub fn dots_seeds() -> Vec<Vec<u8>> {
    texts(&["12 34 1\n56 78 2\n", "\u{feff}x,y,class\n1.5,2.5,1\n199,99,2\n", "class\ty\tx\n2\t10\t20\n"])
}
