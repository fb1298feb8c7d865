//! Pictures with one file of annotations each: nuclei, dots, classes of px, or the folder's class.
//!
//! Owns: [`Annotated`], [`Kind`]. Must not know: splits, resolutions other than the picture's own.

use super::{
    dots, geojson,
    labels::LabelMap,
    layout::Files,
    outline_xml,
    outlines::{Drawn, Outline, paint},
    picture::{Labels, read_labels, read_rgb, size_of},
    pictures::ReadPicture,
    source::Entry,
};
use crate::{
    config::settings::data::Outlines,
    pixels::RgbImage,
    train::{
        TrainError,
        class_tree::NodeIndex,
        sample::{Sample, Truth},
    },
};
use sha2::{Digest, Sha256};
use std::{collections::HashMap, path::Path};

/// What annotations are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number per nucleus, or an outline.
    Instances,
    /// A dot per nucleus.
    Dots,
    /// A class per px, or outlines of areas.
    Masks,
    /// The class is a folder of the path.
    Folders,
}

/// A data set of pictures and their annotations.
pub struct Annotated {
    kind: Kind,
    files: Vec<Files>,
    entries: Vec<Entry>,
    labels: LabelMap,
}

impl Annotated {
    /// The data set of these files.
    ///
    /// # Errors
    /// Annotations that are not there: the first, and how many.
    pub fn new(set: &str, kind: Kind, files: Vec<Files>, labels: LabelMap) -> Result<Self, TrainError> {
        let missing: Vec<&Files> = files.iter().filter(|f| kind != Kind::Folders && !f.annotation.is_file()).collect();
        if let Some(first) = missing.first() {
            let message = format!(
                "data set `{set}`: `{}` of `{}` pictures have no annotation, expected {} for {}",
                missing.len(),
                files.len(),
                first.annotation.display(),
                first.image.display()
            );
            return Err(TrainError::new(message).hint(format!(
                "set `data.sets.{set}.annotations`, for example `labels/{{stem}}.png`, or narrow `images`"
            )));
        }
        let entries = files.iter().map(|f| f.entry.clone()).collect();
        Ok(Self { kind, files, entries, labels })
    }

    fn truth(&self, files: &Files, image: &RgbImage) -> Result<Truth, TrainError> {
        if self.kind == Kind::Folders {
            return Ok(Truth { label: Some(folder_class(&files.entry.id, &self.labels)?), ..Truth::default() });
        }
        let path = files.annotation.as_path();
        let name = path.display().to_string();
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        let fail = |message: String| TrainError::new(format!("annotation cannot be used: {message}: {name}"));
        let drawn = match extension.as_str() {
            "xml" => Some(outline_xml::read(path)),
            "geojson" | "gz" => Some(geojson::read(path)),
            _ => None,
        };
        if let Some(outlines) = drawn {
            let kind = if self.kind == Kind::Masks { Outlines::Regions } else { Outlines::Nuclei };
            let drawn = explained(&outlines.map_err(fail)?, &self.labels, &name, (1.0, 1.0))?;
            return Ok(paint(&drawn, kind, self.labels.unlabelled, (0, 0), (image.w, image.h)));
        }
        if self.kind == Kind::Dots {
            let dots = dots::read(path, (image.w, image.h), &self.labels)?;
            return Ok(Truth { dots: Some(dots), ..Truth::default() });
        }
        let labels = read_labels(path).map_err(fail)?;
        let size = (labels.image.w, labels.image.h);
        if size != (image.w, image.h) {
            return Err(fail(format!(
                "[{}, {}] px, expected those of its picture, [{}, {}]",
                size.0, size.1, image.w, image.h
            )));
        }
        match self.kind {
            Kind::Masks => {
                let nodes = self.labels.of_px(&labels.image.labels, &name)?;
                Ok(Truth { semantic: Some(nodes), ..Truth::default() })
            }
            _ => nuclei(&labels, &self.labels, &name),
        }
    }
}

/// Outlines whose class the set explains, from large to small.
///
/// # Errors
/// A class that the set does not explain.
pub(super) fn explained(
    outlines: &[Outline],
    labels: &LabelMap,
    file: &str,
    step: (f64, f64),
) -> Result<Vec<Drawn>, TrainError> {
    let node = |o: &Outline| match &o.class {
        Some(class) => labels.node(class, file),
        None => labels.class(file),
    };
    let mut drawn: Vec<Drawn> =
        outlines.iter().map(|o| Ok(Drawn::new(o, node(o)?, step))).collect::<Result<_, TrainError>>()?;
    drawn.sort_by(|a, b| b.area.total_cmp(&a.area));
    Ok(drawn)
}

/// Nuclei by their numbers, each with the type its file says: of the nucleus, of most of its px, or the set's class.
fn nuclei(found: &Labels, labels: &LabelMap, file: &str) -> Result<Truth, TrainError> {
    let map = &found.image.labels;
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    let mut originals = vec![];
    let mut instances = Vec::with_capacity(map.len());
    let mut last = (0, 0);
    for &id in map {
        if id == 0 {
            instances.push(0);
            continue;
        }
        if last.0 != id {
            let number = *numbers.entry(id).or_insert_with(|| {
                originals.push(id);
                originals.len() as u32
            });
            last = (id, number);
        }
        instances.push(last.1);
    }
    let types: Option<Vec<u32>> = match (&found.types, &found.type_px) {
        (Some(types), _) => {
            let of = |id: u32| types.get(id as usize - 1).copied();
            let all: Option<Vec<u32>> = originals.iter().map(|&id| of(id)).collect();
            Some(all.ok_or_else(|| {
                TrainError::new(format!(
                    "annotation cannot be used: `{}` types for nuclei up to number `{}`: {file}",
                    types.len(),
                    originals.iter().max().unwrap_or(&0)
                ))
            })?)
        }
        (None, Some(px)) => {
            let mut counts: Vec<HashMap<u32, u32>> = vec![HashMap::new(); originals.len()];
            for (&id, &kind) in instances.iter().zip(px).filter(|&(&id, _)| id > 0) {
                *counts[id as usize - 1].entry(kind).or_default() += 1;
            }
            let most =
                |c: &HashMap<u32, u32>| c.iter().max_by_key(|&(&k, &n)| (n, std::cmp::Reverse(k))).map_or(0, |m| *m.0);
            Some(counts.iter().map(most).collect())
        }
        (None, None) => None,
    };
    let nodes: Vec<NodeIndex> = match types {
        Some(types) => types.iter().map(|t| labels.node(&t.to_string(), file)).collect::<Result<_, _>>()?,
        None if originals.is_empty() => vec![],
        None => vec![labels.class(file)?; originals.len()],
    };
    Ok(Truth { instances: Some(instances), instance_nodes: nodes, ..Truth::default() })
}

/// The deepest folder of a path that the set explains.
fn folder_class(id: &str, labels: &LabelMap) -> Result<NodeIndex, TrainError> {
    let folders: Vec<&str> = id.rsplit('/').skip(1).collect();
    match folders.iter().find_map(|folder| labels.find(folder)) {
        Some(node) => Ok(node),
        None => labels.node(folders.first().copied().unwrap_or(""), id),
    }
}

/// A hash of a whole file.
///
/// # Errors
/// It cannot be read.
pub(super) fn hash_of(path: &Path) -> Result<[u8; 32], TrainError> {
    let bytes =
        std::fs::read(path).map_err(|e| TrainError::new(format!("picture cannot be read: {e}: {}", path.display())))?;
    Ok(Sha256::digest(&bytes).into())
}

impl ReadPicture for Annotated {
    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn size(&self, entry: usize) -> Result<(u32, u32), TrainError> {
        let path = &self.files[entry].image;
        size_of(path).map_err(|e| TrainError::new(format!("picture cannot be read: {e}: {}", path.display())))
    }

    fn read(&self, entry: usize) -> Result<Sample, TrainError> {
        let files = &self.files[entry];
        let image = read_rgb(&files.image).map_err(|e| {
            TrainError::new(format!("picture cannot be read: {e}: {}", files.image.display()))
                .hint("training pictures are 8-bit RGB PNG, JPEG or TIFF")
        })?;
        let truth = self.truth(files, &image)?;
        Ok(Sample { image, truth, mpp: files.mpp, kind: 0 })
    }

    fn mpp(&self, entry: usize) -> Option<f64> {
        self.files[entry].mpp
    }

    fn bytes(&self, entry: usize) -> u64 {
        std::fs::metadata(&self.files[entry].image).map_or(0, |m| m.len())
    }

    fn fingerprint(&self, entry: usize) -> Result<[u8; 32], TrainError> {
        hash_of(&self.files[entry].image)
    }
}
