//! The columns of the tables of nuclei and lesions: name, unit, meaning, and how each is filled.
//!
//! Owns: [`Column`], WKB. Must not know: files, row groups.
//! Source: scikit-image `regionprops` for names and meaning of the shape columns; OGC 06-103r4 (WKB).

use super::{
    ResultKind, SlideHeader,
    plain_table::described,
    record::{FEATURES, features_array},
};
use crate::instances::Instance;
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float32Array, Float64Array, Int32Array, StringArray, StructArray,
    UInt32Array, builder::BinaryBuilder,
};
use arrow_schema::{DataType, Field, Fields};
use std::sync::Arc;

/// A row of a table: id and instance.
pub(super) type Row = (u32, Instance);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Content {
    Id,
    Slide,
    Geometry,
    Bbox,
    CentroidX,
    CentroidY,
    Feature(usize),
    Type,
    TypeProb,
    ClassProb(usize),
    Truncated,
    HoleCount,
    GridX,
    GridY,
}

/// One column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Name, type, description and unit.
    pub field: Field,
    content: Content,
}

/// Name, unit and description of the features, in the order of [`features_array`]; the last seven are of colour.
const FEATURE_COLUMNS: [(&str, &str, &str); FEATURES] = [
    ("area_um2", "um2", "number of mask pixels times the area of a pixel (regionprops: area)"),
    ("perimeter_um", "um", "length of the outline, 4-neighbourhood estimate (regionprops: perimeter)"),
    ("axis_major_length_um", "um", "major axis of the ellipse with the same second moments"),
    ("axis_minor_length_um", "um", "minor axis of the ellipse with the same second moments"),
    ("eccentricity", "1", "eccentricity of the ellipse with the same second moments, 0 (circle) to 1"),
    ("solidity", "1", "area / area of the convex hull, 0 to 1"),
    ("extent", "1", "area / area of the bounding box, 0 to 1"),
    ("circularity", "1", "4 pi area / perimeter^2, not clipped"),
    ("orientation", "rad", "angle between the row axis and the major axis, (-pi/2, pi/2]"),
    ("equivalent_diameter_um", "um", "diameter of the circle of the same area (regionprops: equivalent_diameter_area)"),
    ("feret_diameter_max_um", "um", "longest distance between points of the outline"),
    ("hematoxylin_od_mean", "1", "mean optical density of hematoxylin"),
    ("hematoxylin_od_std", "1", "standard deviation (population) of the optical density of hematoxylin"),
    ("eosin_od_mean", "1", "mean optical density of eosin"),
    ("eosin_od_std", "1", "standard deviation (population) of the optical density of eosin"),
    ("red_mean", "1", "mean of red, 0 to 255"),
    ("green_mean", "1", "mean of green, 0 to 255"),
    ("blue_mean", "1", "mean of blue, 0 to 255"),
];
const SHAPE_FEATURES: usize = 11;

fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn bbox_fields() -> Fields {
    ["xmin", "ymin", "xmax", "ymax"].map(|name| Field::new(name, DataType::Float64, false)).to_vec().into()
}

/// The columns of a table of `kind`'s instances.
pub(super) fn columns(kind: ResultKind, header: &SlideHeader) -> Vec<Column> {
    let noun = match kind {
        ResultKind::Nuclei => "nucleus",
        ResultKind::Semantic => "lesion",
        ResultKind::Tiles => "tile",
    };
    let mut columns = Vec::new();
    let mut add = |name: &str, data_type: DataType, nullable: bool, unit: &str, what: String, content: Content| {
        columns.push(Column { field: described(name, data_type, (unit, &what), nullable), content });
    };
    let id = match kind {
        ResultKind::Nuclei => "number of the nucleus in its slide, its value in the instance mask; row + 1",
        ResultKind::Semantic => "number of the lesion in its slide; row + 1",
        ResultKind::Tiles => "number of the tile in its slide; row + 1",
    };
    add("id", DataType::UInt32, false, "1", id.to_owned(), Content::Id);
    add("slide", dictionary(), false, "1", "id of the slide".to_owned(), Content::Slide);
    let outline = format!("outline of the {noun}, level-0 px of the whole slide, along pixel edges");
    add("geometry", DataType::Binary, false, "px", outline, Content::Geometry);
    let bbox = "bounding box of the geometry, level-0 px of the whole slide".to_owned();
    add("bbox", DataType::Struct(bbox_fields()), false, "px", bbox, Content::Bbox);
    for (name, axis, content) in
        [("centroid_x_px", "x", Content::CentroidX), ("centroid_y_px", "y", Content::CentroidY)]
    {
        let what = format!("{axis} of the mean of the pixels' centres, level-0 px of the whole slide");
        add(name, DataType::Float64, false, "px", what, content);
    }
    let features = match kind {
        ResultKind::Nuclei => FEATURES,
        ResultKind::Semantic => SHAPE_FEATURES,
        ResultKind::Tiles => 0,
    };
    if kind == ResultKind::Tiles {
        for (name, content) in [("column", Content::GridX), ("row", Content::GridY)] {
            add(name, DataType::UInt32, false, "1", format!("{name} of the tile in the slide's masks"), content);
        }
    }
    for (i, (name, unit, what)) in FEATURE_COLUMNS.iter().enumerate().take(features) {
        add(name, DataType::Float64, false, unit, (*what).to_owned(), Content::Feature(i));
    }
    add("type", dictionary(), true, "1", format!("class of the {noun}"), Content::Type);
    let type_prob =
        format!("probability of `type`: the value of that class's prob column, the model's mean over the {noun}");
    add("type_prob", DataType::Float32, true, "1", type_prob, Content::TypeProb);
    for (i, class) in header.classes.iter().enumerate() {
        let what = format!("probability of class {}: the model's mean over the {noun}, 0 to 1", class.name);
        add(&format!("prob_{}", class.name), DataType::Float32, true, "1", what, Content::ClassProb(i));
    }
    let cut = format!("whether the {noun} is cut by the slide's edge or by pixels that were not computed");
    add("truncated", DataType::Boolean, false, "1", cut, Content::Truncated);
    if kind == ResultKind::Semantic {
        add("hole_count", DataType::UInt32, false, "1", "number of holes".to_owned(), Content::HoleCount);
    }
    columns
}

impl Column {
    /// The column's values for `rows`.
    pub(super) fn array(&self, header: &SlideHeader, rows: &[Row]) -> ArrayRef {
        let f64s = |value: &dyn Fn(&Instance) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|(_, i)| value(i))))
        };
        let grid = &header.grid;
        match self.content {
            Content::Id => Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(id, _)| *id))),
            Content::Slide => {
                let keys = Int32Array::from_value(0, rows.len());
                Arc::new(DictionaryArray::new(keys, Arc::new(StringArray::from(vec![header.id.as_str()]))))
            }
            Content::Geometry => {
                let points = |i: &Instance| i.rings.iter().map(Vec::len).sum::<usize>();
                let bytes = rows.iter().map(|(_, i)| 9 + 4 * i.rings.len() + 16 * points(i)).sum();
                let mut builder = BinaryBuilder::with_capacity(rows.len(), bytes);
                let mut wkb = Vec::new();
                for (_, instance) in rows {
                    put_wkb(header, instance, &mut wkb);
                    builder.append_value(&wkb);
                }
                Arc::new(builder.finish())
            }
            Content::Bbox => {
                let boxes: Vec<_> = rows.iter().map(|(_, i)| bbox(header, i)).collect();
                let side = |k: usize| Arc::new(Float64Array::from_iter_values(boxes.iter().map(|b| b[k]))) as ArrayRef;
                Arc::new(StructArray::new(bbox_fields(), (0..4).map(side).collect(), None))
            }
            Content::CentroidX => f64s(&|i| grid.level0_from_target_point(i.centroid.0, i.centroid.1).0),
            Content::CentroidY => f64s(&|i| grid.level0_from_target_point(i.centroid.0, i.centroid.1).1),
            Content::Feature(k) => f64s(&|i| features_array(&i.features)[k]),
            Content::Type => {
                let names: StringArray = header.classes.iter().map(|c| Some(c.name.as_str())).collect();
                let known = |class: u8| (1..=header.classes.len()).contains(&usize::from(class));
                let keys = rows.iter().map(|(_, i)| known(i.class).then(|| i32::from(i.class) - 1));
                Arc::new(DictionaryArray::new(Int32Array::from_iter(keys), Arc::new(names)))
            }
            Content::TypeProb => {
                let prob = |i: &Instance| i.class_probs.get(usize::from(i.class).checked_sub(1)?).copied();
                Arc::new(Float32Array::from_iter(rows.iter().map(|(_, i)| prob(i))))
            }
            Content::ClassProb(k) => {
                Arc::new(Float32Array::from_iter(rows.iter().map(|(_, i)| i.class_probs.get(k).copied())))
            }
            Content::Truncated => Arc::new(BooleanArray::from_iter(rows.iter().map(|(_, i)| Some(i.truncated)))),
            Content::GridX => Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(_, i)| i.centroid.0 as u32))),
            Content::GridY => Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(_, i)| i.centroid.1 as u32))),
            Content::HoleCount => {
                let holes = |i: &Instance| i.rings.len().saturating_sub(1) as u32;
                Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(_, i)| holes(i))))
            }
        }
    }
}

/// Bounding box of the outline in level-0 px: xmin, ymin, xmax, ymax.
fn bbox(header: &SlideHeader, instance: &Instance) -> [f64; 4] {
    let (mut lo, mut hi) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
    for &[x, y] in instance.rings.first().into_iter().flatten() {
        (lo, hi) = ([lo[0].min(x), lo[1].min(y)], [hi[0].max(x), hi[1].max(y)]);
    }
    if lo[0] > hi[0] {
        (lo, hi) = (instance.centroid.into(), instance.centroid.into());
    }
    let (x0, y0) = header.grid.level0_from_target_point(lo[0], lo[1]);
    let (x1, y1) = header.grid.level0_from_target_point(hi[0], hi[1]);
    [x0, y0, x1, y1]
}

/// A little-endian WKB polygon in level-0 px.
fn put_wkb(header: &SlideHeader, instance: &Instance, wkb: &mut Vec<u8>) {
    wkb.clear();
    wkb.push(1);
    wkb.extend_from_slice(&3_u32.to_le_bytes());
    wkb.extend_from_slice(&(instance.rings.len() as u32).to_le_bytes());
    for ring in &instance.rings {
        wkb.extend_from_slice(&(ring.len() as u32).to_le_bytes());
        for &[x, y] in ring {
            let (x, y) = header.grid.level0_from_target_point(x, y);
            wkb.extend_from_slice(&x.to_le_bytes());
            wkb.extend_from_slice(&y.to_le_bytes());
        }
    }
}
