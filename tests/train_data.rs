//! Data sets, splits and augmentation as a training uses them.

use crate::test_data::test_data;
use std::{
    fs,
    path::{Path, PathBuf},
};
use wsi_run::{
    config::settings::{self, data::*},
    train::{
        TrainError,
        class_tree::{BACKGROUND, UNKNOWN},
        data::{DataSets, build},
        sample::{Sample, Samples},
    },
    units::Mpp,
};

fn fixtures(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(below)
}

fn set(name: &str, path: &Path, layout: Layout) -> DataSet {
    DataSet {
        name: name.into(),
        path: path.into(),
        layout: Some(layout),
        images: None,
        annotations: None,
        outlines: Outlines::Regions,
        mpp: MppRule::Known,
        labels: vec![],
        class: None,
        unlabelled: Unlabelled::Background,
        patient: PatientRule::Known,
        lists: None,
        scale: None,
        stain_transfer_prob: None,
        clashes: vec![],
        organ: None,
        ratio: 1.0,
    }
}

fn labelled(set: DataSet, labels: &[(&str, &str)]) -> DataSet {
    let labels = labels.iter().map(|&(label, class)| (label.to_owned(), class.to_owned())).collect();
    DataSet { labels, ..set }
}

fn data(sets: Vec<DataSet>, patch_px: u32) -> Data {
    let class = |name: &str, parent: Option<&str>| Class {
        name: name.into(),
        color: [0; 3],
        parent: parent.map(str::to_owned),
    };
    Data {
        classes: vec![
            class("nucleus", None),
            class("lymphocyte", Some("nucleus")),
            class("epithelial", Some("nucleus")),
            class("stromal", Some("nucleus")),
        ],
        sets,
        split: Split { method: SplitMethod::Share(0.0), shared_patients: SharedPatients::Refuse, seed: 1 },
        mix: Mix::Ratios,
        patch_px,
        beyond: Beyond::Mirror,
        sampling: Sampling { samples_per_epoch: None, balance: 0.0, min_tissue: 0.3 },
        stain: settings::Stain::None,
        augment: Augment::default(),
        cache_bytes: 1 << 28,
    }
}

fn at(data: &Data, mpp: f64) -> Result<DataSets, TrainError> {
    build(data, Mpp::new(mpp).unwrap(), &[])
}

fn write_png(path: &Path, (w, h): (u32, u32), color: png::ColorType, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), w, h);
    encoder.set_color(color);
    encoder.write_header().unwrap().write_image_data(bytes).unwrap();
}

/// A picture whose px tell where they are, so that no two pictures are alike.
fn picture(path: &Path, (w, h): (u32, u32), seed: u32) {
    let px = (0..w * h).flat_map(|i| [(i % w * 3) as u8, (i / w * 3) as u8, (i.wrapping_mul(seed) >> 3) as u8]);
    write_png(path, (w, h), png::ColorType::Rgb, &px.collect::<Vec<_>>());
}

#[test]
fn nuclei_are_read_from_every_format_of_label_files() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["compressed.mat", "plain.mat", "two_planes.npy", "stored.npz", "fortran.npy", "packed.npz"] {
        let root = dir.path().join(name);
        picture(&root.join("images/a.png"), (8, 6), 5);
        fs::create_dir_all(root.join("labels")).unwrap();
        let file = fixtures("data_sets").join(name);
        fs::copy(&file, root.join("labels").join(format!("a.{}", file.extension().unwrap().to_str().unwrap())))
            .unwrap();
        let mut one = labelled(set("s", &root, Layout::Instances), &[("3", "stromal"), ("1", "lymphocyte")]);
        one.class = Some("nucleus".to_owned());
        let sample = at(&data(vec![one], 16), 0.5).unwrap();
        let sample = sample.train.sample(0, 0, 0).unwrap();
        let nodes = &sample.truth.instance_nodes;
        let has_types = !matches!(name, "fortran.npy" | "packed.npz");
        let expected_nodes = if has_types { [3, 1] } else { [0, 0] };
        assert!(expected_nodes.iter().all(|n| nodes.contains(n)), "{name}: {nodes:?}");
    }
    let root = dir.path().join("objects");
    picture(&root.join("images/a.png"), (8, 6), 5);
    fs::create_dir_all(root.join("labels")).unwrap();
    fs::copy(fixtures("data_sets/objects.npy"), root.join("labels/a.npy")).unwrap();
    let one = set("s", &root, Layout::Instances);
    let error = at(&data(vec![one], 16), 0.5).unwrap().train.sample(0, 0, 0).unwrap_err();
    assert!(error.message.contains("pickle") && error.message.ends_with("a.npy"), "{error}");
}

#[test]
fn pannuke_is_read_row_by_row() {
    let labels = [
        ("neoplastic", "epithelial"),
        ("inflammatory", "lymphocyte"),
        ("connective", "stromal"),
        ("dead", "unknown"),
        ("epithelial", "epithelial"),
    ];
    let one = labelled(set("p", &fixtures("data_sets/pannuke"), Layout::Pannuke), &labels);
    let mut all = data(vec![one], 8);
    all.split.method = SplitMethod::Share(0.99);
    let sets = at(&all, 0.25).unwrap();
    let pictures = &sets.validation_pictures[0].1;
    assert_eq!((sets.train.len(), pictures.len()), (1, 2));
    let of = |set: &dyn Samples, k: usize| set.sample(k, 0, 0).unwrap().truth;
    let truths = [of(&*sets.train, 0), of(&**pictures, 0), of(&**pictures, 1)];
    let some: Vec<_> = truths.iter().filter(|t| !t.instance_nodes.is_empty()).collect();
    assert_eq!(some.len(), 1);
    assert_eq!(some[0].instance_nodes, [1, 2, 2]);
}

fn dots(root: &Path, count: usize) -> DataSet {
    for k in 0..count {
        let name = format!("TCGA-AA-{:04}-x_{k}_0.98", k / 2);
        picture(&root.join(format!("images/{name}.png")), (64, 48), 7 + k as u32);
        fs::create_dir_all(root.join("labels")).unwrap();
        fs::write(root.join(format!("labels/{name}_gt_class_coords.txt")), "10 20 1\n40 50 3\n\n5 5 2\n").unwrap();
    }
    labelled(set("dots", root, Layout::BrcaM2c), &[("1", "lymphocyte"), ("2", "epithelial"), ("3", "stromal")])
}

#[test]
fn dots_are_rows_and_columns_and_names_may_hold_dots() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = data(vec![dots(dir.path(), 1)], 64);
    all.split.method = SplitMethod::Share(0.0);
    let sets = at(&all, 0.5).unwrap();
    let truth = sets.train.sample(0, 0, 0).unwrap().truth;
    let found: Vec<_> = truth.dots.unwrap().iter().map(|d| (d.x, d.y - 8.0, d.node)).collect();
    // The picture is 48 px high and the square 64: it hangs over by 8 px on both sides, of which nothing is known.
    assert_eq!(found, [(20.5, 10.5, 1), (50.5, 40.5, 3), (5.5, 5.5, 2)]);
    let open = truth.semantic.unwrap().iter().filter(|&&n| n == UNKNOWN).count();
    assert_eq!(open, 16 * 64);
}

#[test]
fn a_patient_on_both_sides_is_named_and_may_be_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = dots(dir.path(), 6);
    let line = |k: usize| format!("TCGA-AA-{:04}-x_{k}_0.98.png\n", k / 2);
    fs::write(dir.path().join("train.txt"), [0, 1, 2].map(line).concat()).unwrap();
    fs::write(dir.path().join("val.txt"), [3, 4, 5].map(line).concat()).unwrap();
    one.lists = Some(Lists {
        train: vec!["train.txt".into()],
        validation: vec!["val.txt".into()],
        validation_patients: vec![],
    });
    let mut all = data(vec![one], 64);
    let error = at(&all, 0.5).err().unwrap();
    assert!(error.message.contains("the split leaks: patient `TCGA-AA-0001`"), "{error}");
    assert!(error.hint.unwrap().contains("shared_patients"));
    for (rule, train, validation) in
        [(SharedPatients::Drop, 2, 3), (SharedPatients::Validation, 2, 4), (SharedPatients::Train, 4, 2)]
    {
        all.split.shared_patients = rule;
        let sets = at(&all, 0.5).unwrap();
        assert_eq!((sets.train.len(), sets.validation.len()), (train, validation), "{rule:?}");
    }
    all.sets[0].lists.as_mut().unwrap().validation = vec!["no.txt".into()];
    assert!(at(&all, 0.5).err().unwrap().message.contains("no.txt"));
    fs::write(dir.path().join("val.txt"), "nobody.png\n").unwrap();
    all.sets[0].lists.as_mut().unwrap().validation = vec!["val.txt".into()];
    assert!(at(&all, 0.5).err().unwrap().message.contains("`nobody.png`"));
}

#[test]
fn the_same_picture_under_two_names_is_a_leak() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = dots(dir.path(), 4);
    let image = |k: usize| dir.path().join(format!("images/TCGA-AA-{:04}-x_{k}_0.98.png", k / 2));
    fs::copy(image(0), image(3)).unwrap();
    one.lists = Some(Lists { train: vec![], validation: vec![], validation_patients: vec!["TCGA-AA-0001".into()] });
    let error = at(&data(vec![one], 64), 0.5).err().unwrap();
    assert!(
        error.message.contains("the same picture is on both sides") && error.message.contains("_3_0.98"),
        "{error}"
    );
}

#[test]
fn folds_part_patients_and_each_is_kept_back_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = data(vec![dots(dir.path(), 10)], 64);
    let mut seen = vec![];
    for fold in 1..=5 {
        all.split.method = SplitMethod::Fold { folds: 5, fold };
        let sets = at(&all, 0.5).unwrap();
        let kept = &sets.validation_pictures[0].1;
        assert_eq!((sets.train.len(), kept.len()), (8, 2));
        let names: Vec<String> = (0..2).map(|k| kept.name(k)).collect();
        // Both pictures of one patient.
        assert_eq!(names[0].split("-x_").next(), names[1].split("-x_").next());
        seen.extend(names);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 10);
}

fn everything() -> Augment {
    let strength = |most| Strength { prob: 0.7, most };
    Augment {
        flip_prob: 0.5,
        turns: true,
        affine_prob: 0.8,
        rotate_deg: 45.0,
        scale: 0.2,
        shear_deg: 8.0,
        elastic: Elastic { prob: 0.7, alpha_px: 40.0, sigma_px: 6.0 },
        color: ColorJitter { prob: 0.7, brightness: 0.1, contrast: 0.2, saturation: 0.2, hue_deg: 9.0, channels: 0.1 },
        stain_jitter: StainJitter { prob: 0.7, space: StainSpace::He, gain: 0.1, shift_od: 0.02 },
        stain_transfer: StainTransfer {
            prob: 0.7,
            method: TransferMethod::Od,
            least_share: 0.5,
            references: vec![],
            from_set: None,
        },
        blur: strength(1.0),
        noise: strength(0.03),
        clahe: strength(2.0),
        gamma: strength(0.2),
        sharpen: strength(0.2),
        grey_prob: 0.1,
    }
}

#[test]
fn a_sample_depends_on_seed_epoch_and_index_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = data(vec![dots(dir.path(), 6)], 32);
    all.augment = everything();
    all.sampling.balance = 0.5;
    all.sampling.samples_per_epoch = Some(40);
    let (a, b) = (at(&all, 0.5).unwrap(), at(&all, 0.5).unwrap());
    assert_eq!(a.train.len(), 40);
    // In another order, on many threads, with another cache.
    let forward: Vec<Sample> = (0..40).map(|k| a.train.sample(k, 2, 9).unwrap()).collect();
    let mut backward: Vec<Sample> = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..4)
            .map(|t| {
                let train = &b.train;
                scope.spawn(move || (0..10).rev().map(|k| train.sample(t * 10 + k, 2, 9).unwrap()).collect::<Vec<_>>())
            })
            .collect();
        parts.into_iter().flat_map(|p| p.join().unwrap().into_iter().rev().collect::<Vec<_>>()).collect()
    });
    assert!(forward == backward);
    backward.dedup();
    assert_eq!(backward.len(), 40);
    let other = |epoch, seed| a.train.sample(0, epoch, seed).unwrap() != forward[0];
    assert!(other(3, 9) && other(2, 10));
}

#[test]
fn every_epoch_covers_the_pictures_in_another_order() {
    let dir = tempfile::tempdir().unwrap();
    let all = data(vec![dots(dir.path(), 8)], 64);
    let sets = at(&all, 0.5).unwrap();
    let order = |epoch| (0..8).map(|k| sets.train.origin(k, epoch, 4)).collect::<Vec<_>>();
    let (mut first, second) = (order(0), order(1));
    assert_ne!(first, second);
    first.sort();
    first.dedup();
    assert_eq!(first.len(), 8);
}

#[test]
fn balanced_sampling_shows_rare_classes_as_often() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = dots(dir.path(), 2);
    // 60 lymphocytes in a row, one stromal cell far away.
    let many: String = (0..60).map(|k| format!("3 {k} 1\n")).collect();
    for k in 0..2 {
        let path = dir.path().join(format!("labels/TCGA-AA-0000-x_{k}_0.98_gt_class_coords.txt"));
        fs::write(path, format!("{many}45 60 3\n")).unwrap();
    }
    one.patient = PatientRule::File;
    let mut all = data(vec![one], 16);
    all.sampling = Sampling { samples_per_epoch: Some(400), balance: 1.0, min_tissue: 0.0 };
    let sets = at(&all, 0.5).unwrap();
    let with = |node: u8| {
        let has = |k: usize| sets.train.sample(k, 0, 1).unwrap().truth.dots.unwrap().iter().any(|d| d.node == node);
        (0..400).filter(|&k| has(k)).count()
    };
    let rare = with(3);
    assert!((150..250).contains(&rare), "{rare}");
}

#[test]
fn sets_are_mixed_in_every_stretch_or_come_in_turn() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut first, mut second) = (dots(one.path(), 4), dots(two.path(), 4));
    (first.name, first.ratio, second.name) = ("one".into(), 3.0, "two".into());
    (first.patient, second.patient) = (PatientRule::File, PatientRule::File);
    for k in 0..4 {
        // Other pictures than the first set's.
        picture(&two.path().join(format!("images/TCGA-AA-{:04}-x_{k}_0.98.png", k / 2)), (64, 48), 91 + k);
    }
    let mut all = data(vec![first, second], 64);
    all.sampling.samples_per_epoch = Some(12);
    let sets = at(&all, 0.5).unwrap();
    let is_first = |k: usize, epoch: u64| sets.train.origin(k, epoch, 1).starts_with(one.path().to_str().unwrap());
    for four in 0..3 {
        assert_eq!((0..4).filter(|k| is_first(4 * four + k, 0)).count(), 3);
    }
    all.mix = Mix::InTurn;
    let sets = at(&all, 0.5).unwrap();
    let is_first = |epoch: u64| sets.train.origin(0, epoch, 1).starts_with(one.path().to_str().unwrap());
    assert_eq!([0, 1, 2, 3, 4].map(is_first), [true, true, true, false, false]);
}

#[test]
fn folders_and_masks_have_their_classes() {
    let dir = tempfile::tempdir().unwrap();
    let breakhis = dir.path().join("breakhis/benign/SOB/adenosis/SOB_B_A_14-22549AB/40X");
    picture(&breakhis.join("SOB_B_A-14-22549AB-40-001.png"), (32, 32), 3);
    let mut one = labelled(
        set("b", &dir.path().join("breakhis"), Layout::Breakhis),
        &[("adenosis", "stromal"), ("benign", "nucleus")],
    );
    one.mpp = MppRule::Is(Mpp::new(0.49).unwrap());
    let sample = at(&data(vec![one], 32), 0.49).unwrap().train.sample(0, 0, 0).unwrap();
    assert_eq!(sample.truth.label, Some(3));
    let bcss = dir.path().join("bcss");
    picture(&bcss.join("images/TCGA-A1-A0SK-DX1_MPP-0.2500.png"), (8, 8), 3);
    let px: Vec<u8> = (0..64).map(|i| [0, 1, 2, 9][i / 16]).collect();
    write_png(&bcss.join("masks/TCGA-A1-A0SK-DX1_MPP-0.2500.png"), (8, 8), png::ColorType::Grayscale, &px);
    let mut one =
        labelled(set("m", &bcss, Layout::Bcss), &[("0", "unknown"), ("1", "epithelial"), ("2", "background")]);
    one.mpp = MppRule::Name("MPP-([0-9.]+)\\.png".to_owned());
    let mut all = data(vec![one], 4);
    let error = at(&all, 0.5).unwrap().train.sample(0, 0, 0).unwrap_err();
    assert!(
        error.message.contains("label `9`") && error.hint.unwrap().contains("data.sets.m.labels"),
        "{}",
        error.message
    );
    all.sets[0].labels.push(("9".to_owned(), "stromal".to_owned()));
    let sample = at(&all, 0.5).unwrap().train.sample(0, 0, 0).unwrap();
    let rows: Vec<u8> = sample.truth.semantic.unwrap().iter().step_by(4).copied().collect();
    assert_eq!((rows, sample.mpp), (vec![UNKNOWN, 2, BACKGROUND, 3], Some(0.5)));
}

#[test]
fn what_is_missing_or_unfit_is_named_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let fails = |set: DataSet| at(&data(vec![set], 16), 0.5).err().unwrap();
    let error = fails(set("s", &dir.path().join("none"), Layout::Instances));
    assert!(error.message.contains("no such folder"), "{error}");
    let error = fails(set("s", dir.path(), Layout::Instances));
    assert!(error.message.contains("no file matches `images/*`") && error.hint.is_some(), "{error}");
    picture(&dir.path().join("images/a.png"), (8, 8), 3);
    let error = fails(set("s", dir.path(), Layout::Instances));
    assert!(error.message.contains("`1` of `1` pictures have no annotation"), "{error}");
    let error = fails(labelled(set("s", dir.path(), Layout::Instances), &[("1", "nukleus")]));
    assert!(error.message.contains("found `nukleus`"), "{error}");
    write_png(&dir.path().join("labels/a.png"), (8, 7), png::ColorType::Grayscale, &[1; 56]);
    let mut one = set("s", dir.path(), Layout::Instances);
    one.class = Some("nucleus".to_owned());
    let sets = at(&data(vec![one.clone()], 16), 0.5).unwrap();
    let error = sets.train.sample(0, 0, 0).unwrap_err();
    assert!(error.message.contains("[8, 7] px, expected those of its picture, [8, 8]"), "{error}");
    one.patient = PatientRule::Pattern("(".to_owned());
    assert!(fails(one.clone()).message.contains("regular expression"));
    one.organ = Some("breast".to_owned());
    one.patient = PatientRule::Known;
    assert!(fails(one).message.contains("does not know"));
}

#[test]
fn slides_with_outlines_give_the_pixels_that_inference_sees() {
    let Some(slide) = test_data("wsi/CMU-1-Small-Region.svs") else { return };
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(&slide, dir.path().join("a.svs")).unwrap();
    let outline = r#"{"type":"FeatureCollection","features":[{"type":"Feature","properties":{"classification":{"name":"Tumor"}},
        "geometry":{"type":"Polygon","coordinates":[[[400,400],[1600,400],[1600,1600],[400,1600]],[[800,800],[1200,800],[1200,1200],[800,1200]]]}}]}"#;
    fs::write(dir.path().join("a.geojson"), outline).unwrap();
    let mut one = labelled(set("s", dir.path(), Layout::SlidesOutlines), &[("Tumor", "epithelial")]);
    one.unlabelled = Unlabelled::Unknown;
    one.mpp = MppRule::Is(Mpp::new(0.5).unwrap());
    let all = data(vec![one], 256);
    let sets = at(&all, 1.0).unwrap();
    assert!(sets.train.len() >= 4, "{:?}", sets.summary);
    let mut seen = [0; 2];
    for k in 0..sets.train.len() {
        let sample = sets.train.sample(k, 0, 1).unwrap();
        let semantic = sample.truth.semantic.unwrap();
        seen[0] += semantic.iter().filter(|&&n| n == 2).count();
        seen[1] += semantic.iter().filter(|&&n| n == UNKNOWN).count();
        assert!(sample.image.data.iter().any(|&v| v < 200));
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

#[test]
fn the_published_split_of_brca_m2c_leaks_and_says_which_patient() {
    let Some(root) = test_data("nuclei/brca_m2c") else { return };
    let mut one =
        labelled(set("brca", &root, Layout::BrcaM2c), &[("1", "lymphocyte"), ("2", "epithelial"), ("3", "stromal")]);
    let lists = |name: &str| vec![PathBuf::from(name)];
    one.lists = Some(Lists {
        train: lists("brca_ds_train.txt"),
        validation: lists("brca_ds_val.txt"),
        validation_patients: vec![],
    });
    let mut all = data(vec![one], 256);
    let error = at(&all, 0.5).err().unwrap();
    assert!(error.message.contains("TCGA-A7-A0DB") && error.message.contains("`1` more"), "{error}");
    all.split.shared_patients = SharedPatients::Drop;
    let sets = at(&all, 0.5).unwrap();
    assert_eq!(sets.validation_pictures[0].1.len(), 10);
    assert!(sets.summary[0].contains("78 pictures") && sets.summary[0].contains("2 left out"), "{:?}", sets.summary);
    let dots: usize =
        (0..10).map(|k| sets.validation_pictures[0].1.sample(k, 0, 0).unwrap().truth.dots.unwrap().len()).sum();
    assert!(dots > 1000, "{dots}");
}
