use super::*;
use crate::model::zoo::zoo;
use safetensors::{Dtype, tensor::TensorView};
use std::path::PathBuf;

/// The smallest network there is: 1.4 million values.
const MODEL: &str = "stardist_unet";
const CLASSES: &str = "a=#010203,b=#040506";

fn conversion(classes: &str) -> Conversion<'static> {
    Conversion {
        model: MODEL,
        classes: if classes.is_empty() { vec![] } else { parse_classes(classes).unwrap() },
        input_mpp: Mpp::new(0.5),
        normalisation: None,
        licence: "CC BY 4.0",
        training_data: "none",
        encoder_only: false,
        selection: Selection::default(),
    }
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// First values of a network with this many outputs.
fn random(graph: &Graph) -> Weights {
    let metadata = WeightsMetadata {
        model: graph.name().to_owned(),
        classes: parse_classes(CLASSES).unwrap(),
        input_mpp: Mpp::new(0.5).unwrap(),
        normalisation: Normalisation::UNIT,
        licence: "CC BY 4.0".to_owned(),
        training_data: "none".to_owned(),
        prob_threshold: None,
        about: None,
    };
    Weights::random(graph, metadata, 3)
}

fn tensors(graph: &Graph, weights: &Weights) -> Tensors {
    let get = |p: Parameter| weights.get(&p.name).map(|t| (p.name, (t.shape.clone(), t.values.clone())));
    graph.parameters().into_iter().filter_map(get).collect()
}

/// A directory, and in it a safetensors file as others write it.
fn foreign(tensors: &Tensors) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs.safetensors");
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> =
        tensors.iter().map(|(n, (s, v))| (n, s, v.iter().flat_map(|v| v.to_le_bytes()).collect())).collect();
    let view = |(name, shape, data)| (name, TensorView::new(Dtype::F32, Vec::clone(shape), data).unwrap());
    safetensors::serialize_to_file(bytes.iter().map(|(n, s, d)| view((n, s, d))), None, &path).unwrap();
    (dir, path)
}

fn network() -> Graph {
    (form(MODEL).unwrap().build)(Some(3))
}

/// What converting says after `change` was done to a good checkpoint.
fn after(change: impl FnOnce(&mut Tensors)) -> WeightsError {
    let graph = network();
    let mut all = tensors(&graph, &random(&graph));
    change(&mut all);
    let (_dir, path) = foreign(&all);
    convert(&path, &conversion(CLASSES)).unwrap_err()
}

#[test]
fn a_checkpoint_becomes_weights_that_are_read_with_its_network() {
    let (graph, dir) = (network(), tempfile::tempdir().unwrap());
    let weights = random(&graph);
    let theirs = tensors(&graph, &weights).into_iter().map(|(n, t)| (format!("module.{n}"), t)).collect();
    let (_kept, path) = foreign(&theirs);
    let converted = convert(&path, &conversion(CLASSES)).unwrap();
    assert_eq!(converted.weights, weights);
    assert_eq!((converted.parameters, converted.renamed), (graph.parameter_count(), 0));
    let ours = dir.path().join("ours.safetensors");
    converted.weights.write(&ours).unwrap();
    let (read_graph, read) = Weights::open(&ours).unwrap();
    assert_eq!((read_graph, read), (graph, weights));
}

#[test]
fn the_same_weights_are_the_same_bytes_and_nothing_else_is_left_behind() {
    let (graph, dir) = (network(), tempfile::tempdir().unwrap());
    let paths = ["a", "b"].map(|n| dir.path().join(n));
    paths.iter().for_each(|p| random(&graph).write(p).unwrap());
    assert!(std::fs::read(&paths[0]).unwrap() == std::fs::read(&paths[1]).unwrap());
    let missing = dir.path().join("no/such/directory");
    assert!(random(&graph).write(&missing).unwrap_err().to_string().contains("cannot be written"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn nuclei_without_types_have_one_class_and_no_head_for_types() {
    let (graph, dir) = ((form(MODEL).unwrap().build)(None), tempfile::tempdir().unwrap());
    let (_kept, path) = foreign(&tensors(&graph, &random(&graph)));
    let ours = dir.path().join("ours.safetensors");
    convert(&path, &conversion("kumar")).unwrap().weights.write(&ours).unwrap();
    assert_eq!(Weights::open(&ours).unwrap().0, graph);
    let error = convert(&path, &conversion(CLASSES)).unwrap_err().to_string();
    assert!(error.contains("4 missing: `features_class.weight` [128, 32, 3, 3]"), "{error}");
}

#[test]
fn a_head_for_other_classes_is_an_error_unless_the_encoder_is_all_that_is_wanted() {
    let (graph, dir) = (network(), tempfile::tempdir().unwrap());
    let weights = random(&graph);
    let (_kept, path) = foreign(&tensors(&graph, &weights));
    let error = convert(&path, &conversion("pannuke")).unwrap_err();
    let expected = "`prob_class.weight` has `3` outputs, expected `6`, the background and 5 of `--classes`";
    assert!(error.to_string().contains(expected) && error.hint.unwrap().contains("--encoder-only"), "{error}");

    let converted = convert(&path, &Conversion { encoder_only: true, ..conversion("") }).unwrap();
    assert!(converted.left_out.iter().any(|n| n == "prob_class.weight"));
    let ours = dir.path().join("encoder.safetensors");
    converted.weights.write(&ours).unwrap();
    let error = Weights::open(&ours).unwrap_err().to_string();
    assert!(error.contains("holds the encoder of `stardist_unet` alone"), "{error}");

    // Started from the encoder, everything else is as before any training.
    let wider = (form(MODEL).unwrap().build)(Some(6));
    let started = Weights::read_encoder(&ours, &wider, class_set("pannuke").unwrap(), 9).unwrap();
    let fresh = Weights::random(&wider, started.metadata.clone(), 9);
    assert_eq!(started.metadata.classes.len(), 5);
    for p in wider.parameters().into_iter().filter(|p| p.kind != ParameterKind::Counter) {
        let from = if is_encoders(MODEL, &p.name) { &weights } else { &fresh };
        assert_eq!(started.get(&p.name), from.get(&p.name), "{}", p.name);
    }
    // A whole file serves as well, and one of another network does not.
    let whole = dir.path().join("whole.safetensors");
    weights.write(&whole).unwrap();
    let again = Weights::read_encoder(&whole, &wider, class_set("pannuke").unwrap(), 9).unwrap();
    assert!(wider.parameters().iter().all(|p| again.get(&p.name) == started.get(&p.name)));
    let other = (form("u_net").unwrap().build)(Some(1));
    let error = Weights::read_encoder(&ours, &other, vec![], 9).unwrap_err().to_string();
    assert!(error.contains("`stardist_unet`, expected `u_net`"), "{error}");
}

#[test]
fn an_encoder_with_a_tensor_too_many_or_too_few_is_refused() {
    let graph = network();
    let mut all = tensors(&graph, &random(&graph));
    all.remove("middle_2.bias");
    all.insert("middle_4.bias".to_owned(), (vec![1], vec![0.0]));
    all.insert("elsewhere.bias".to_owned(), (vec![1], vec![0.0]));
    let (_dir, path) = foreign(&all);
    let error = convert(&path, &Conversion { encoder_only: true, ..conversion("") }).unwrap_err().to_string();
    assert!(error.contains("1 missing: `middle_2.bias` [128]; 1 left over: `middle_4.bias` [1]: "), "{error}");
}

#[test]
fn what_does_not_fit_is_named() {
    let error = after(|t| {
        t.remove("grid_0.bias");
        t.insert("aux.weight".to_owned(), (vec![2], vec![0.0; 2]));
        t.get_mut("dist.bias").unwrap().0 = vec![4, 8];
    });
    let expected = "tensors are not those of `stardist_unet`; 1 missing: `grid_0.bias` [32]; 1 left over: `aux.weight` \
                    [2]; 1 of another shape: `dist.bias` is `[4, 8]`, expected `[32]`: ";
    assert!(error.to_string().contains(expected) && error.to_string().ends_with("theirs.safetensors"), "{error}");
    let error = after(|t| t.get_mut("dist.bias").unwrap().1[5] = f32::NAN);
    assert!(error.to_string().contains("`dist.bias` holds `NaN` at position 5"), "{error}");
    let error = after(|t| *t = BTreeMap::from([("conv1.weight".to_owned(), (vec![1], vec![0.0]))]));
    assert!(error.to_string().contains("missing") && error.hint.unwrap().contains("another network"), "{error}");
}

#[test]
fn what_the_user_must_say_is_asked_for() {
    let path = Path::new("/nowhere/net.pth");
    let asked = |c: &Conversion<'_>| convert(path, c).unwrap_err();
    let error = asked(&Conversion { model: "nonsense", ..conversion(CLASSES) });
    assert!(error.to_string().contains("no network is named `nonsense`"), "{error}");
    let error = asked(&Conversion { input_mpp: None, ..conversion(CLASSES) });
    assert!(error.to_string().contains("no resolution of its own") && error.hint.unwrap().contains("--mpp"), "{error}");
    let error = asked(&conversion(""));
    assert!(error.to_string().contains("no classes are given") && error.hint.unwrap().contains("--classes"), "{error}");
}

#[test]
fn two_names_for_one_tensor_are_an_error() {
    let path = |n: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/weights").join(n);
    let old_and_new = Conversion { model: "crescent_dense_net", ..conversion(CLASSES) };
    let names = ["features.denseblock1.denselayer1.norm.1.bias", "features.denseblock1.denselayer1.norm1.bias"];
    let (_dir, both) = foreign(&names.map(|n| (n.to_owned(), (vec![1], vec![0.0]))).into());
    let error = convert(&both, &old_and_new).unwrap_err().to_string();
    assert!(error.contains(&format!("`{}` and `{}` are both `{}`", names[0], names[1], names[1])), "{error}");
    let error = convert(&path("hostile_system.pth"), &old_and_new).unwrap_err().to_string();
    assert!(error.contains("`posix.system` to be called") && error.ends_with("hostile_system.pth"), "{error}");
    let error = convert(&path("plain.zip.pth"), &old_and_new).unwrap_err().to_string();
    assert!(error.contains("604 missing") || error.contains("606 missing"), "{error}");
}

#[test]
fn what_stands_where_a_tensor_is_wanted_and_is_none_is_told() {
    // The format before PyTorch 1.6: {'grid_0.bias': None, 'x': a tensor of one number}.
    let mut file =
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.\x80\x02}(U\x0bgrid_0.biasN".to_vec();
    file.extend(
        b"U\x01xctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x01tQK\x00",
    );
    file.extend(b"K\x01\x85K\x01\x85\x89}tRu.\x80\x02]U\x010a.\x01\0\0\0\0\0\0\0\0\0\x80\x3f");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pth");
    std::fs::write(&path, file).unwrap();
    let error = convert(&path, &conversion(CLASSES)).unwrap_err().to_string();
    assert!(error.contains("`grid_0.bias` is no tensor that can be read: it is `None`"), "{error}");
}

#[test]
fn every_network_has_a_form_whose_rules_leave_its_own_names_alone() {
    for entry in zoo() {
        let form = form(entry.name).unwrap_or_else(|| panic!("{} has no form", entry.name));
        let classes = if form.outputs == Outputs::One { 1 } else { 2 };
        let graph = (form.build)(form.outputs.of(classes));
        assert_eq!(graph.name(), entry.name);
        let parameters = graph.parameters();
        let head = parameters.iter().find(|p| p.name == form.head).unwrap_or_else(|| panic!("{}", form.head));
        assert_eq!(Some(head.shape[0]), form.outputs.of(classes), "{}", entry.name);
        assert!(!form.encoder.iter().any(|e| form.head.starts_with(e)), "{}", entry.name);
        assert!(form.encoder.iter().all(|e| parameters.iter().any(|p| p.name.starts_with(e))), "{}", entry.name);
        for p in &parameters {
            assert_eq!(name_here(&p.name, false, &form).as_ref(), Some(&p.name));
            if is_encoders(entry.name, &p.name) {
                assert_eq!(name_here(&p.name, true, &form).as_ref(), Some(&p.name));
            }
        }
    }
}

#[test]
fn files_with_global_response_norms_are_of_the_second_convnext() {
    let form = form("histonext_tiny").unwrap();
    let second = form.graph(Some(6), ["encoder.stages.0.blocks.0.mlp.grn.weight"].into_iter());
    assert!(second.parameters().iter().any(|p| p.name.ends_with("grn.weight")));
    assert_eq!(form.graph(Some(6), ["encoder.stem.0.weight"].into_iter()), (form.build)(Some(6)));
}

/// Checks that every name of the encoder of `model`, written as `theirs` writes it, is found again.
fn encoder_names_come_back(model: &str, dropped: &[&str], theirs: impl Fn(&str) -> String) {
    let form = form(model).unwrap();
    let graph = (form.build)(form.outputs.of(2));
    let mut count = 0;
    for p in graph.parameters().into_iter().filter(|p| is_encoders(model, &p.name)) {
        assert_eq!(name_here(&theirs(&p.name), true, &form), Some(p.name.clone()), "{model}");
        count += usize::from(theirs(&p.name) != p.name);
    }
    assert!(count > 0 || model == "resnet_50", "{model}");
    let is_left_out = |n: &&str| name_here(n, true, &form).is_none_or(|n| !is_encoders(model, &n));
    assert!(dropped.iter().all(is_left_out), "{model}");
}

#[test]
fn names_of_encoders_packages_are_known() {
    let under = |prefix: &'static str, name: &str| name.strip_prefix(prefix).unwrap().to_owned();
    let fc = &["fc.weight", "fc.0.weight"];
    encoder_names_come_back("crescent_seg_net", fc, |n| under("encoder.", n));
    encoder_names_come_back("u_net_resnet34", fc, |n| under("encoder.", n));
    encoder_names_come_back("deeplab_v3_resnet101", fc, |n| under("backbone.", n));
    encoder_names_come_back("resnet_50", fc, str::to_owned);
    let classifier = &["classifier.1.weight"];
    encoder_names_come_back("light_mu_seg", classifier, |n| n.replacen("encoder.", "features.", 1));
    encoder_names_come_back("u_net_mobilenet_v2", classifier, |n| under("encoder.", n));
    encoder_names_come_back("deeplab_v3_plus_mobilenet_v2", classifier, |n| under("encoder.", n));
    encoder_names_come_back("u_net_efficientnet_b5", &["_fc.weight"], |n| under("encoder.", n));
    encoder_names_come_back("u_net_mit_b0", &["head.weight"], |n| under("encoder.", n));
}

#[test]
fn names_of_the_oldest_densenets_are_known() {
    let old = |n: &str| {
        ["norm1", "norm2", "conv1", "conv2"].iter().fold(n.to_owned(), |n, new| {
            if n.contains("denselayer") { n.replace(new, &format!("{}.{}", &new[..4], &new[4..])) } else { n }
        })
    };
    assert_eq!(
        old("features.denseblock4.denselayer16.norm2.weight"),
        "features.denseblock4.denselayer16.norm.2.weight"
    );
    encoder_names_come_back("crescent_dense_net", &["classifier.weight"], old);
}

#[test]
fn names_of_convnext_are_known_as_timm_and_its_authors_write_them() {
    let bare = |n: &str| n.strip_prefix("encoder.").unwrap().to_owned();
    let head = &["head.fc.weight", "head.norm.weight", "norm.weight", "head.weight"];
    encoder_names_come_back("histonext_tiny", head, bare);
    encoder_names_come_back("histonext_tiny", head, |n| {
        bare(n).replace("stem.", "stem_").replace("stages.", "stages_")
    });
    let authors = |n: &str| {
        let n = bare(n).replace("stem.", "downsample_layers.0.").replace(".blocks.", ".");
        let n = n.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv");
        match n.split_once(".downsample.") {
            Some((stage, rest)) => format!("downsample_layers.{}.{rest}", stage.strip_prefix("stages.").unwrap()),
            None => n,
        }
    };
    assert_eq!(authors("encoder.stages.2.downsample.1.bias"), "downsample_layers.2.1.bias");
    encoder_names_come_back("histonext_tiny", head, authors);
    let whole = form("histonext_tiny").unwrap();
    assert_eq!(name_here("encoder.stem_0.bias", false, &whole).unwrap(), "encoder.stem.0.bias");
    assert_eq!(name_here("encoder.stages_3.blocks.1.gamma", false, &whole).unwrap(), "encoder.stages.3.blocks.1.gamma");
}
