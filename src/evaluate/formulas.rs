//! What each measure is made of, of one image and of many.
//!
//! Owns: [`Formula`], [`formulas`]. Must not know: intervals, files.

use super::{
    Detection, Panoptic, PixelCounts,
    auc::roc_auc,
    bpq_pannuke, class_pq_pannuke,
    classes::Classes,
    confusion::Confusion,
    detection::TypeCounts,
    measures::Case,
    mpq_hover_net, mpq_pannuke,
    pixel_counts::ratio,
    score::{CaseScore, MapScore, NucleiScore},
};

/// A measure of one image.
type OfImage<'a> = Box<dyn Fn(&CaseScore) -> Option<f64> + Sync + 'a>;
/// A measure of images of which each counts so many times.
type OfImages<'a> = Box<dyn Fn(&[u32]) -> Option<f64> + Sync + 'a>;
/// Name, meaning, and a ratio of counts.
type Ratio = (&'static str, &'static str, fn(&PixelCounts) -> Option<f64>);

/// A measure, of one image and of many.
pub(super) struct Formula<'a> {
    pub name: &'static str,
    pub class: Option<usize>,
    /// Whether it is worth a row per organ.
    pub is_headline: bool,
    pub meaning: &'static str,
    pub of_image: OfImage<'a>,
    pub value: OfImages<'a>,
}

/// Every measure there is.
pub(super) fn formulas<'a>(cases: &'a [Case], classes: &'a Classes) -> Vec<Formula<'a>> {
    let mut all = List { cases, formulas: Vec::new() };
    points(&mut all, classes);
    nuclei(&mut all, classes);
    pixels(&mut all, classes);
    labels(&mut all, classes);
    all.formulas
}

struct List<'a> {
    cases: &'a [Case],
    formulas: Vec<Formula<'a>>,
}

impl<'a> List<'a> {
    /// A mean over images.
    fn mean(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        of: impl Fn(&CaseScore) -> Option<f64> + Sync + Copy + 'a,
    ) {
        let cases = self.cases;
        let value = move |times: &[u32]| {
            let values = cases.iter().zip(times).filter_map(|(c, &n)| Some((of(&c.score)?, f64::from(n))));
            let (sum, n) = values.fold((0.0, 0.0), |(sum, all), (v, n)| (sum + v * n, all + n));
            ratio(sum, n)
        };
        self.push(name, None, meaning, of, value);
    }

    /// Counts added up over images, and then the measure of them.
    fn sum<T: Default + std::ops::AddAssign + Clone + 'a>(
        &mut self,
        (name, class): (&'static str, Option<usize>),
        meaning: &'static str,
        get: impl Fn(&CaseScore) -> Option<T> + Sync + Copy + 'a,
        of: impl Fn(&T) -> Option<f64> + Sync + Copy + 'a,
    ) {
        let cases = self.cases;
        let value = move |times: &[u32]| of(&summed(cases, times, get));
        self.push(name, class, meaning, move |score| of(&get(score)?), value);
    }

    fn push(
        &mut self,
        name: &'static str,
        class: Option<usize>,
        meaning: &'static str,
        of_image: impl Fn(&CaseScore) -> Option<f64> + Sync + 'a,
        value: impl Fn(&[u32]) -> Option<f64> + Sync + 'a,
    ) {
        const HEADLINES: [&str; 9] = [
            "detection_f1",
            "detection_class_f1_mean",
            "aji",
            "pq",
            "mpq_pannuke",
            "dice",
            "jaccard",
            "pixel_mean_jaccard",
            "accuracy",
        ];
        let is_headline = HEADLINES.contains(&name) && class.is_none();
        let (of_image, value) = (Box::new(of_image), Box::new(value));
        self.formulas.push(Formula { name, class, is_headline, meaning, of_image, value });
    }
}

fn summed<T: Default + std::ops::AddAssign + Clone>(
    cases: &[Case],
    times: &[u32],
    get: impl Fn(&CaseScore) -> Option<T>,
) -> T {
    let mut sum = T::default();
    for (case, &n) in cases.iter().zip(times).filter(|(_, n)| **n > 0) {
        if let Some(counts) = get(&case.score) {
            (0..n).for_each(|_| sum += counts.clone());
        }
    }
    sum
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), v| (sum + v, n + 1.0));
    ratio(sum, n)
}

fn points<'a>(all: &mut List<'a>, classes: &'a Classes) {
    let get = |s: &CaseScore| s.detection;
    let words = "nuclei found within the radius, all images together";
    all.sum(("detection_f1", None), words, get, Detection::f1);
    all.sum(("detection_precision", None), "share of predictions that are nuclei", get, Detection::precision);
    all.sum(("detection_recall", None), "share of nuclei that were found", get, Detection::recall);
    let of = move |class: usize| move |s: &CaseScore| s.class_detection.get(class).copied();
    for class in 0..classes.len() {
        let words = "as detection_f1, among true and predicted nuclei of the class alone (MCSpatNet)";
        all.sum(("detection_f1", Some(class)), words, of(class), Detection::f1);
    }
    let cases = all.cases;
    let classes_of = 0..classes.len();
    let over = classes_of.clone();
    let value = move |times: &[u32]| mean(over.clone().filter_map(|c| summed(cases, times, of(c)).f1()));
    let of_image = move |s: &CaseScore| mean(classes_of.clone().filter_map(|c| of(c)(s)?.f1()));
    all.push("detection_class_f1_mean", None, "mean of detection_f1 over classes", of_image, value);
    let words = "F1 of detection, HoVer-Net's pairs (least total distance, 3 µm)";
    all.sum(("f1_d", None), words, |s: &CaseScore| s.hover_net, Detection::f1);
    let right = |s: &CaseScore| (s.right_types.1 > 0).then_some(Pairs(s.right_types.0, s.right_types.1));
    all.sum(("type_accuracy", None), "share of HoVer-Net's pairs of one type", right, |p: &Pairs| {
        ratio(p.0 as f64, p.1 as f64)
    });
    let of = move |class: usize| move |s: &CaseScore| s.types.get(class).copied();
    for class in 0..classes.len() {
        let words = "HoVer-Net's F1 of a type: pairs of two types count twice, nuclei alone once";
        all.sum(("f1_c", Some(class)), words, of(class), TypeCounts::f1_c);
    }
    let over = 0..classes.len();
    let of_images = over.clone();
    let value = move |times: &[u32]| mean(over.clone().filter_map(|c| summed(cases, times, of(c)).f1_c()));
    let of_image = move |s: &CaseScore| mean(of_images.clone().filter_map(|c| of(c)(s)?.f1_c()));
    all.push("f1_c_mean", None, "mean of f1_c over classes", of_image, value);
}

/// Pairs of one type, all pairs.
#[derive(Clone, Default)]
struct Pairs(u64, u64);

impl std::ops::AddAssign for Pairs {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
        self.1 += other.1;
    }
}

impl std::ops::AddAssign for TypeCounts {
    fn add_assign(&mut self, other: Self) {
        self.right += other.right;
        self.only_predicted_type += other.only_predicted_type;
        self.only_true_type += other.only_true_type;
        self.invented += other.invented;
        self.missed += other.missed;
    }
}

fn nuclei<'a>(all: &mut List<'a>, classes: &'a Classes) {
    fn of(get: fn(&NucleiScore) -> Option<f64>) -> impl Fn(&CaseScore) -> Option<f64> + Sync + Copy {
        move |s| get(s.nuclei.as_ref()?)
    }
    all.mean("nuclei_dice", "DICE of all nuclei as one mask, mean over images", of(|n| n.dice.value()));
    all.mean("nuclei_dice2", "ensemble DICE, mean over images", of(|n| n.dice2.value()));
    all.mean("aji", "aggregated Jaccard index, mean over images", of(|n| n.aji.value()));
    all.mean("aji_plus", "AJI with pairs of one to one, mean over images", of(|n| n.aji_plus.value()));
    all.mean("dq", "detection quality at IoU above 0.5, mean over images", of(|n| n.panoptic.dq()));
    all.mean("sq", "mean IoU of pairs, mean over images", of(|n| n.panoptic.sq()));
    all.mean("pq", "panoptic quality (HoVer-Net's bPQ), mean over images", of(|n| n.panoptic.pq()));
    let panoptic = |s: &CaseScore| s.nuclei.as_ref().map(|n| n.panoptic);
    all.sum(("pq_all_images", None), "panoptic quality of all images' nuclei together", panoptic, Panoptic::pq);
    let cases = all.cases;
    let tissues: Vec<usize> = tissues(cases);
    let of_classes = move |s: &CaseScore| s.nuclei.as_ref().map(|n| n.class_panoptic.clone()).filter(|c| !c.is_empty());
    let drawn = move |times: &[u32]| -> Vec<usize> {
        times.iter().enumerate().flat_map(|(i, &n)| (0..n).map(move |_| i)).collect()
    };
    let of_tissue = tissues.clone();
    let value = move |times: &[u32]| {
        let of = |i: usize| Some((of_tissue[i], panoptic(&cases[i].score)?));
        bpq_pannuke(&drawn(times).into_iter().filter_map(of).collect::<Vec<_>>())
    };
    let words = "PanNuke's bPQ: images without true nuclei skipped, mean over images, then organs";
    all.push("bpq_pannuke", None, words, move |s| bpq_pannuke(&[(0, panoptic(s)?)]), value);
    let value = move |times: &[u32]| {
        let of = |i: usize| Some((tissues[i], of_classes(&cases[i].score)?));
        mpq_pannuke(&drawn(times).into_iter().filter_map(of).collect::<Vec<_>>())
    };
    let words = "PanNuke's mPQ: mean over the classes of an image, images, then organs";
    all.push("mpq_pannuke", None, words, move |s| mpq_pannuke(&[(0, of_classes(s)?)]), value);
    let value = move |times: &[u32]| {
        mpq_hover_net(&drawn(times).into_iter().filter_map(|i| of_classes(&cases[i].score)).collect::<Vec<_>>())
    };
    let words = "mPQ+ of HoVer-Net's authors: counts of all images added up, mean over classes";
    all.push("mpq_hover_net", None, words, move |s| mpq_hover_net(&[of_classes(s)?]), value);
    for class in 0..classes.len() {
        let one = move |s: &CaseScore| s.nuclei.as_ref()?.class_panoptic.get(class).copied();
        let value = move |times: &[u32]| {
            class_pq_pannuke(&drawn(times).into_iter().filter_map(|i| one(&cases[i].score)).collect::<Vec<_>>())
        };
        let words = "PanNuke's PQ of a class: mean over the images that have such nuclei";
        all.push("pq_pannuke", Some(class), words, move |s| class_pq_pannuke(&[one(s)?]), value);
        let words = "PQ of a class with counts of all images added up";
        all.sum(("pq_hover_net", Some(class)), words, one, Panoptic::pq);
    }
}

/// The organ of each image as a number.
fn tissues(cases: &[Case]) -> Vec<usize> {
    let mut seen: Vec<&Option<String>> = Vec::new();
    let mut number = |organ| {
        seen.iter().position(|s| *s == organ).unwrap_or_else(|| {
            seen.push(organ);
            seen.len() - 1
        })
    };
    cases.iter().map(|case| number(&case.organ)).collect()
}

fn pixels<'a>(all: &mut List<'a>, classes: &'a Classes) {
    fn of(get: fn(&PixelCounts) -> Option<f64>) -> impl Fn(&CaseScore) -> Option<f64> + Sync + Copy {
        move |s| get(&s.foreground?)
    }
    all.mean("dice", "Dice of foreground, mean over images", of(PixelCounts::dice));
    all.mean("jaccard", "intersection over union of foreground, mean over images", of(PixelCounts::jaccard));
    all.mean("precision", "precision of foreground, mean over images", of(PixelCounts::precision));
    all.mean("recall", "recall (sensitivity) of foreground, mean over images", of(PixelCounts::recall));
    all.mean("specificity", "specificity of foreground, mean over images", of(PixelCounts::specificity));
    all.mean("pixel_accuracy", "share of pixels said rightly, mean over images", of(PixelCounts::accuracy));
    all.sum(
        ("dice_all_images", None),
        "Dice of all images' pixels together",
        |s: &CaseScore| s.foreground,
        |c: &PixelCounts| c.dice(),
    );
    fn map(get: fn(&MapScore) -> Option<f64>) -> impl Fn(&CaseScore) -> Option<f64> + Sync + Copy {
        move |s| get(&s.map?)
    }
    all.mean("pixel_auc", "area under the ROC curve of pixels, mean over images", map(|m| m.auc));
    all.mean("s_measure", "S-measure of the probability map, mean over images", map(|m| Some(m.s)));
    all.mean("e_measure_mean", "E-measure, mean over thresholds and images", map(|m| Some(m.e.mean)));
    all.mean("e_measure_max", "E-measure at each image's best threshold, mean over images", map(|m| Some(m.e.max)));
    all.mean("weighted_f", "weighted F-measure, mean over images", map(|m| Some(m.weighted_f)));
    all.mean("mae", "mean absolute error of the probability map (less is better)", map(|m| Some(m.mae)));
    let measures: [Ratio; 4] = [
        ("pixel_dice", "Dice of a class, pixels of all images together", PixelCounts::dice),
        ("pixel_jaccard", "intersection over union of a class, pixels of all images together", PixelCounts::jaccard),
        ("pixel_precision", "precision of a class, pixels of all images together", PixelCounts::precision),
        ("pixel_recall", "recall of a class, pixels of all images together", PixelCounts::recall),
    ];
    for class in 0..classes.len() {
        // Background is the first.
        let get = move |s: &CaseScore| s.pixels.as_ref().map(|c| c.class(class + 1));
        for (name, words, of) in measures {
            all.sum((name, Some(class)), words, get, of);
        }
    }
    let over: Vec<usize> = (0..classes.len()).collect();
    let cases = all.cases;
    let words = "mean of pixel_jaccard over classes";
    let value = move |times: &[u32]| {
        let get = |class: usize| move |s: &CaseScore| s.pixels.as_ref().map(|c| c.class(class + 1));
        mean(over.iter().filter_map(|&class| summed(cases, times, get(class)).jaccard()))
    };
    let of_image = |s: &CaseScore| s.pixels.as_ref()?.macro_mean(PixelCounts::jaccard);
    all.push("pixel_mean_jaccard", None, words, of_image, value);
}

fn labels<'a>(all: &mut List<'a>, classes: &'a Classes) {
    let (cases, n) = (all.cases, classes.len());
    let said = |probs: &[f64]| (0..probs.len()).reduce(|a, b| if probs[b] > probs[a] { b } else { a });
    let confusion = move |times: &[u32]| {
        let mut confusion = Confusion::new(n);
        for (case, &times) in cases.iter().zip(times) {
            if let Some((class, probs)) = &case.score.label
                && let Some(said) = said(probs)
            {
                confusion.add(*class, said, u64::from(times));
            }
        }
        confusion
    };
    let is_right = move |s: &CaseScore| {
        let (class, probs) = s.label.as_ref()?;
        Some(f64::from(u8::from(said(probs) == Some(*class))))
    };
    let words = "share of images of which the class was said rightly";
    all.push("accuracy", None, words, is_right, move |times| confusion(times).accuracy());
    let macros: [Ratio; 3] = [
        ("macro_precision", "mean over classes of precision", PixelCounts::precision),
        ("macro_recall", "mean over classes of recall", PixelCounts::recall),
        ("macro_f1", "mean over classes of F1", PixelCounts::f1),
    ];
    for (name, words, of) in macros {
        all.push(name, None, words, is_right, move |times| confusion(times).macro_mean(of));
    }
    let auc = move |times: &[u32], class: usize| {
        let (mut scores, mut is_true) = (Vec::new(), Vec::new());
        for (case, &times) in cases.iter().zip(times) {
            if let Some((of, probs)) = &case.score.label {
                (0..times).for_each(|_| {
                    scores.push(probs[class]);
                    is_true.push(*of == class);
                });
            }
        }
        roc_auc(&scores, &is_true)
    };
    let words = "mean over classes of the area under the ROC curve, each against all others";
    all.push("macro_auc", None, words, is_right, move |times| mean((0..n).filter_map(|class| auc(times, class))));
    for class in 0..n {
        let words = "F1 of a class of images";
        all.push("label_f1", Some(class), words, is_right, move |times| confusion(times).class(class).f1());
        let words = "area under the ROC curve of a class against all others";
        all.push("label_auc", Some(class), words, is_right, move |times| auc(times, class));
    }
}
