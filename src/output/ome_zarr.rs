//! The groups and metadata of a slide's OME-Zarr: what stands around the arrays.
//!
//! Owns: group layout, `multiscales`, `image-label`, `omero`. Must not know: pixels.
//! Source: OME-NGFF 0.5 (`ome` attribute in every `zarr.json`) and 0.4 (`.zattrs`).
//!
//! ```text
//! <slide>.ome.zarr/            an image whose levels are those of the class mask
//!   labels/                    lists the labels
//!     semantic/0, 1, …         u8: 0 background, 1… classes, 255 not computed
//!     instances/0, 1, …        u32: id of the nucleus (nuclei only)
//!     tissue/0, 1, …           u8: 1 tissue, at the resolution at which tissue was found
//!   prob/0, 1, …               u8 [c, y, x]: probability × 255 (on request)
//! ```
//!
//! The slide's pixels are not copied, yet readers look for an image at the root. So the root is one: its `datasets`
//! are the arrays of `labels/semantic`, by path. Every reader that opens images opens it, shows the classes, and
//! finds the labels under `labels/` where the specification puts them. The specification wants each label to have as
//! many levels as the image, so the tissue mask gets as many, the last of them a pixel wide.
//!
//! Coordinates count pixel centres: level-0 pixel 0 of the masks is at 0 µm. The centre of the tissue mask's first
//! pixel is half a tissue pixel minus half a mask pixel further, and that is its `translation`.

use super::{OutputError, ResultKind, SlideHeader, zarr_array::write_json};
use crate::{config::settings::OmeZarrVersion, tissue::TissueMask};
use serde_json::{Map, Value, json};
use std::{fs, path::Path};

/// Value of the class mask where nothing was computed.
pub(super) const NOT_COMPUTED: u8 = 255;

/// Name and colour of a label value.
struct LabelValue {
    value: u32,
    name: String,
    rgba: [u8; 4],
}

/// Scale and translation of level 0, µm, y and x.
#[derive(Debug, Clone, Copy)]
struct Placement {
    scale: [f64; 2],
    translation: Option<[f64; 2]>,
}

/// Writes the groups of a slide; the arrays are written by others.
pub(super) fn write_groups(
    root: &Path,
    version: OmeZarrVersion,
    header: &SlideHeader,
    kind: ResultKind,
    tissue: &TissueMask,
    levels: u32,
) -> Result<(), OutputError> {
    let um = header.grid.input_mpp.um_per_px();
    let grid = Placement { scale: [um, um], translation: None };
    let of_slide = json!({
        "slide": header.id,
        "model": header.model,
        "input_mpp_um": um,
        "slide_mpp_um": {"x": header.grid.slide_mpp.x.um_per_px(), "y": header.grid.slide_mpp.y.um_per_px()},
        "level0_size_px": {"w": header.grid.level0.w, "h": header.grid.level0.h},
        "bounds_px": header.bounds.map(|b| json!({"x": b.x, "y": b.y, "w": b.w, "h": b.h})),
    });
    let mut image = multiscales(&header.id, version, grid, levels, "labels/semantic/");
    image.insert("omero".to_owned(), omero(&[("class".to_owned(), [255, 255, 255])], header.classes.len() as f64));
    write_group(root, version, image, Some(of_slide))?;

    let mut names = vec!["semantic"];
    if kind == ResultKind::Nuclei {
        names.push("instances");
    }
    names.push("tissue");
    let labels = root.join("labels");
    write_group(&labels, version, Map::from_iter([("labels".to_owned(), json!(names))]), None)?;

    let background = || LabelValue { value: 0, name: "background".to_owned(), rgba: [0; 4] };
    let mut classes = vec![background()];
    for (class, value) in header.classes.iter().zip(1..) {
        let [r, g, b] = class.color;
        classes.push(LabelValue { value, name: class.name.clone(), rgba: [r, g, b, 255] });
    }
    let not_computed = "not computed".to_owned();
    classes.push(LabelValue { value: u32::from(NOT_COMPUTED), name: not_computed, rgba: [128, 128, 128, 64] });
    write_label(&labels, "semantic", version, grid, levels, &classes)?;
    if kind == ResultKind::Nuclei {
        write_label(&labels, "instances", version, grid, levels, &[background()])?;
    }
    let (step_y, step_x) =
        (tissue.step_y * header.grid.slide_mpp.y.um_per_px(), tissue.step_x * header.grid.slide_mpp.x.um_per_px());
    let translation = Some([(step_y - um) / 2.0, (step_x - um) / 2.0]);
    let tissue_values = [background(), LabelValue { value: 1, name: "tissue".to_owned(), rgba: [0, 160, 120, 255] }];
    let placement = Placement { scale: [step_y, step_x], translation };
    write_label(&labels, "tissue", version, placement, levels, &tissue_values)
}

/// Writes the group of the probability image.
pub(super) fn write_prob_group(
    root: &Path,
    version: OmeZarrVersion,
    header: &SlideHeader,
    channels: u32,
    levels: u32,
) -> Result<(), OutputError> {
    let um = header.grid.input_mpp.um_per_px();
    let mut image = multiscales("prob", version, Placement { scale: [um, um], translation: None }, levels, "");
    with_channel_axis(&mut image);
    let named: Vec<_> = (0..channels as usize)
        .map(|c| match ((channels as usize).wrapping_sub(header.classes.len()), header.classes.get(c), c) {
            (0, Some(class), _) => (class.name.clone(), class.color),
            (1, _, 0) => ("background".to_owned(), [255, 255, 255]),
            (1, _, c) => (header.classes[c - 1].name.clone(), header.classes[c - 1].color),
            _ => (format!("channel {c}"), [255, 255, 255]),
        })
        .collect();
    image.insert("omero".to_owned(), omero(&named, 255.0));
    let meaning = json!({"prob": "value / 255", "scale": 255, "not_computed": "0; see labels/semantic"});
    write_group(&root.join("prob"), version, image, Some(meaning))
}

fn write_label(
    labels: &Path,
    name: &str,
    version: OmeZarrVersion,
    placement: Placement,
    levels: u32,
    values: &[LabelValue],
) -> Result<(), OutputError> {
    let colors: Vec<_> = values.iter().map(|v| json!({"label-value": v.value, "rgba": v.rgba})).collect();
    let properties: Vec<_> = values.iter().map(|v| json!({"label-value": v.value, "name": v.name})).collect();
    let mut label = json!({"colors": colors, "properties": properties, "source": {"image": "../../"}});
    if version == OmeZarrVersion::V04 {
        label["version"] = json!("0.4");
    }
    let mut attributes = multiscales(name, version, placement, levels, "");
    attributes.insert("image-label".to_owned(), label);
    write_group(&labels.join(name), version, attributes, None)
}

fn multiscales(name: &str, version: OmeZarrVersion, at: Placement, levels: u32, prefix: &str) -> Map<String, Value> {
    let datasets: Vec<_> = (0..levels)
        .map(|level| {
            let scale = at.scale.map(|um| um * f64::from(1_u32 << level));
            let mut transforms = vec![json!({"type": "scale", "scale": scale})];
            if let Some(translation) = at.translation {
                transforms.push(json!({"type": "translation", "translation": translation}));
            }
            json!({"path": format!("{prefix}{level}"), "coordinateTransformations": transforms})
        })
        .collect();
    let axes = json!([
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"}
    ]);
    let mut one = json!({
        "name": name,
        "axes": axes,
        "datasets": datasets,
        "type": "nearest",
        "metadata": {"description": "pixel (x, y) of a level is pixel (2x, 2y) of the level before"}
    });
    if version == OmeZarrVersion::V04 {
        one["version"] = json!("0.4");
    }
    Map::from_iter([("multiscales".to_owned(), json!([one]))])
}

fn with_channel_axis(image: &mut Map<String, Value>) {
    let one = &mut image["multiscales"][0];
    if let Some(axes) = one["axes"].as_array_mut() {
        axes.insert(0, json!({"name": "c", "type": "channel"}));
    }
    for dataset in one["datasets"].as_array_mut().into_iter().flatten() {
        if let Some(scale) = dataset["coordinateTransformations"][0]["scale"].as_array_mut() {
            scale.insert(0, json!(1.0));
        }
    }
}

fn omero(channels: &[(String, [u8; 3])], end: f64) -> Value {
    let end = end.max(1.0);
    let channels: Vec<_> = channels
        .iter()
        .map(|(label, [r, g, b])| {
            json!({
                "label": label,
                "color": format!("{r:02X}{g:02X}{b:02X}"),
                "active": true,
                "window": {"min": 0.0, "max": 255.0, "start": 0.0, "end": end}
            })
        })
        .collect();
    json!({"channels": channels})
}

/// Writes a group with OME metadata, and `ours` beside it under the program's own name.
fn write_group(
    dir: &Path,
    version: OmeZarrVersion,
    mut ome: Map<String, Value>,
    ours: Option<Value>,
) -> Result<(), OutputError> {
    fs::create_dir_all(dir).map_err(OutputError::io(dir))?;
    let ours = ours.map(|value| ("wsi-run".to_owned(), value));
    match version {
        OmeZarrVersion::V05 => {
            let mut with_version = Map::from_iter([("version".to_owned(), json!("0.5"))]);
            with_version.append(&mut ome);
            let mut attributes = Map::from_iter([("ome".to_owned(), Value::Object(with_version))]);
            attributes.extend(ours);
            let group = json!({"zarr_format": 3, "node_type": "group", "attributes": attributes});
            write_json(&dir.join("zarr.json"), &group)
        }
        OmeZarrVersion::V04 => {
            ome.extend(ours);
            write_json(&dir.join(".zgroup"), &json!({"zarr_format": 2}))?;
            write_json(&dir.join(".zattrs"), &Value::Object(ome))
        }
    }
}
