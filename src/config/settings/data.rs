//! What a training learns from, resolved: data sets, classes, splits, mixing, sampling, augmentation.
//!
//! Owns: [`Data`] and its parts. Must not know: how it was written, files.

use super::Stain;
use crate::units::Mpp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a training learns from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Data {
    /// The class tree, parents before their kinds.
    pub classes: Vec<Class>,
    /// The data sets.
    pub sets: Vec<DataSet>,
    /// Which pictures are kept back.
    pub split: Split,
    /// How several sets make one epoch.
    pub mix: Mix,
    /// Side of a training picture, px.
    pub patch_px: u32,
    /// What lies beyond the edge of a picture.
    pub beyond: Beyond,
    /// Where training pictures are cut.
    pub sampling: Sampling,
    /// Stain normalisation of every picture, as in inference.
    pub stain: Stain,
    /// What is changed at random.
    pub augment: Augment,
    /// Decoded pictures kept in memory, at most.
    pub cache_bytes: u64,
}

/// What lies beyond the edge of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beyond {
    /// Its mirror image, with the nuclei in it; where only dots are known, px of which nothing is known.
    Mirror,
    /// White glass: background without nuclei.
    White,
}

/// A class, and what it is a kind of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// Its colour.
    pub color: [u8; 3],
    /// Name of the class it is a kind of.
    pub parent: Option<String>,
}

/// A data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataSet {
    /// What messages and reports call it.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// How its files lie; must be said.
    pub layout: Option<Layout>,
    /// Pictures or slides: a glob below `path`; `None` is the layout's own.
    pub images: Option<String>,
    /// The annotation of a picture, below `path`: `{stem}`, `{parent}`, `{up}` are the picture's file name without
    /// extension, its folder, and that folder's folder; `None` is the layout's own.
    pub annotations: Option<String>,
    /// What drawn outlines are.
    pub outlines: Outlines,
    /// Resolution of its pictures.
    pub mpp: MppRule,
    /// Its labels and the classes they are; `background` and `unknown` are understood.
    pub labels: Vec<(String, String)>,
    /// Class of what has no label of its own (every nucleus of a set without types).
    pub class: Option<String>,
    /// What px without a label are.
    pub unlabelled: Unlabelled,
    /// Who is on a picture.
    pub patient: PatientRule,
    /// Which of its pictures are kept back, where lists say so.
    pub lists: Option<Lists>,
    /// Scale of its pictures, where it is not that of [`Augment::scale`].
    pub scale: Option<f64>,
    /// How often its pictures take another's stain, where that is not [`StainTransfer::prob`].
    pub stain_transfer_prob: Option<f64>,
    /// Keys that say the same thing twice, of which only the first holds.
    pub clashes: Vec<[String; 2]>,
    /// Organ of all its pictures, for networks that are told.
    pub organ: Option<String>,
    /// Share of an epoch, in relation to the other sets'; of sets in turn: how many epochs.
    pub ratio: f64,
}

/// How the files of a data set lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Slides with outlines: QuPath's GeoJSON, ASAP's or ImageScope's XML.
    SlidesOutlines,
    /// Slides with masks: TIFF or OME-Zarr.
    SlidesMasks,
    /// Pictures with a number per nucleus: PNG, TIFF, NPY, NPZ, MAT; or outlines, XML or GeoJSON.
    Instances,
    /// Pictures with a dot per nucleus.
    Dots,
    /// Pictures with a class per px.
    Masks,
    /// Pictures in folders of their class.
    Folders,
    /// `images/*.png`, `labels/<same>.png`.
    Dsb2018,
    /// `{Train,Test}/Images/*.png`, `Labels/*.mat`.
    Consep,
    /// `images.npy`, `masks.npy`, `types.npy` per fold.
    Pannuke,
    /// `Images/*.tif`, `Labels/*.mat` or `Annotations/*.xml`.
    Kumar,
    /// `{train,test}/Images/*.png`, `Labels/*.mat`.
    Cpm17,
    /// `images/*.png`, `labels/*_gt_class_coords.txt`.
    BrcaM2c,
    /// `…/<class>/<patient>/<magnification>X/*.png`.
    Breakhis,
    /// `<class>/*`.
    Isicdm,
    /// `images/*.jpg`, `masks/*.png`.
    Sicapv2,
    /// `images/*.png`, `masks/<same>.png`.
    Bcss,
}

/// What drawn outlines are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outlines {
    /// Areas of tissue: a class per px.
    Regions,
    /// One nucleus each.
    Nuclei,
}

/// What px without a label are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unlabelled {
    /// Of no class.
    Background,
    /// Of an unknown class: they teach nothing.
    Unknown,
}

/// Resolution of a set's pictures.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MppRule {
    /// What the layout is known for, what the slide says; of others, that of training.
    Known,
    /// This one.
    Is(Mpp),
    /// The first group of this regular expression in the file name.
    Name(String),
    /// CSV with a picture's name and `mpp`.
    Csv(PathBuf),
}

/// Who is on a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PatientRule {
    /// What the layout is known for; of others, each file is one.
    Known,
    /// Each file is one.
    File,
    /// The folder it lies in.
    Folder,
    /// The first characters of the file name: 12 of a TCGA barcode.
    Characters(u32),
    /// The first group of this regular expression in the path below the set's folder.
    Pattern(String),
    /// CSV: column of the picture's name, column of the patient.
    Csv {
        /// The file; below the set's folder when it is there.
        path: PathBuf,
        /// Column of file names or their stems.
        name: String,
        /// Column of patients.
        patient: String,
    },
}

/// Which pictures are kept back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Split {
    /// How they are chosen.
    pub method: SplitMethod,
    /// What a patient on both sides of a fixed list does.
    pub shared_patients: SharedPatients,
    /// What chance depends on.
    pub seed: u64,
}

/// How pictures are kept back.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitMethod {
    /// This share of the patients, 0–1, drawn at random.
    Share(f64),
    /// One of `folds` parts of the patients.
    Fold {
        /// How many parts.
        folds: u32,
        /// Which one is kept back, from 1.
        fold: u32,
    },
}

/// Fixed lists: files with a picture's name, or a glob, per line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lists {
    /// To learn from; empty: all that are not kept back.
    pub train: Vec<PathBuf>,
    /// Kept back; empty: all that are not learned from.
    pub validation: Vec<PathBuf>,
    /// Patients who are kept back.
    pub validation_patients: Vec<String>,
}

/// What a patient on both sides of a fixed list does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SharedPatients {
    /// The training does not start.
    Refuse,
    /// All pictures of the patient are learned from.
    Train,
    /// All pictures of the patient are kept back.
    Validation,
    /// The patient's training pictures are left out.
    Drop,
}

/// How several sets make one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mix {
    /// Every epoch has samples of each set, in the ratio of `ratio`.
    Ratios,
    /// One set after the other, `ratio` epochs each; the last goes on.
    InTurn,
}

/// Where training pictures are cut.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sampling {
    /// Training pictures per epoch; `None`: as many as cover the pictures once.
    pub samples_per_epoch: Option<u32>,
    /// Share of the training pictures cut around a nucleus (or area) of a class drawn evenly among the classes.
    pub balance: f64,
    /// Of slides: least share of tissue in a training picture.
    pub min_tissue: f64,
}

/// What is changed at random. A probability of 0 turns a change off.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct Augment {
    /// Probability of each mirror image, left-right and up-down.
    pub flip_prob: f64,
    /// Turns by 0, 90, 180 or 270 degrees.
    pub turns: bool,
    /// Probability that the next three are drawn.
    pub affine_prob: f64,
    /// Free rotation, ± degrees.
    pub rotate_deg: f64,
    /// Scale, up to `1 +` this times as large or as small.
    pub scale: f64,
    /// Shear, ± degrees.
    pub shear_deg: f64,
    /// Elastic deformation.
    pub elastic: Elastic,
    /// Brightness, contrast, saturation, hue.
    pub color: ColorJitter,
    /// Hematoxylin, eosin and the rest.
    pub stain_jitter: StainJitter,
    /// The stain of another picture.
    pub stain_transfer: StainTransfer,
    /// Probability of blur, and its largest σ in px.
    pub blur: Strength,
    /// Probability of noise, and its largest σ as share of full brightness.
    pub noise: Strength,
    /// Probability of CLAHE, and its largest clip limit.
    pub clahe: Strength,
    /// Probability of a gamma curve, and how far from 1 it may be.
    pub gamma: Strength,
    /// Probability of sharpening, and its largest share.
    pub sharpen: Strength,
    /// Probability of grey.
    pub grey_prob: f64,
}

/// How often and how much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Default)]
pub struct Strength {
    /// Probability.
    pub prob: f64,
    /// Largest amount; drawn evenly from none to this.
    pub most: f64,
}

/// Elastic deformation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Default)]
pub struct Elastic {
    /// Probability.
    pub prob: f64,
    /// Largest factor of the smoothed noise, px.
    pub alpha_px: f64,
    /// Smoothing, px.
    pub sigma_px: f64,
}

/// Changes of colour: factors `1 ± …`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Default)]
pub struct ColorJitter {
    /// Probability.
    pub prob: f64,
    /// Brightness.
    pub brightness: f64,
    /// Contrast.
    pub contrast: f64,
    /// Saturation.
    pub saturation: f64,
    /// Hue, ± degrees.
    pub hue_deg: f64,
    /// Red, green and blue by themselves.
    pub channels: f64,
}

/// Changes of the stains' densities.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StainJitter {
    /// Probability.
    pub prob: f64,
    /// What is told apart.
    pub space: StainSpace,
    /// Factor, `1 ±` this.
    pub gain: f64,
    /// Added density, ± this (decadic optical density).
    pub shift_od: f64,
}

impl Default for StainJitter {
    fn default() -> Self {
        Self { prob: 0.0, space: StainSpace::Hed, gain: 0.0, shift_od: 0.0 }
    }
}

/// What stain jitter tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StainSpace {
    /// Hematoxylin, eosin and DAB, all three changed.
    Hed,
    /// Hematoxylin and eosin changed, the residual kept.
    He,
}

/// The stain of another picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StainTransfer {
    /// Probability.
    pub prob: f64,
    /// How.
    pub method: TransferMethod,
    /// Least share of the way to the other look; drawn evenly from this to 1.
    pub least_share: f64,
    /// Pictures whose stain is taken.
    pub references: Vec<PathBuf>,
    /// Data set whose training pictures' stain is taken, where there are no references; `None`: the picture's own set.
    pub from_set: Option<String>,
}

impl Default for StainTransfer {
    fn default() -> Self {
        Self { prob: 0.0, method: TransferMethod::Reinhard, least_share: 1.0, references: vec![], from_set: None }
    }
}

/// How stain is transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferMethod {
    /// Mean and spread of CIELAB.
    Reinhard,
    /// Stain vectors and concentrations.
    Macenko,
    /// Mean and spread of the optical density of red, green and blue.
    Od,
}
