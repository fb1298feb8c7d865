//! From the settings of `data` to samples for training and validation.
//!
//! Owns: [`build`], [`DataSets`]. Must not know: how settings were written, networks.

use super::{
    Side, Sides,
    annotated::{Annotated, Kind},
    labels::LabelMap,
    layout,
    mixture::{InTurn, Joined, Mixture},
    pannuke::Pannuke,
    patches::Patches,
    pictures::{Pictures, ReadPicture},
    slides::Slides,
    source::Source,
    split::split,
    whole::Whole,
};
use crate::{
    config::settings::data::{Data, DataSet, Layout, Mix},
    model::ClassInfo,
    pixels::stain::reference,
    train::{
        TrainError,
        augment::Look,
        class_tree::{ClassNode, ClassTree},
        sample::Samples,
    },
    units::Mpp,
};
use std::sync::Arc;

/// What a training learns from and is judged by.
pub struct DataSets {
    /// The classes.
    pub tree: Arc<ClassTree>,
    /// Random squares of `patch_px`, in the order of each epoch.
    pub train: Arc<dyn Samples>,
    /// Squares of a grid, as they are.
    pub validation: Arc<dyn Samples>,
    /// Whole pictures that are kept back, each of its own size, by data set.
    pub validation_pictures: Vec<(String, Arc<dyn Samples>)>,
    /// What was found, a line per data set.
    pub summary: Vec<String>,
}

/// The class tree of the settings.
///
/// # Errors
/// A class whose parent is none of those before it, and what [`ClassTree::new`] refuses.
pub fn class_tree(data: &Data) -> Result<ClassTree, TrainError> {
    let mut nodes: Vec<ClassNode> = vec![];
    for class in &data.classes {
        let parent = match &class.parent {
            None => None,
            Some(name) => Some(nodes.iter().position(|n| n.class.name == *name).ok_or_else(|| {
                let message = format!("class `{}` is a kind of `{name}`, which no class before it is", class.name);
                TrainError::new(message).hint("write `data.classes` from the general to the particular")
            })? as u8),
        };
        if matches!(class.name.as_str(), "background" | "unknown") {
            let message = format!("`{}` is no class: it is understood without being listed", class.name);
            return Err(TrainError::new(message).hint("labels may name it; take it out of `data.classes`"));
        }
        nodes.push(ClassNode { class: ClassInfo { name: class.name.clone(), color: class.color }, parent });
    }
    ClassTree::new(nodes).map_err(TrainError::new)
}

/// Opens every data set, divides it, and makes samples at `mpp`.
///
/// `organs` are the names of the network's embedding, from row 0; empty for a network that is not told.
///
/// # Errors
/// Whatever is wrong with a set's settings or files, or with the split; each with the file and a hint.
pub fn build(data: &Data, mpp: Mpp, organs: &[&str]) -> Result<DataSets, TrainError> {
    let tree = Arc::new(class_tree(data)?);
    let sources: Vec<Arc<dyn Source>> =
        data.sets.iter().map(|set| open(set, data, &tree, mpp, organs)).collect::<Result<_, _>>()?;
    let pairs: Vec<(&DataSet, &dyn Source)> = data.sets.iter().zip(sources.iter().map(|s| &**s)).collect();
    let sides = split(&pairs, &data.split)?;
    let looks = looks(data, &sources, &sides)?;
    let mut train: Vec<(Arc<dyn Samples>, f64)> = vec![];
    let mut validation: Vec<Arc<dyn Samples>> = vec![];
    let mut pictures: Vec<(String, Arc<dyn Samples>)> = vec![];
    let mut summary = vec![];
    for ((set, source), sides) in data.sets.iter().zip(&sources).zip(&sides) {
        let min_tissue = data.sampling.min_tissue;
        let mut augment = data.augment.clone();
        augment.scale = set.scale.unwrap_or(augment.scale);
        augment.stain_transfer.prob = set.stain_transfer_prob.unwrap_or(augment.stain_transfer.prob);
        let random = Patches::random(source.clone(), &sides.train, data.patch_px, &data.sampling, &augment, &looks)?;
        let grid = Patches::grid(source.clone(), &sides.validation, data.patch_px, min_tissue)?;
        summary.push(line(set, &**source, sides, random.len(), grid.len()));
        if !random.is_empty() {
            train.push((Arc::new(random), set.ratio));
        }
        validation.push(Arc::new(grid));
        pictures.push((set.name.clone(), Arc::new(Whole::new(source.clone(), sides.validation.clone()))));
    }
    if train.is_empty() {
        return Err(
            TrainError::new("no data set has anything to learn from").hint("see `data.split` and the sets' lists")
        );
    }
    let samples = data.sampling.samples_per_epoch.map(|n| n as usize);
    let train: Arc<dyn Samples> = match data.mix {
        _ if train.len() == 1 => train.remove(0).0,
        Mix::Ratios => {
            let all = train.iter().map(|(set, _)| set.len()).sum();
            Arc::new(Mixture::new(train, samples.unwrap_or(all)))
        }
        Mix::InTurn => {
            let most = train.iter().map(|(set, _)| set.len()).max().unwrap_or(0);
            let turns = train.into_iter().map(|(set, ratio)| (set, ratio.round().max(1.0) as u64)).collect();
            Arc::new(InTurn::new(turns, samples.unwrap_or(most)))
        }
    };
    let validation = Arc::new(Joined::new(validation));
    Ok(DataSets { tree, train, validation, validation_pictures: pictures, summary })
}

/// What the stain of training pictures may become, where the settings say so.
fn looks(data: &Data, sources: &[Arc<dyn Source>], sides: &[Sides]) -> Result<Vec<Look>, TrainError> {
    let transfer = &data.augment.stain_transfer;
    let is_asked = transfer.prob > 0.0 || data.sets.iter().any(|s| s.stain_transfer_prob.is_some_and(|p| p > 0.0));
    if !is_asked {
        return Ok(vec![]);
    }
    let mut looks = vec![];
    for path in &transfer.references {
        let picture = reference::read(path).map_err(|e| TrainError::new(e.to_string()).hint(e.hint()))?;
        looks.push(Look::of(&picture.data, transfer.method).ok_or_else(|| {
            TrainError::new(format!("stain reference shows too little stained tissue: {}", path.display()))
        })?);
    }
    let from = transfer.from_set.as_ref().and_then(|name| data.sets.iter().position(|set| set.name == *name));
    if let Some(set) = from.filter(|_| looks.is_empty()) {
        let (source, half) = (&sources[set], f64::from(data.patch_px) / 2.0);
        for &entry in &sides[set].train {
            let (w, h) = source.size(entry)?;
            let piece = source.piece(entry, (f64::from(w) / 2.0, f64::from(h) / 2.0), half)?;
            looks.extend(Look::of(&piece.sample.image.data, transfer.method));
        }
    }
    Ok(looks)
}

fn line(set: &DataSet, source: &dyn Source, sides: &Sides, random: usize, grid: usize) -> String {
    let patients = |side: Side| {
        let entries = if side == Side::Train { &sides.train } else { &sides.validation };
        let mut patients: Vec<&str> = entries.iter().map(|&e| source.entries()[e].patient.as_str()).collect();
        patients.sort_unstable();
        patients.dedup();
        patients.len()
    };
    let left_out = if sides.left_out > 0 { format!(", {} left out", sides.left_out) } else { String::new() };
    format!(
        "{}: {} pictures of {} patients to learn from ({random} samples per epoch), {} of {} kept back ({grid} tiles){left_out}",
        set.name,
        sides.train.len(),
        patients(Side::Train),
        sides.validation.len(),
        patients(Side::Validation),
    )
}

fn open(
    set: &DataSet,
    data: &Data,
    tree: &ClassTree,
    mpp: Mpp,
    organs: &[&str],
) -> Result<Arc<dyn Source>, TrainError> {
    let labels = LabelMap::new(set, tree)?;
    let files = layout::find(set)?;
    let kind = match &set.organ {
        None => 0,
        Some(organ) => organs.iter().position(|o| o == organ).ok_or_else(|| {
            let known: Vec<String> = organs.iter().map(|o| format!("`{o}`")).collect();
            let message = format!("data set `{}` shows `{organ}`, which the network does not know", set.name);
            TrainError::new(message).hint(match known.len() {
                0 => "this network is not told the organ: leave `organ` out".to_owned(),
                _ => format!("it knows {}", known.join(", ")),
            })
        })?,
    };
    let annotated = |kind: Kind, files| -> Result<Box<dyn ReadPicture>, TrainError> {
        Ok(Box::new(Annotated::new(&set.name, kind, files, labels.clone())?))
    };
    let reader = match layout::layout_of(set)? {
        Layout::SlidesOutlines | Layout::SlidesMasks => {
            return Ok(Arc::new(Slides::new(set, files, labels, mpp, &data.stain, kind)?));
        }
        Layout::Instances | Layout::Dsb2018 | Layout::Consep | Layout::Kumar | Layout::Cpm17 => {
            annotated(Kind::Instances, files)?
        }
        Layout::Dots | Layout::BrcaM2c => annotated(Kind::Dots, files)?,
        Layout::Masks | Layout::Sicapv2 | Layout::Bcss => annotated(Kind::Masks, files)?,
        Layout::Folders | Layout::Breakhis | Layout::Isicdm => annotated(Kind::Folders, files)?,
        Layout::Pannuke => Box::new(Pannuke::new(set, &files, &labels)?),
    };
    Ok(Arc::new(Pictures::new(reader, mpp.um_per_px(), kind, data)?))
}
