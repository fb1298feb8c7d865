//! PanNuke: thousands of pictures in one array per fold.
//!
//! Owns: [`Pannuke`]. Must not know: splits.
//! Source: Gamper 2020. `images.npy` `[n, h, w, 3]`, `masks.npy` `[n, h, w, 6]` (a number per nucleus in the plane of its
//! type: neoplastic, inflammatory, connective, dead, epithelial; the last plane is background), `types.npy` `[n]` the
//! organ. The masks lie beside the images, or where `images` in the path is `masks`.

use super::{
    labels::LabelMap, layout::Files, npy::NpyFile, outlines::without_gaps, pictures::ReadPicture, source::Entry,
};
use crate::{
    config::settings::data::{DataSet, PatientRule},
    pixels::RgbImage,
    train::{
        TrainError,
        class_tree::NodeIndex,
        sample::{Sample, Truth},
    },
};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Types in the order of the planes: labels of the set.
pub const TYPES: [&str; 5] = ["neoplastic", "inflammatory", "connective", "dead", "epithelial"];

struct Fold {
    images: Mutex<NpyFile<File>>,
    masks: Mutex<NpyFile<File>>,
    size: (u32, u32),
    path: PathBuf,
}

/// The pictures of every fold.
pub struct Pannuke {
    folds: Vec<Fold>,
    entries: Vec<Entry>,
    /// Fold and row of each entry.
    rows: Vec<(usize, usize)>,
    nodes: Vec<NodeIndex>,
    mpp: Option<f64>,
}

impl Pannuke {
    /// Opens the arrays of `files`, one per fold.
    ///
    /// # Errors
    /// An array that is missing or has another shape; a type that the set does not explain.
    pub fn new(set: &DataSet, files: &[Files], labels: &LabelMap) -> Result<Self, TrainError> {
        let nodes = TYPES.iter().map(|t| labels.node(t, &set.path.display().to_string())).collect::<Result<_, _>>()?;
        let mut this =
            Self { folds: vec![], entries: vec![], rows: vec![], nodes, mpp: files.first().and_then(|f| f.mpp) };
        for files in files {
            let images = open(&files.image, 3)?;
            let masks = open(&masks_of(&files.image), 6)?;
            if images.shape[..3] != masks.shape[..3] {
                let message = format!("masks of {:?} px, expected {:?}", &masks.shape[..3], &images.shape[..3]);
                return Err(TrainError::new(format!("{message}: {}", files.image.display())));
            }
            let (count, fold) = (images.shape[0], this.folds.len());
            for row in 0..count {
                let id = format!("{}#{row}", files.entry.id);
                // The folds say nothing of patients; a rule about folders keeps a fold together.
                let patient = match set.patient {
                    PatientRule::Known | PatientRule::File => id.clone(),
                    _ => files.entry.patient.clone(),
                };
                this.entries.push(Entry { name: format!("{}, picture {row}", files.image.display()), id, patient });
                this.rows.push((fold, row));
            }
            let size = (images.shape[2] as u32, images.shape[1] as u32);
            let (images, masks) = (Mutex::new(images), Mutex::new(masks));
            this.folds.push(Fold { images, masks, size, path: files.image.clone() });
        }
        Ok(this)
    }
}

fn masks_of(images: &Path) -> PathBuf {
    let beside = images.with_file_name("masks.npy");
    if beside.is_file() { beside } else { PathBuf::from(images.to_string_lossy().replace("images", "masks")) }
}

fn open(path: &Path, planes: usize) -> Result<NpyFile<File>, TrainError> {
    let fail = |message: String| TrainError::new(format!("array cannot be used: {message}: {}", path.display()));
    let file = NpyFile::open(path).map_err(fail)?;
    match *file.shape.as_slice() {
        [_, h, w, p] if p == planes && (1..=8192).contains(&h) && (1..=8192).contains(&w) => Ok(file),
        _ => Err(fail(format!("shape {:?}, expected [n, h, w, {planes}]", file.shape))),
    }
}

impl ReadPicture for Pannuke {
    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn size(&self, entry: usize) -> Result<(u32, u32), TrainError> {
        Ok(self.folds[self.rows[entry].0].size)
    }

    fn read(&self, entry: usize) -> Result<Sample, TrainError> {
        let (fold, row) = self.rows[entry];
        let fold = &self.folds[fold];
        let read = |file: &Mutex<NpyFile<File>>| {
            file.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .row(row)
                .map_err(|e| TrainError::new(format!("picture {row} cannot be read: {e}: {}", fold.path.display())))
        };
        let (w, h) = fold.size;
        let data = read(&fold.images)?.numbers().map(|v| v.round().clamp(0.0, 255.0) as u8).collect();
        let masks: Vec<f64> = read(&fold.masks)?.numbers().collect();
        // A nucleus is a number within a plane; where planes overlap, the last one wins.
        let mut numbers = std::collections::HashMap::new();
        let mut nodes = vec![];
        let mut instances = vec![0; w as usize * h as usize];
        for (slot, px) in instances.iter_mut().zip(masks.chunks_exact(6)) {
            for (plane, &id) in px[..5].iter().enumerate().filter(|&(_, &id)| id > 0.0) {
                *slot = *numbers.entry((plane, id as u64)).or_insert_with(|| {
                    nodes.push(self.nodes[plane]);
                    nodes.len() as u32
                });
            }
        }
        let (instances, instance_nodes) = without_gaps(&instances, &nodes);
        let truth = Truth { instances: Some(instances), instance_nodes, ..Truth::default() };
        Ok(Sample { image: RgbImage { w, h, data }, truth, mpp: self.mpp, kind: 0 })
    }

    fn mpp(&self, _: usize) -> Option<f64> {
        self.mpp
    }

    fn bytes(&self, _: usize) -> u64 {
        0
    }

    fn fingerprint(&self, entry: usize) -> Result<[u8; 32], TrainError> {
        Ok(Sha256::digest(&self.read(entry)?.image.data).into())
    }
}
