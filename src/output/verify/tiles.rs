//! Does a table of tiles agree with the class mask, which has a pixel per tile?
//!
//! Owns: [`check_tiles`]. Must not know: other kinds of table.

use super::{MAX_CHUNK_PX, attributes, batches, check_rows, class_names, column, names_of, read_json};
use crate::output::{OutputError, zarr_array::ZarrArray};
use arrow_array::{Array, Float32Array, Float64Array, RecordBatch, UInt32Array};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

/// Largest distance between a centroid and the middle of its pixel, level-0 px: rounding.
const MAX_SHIFT_PX: f64 = 0.01;

/// The class mask of a slide's tiles.
struct Mask {
    array: ZarrArray<u8>,
    names: BTreeMap<u8, String>,
    /// Level-0 px of a pixel along x and y, when the masks say it.
    step: Option<(f64, f64)>,
    /// The block that was read last.
    block: Option<Read>,
}

/// Row and column of a block, and its pixels if it was written.
type Read = ((u32, u32), Option<Vec<u8>>);

impl Mask {
    fn open(root: &Path) -> Result<Self, OutputError> {
        let semantic = root.join("labels/semantic");
        let array = ZarrArray::<u8>::open(semantic.join("0"), 255, MAX_CHUNK_PX)?;
        let names = class_names(&attributes(&semantic)?);
        let of_slide = match read_json(&root.join("zarr.json")) {
            Ok(group) => group["attributes"]["wsi-run"].clone(),
            Err(_) => read_json(&root.join(".zattrs")).map_or(Value::Null, |group| group["wsi-run"].clone()),
        };
        let um = of_slide["input_mpp_um"].as_f64();
        let along = |axis: &str| Some(um? / of_slide["slide_mpp_um"][axis].as_f64().filter(|um| *um > 0.0)?);
        Ok(Self { array, names, step: along("x").zip(along("y")), block: None })
    }

    /// Class at a pixel; none beyond the mask.
    fn at(&mut self, x: u32, y: u32) -> Result<Option<u8>, OutputError> {
        let layout = self.array.layout;
        if x >= layout.w || y >= layout.h {
            return Ok(None);
        }
        let side = layout.block_px();
        let key = (y / side, x / side);
        if self.block.as_ref().is_none_or(|(read, _)| *read != key) {
            self.block = Some((key, self.array.read_block((0, key.0, key.1), 1)?));
        }
        let px = self.block.as_ref().and_then(|(_, px)| px.as_ref());
        Ok(Some(px.map_or(layout.fill, |px| px[((y % side) * side + x % side) as usize])))
    }

    /// Pixels that have a class.
    fn classified(&self) -> Result<u64, OutputError> {
        let mut count = 0;
        for key in self.array.layout.blocks() {
            let px = self.array.read_block(key, 1)?.unwrap_or_default();
            count += px.iter().filter(|&&class| class != 0 && class != 255).count() as u64;
        }
        Ok(count)
    }
}

/// Compares the table `path` with the masks `root` of a slide, as far as there are masks; gives the rows.
pub(super) fn check_tiles(path: &Path, root: &Path, findings: &mut Vec<String>) -> Result<u64, OutputError> {
    let mut mask = if root.exists() { Some(Mask::open(root)?) } else { None };
    let (mut next, mut seen, mut rows) = (1_u32, HashSet::new(), 0);
    for batch in batches(path)? {
        let batch = batch?;
        check_rows(&batch, path, &mut next, findings)?;
        check_probs(&batch, path, findings)?;
        let ids = column::<UInt32Array>(&batch, "id", path)?;
        let (x, y) = (column::<UInt32Array>(&batch, "column", path)?, column::<UInt32Array>(&batch, "row", path)?);
        let cx = column::<Float64Array>(&batch, "centroid_x_px", path)?;
        let cy = column::<Float64Array>(&batch, "centroid_y_px", path)?;
        for (i, class) in names_of(&batch, "type").into_iter().enumerate() {
            rows += 1;
            let (id, x, y) = (ids.value(i), x.value(i), y.value(i));
            if !seen.insert((x, y)) {
                findings.push(format!("id `{id}` is the tile at ({x}, {y}), as is an earlier row"));
            }
            let Some(mask) = &mut mask else { continue };
            let found = mask.at(x, y)?.and_then(|value| mask.names.get(&value).cloned()).unwrap_or_default();
            if found != class {
                findings
                    .push(format!("id `{id}` at ({x}, {y}) is `{found}` in the class mask, `{class}` in the table"));
            }
            let middle = mask.step.map(|(sx, sy)| ((f64::from(x) + 0.5) * sx, (f64::from(y) + 0.5) * sy));
            let shift = middle.map_or(0.0, |(mx, my)| (cx.value(i) - mx).hypot(cy.value(i) - my));
            if shift > MAX_SHIFT_PX || shift.is_nan() {
                findings.push(format!("id `{id}` has its centroid elsewhere than its pixel ({x}, {y})"));
            }
        }
    }
    if let Some(mask) = mask {
        let classified = mask.classified()?;
        if classified != rows {
            findings.push(format!("class mask has `{classified}` tiles, the table `{rows}` rows"));
        }
    }
    Ok(rows)
}

/// Whether probabilities are such, and `type` is the largest, with `type_prob` its value.
fn check_probs(batch: &RecordBatch, path: &Path, findings: &mut Vec<String>) -> Result<(), OutputError> {
    let schema = batch.schema();
    let classes = schema.fields().iter().filter_map(|field| field.name().strip_prefix("prob_"));
    let probs = classes
        .map(|class| Ok((class, column::<Float32Array>(batch, &format!("prob_{class}"), path)?)))
        .collect::<Result<Vec<_>, OutputError>>()?;
    let (ids, said) = (column::<UInt32Array>(batch, "id", path)?, column::<Float32Array>(batch, "type_prob", path)?);
    for (i, name) in names_of(batch, "type").into_iter().enumerate() {
        let id = ids.value(i);
        let of_type = probs.iter().find(|(class, _)| *class == name).map(|(_, values)| values.value(i));
        if probs.iter().any(|(_, values)| values.is_valid(i) && !(0.0..=1.0).contains(&values.value(i))) {
            findings.push(format!("id `{id}` has a probability that is none"));
        } else if of_type.is_none_or(|p| p != said.value(i) || probs.iter().any(|(_, values)| values.value(i) > p)) {
            findings.push(format!("id `{id}` is `{name}` with `{}`, its probabilities say otherwise", said.value(i)));
        }
    }
    Ok(())
}
