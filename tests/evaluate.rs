//! Every metric says what its original says of the same arrays.

use serde_json::Value;
use std::time::Instant;
use wsi_run::evaluate::*;

fn golden() -> Value {
    serde_json::from_str(include_str!("../fixtures/evaluate/golden.json")).unwrap()
}

fn numbers<T: std::str::FromStr>(value: &Value) -> Vec<T> {
    value.as_array().unwrap().iter().map(|v| v.to_string().parse().ok().unwrap()).collect()
}

#[track_caller]
fn agree(found: Option<f64>, expected: &Value, what: &str) {
    let (found, expected) = (found.unwrap(), expected.as_f64().unwrap());
    assert!((found - expected).abs() < 1e-9, "{what}: {found}, expected {expected}");
}

/// Nuclei of a case of the golden file, and their classes.
fn overlaps(case: &Value) -> (Overlaps, Vec<usize>, Vec<usize>) {
    let found = Overlaps::new(&numbers(&case["true"]), &numbers(&case["pred"]));
    (found, numbers(&case["true_class"]), numbers(&case["pred_class"]))
}

#[test]
fn nuclei_are_measured_as_hover_net_measures_them() {
    for case in golden()["instances"].as_array().unwrap() {
        let (overlaps, truth, predicted) = overlaps(case);
        agree(dice(&overlaps).value(), &case["dice"], "dice");
        agree(ensemble_dice(&overlaps).value(), &case["dice2"], "dice 2");
        agree(aji(&overlaps).value(), &case["aji"], "aji");
        agree(aji_plus(&overlaps).value(), &case["aji_plus"], "aji+");
        let p = Panoptic::of(&overlaps);
        for (i, value) in [p.dq(), p.sq(), p.pq()].into_iter().enumerate() {
            agree(value, &case["pq"][i], "dq, sq, pq");
        }
        for (class, counts) in case["class_counts"].as_array().unwrap().iter().enumerate() {
            let of = Panoptic::of_class(&overlaps, |t| truth[t] == class, |p| predicted[p] == class);
            let found = [of.paired, of.only_predicted, of.only_truth];
            assert_eq!(found.to_vec(), numbers::<u64>(&counts.as_array().unwrap()[..3].to_vec().into()));
            agree(Some(of.iou_sum), &counts[3], "sum of IoU");
        }
    }
}

#[test]
fn sets_of_images_are_measured_as_pannuke_and_hover_net_measure_them() {
    let golden = golden();
    let sets = &golden["sets"];
    let tissues: Vec<usize> = numbers(&sets["tissues"]);
    let (mut all, mut classes) = (vec![], vec![]);
    for case in golden["instances"].as_array().unwrap() {
        let (overlaps, truth, predicted) = overlaps(case);
        all.push(Panoptic::of(&overlaps));
        let of = |c| Panoptic::of_class(&overlaps, |t| truth[t] == c, |p| predicted[p] == c);
        classes.push((0..3).map(of).collect::<Vec<_>>());
    }
    let with_tissue: Vec<_> = tissues.iter().copied().zip(all.iter().copied()).collect();
    let classes_with_tissue: Vec<_> = tissues.iter().copied().zip(classes.iter().cloned()).collect();
    agree(bpq_pannuke(&with_tissue), &sets["bpq_pannuke"], "bPQ of PanNuke");
    agree(mpq_pannuke(&classes_with_tissue), &sets["mpq_pannuke"], "mPQ of PanNuke");
    agree(bpq_hover_net(&all), &sets["bpq_hover_net"], "bPQ of HoVer-Net");
    // CoNIC adds 1e-6 to the number of nuclei.
    let found = mpq_hover_net(&classes).unwrap();
    assert!((found - sets["mpq_hover_net"].as_f64().unwrap()).abs() < 1e-6, "{found}");
}

#[test]
fn types_are_paired_and_scored_as_hover_net_does() {
    for case in golden()["points"].as_array().unwrap() {
        let points = |places: &Value, types: &Value| -> Vec<Point> {
            let types: Vec<u8> = numbers(types);
            let place = |v: &Value| (v[0].as_f64().unwrap(), v[1].as_f64().unwrap());
            let places = places.as_array().unwrap().iter().map(place);
            places.zip(types).map(|((x, y), class)| Point { x, y, class }).collect()
        };
        let (truth, predicted) = (points(&case["true"], &case["true_type"]), points(&case["pred"], &case["pred_type"]));
        let types = HoverNetTypes::of(&truth, &predicted, HOVER_NET_RADIUS_PX);
        let expected = &case["hover_net"];
        agree(types.detection().f1(), &expected["f1_d"], "F1_d");
        let (right, all) = types.right_pairs();
        agree(Some(right as f64 / all as f64), &expected["acc"], "accuracy of types");
        for (class, f1) in expected["f1_c"].as_object().unwrap() {
            agree(types.of_type(class.parse().unwrap()).f1_c(), f1, class);
        }
        // As many as can be: never fewer than pairs of least total distance.
        let most = detect(&truth, &predicted, HOVER_NET_RADIUS_PX);
        assert!(most.found >= types.detection().found);
    }
}

#[test]
fn maps_are_compared_with_masks_as_pysodmetrics_and_scikit_learn_do() {
    let golden = golden();
    let w = golden["w"].as_u64().unwrap() as usize;
    for case in golden["saliency"].as_array().unwrap() {
        let truth: Vec<bool> = case["mask"].as_str().unwrap().chars().map(|c| c == '1').collect();
        let levels: Vec<u8> = numbers(&case["level"]);
        let prob: Vec<f64> = levels.iter().map(|&l| (f64::from(l) + 0.5) / 255.0).collect();
        agree(Some(s_measure(&prob, &truth, w)), &case["s"], "S-measure");
        agree(Some(mean_absolute_error(&prob, &truth)), &case["mae"], "MAE");
        agree(Some(weighted_f(&prob, &truth, w)), &case["weighted_f"], "weighted F");
        let e = e_measure(&prob, &truth);
        agree(Some(e.mean), &case["e_mean"], "mean E-measure");
        agree(Some(e.max), &case["e_max"], "largest E-measure");
        agree(Some(e.adaptive), &case["e_adaptive"], "adaptive E-measure");
        let Some(pixels) = case["pixels"].as_array() else { continue };
        agree(roc_auc(&prob, &truth), &case["auc"], "AUC");
        let (mut yes, mut no) = ([0; 256], [0; 256]);
        levels
            .iter()
            .zip(&truth)
            .for_each(|(&l, &t)| if t { yes[usize::from(l)] += 1 } else { no[usize::from(l)] += 1 });
        agree(roc_auc_of_levels(&yes, &no), &case["auc"], "AUC of levels");
        let counts = PixelCounts::of(truth.iter().copied().zip(prob.iter().map(|&p| p >= 0.5)));
        let found = [counts.f1(), counts.jaccard(), counts.precision(), counts.recall(), counts.accuracy()];
        found.into_iter().zip(pixels).for_each(|(found, expected)| agree(found, expected, "pixels"));
    }
}

#[test]
fn classes_are_counted_as_scikit_learn_counts_them() {
    let golden = golden();
    let labels = &golden["labels"];
    let mut confusion = Confusion::new(4);
    let pairs = numbers::<usize>(&labels["true"]).into_iter().zip(numbers::<usize>(&labels["pred"]));
    pairs.for_each(|(truth, predicted)| confusion.add(truth, predicted, 1));
    let counts: Vec<u64> = (0..16).map(|i| confusion.get(i / 4, i % 4)).collect();
    assert_eq!(counts, numbers::<u64>(&labels["confusion"]));
    agree(confusion.accuracy(), &labels["accuracy"], "accuracy");
    let of = [PixelCounts::f1, PixelCounts::precision, PixelCounts::recall, PixelCounts::jaccard];
    of.into_iter()
        .zip(labels["macro"].as_array().unwrap())
        .for_each(|(f, e)| agree(confusion.macro_mean(f), e, "macro"));
}

#[test]
fn a_thousand_nuclei_are_compared_by_their_neighbours_alone() {
    // 1,000 × 1,000 px, a nucleus of 22 × 20 px every 31 × 32 px, predictions moved by 3 px.
    let map = |shift: usize| -> Vec<u32> {
        let at = |i: usize| {
            let (x, y) = ((i % 1000 + 1000 - shift) % 1000, i / 1000);
            let inside = x % 31 < 22 && y % 32 < 20 && x / 31 < 32 && y / 32 < 31;
            if inside { (y / 32 * 32 + x / 31) as u32 + 1 } else { 0 }
        };
        (0..1_000_000).map(at).collect()
    };
    let (truth, predicted) = (map(0), map(3));
    let start = Instant::now();
    let overlaps = Overlaps::new(&truth, &predicted);
    let pq = Panoptic::of(&overlaps).pq().unwrap();
    let (aji, plus) = (aji(&overlaps).value().unwrap(), aji_plus(&overlaps).value().unwrap());
    println!("{} nuclei: {:?}", overlaps.truth_px.len(), start.elapsed());
    assert_eq!((overlaps.truth_px.len(), overlaps.pairs.len()), (992, 992));
    assert!((pq - 19.0 / 25.0).abs() < 1e-3 && (aji - plus).abs() < 1e-12 && (aji - 19.0 / 25.0).abs() < 1e-3);
}
