//! One image: what is true beside what was said, counted.
//!
//! Owns: [`CaseScore`], [`score`]. Must not know: sets of images, files, models.

use super::{
    Aggregate, Confusion, Detection, EMeasure, HoverNetTypes, Overlaps, Panoptic, PixelCounts, Point,
    aggregated::{aji, aji_plus, dice, ensemble_dice},
    auc::roc_auc_of_levels,
    classes::{Classes, NONE},
    detection::{HOVER_NET_RADIUS_PX, TypeCounts, detect, detect_class},
    e_measure::e_measure,
    near_pairs,
    predicted::Predicted,
    s_measure::{mean_absolute_error, s_measure},
    weighted_f::weighted_f,
};
use crate::train::{
    class_tree::{BACKGROUND, UNKNOWN},
    sample::Sample,
};

/// HoVer-Net's radius in µm: its images have 0.25 µm/px.
const HOVER_NET_RADIUS_UM: f64 = HOVER_NET_RADIUS_PX * 0.25;
/// HoVer-Net's pairing compares every true nucleus with every predicted one; of larger images it is left out.
const MAX_HOVER_NET_PAIRS: usize = 25_000_000;
/// A pixel is foreground at this probability or above.
const FOREGROUND: u8 = 128;

/// What was counted of one image. What truth or model do not tell is `None` or empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CaseScore {
    /// Places of nuclei, at the radius asked for.
    pub detection: Option<Detection>,
    /// The same of each class.
    pub class_detection: Vec<Detection>,
    /// HoVer-Net's pairs at its radius.
    pub hover_net: Option<Detection>,
    /// Pairs of one type, and all pairs.
    pub right_types: (u64, u64),
    /// HoVer-Net's counts of each class.
    pub types: Vec<TypeCounts>,
    /// Nuclei as areas.
    pub nuclei: Option<NucleiScore>,
    /// Pixels of foreground.
    pub foreground: Option<PixelCounts>,
    /// The probability map against the mask.
    pub map: Option<MapScore>,
    /// Pixels by class; background is the first.
    pub pixels: Option<Confusion>,
    /// Nuclei by class: those found, and after the classes a row of what is no nucleus and a column of what was missed.
    pub nuclei_confusion: Option<Confusion>,
    /// Class of the whole image and the probability of each class.
    pub label: Option<(usize, Vec<f64>)>,
}

/// Nuclei as areas.
#[derive(Debug, Clone, PartialEq)]
pub struct NucleiScore {
    /// All nuclei as one mask.
    pub dice: Aggregate,
    /// Ensemble DICE.
    pub dice2: Aggregate,
    /// AJI.
    pub aji: Aggregate,
    /// AJI+.
    pub aji_plus: Aggregate,
    /// All nuclei as one class.
    pub panoptic: Panoptic,
    /// Nuclei of each class.
    pub class_panoptic: Vec<Panoptic>,
}

/// A probability map against a mask.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MapScore {
    /// S-measure.
    pub s: f64,
    /// E-measure.
    pub e: EMeasure,
    /// Weighted F.
    pub weighted_f: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// Area under the ROC curve, where the mask has foreground and background.
    pub auc: Option<f64>,
}

/// Counts what was said of a sample; `mpp` is its resolution and `radius_um` how near a dot must be
/// ([`super::DOT_RADIUS_UM`] unless asked otherwise).
pub fn score(sample: &Sample, predicted: &Predicted, classes: &Classes, mpp: f64, radius_um: f64) -> CaseScore {
    let mut found = CaseScore::default();
    let (w, h) = (sample.image.w, sample.image.h);
    let map = predicted.instance_map(w, h);
    if let (Some(truth), Some(points)) = (true_points(sample, classes), predicted_points(predicted, classes)) {
        score_points(&mut found, &truth, &points, classes, (mpp, radius_um));
    }
    if let (Some(truth), Some(map)) = (&sample.truth.instances, &map) {
        found.nuclei = Some(score_nuclei(sample, truth, predicted, map, classes));
    }
    score_pixels(&mut found, sample, predicted, map.as_deref(), classes);
    if let (Some(label), Some(probs)) = (sample.truth.label, &predicted.label_probs) {
        let class = classes.of_node(label);
        if class != NONE {
            let mut sums = vec![0.0; classes.len()];
            for (i, &p) in probs.iter().enumerate() {
                if let Some(sum) = sums.get_mut(usize::from(classes.of_predicted(Some(i)))) {
                    *sum += f64::from(p);
                }
            }
            found.label = Some((usize::from(class), sums));
        }
    }
    found
}

/// The true nuclei as points: dots, or the middles of areas.
pub fn true_points(sample: &Sample, classes: &Classes) -> Option<Vec<Point>> {
    if let Some(dots) = &sample.truth.dots {
        let point = |d: &crate::train::sample::Dot| Point {
            x: f64::from(d.x),
            y: f64::from(d.y),
            class: classes.of_node(d.node),
        };
        return Some(dots.iter().map(point).collect());
    }
    let map = sample.truth.instances.as_ref()?;
    let nuclei = map.iter().copied().max().unwrap_or(0) as usize;
    let mut sums = vec![(0.0, 0.0, 0.0); nuclei];
    for (i, &id) in map.iter().enumerate().filter(|(_, id)| **id > 0) {
        let sum = &mut sums[id as usize - 1];
        sum.0 += (i % sample.image.w as usize) as f64 + 0.5;
        sum.1 += (i / sample.image.w as usize) as f64 + 0.5;
        sum.2 += 1.0;
    }
    let class = |i: usize| sample.truth.instance_nodes.get(i).map_or(NONE, |&node| classes.of_node(node));
    let there = sums.into_iter().enumerate().filter(|(_, (.., n))| *n > 0.0);
    Some(there.map(|(i, (x, y, n))| Point { x: x / n, y: y / n, class: class(i) }).collect())
}

/// The nuclei that were found as points.
pub fn predicted_points(predicted: &Predicted, classes: &Classes) -> Option<Vec<Point>> {
    let nuclei = predicted.nuclei.as_ref()?;
    let point = |n: &super::predicted::FoundNucleus| Point {
        x: n.centroid.0,
        y: n.centroid.1,
        class: classes.of_predicted(n.class),
    };
    Some(nuclei.iter().map(point).collect())
}

fn score_points(
    found: &mut CaseScore,
    truth: &[Point],
    said: &[Point],
    classes: &Classes,
    (mpp, radius_um): (f64, f64),
) {
    let radius = radius_um / mpp;
    found.detection = Some(detect(truth, said, radius));
    let is_small = truth.len().saturating_mul(said.len()) <= MAX_HOVER_NET_PAIRS;
    let types = is_small.then(|| HoverNetTypes::of(truth, said, HOVER_NET_RADIUS_UM / mpp));
    found.hover_net = types.as_ref().map(HoverNetTypes::detection);
    if !classes.are_types() {
        return;
    }
    found.right_types = types.as_ref().map_or((0, 0), HoverNetTypes::right_pairs);
    let of = 0..classes.len() as u8;
    found.class_detection = of.clone().map(|class| detect_class(truth, said, radius, class)).collect();
    found.types = types.map_or_else(Vec::new, |types| of.map(|class| types.of_type(class)).collect());
    let place = |points: &[Point]| -> Vec<(f64, f64)> { points.iter().map(|p| (p.x, p.y)).collect() };
    let none = classes.len();
    let index = |class: u8| if class == NONE { none } else { usize::from(class) };
    let mut confusion = Confusion::new(none + 1);
    let (mut met, mut used) = (vec![false; truth.len()], vec![false; said.len()]);
    for (t, p) in near_pairs(&place(truth), &place(said), radius) {
        (met[t], used[p]) = (true, true);
        confusion.add(index(truth[t].class), index(said[p].class), 1);
    }
    truth.iter().zip(&met).filter(|(_, m)| !**m).for_each(|(t, _)| confusion.add(index(t.class), none, 1));
    said.iter().zip(&used).filter(|(_, u)| !**u).for_each(|(p, _)| confusion.add(none, index(p.class), 1));
    found.nuclei_confusion = Some(confusion);
}

fn score_nuclei(sample: &Sample, truth: &[u32], predicted: &Predicted, map: &[u32], classes: &Classes) -> NucleiScore {
    let overlaps = Overlaps::new(truth, map);
    let nodes = &sample.truth.instance_nodes;
    let true_class: Vec<u8> = overlaps
        .truth_ids
        .iter()
        .map(|&id| nodes.get(id as usize - 1).map_or(NONE, |&node| classes.of_node(node)))
        .collect();
    let nuclei = predicted.nuclei.as_deref().unwrap_or_default();
    let said_class: Vec<u8> =
        overlaps.predicted_ids.iter().map(|&id| classes.of_predicted(nuclei[id as usize - 1].class)).collect();
    let of = |class: u8| Panoptic::of_class(&overlaps, |t| true_class[t] == class, |p| said_class[p] == class);
    let compared = if classes.are_types() { classes.len() as u8 } else { 0 };
    NucleiScore {
        dice: dice(&overlaps),
        dice2: ensemble_dice(&overlaps),
        aji: aji(&overlaps),
        aji_plus: aji_plus(&overlaps),
        panoptic: Panoptic::of(&overlaps),
        class_panoptic: (0..compared).map(of).collect(),
    }
}

/// Foreground, probability map and classes of pixels.
fn score_pixels(found: &mut CaseScore, sample: &Sample, predicted: &Predicted, map: Option<&[u32]>, classes: &Classes) {
    let truth = &sample.truth;
    // What is true of each px: some foreground or not, or nothing known. Beside nuclei the class map only says where
    // nothing is known; dots say nothing of px.
    let is_unknown = |i: usize| truth.semantic.as_ref().is_some_and(|map| map[i] == UNKNOWN);
    let known: Vec<Option<bool>> = match (&truth.instances, &truth.dots, &truth.semantic) {
        (Some(map), ..) => {
            map.iter().enumerate().map(|(i, &id)| (id > 0 || !is_unknown(i)).then_some(id > 0)).collect()
        }
        (None, None, Some(map)) => map.iter().map(|&n| (n != UNKNOWN).then_some(n != BACKGROUND)).collect(),
        (None, ..) => return,
    };
    let said: Option<Vec<Option<bool>>> = match (&predicted.semantic, map) {
        (Some(semantic), _) => Some(semantic.iter().map(|&c| (c != 255).then_some(c > 0)).collect()),
        (None, Some(map)) => Some(map.iter().map(|&id| Some(id > 0)).collect()),
        (None, None) => predicted.foreground.as_ref().map(|f| f.iter().map(|&p| Some(p >= FOREGROUND)).collect()),
    };
    if let Some(said) = &said {
        let both = known.iter().zip(said).filter_map(|(t, s)| Some(((*t)?, (*s)?)));
        found.foreground = Some(PixelCounts::of(both));
    }
    // The maps' measures look at neighbours: only where all is known.
    let mask: Option<Vec<bool>> = known.iter().copied().collect();
    if let (Some(foreground), Some(mask)) = (&predicted.foreground, mask.filter(|m| m.len() > 1)) {
        found.map = Some(score_map(foreground, &mask, sample.image.w as usize));
    }
    if truth.instances.is_some() || !classes.are_compared() {
        return;
    }
    let Some(semantic) = &truth.semantic else { return };
    let class_of_px = |i: usize| -> Option<usize> {
        match (&predicted.semantic, map) {
            (Some(said), _) if said[i] == 255 => None,
            (Some(said), _) => said_class(classes, usize::from(said[i]).checked_sub(1)),
            (None, Some(map)) => {
                let nuclei = predicted.nuclei.as_deref()?;
                said_class(classes, (map[i] as usize).checked_sub(1).map(|n| nuclei[n].class.unwrap_or(usize::MAX)))
            }
            (None, None) => None,
        }
    };
    let mut confusion = Confusion::new(classes.len() + 1);
    for (i, &node) in semantic.iter().enumerate().filter(|(_, n)| **n != UNKNOWN) {
        let is = if node == BACKGROUND { 0 } else { usize::from(classes.of_node(node)) + 1 };
        if let Some(said) = class_of_px(i) {
            confusion.add(is, said, 1);
        }
    }
    found.pixels = Some(confusion);
}

/// Background is 0; a class of the model that the labels do not know is counted as background.
fn said_class(classes: &Classes, class: Option<usize>) -> Option<usize> {
    match class.map(|class| classes.of_predicted(Some(class))) {
        None | Some(NONE) => Some(0),
        Some(class) => Some(usize::from(class) + 1),
    }
}

fn score_map(foreground: &[u8], mask: &[bool], w: usize) -> MapScore {
    let prob: Vec<f64> = foreground.iter().map(|&p| f64::from(p) / 255.0).collect();
    let (mut yes, mut no) = ([0; 256], [0; 256]);
    for (&p, &is_true) in foreground.iter().zip(mask) {
        if is_true { yes[usize::from(p)] += 1 } else { no[usize::from(p)] += 1 }
    }
    MapScore {
        s: s_measure(&prob, mask, w),
        e: e_measure(&prob, mask),
        weighted_f: weighted_f(&prob, mask, w),
        mae: mean_absolute_error(&prob, mask),
        auc: roc_auc_of_levels(&yes, &no),
    }
}
