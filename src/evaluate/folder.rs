//! Images and what is true of them, in folders.
//!
//! Owns: [`FolderCases`], [`TruthKind`], [`TrueCase`], [`TrueCases`]. Must not know: predictions, data sets' own layouts.

use super::EvaluateError;
use crate::{
    pixels::stain::reference,
    train::{
        class_tree::{BACKGROUND, ClassTree, NodeIndex},
        sample::{Dot, Sample, Truth},
    },
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

/// An image, what is true of it, and whose it is.
#[derive(Debug, Clone)]
pub struct TrueCase {
    /// Pixels and truth.
    pub sample: Sample,
    /// What reports call it.
    pub name: String,
    /// Whose it is.
    pub patient: String,
    /// What it shows.
    pub organ: Option<String>,
}

/// Images with their truth, read one at a time.
pub trait TrueCases: Sync {
    /// How many.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The classes labels are of.
    fn tree(&self) -> &ClassTree;

    /// Reads one.
    ///
    /// # Errors
    /// A file that cannot be read or does not hold what it should, with its path.
    fn case(&self, index: usize) -> Result<TrueCase, EvaluateError>;
}

/// What the files of truth hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TruthKind {
    /// A number per nucleus: PNG of 8 or 16 bits, 0 is background.
    Instances,
    /// A line per nucleus: `y x class` in whole px, class from 1 (BRCA-M2C).
    Dots,
    /// A class per pixel: PNG of 8 bits, 0 is background, 1 the first class.
    Masks,
}

/// Images of a folder, and files of the same name (and any ending) in another.
pub struct FolderCases {
    tree: ClassTree,
    files: Vec<(PathBuf, PathBuf)>,
    kind: TruthKind,
    mpp: f64,
    groups: BTreeMap<String, Group>,
}

impl FolderCases {
    /// Finds the pairs; `list` is a file that names the images to take, one per line.
    ///
    /// # Errors
    /// A folder or list that cannot be read; an image without truth.
    pub fn new(
        images: &Path,
        (truth, kind): (&Path, TruthKind),
        (tree, mpp): (ClassTree, f64),
        list: Option<&Path>,
    ) -> Result<Self, EvaluateError> {
        let mut names = names_in(images)?;
        if let Some(list) = list {
            let text = fs::read_to_string(list).map_err(|e| unreadable(list, &e))?;
            let wanted: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
            if let Some(missing) = wanted.iter().find(|name| !names.iter().any(|n| n == *name)) {
                return Err(EvaluateError::new(format!(
                    "list names `{missing}`, which is not there: {}",
                    images.display()
                )));
            }
            names.retain(|name| wanted.contains(&name.as_str()));
        }
        let truths = names_in(truth)?;
        let mut files = Vec::new();
        for name in names {
            let stem = stem_of(&name);
            let fits =
                |t: &&String| stem_of(t) == stem || t.strip_prefix(&stem).is_some_and(|r| r.starts_with(['_', '.']));
            // Of several the one whose name is the image's.
            let found = truths.iter().filter(fits).min_by_key(|t| t.len());
            let found = found.ok_or_else(|| {
                EvaluateError::new(format!("image `{name}` has no truth: {}", truth.display()))
                    .hint("truth has the name of its image and any ending, such as `_labels.png` or `.txt`")
            })?;
            files.push((images.join(&name), truth.join(found)));
        }
        if files.is_empty() {
            return Err(EvaluateError::new(format!("no image found: {}", images.display())));
        }
        Ok(Self { tree, files, kind, mpp, groups: BTreeMap::new() })
    }

    /// Reads whose images they are from a CSV with columns `image`, and `organ` or `patient` or both.
    ///
    /// # Errors
    /// A file that cannot be read or lacks `image`.
    pub fn with_groups(mut self, csv: &Path) -> Result<Self, EvaluateError> {
        self.groups = read_groups(csv)?;
        Ok(self)
    }
}

impl TrueCases for FolderCases {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn tree(&self) -> &ClassTree {
        &self.tree
    }

    fn case(&self, index: usize) -> Result<TrueCase, EvaluateError> {
        let (image_path, truth_path) = &self.files[index];
        let image = reference::read(image_path).map_err(|e| EvaluateError::new(e.to_string()))?;
        let name = stem_of(&image_path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned()));
        let classes = self.tree.nodes().len();
        let truth = match self.kind {
            TruthKind::Dots => Truth { dots: Some(read_dots(truth_path, classes)?), ..Truth::default() },
            TruthKind::Instances => {
                let map = read_map(truth_path, (image.w, image.h))?;
                let (instances, count) = without_gaps(&map);
                Truth { instances: Some(instances), instance_nodes: vec![0; count], ..Truth::default() }
            }
            TruthKind::Masks => {
                let map = read_map(truth_path, (image.w, image.h))?;
                let node = |v: u32| -> NodeIndex {
                    if v == 0 || v as usize > classes { BACKGROUND } else { v as NodeIndex - 1 }
                };
                Truth { semantic: Some(map.into_iter().map(node).collect()), ..Truth::default() }
            }
        };
        let (organ, patient) = self.groups.get(&name).cloned().unwrap_or_default();
        let patient = patient.unwrap_or_else(|| patient_of(&name));
        Ok(TrueCase { sample: Sample { image, truth, mpp: Some(self.mpp), kind: 0 }, name, patient, organ })
    }
}

/// Organ and patient by the name of an image without extension.
pub(super) fn read_groups(csv: &Path) -> Result<BTreeMap<String, Group>, EvaluateError> {
    let text = fs::read_to_string(csv).map_err(|e| unreadable(csv, &e))?;
    let mut lines = text.lines().map(|line| line.split(',').map(str::trim).collect::<Vec<_>>());
    let header = lines.next().unwrap_or_default();
    let at = |name: &str| header.iter().position(|h| *h == name);
    let image = at("image").ok_or_else(|| {
        EvaluateError::new(format!("no column `image`, expected `image,organ,patient`: {}", csv.display()))
    })?;
    let mut groups = BTreeMap::new();
    for row in lines {
        let cell = |at: Option<usize>| Some((*row.get(at?)?).to_owned()).filter(|v| !v.is_empty());
        if let Some(name) = cell(Some(image)) {
            groups.insert(stem_of(&name), (cell(at("organ")), cell(at("patient"))));
        }
    }
    Ok(groups)
}

/// Organ and patient.
pub(super) type Group = (Option<String>, Option<String>);

/// Patient of a TCGA barcode (`TCGA-A7-A0DB-…`); any other name is a patient of its own.
pub fn patient_of(name: &str) -> String {
    match name.get(..12) {
        Some(barcode) if name.starts_with("TCGA-") && name[12..].starts_with('-') => barcode.to_owned(),
        _ => name.to_owned(),
    }
}

/// The name without an ending of letters: `a_0.93.png` is `a_0.93`, and so is `a_0.93`.
pub(super) fn stem_of(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((stem, end)) if !stem.is_empty() && end.starts_with(|c: char| c.is_ascii_alphabetic()) => stem.to_owned(),
        _ => name.to_owned(),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> EvaluateError {
    EvaluateError::new(format!("cannot read: {error}: {}", path.display()))
}

/// Names of the files in a folder, sorted.
fn names_in(dir: &Path) -> Result<Vec<String>, EvaluateError> {
    let entries = fs::read_dir(dir).map_err(|e| unreadable(dir, &e))?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|e| e.path().is_file())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    Ok(names)
}

/// Lines `y x class`; the middle of a px is half a px further.
fn read_dots(path: &Path, classes: usize) -> Result<Vec<Dot>, EvaluateError> {
    let text = fs::read_to_string(path).map_err(|e| unreadable(path, &e))?;
    let mut dots = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let numbers: Vec<f32> = line.split_whitespace().filter_map(|v| v.parse().ok()).collect();
        match numbers[..] {
            [y, x, class] if x.is_finite() && y.is_finite() && class >= 1.0 && class as usize <= classes => {
                dots.push(Dot { x: x + 0.5, y: y + 0.5, node: class as NodeIndex - 1 });
            }
            _ => {
                let expected = format!("expected `y x class` with a class from 1 to {classes}");
                let message = format!("line {} is `{line}`, {expected}: {}", n + 1, path.display());
                return Err(EvaluateError::new(message));
            }
        }
    }
    Ok(dots)
}

/// A grey PNG of 8 or 16 bits.
fn read_map(path: &Path, size: (u32, u32)) -> Result<Vec<u32>, EvaluateError> {
    let damaged = |reason: String| EvaluateError::new(format!("cannot read PNG: {reason}: {}", path.display()));
    let file = File::open(path).map_err(|e| unreadable(path, &e))?;
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().map_err(|e| damaged(e.to_string()))?;
    let info = reader.info();
    let (found, kind, depth) = ((info.width, info.height), info.color_type, info.bit_depth);
    if found != size {
        return Err(damaged(format!("it is `{found:?}` px, its image `{size:?}`")));
    }
    if !matches!((kind, depth), (png::ColorType::Grayscale, png::BitDepth::Eight | png::BitDepth::Sixteen)) {
        return Err(damaged(format!("it is {kind:?} of {depth:?} bits, expected grey of 8 or 16 bits")));
    }
    let mut bytes = vec![0; reader.output_buffer_size().unwrap_or(0)];
    reader.next_frame(&mut bytes).map_err(|e| damaged(e.to_string()))?;
    Ok(match depth {
        png::BitDepth::Sixteen => bytes.chunks_exact(2).map(|b| u32::from(u16::from_be_bytes([b[0], b[1]]))).collect(),
        _ => bytes.into_iter().map(u32::from).collect(),
    })
}

/// Numbers from 1 without gaps, in the order of the numbers found; and how many.
fn without_gaps(map: &[u32]) -> (Vec<u32>, usize) {
    let mut ids: Vec<u32> = map.iter().copied().filter(|&id| id > 0).collect();
    ids.sort_unstable();
    ids.dedup();
    let number = |id: u32| ids.binary_search(&id).map_or(0, |at| at as u32 + 1);
    (map.iter().map(|&id| number(id)).collect(), ids.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_a_tcga_patient_belong_together() {
        assert_eq!(patient_of("TCGA-A7-A0DB-01Z-00-DX1_168501_13501"), "TCGA-A7-A0DB");
        assert_eq!(patient_of("TCGA-A7-A0D"), "TCGA-A7-A0D");
        assert_eq!(patient_of("0121d6759c5a"), "0121d6759c5a");
    }

    #[test]
    fn a_line_that_is_no_dot_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        fs::write(&path, "3 4 1\n\n5 6 4\n").unwrap();
        assert_eq!(read_dots(&path, 4).unwrap(), [Dot { x: 4.5, y: 3.5, node: 0 }, Dot { x: 6.5, y: 5.5, node: 3 }]);
        assert!(read_dots(&path, 3).unwrap_err().message.starts_with("line 3 is `5 6 4`"));
    }

    #[test]
    fn numbers_are_closed_up() {
        assert_eq!(without_gaps(&[0, 7, 7, 3]), (vec![0, 2, 2, 1], 2));
    }
}
