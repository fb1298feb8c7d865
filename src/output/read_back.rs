//! Results of an earlier run, read again: which slides, their nuclei, their masks.
//!
//! Owns: [`Results`], [`NucleusRow`], [`ClassMask`]. Must not know: what they are read for. Nothing read here is trusted.

use super::{
    OutputError,
    verify::{attributes, batches, column, slide_rows},
    zarr_array::ZarrArray,
};
use arrow_array::{Array, BinaryArray, Float64Array, StringArray, cast::AsArray, types::Int32Type};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Largest side of a chunk that is read, px.
const MAX_CHUNK_PX: u32 = 8192;
/// Largest mask that is read whole: a gigabyte of classes.
const MAX_MASK_PX: u64 = 1 << 30;

/// The output directory of a run.
#[derive(Debug, Clone)]
pub struct Results {
    dir: PathBuf,
}

/// A nucleus as its table has it.
#[derive(Debug, Clone, PartialEq)]
pub struct NucleusRow {
    /// Name of its class.
    pub class: Option<String>,
    /// Level-0 px.
    pub centroid: (f64, f64),
    /// Outline in level-0 px: the exterior, then holes.
    pub rings: Vec<Vec<[f64; 2]>>,
}

/// A mask of classes.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassMask {
    /// Width in px.
    pub w: u32,
    /// Height.
    pub h: u32,
    /// µm per px along x and y.
    pub mpp: (f64, f64),
    /// `[h, w]`: 0 background, 255 not computed, others as in `names`.
    pub classes: Vec<u8>,
    /// Name of each value.
    pub names: BTreeMap<u8, String>,
}

impl Results {
    /// The directory of a run.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Ids of its slides that are complete.
    ///
    /// # Errors
    /// No readable `slides.parquet`.
    pub fn slides(&self) -> Result<Vec<String>, OutputError> {
        let rows = slide_rows(&self.dir.join("slides.parquet"))?;
        let is_there = |status: &str| matches!(status, "complete" | "no_tissue");
        Ok(rows.into_iter().filter(|(_, row)| is_there(&row.status)).map(|(id, _)| id).collect())
    }

    /// The nuclei of a slide; `None` where the run made no table of nuclei.
    ///
    /// # Errors
    /// A table that cannot be read.
    pub fn nuclei(&self, slide: &str) -> Result<Option<Vec<NucleusRow>>, OutputError> {
        let path = self.dir.join("nuclei").join(format!("{slide}.parquet"));
        if !path.exists() {
            return Ok(None);
        }
        let mut rows = Vec::new();
        for batch in batches(&path)? {
            let batch = batch?;
            let x = column::<Float64Array>(&batch, "centroid_x_px", &path)?;
            let y = column::<Float64Array>(&batch, "centroid_y_px", &path)?;
            let geometry = column::<BinaryArray>(&batch, "geometry", &path)?;
            let types = batch.column_by_name("type").and_then(|c| c.as_dictionary_opt::<Int32Type>());
            for i in 0..batch.num_rows() {
                let class = types.and_then(|types| {
                    let names = types.values().as_any().downcast_ref::<StringArray>()?;
                    Some(names.value(types.key(i).filter(|&key| key < names.len())?).to_owned())
                });
                let rings = rings_of(geometry.value(i)).ok_or_else(|| {
                    OutputError::damaged("Parquet", &path)(format!("row `{i}` has no polygon, expected WKB"))
                })?;
                rows.push(NucleusRow { class, centroid: (x.value(i), y.value(i)), rings });
            }
        }
        Ok(Some(rows))
    }

    /// The classes of a slide's pixels; `None` where the run wrote no masks.
    ///
    /// # Errors
    /// A mask that cannot be read, or larger than memory should hold.
    pub fn class_mask(&self, slide: &str) -> Result<Option<ClassMask>, OutputError> {
        let group = self.dir.join("masks").join(format!("{slide}.ome.zarr")).join("labels").join("semantic");
        if !group.exists() {
            return Ok(None);
        }
        let array = ZarrArray::<u8>::open(group.join("0"), 255, MAX_CHUNK_PX)?;
        let (w, h, side) = (array.layout.w, array.layout.h, array.layout.block_chunks());
        if u64::from(w) * u64::from(h) > MAX_MASK_PX {
            let reason = format!("mask is [{w}, {h}] px, expected at most `{MAX_MASK_PX}` in all");
            return Err(OutputError::damaged("OME-Zarr", &group)(reason));
        }
        let mut classes = vec![255; w as usize * h as usize];
        let chunk = array.layout.chunk_px as usize;
        for key in array.layout.blocks() {
            let Some(block) = array.block(key)? else { continue };
            for (row, col) in (0..side * side).map(|i| (i / side, i % side)) {
                let (y0, x0) = ((key.1 * side + row) as usize * chunk, (key.2 * side + col) as usize * chunk);
                if y0 >= h as usize || x0 >= w as usize {
                    continue;
                }
                let px = block.chunk(row, col)?;
                let n = chunk.min(w as usize - x0);
                for (y, line) in px.chunks_exact(chunk).enumerate().take(h as usize - y0) {
                    classes[(y0 + y) * w as usize + x0..][..n].copy_from_slice(&line[..n]);
                }
            }
        }
        let attributes = attributes(&group)?;
        let scale = &attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"];
        let um = |axis: usize| scale[axis].as_f64().filter(|um| *um > 0.0);
        let (Some(mpp_y), Some(mpp_x)) = (um(0), um(1)) else {
            return Err(OutputError::damaged("OME-Zarr", &group)("no scale in micrometres"));
        };
        let listed = attributes["image-label"]["properties"].as_array().into_iter().flatten();
        let name = |p: &serde_json::Value| {
            Some((u8::try_from(p["label-value"].as_u64()?).ok()?, p["name"].as_str()?.to_owned()))
        };
        Ok(Some(ClassMask { w, h, mpp: (mpp_x, mpp_y), classes, names: listed.filter_map(name).collect() }))
    }
}

/// The rings of a little-endian WKB polygon.
fn rings_of(wkb: &[u8]) -> Option<Vec<Vec<[f64; 2]>>> {
    let mut at = 0_usize;
    let mut take = |n: usize| {
        let bytes = wkb.get(at..at.checked_add(n)?)?;
        at += n;
        Some(bytes)
    };
    if take(5)? != [1, 3, 0, 0, 0] {
        return None;
    }
    let number = |bytes: &[u8]| Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize);
    let mut rings = Vec::new();
    for _ in 0..number(take(4)?)? {
        let points = number(take(4)?)?;
        let bytes = take(points.checked_mul(16)?)?;
        let value = |b: &[u8]| b.try_into().map_or(f64::NAN, f64::from_le_bytes);
        rings.push(bytes.chunks_exact(16).map(|p| [value(&p[..8]), value(&p[8..])]).collect());
    }
    Some(rings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polygon_that_ends_early_is_none() {
        let mut wkb = vec![1, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0];
        for v in [1.0_f64, 2.0, 3.0, 4.0] {
            wkb.extend(v.to_le_bytes());
        }
        assert_eq!(rings_of(&wkb), Some(vec![vec![[1.0, 2.0], [3.0, 4.0]]]));
        assert_eq!(rings_of(&wkb[..wkb.len() - 1]), None);
        assert_eq!(rings_of(&[]), None);
    }
}
