//! Which pictures are learned from and which are kept back: by patient, never by tile.
//!
//! Owns: [`split`], [`Sides`], [`Side`]. Must not know: layouts, pixels.
//!
//! A patient is on one side, in all data sets together; so is a picture that lies in two places under other names.

use super::source::{Entry, Source};
use crate::{
    config::settings::data::{DataSet, Lists, SharedPatients, Split, SplitMethod},
    train::{TrainError, rng::Rng},
};
use globset::Glob;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

/// On which side a picture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Learned from.
    Train,
    /// Kept back.
    Validation,
}

/// The pictures of one data set, by side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sides {
    /// Learned from.
    pub train: Vec<usize>,
    /// Kept back.
    pub validation: Vec<usize>,
    /// In neither list, or left out because the patient is on the other side.
    pub left_out: usize,
}

/// Divides the pictures of every set.
///
/// # Errors
/// A patient on both sides of fixed lists, or a picture of one side that is also on the other: both are named. A list
/// that cannot be read or names nothing.
pub fn split(sets: &[(&DataSet, &dyn Source)], split: &Split) -> Result<Vec<Sides>, TrainError> {
    let keys: Vec<Vec<String>> = sets.iter().map(|(set, source)| patients(set, source.entries())).collect();
    let drawn = draw(&keys, split);
    let mut sides: Vec<Vec<Option<Side>>> = vec![];
    for ((set, source), keys) in sets.iter().zip(&keys) {
        sides.push(match &set.lists {
            Some(lists) => listed(set, source.entries(), lists)?,
            None => keys.iter().map(|patient| drawn.get(patient).copied()).collect(),
        });
    }
    let names = |s: usize, e: usize| sets[s].1.entries()[e].name.as_str();
    share_no_patient(&keys, &mut sides, split.shared_patients, names)?;
    share_no_picture(sets, &sides)?;
    let of = |all: &[Option<Side>], side: Side| (0..all.len()).filter(|&e| all[e] == Some(side)).collect();
    Ok(sides
        .iter()
        .map(|all| Sides {
            train: of(all, Side::Train),
            validation: of(all, Side::Validation),
            left_out: all.iter().filter(|s| s.is_none()).count(),
        })
        .collect())
}

/// The patient of each picture. One that is its own patient has its set's name before it: files of two sets may have
/// the same name.
fn patients(set: &DataSet, entries: &[Entry]) -> Vec<String> {
    let own = |e: &Entry| if e.patient == e.id { format!("{}/{}", set.name, e.patient) } else { e.patient.clone() };
    entries.iter().map(own).collect()
}

/// The side of every patient, at random.
fn draw(keys: &[Vec<String>], split: &Split) -> HashMap<String, Side> {
    let unique: BTreeSet<&String> = keys.iter().flatten().collect();
    let mut patients: Vec<&String> = unique.into_iter().collect();
    Rng::new(&[split.seed, 0x73_706c_6974]).shuffle(&mut patients);
    let n = patients.len();
    let is_kept = |k: usize| match split.method {
        SplitMethod::Share(share) => {
            let count = (share * n as f64).round() as usize;
            // Some on each side, where both are wanted.
            k < if share > 0.0 { count.clamp(1, n.saturating_sub(1).max(1)) } else { 0 }
        }
        SplitMethod::Fold { folds, fold } => k as u32 % folds.max(1) == fold.saturating_sub(1),
    };
    let side = |k: usize| if is_kept(k) { Side::Validation } else { Side::Train };
    patients.into_iter().enumerate().map(|(k, p)| (p.clone(), side(k))).collect()
}

fn listed(set: &DataSet, entries: &[Entry], lists: &Lists) -> Result<Vec<Option<Side>>, TrainError> {
    let mut sides: Vec<Option<Side>> = vec![None; entries.len()];
    for (files, side) in [(&lists.train, Side::Train), (&lists.validation, Side::Validation)] {
        for file in files {
            let inside = set.path.join(file);
            let path = if inside.is_file() { inside.as_path() } else { file.as_path() };
            let text = std::fs::read_to_string(path)
                .map_err(|e| TrainError::new(format!("list of pictures cannot be read: {e}: {}", path.display())))?;
            for (number, line) in text.lines().map(str::trim).enumerate().filter(|(_, l)| !l.is_empty()) {
                let found: Vec<usize> = matching(entries, line);
                let place = format!("line {} of {}", number + 1, path.display());
                if found.is_empty() {
                    return Err(TrainError::new(format!("no picture of data set `{}` is `{line:.100}`: {place}", set.name))
                        .hint("a line is a picture's file name, with or without extension, its path below the set's folder, or a glob"));
                }
                for e in found {
                    if sides[e].is_some_and(|other| other != side) {
                        let message = format!(
                            "`{}` is in the list to learn from and in the one kept back: {place}",
                            entries[e].id
                        );
                        return Err(TrainError::new(message).hint("take it out of one of them"));
                    }
                    sides[e] = Some(side);
                }
            }
        }
    }
    for patient in &lists.validation_patients {
        let of_patient: Vec<usize> = (0..entries.len()).filter(|&e| entries[e].patient == *patient).collect();
        if of_patient.is_empty() {
            let message = format!("data set `{}` has no patient `{patient}` to keep back", set.name);
            return Err(TrainError::new(message).hint(format!("its first patient is `{}`", entries[0].patient)));
        }
        of_patient.into_iter().for_each(|e| sides[e] = Some(Side::Validation));
    }
    let keeps_none = lists.validation.is_empty() && lists.validation_patients.is_empty();
    let rest = match (lists.train.is_empty(), keeps_none) {
        (true, _) => Some(Side::Train),
        (_, true) => Some(Side::Validation),
        _ => None,
    };
    Ok(sides.into_iter().map(|s| s.or(rest)).collect())
}

fn matching(entries: &[Entry], line: &str) -> Vec<usize> {
    let is = |e: &Entry| {
        let path = Path::new(&e.id);
        e.id == line || [path.file_name(), path.file_stem()].into_iter().flatten().any(|n| n == line)
    };
    let exact: Vec<usize> = (0..entries.len()).filter(|&e| is(&entries[e])).collect();
    if !exact.is_empty() || !line.contains(['*', '?', '[', '{']) {
        return exact;
    }
    let Ok(glob) = Glob::new(line) else { return vec![] };
    let glob = glob.compile_matcher();
    let is = |e: &Entry| glob.is_match(&e.id) || Path::new(&e.id).file_name().is_some_and(|n| glob.is_match(n));
    (0..entries.len()).filter(|&e| is(&entries[e])).collect()
}

/// A patient is on one side, or the settings say on which.
fn share_no_patient<'a>(
    keys: &[Vec<String>],
    sides: &mut [Vec<Option<Side>>],
    shared: SharedPatients,
    name: impl Fn(usize, usize) -> &'a str,
) -> Result<(), TrainError> {
    let mut found: BTreeMap<&String, BTreeMap<Side, (usize, usize)>> = BTreeMap::new();
    for (s, (keys, sides)) in keys.iter().zip(sides.iter()).enumerate() {
        for (e, (key, side)) in keys.iter().zip(sides).enumerate() {
            if let Some(side) = side {
                found.entry(key).or_default().entry(*side).or_insert((s, e));
            }
        }
    }
    let both: Vec<(&String, [(usize, usize); 2])> = found
        .into_iter()
        .filter_map(|(key, at)| Some((key, [*at.get(&Side::Train)?, *at.get(&Side::Validation)?])))
        .collect();
    let Some((patient, [a, b])) = both.first() else { return Ok(()) };
    if shared == SharedPatients::Refuse {
        let others = if both.len() > 1 { format!(" (and `{}` more)", both.len() - 1) } else { String::new() };
        let message = format!(
            "the split leaks: patient `{patient}` is on both sides{others}: learned from {}, kept back {}",
            name(a.0, a.1),
            name(b.0, b.1)
        );
        return Err(TrainError::new(message).hint(
            "results on such a split are too good; set `data.split.shared_patients` to `train`, `validation` or `drop`, or mend the lists",
        ));
    }
    let both: BTreeSet<&String> = both.iter().map(|(patient, _)| *patient).collect();
    for (keys, sides) in keys.iter().zip(sides) {
        for (_, side) in keys.iter().zip(sides).filter(|(key, _)| both.contains(key)) {
            *side = match (shared, *side) {
                (_, None) => None,
                (SharedPatients::Train, _) => Some(Side::Train),
                (SharedPatients::Drop, Some(Side::Train)) => None,
                _ => Some(Side::Validation),
            };
        }
    }
    Ok(())
}

/// No picture of one side is also on the other, whatever its name. Only pictures of one size are read for it.
fn share_no_picture(sets: &[(&DataSet, &dyn Source)], sides: &[Vec<Option<Side>>]) -> Result<(), TrainError> {
    let mut by_size: BTreeMap<u64, Vec<(usize, usize)>> = BTreeMap::new();
    for (s, all) in sides.iter().enumerate() {
        for e in (0..all.len()).filter(|&e| all[e].is_some()) {
            by_size.entry(sets[s].1.bytes(e)).or_default().push((s, e));
        }
    }
    for group in by_size.values() {
        let has = |side: Side| group.iter().any(|&(s, e)| sides[s][e] == Some(side));
        if !has(Side::Train) || !has(Side::Validation) {
            continue;
        }
        let mut seen: HashMap<[u8; 32], (usize, usize)> = HashMap::new();
        for &(s, e) in group {
            let hash = sets[s].1.fingerprint(e)?;
            let &mut (s0, e0) = seen.entry(hash).or_insert((s, e));
            if sides[s0][e0] != sides[s][e] {
                let name = |s: usize, e: usize| &sets[s].1.entries()[e].name;
                let message =
                    format!("the split leaks: the same picture is on both sides: {} and {}", name(s0, e0), name(s, e));
                return Err(TrainError::new(message).hint("remove one of the two, or give both the same patient"));
            }
        }
    }
    Ok(())
}
