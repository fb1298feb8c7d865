//! QuPath's GeoJSON: one feature per instance, streamed and gzipped.
//!
//! Owns: [`GeojsonFile`], QuPath's measurement names. Must not know: tables, masks.
//! Source: QuPath 0.5 `QuPathTypeAdapters` (a classification object without `color` is refused; `measurements` is an
//! object of finite numbers; ids are UUIDs). Coordinates are level-0 px.

use super::{OutputError, ResultKind, SlideHeader, columns::Row};
use crate::{
    config::settings::{Geojson, Origin},
    instances::{Features, Instance},
};
use flate2::{Compression, GzBuilder, write::GzEncoder};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// Namespace of the ids: version 5 of `wsi-run` in the URL namespace's tree, fixed forever.
const NAMESPACE: Uuid = Uuid::from_u128(0x5c1f_8d0e_3b5a_5e0b_9f3d_7a64_21c8_e6b7);

/// A GeoJSON file being written.
pub(super) struct GeojsonFile {
    path: PathBuf,
    header: SlideHeader,
    kind: ResultKind,
    shift: (f64, f64),
    out: BufWriter<GzEncoder<File>>,
    is_first: bool,
}

impl GeojsonFile {
    /// A collection without features.
    pub(super) fn create(
        path: &Path,
        kind: ResultKind,
        header: &SlideHeader,
        settings: &Geojson,
    ) -> Result<Self, OutputError> {
        let file = File::create(path).map_err(OutputError::io(path))?;
        // mtime 0 and no name: the same slide gives the same bytes.
        let gz = GzBuilder::new().mtime(0).write(file, Compression::new(5));
        let mut out = BufWriter::with_capacity(1 << 20, gz);
        let shift = match (settings.origin, header.bounds) {
            (Origin::Bounds, Some(bounds)) => (bounds.x as f64, bounds.y as f64),
            _ => (0.0, 0.0),
        };
        out.write_all(b"{\"type\":\"FeatureCollection\",\"features\":[\n").map_err(OutputError::io(path))?;
        Ok(Self { path: path.to_owned(), header: header.clone(), kind, shift, out, is_first: true })
    }

    /// Writes rows as features.
    pub(super) fn write(&mut self, rows: &[Row]) -> Result<(), OutputError> {
        for block in rows.chunks(4096) {
            let features: Vec<_> = block.par_iter().map(|row| self.feature(row).to_string()).collect();
            for feature in features {
                let comma: &[u8] = if std::mem::take(&mut self.is_first) { b"" } else { b",\n" };
                let written = self.out.write_all(comma).and_then(|()| self.out.write_all(feature.as_bytes()));
                written.map_err(OutputError::io(&self.path))?;
            }
        }
        Ok(())
    }

    /// Closes the collection.
    pub(super) fn finish(mut self) -> Result<(), OutputError> {
        let path = self.path;
        self.out.write_all(b"\n]}\n").map_err(OutputError::io(&path))?;
        let gz = self.out.into_inner().map_err(|e| OutputError::io(&path)(e.into_error()))?;
        gz.finish().map_err(OutputError::io(&path))?;
        Ok(())
    }

    fn feature(&self, (id, instance): &Row) -> Value {
        let (noun, object_type) = match self.kind {
            ResultKind::Nuclei => ("nucleus", "detection"),
            ResultKind::Semantic => ("lesion", "annotation"),
            ResultKind::Tiles => ("tile", "tile"),
        };
        let uuid = Uuid::new_v5(&NAMESPACE, format!("{}/{noun}/{id}", self.header.id).as_bytes());
        let class = usize::from(instance.class).checked_sub(1).and_then(|i| self.header.classes.get(i));
        let mut properties = json!({"objectType": object_type});
        if let Some(class) = class {
            properties["classification"] = json!({"name": class.name, "color": class.color});
        }
        properties["measurements"] = Value::Object(self.measurements(instance));
        json!({
            "type": "Feature",
            "id": uuid.to_string(),
            "geometry": {"type": "Polygon", "coordinates": self.coordinates(instance)},
            "properties": properties
        })
    }

    fn coordinates(&self, instance: &Instance) -> Vec<Vec<[Value; 2]>> {
        // A hundredth of a pixel is finer than any outline, and short.
        let number = |v: f64| {
            let v = (v * 100.0).round() / 100.0;
            if v.fract() == 0.0 { json!(v as i64) } else { json!(v) }
        };
        let point = |&[x, y]: &[f64; 2]| {
            let (x, y) = self.header.grid.level0_from_target_point(x, y);
            [number(x - self.shift.0), number(y - self.shift.1)]
        };
        instance.rings.iter().map(|ring| ring.iter().map(point).collect()).collect()
    }

    fn measurements(&self, instance: &Instance) -> Map<String, Value> {
        let mut all = Map::new();
        let prefix = if self.kind == ResultKind::Nuclei { "Nucleus: " } else { "" };
        for (name, value) in measurements(&instance.features, self.kind) {
            // JSON has no NaN.
            if let Some(number) = serde_json::Number::from_f64(value) {
                all.insert(format!("{prefix}{name}"), Value::Number(number));
            }
        }
        for (class, &prob) in self.header.classes.iter().zip(&instance.class_probs) {
            if let Some(number) = serde_json::Number::from_f64(f64::from(prob)) {
                all.insert(format!("Probability: {}", class.name), Value::Number(number));
            }
        }
        all
    }
}

/// QuPath's names of what we measure.
fn measurements(f: &Features, kind: ResultKind) -> Vec<(&'static str, f64)> {
    if kind == ResultKind::Tiles {
        return Vec::new();
    }
    let mut all = vec![
        ("Area µm^2", f.area_um2),
        ("Length µm", f.perimeter_um),
        ("Circularity", f.circularity),
        ("Solidity", f.solidity),
        ("Max diameter µm", f.feret_diameter_max_um),
        ("Major axis length µm", f.axis_major_length_um),
        ("Minor axis length µm", f.axis_minor_length_um),
        ("Eccentricity", f.eccentricity),
    ];
    if kind == ResultKind::Nuclei {
        all.extend([
            ("Hematoxylin OD mean", f.hematoxylin_od_mean),
            ("Hematoxylin OD std dev", f.hematoxylin_od_std),
            ("Eosin OD mean", f.eosin_od_mean),
            ("Eosin OD std dev", f.eosin_od_std),
        ]);
    }
    all
}
