use super::*;
use crate::model::{
    graph::Conv,
    spec::{ClassInfo, Head},
};
use crate::units::Mpp;
use safetensors::{Dtype, tensor::TensorView};
use std::path::PathBuf;

fn toy() -> Graph {
    let mut g = Graph::new("toy", 3);
    let x = g.conv("stem", g.input(), Conv::new(4, 3));
    let x = g.batch_norm("bn", x);
    g.output("y", Head::Semantic, x);
    g
}

fn metadata() -> WeightsMetadata {
    WeightsMetadata {
        model: "toy".to_owned(),
        classes: vec![ClassInfo { name: "tumour".to_owned(), color: [255, 0, 10] }],
        input_mpp: Mpp::new(0.25).unwrap(),
        normalisation: Normalisation::IMAGENET,
        licence: "CC BY 4.0".to_owned(),
        training_data: "none".to_owned(),
        prob_threshold: None,
        about: None,
    }
}

/// A directory of its own and a file in it with random weights.
fn written() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("toy.safetensors");
    Weights::random(&toy(), metadata(), 1).write(&path).unwrap();
    (dir, path)
}

/// What reading says after `change` was done to the file's bytes.
fn after(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let (_dir, path) = written();
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    let error = Weights::read(&path, &toy()).unwrap_err();
    assert!(error.to_string().ends_with("toy.safetensors"), "{error}");
    error.to_string()
}

/// A file with these tensors instead, metadata and digest in order.
fn with_tensors(change: impl FnOnce(&mut BTreeMap<String, WeightTensor>)) -> Result<Weights, WeightsError> {
    let (_dir, path) = written();
    let mut weights = Weights::random(&toy(), metadata(), 1);
    change(&mut weights.tensors);
    weights.write(&path).unwrap();
    Weights::read(&path, &toy())
}

#[test]
fn what_was_written_is_read() {
    let (_dir, path) = written();
    assert_eq!(Weights::read(&path, &toy()).unwrap(), Weights::random(&toy(), metadata(), 1));
}

#[test]
fn first_values_are_pytorchs_defaults() {
    let w = Weights::random(&toy(), metadata(), 1);
    let bound = 1.0 / 27f32.sqrt();
    let stem = &w.get("stem.weight").unwrap().values;
    assert!(stem.iter().all(|v| v.abs() <= bound) && stem.iter().any(|v| v.abs() > 0.9 * bound));
    assert_eq!(w.get("bn.weight").unwrap().values, [1.0; 4]);
    assert_eq!(w.get("bn.running_mean").unwrap().values, [0.0; 4]);
    assert_ne!(w, Weights::random(&toy(), metadata(), 2));
}

#[test]
fn a_missing_an_extra_and_a_misshapen_tensor_are_named() {
    let error = with_tensors(|t| {
        t.remove("stem.bias");
        t.insert("stem.extra".to_owned(), WeightTensor { shape: vec![2], values: vec![0.0; 2] });
        t.get_mut("bn.bias").unwrap().shape = vec![2, 2];
    });
    let error = error.unwrap_err();
    let expected = "weights: tensors are not those of `toy`; 1 missing: `stem.bias` [4]; 1 left over: `stem.extra` \
                    [2]; 1 of another shape: `bn.bias` is `[2, 2]`, expected `[4]`: ";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert!(error.hint.is_some());
}

#[test]
fn a_nan_or_an_infinity_is_found_where_it_is() {
    for value in [f32::NAN, f32::INFINITY] {
        let error = with_tensors(|t| t.get_mut("bn.weight").unwrap().values[2] = value).unwrap_err().to_string();
        assert!(error.contains("`bn.weight` holds") && error.contains("position 2"), "{error}");
    }
}

#[test]
fn pytorchs_counters_may_be_there_or_not() {
    let counter = WeightTensor { shape: vec![], values: vec![3.0] };
    assert!(with_tensors(|t| drop(t.insert("bn.num_batches_tracked".to_owned(), counter))).is_ok());
    let other = WeightTensor { shape: vec![1], values: vec![3.0] };
    let error = with_tensors(|t| drop(t.insert("stem.num_batches_tracked".to_owned(), other))).unwrap_err();
    assert!(error.to_string().contains("left over: `stem.num_batches_tracked`"), "{error}");
}

#[test]
fn a_file_that_is_cut_off_says_so() {
    assert!(after(|b| b.truncate(b.len() - 4)).contains("cut off"));
    assert!(after(|b| b.truncate(100)).contains("cut off"));
    assert!(after(|b| b.truncate(3)).contains("`3` bytes"));
    assert!(after(|b| b.push(0)).contains("tail"));
}

#[test]
fn a_hostile_header_is_not_believed() {
    let ten_gb = 10_000_000_000_u64.to_le_bytes();
    assert!(after(|b| b[..8].copy_from_slice(&ten_gb)).contains("header claims `10000000000` bytes"));
    let more_than_there_is = 50_000_u64.to_le_bytes();
    assert!(after(|b| b[..8].copy_from_slice(&more_than_there_is)).contains("file is cut off"));
    assert!(after(|b| b[8] = b'x').contains("header cannot be read"));
}

#[test]
fn an_altered_value_is_found_by_its_digest() {
    let error = after(|b| {
        let last = b.len() - 4;
        b[last] ^= 1;
    });
    assert!(error.contains("sha256"), "{error}");
}

#[test]
fn a_pytorch_pickle_is_told_from_safetensors() {
    for start in [&b"PK\x03\x04 zip archive"[..], &b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."[..]] {
        let error = after(|b| *b = start.to_vec());
        assert!(error.contains("PyTorch pickle"), "{error}");
    }
}

#[test]
fn weights_of_another_model_are_refused() {
    let (_dir, path) = written();
    let error = Weights::read(&path, &Graph::new("hover_net", 3)).unwrap_err().to_string();
    assert!(error.contains("`toy`, expected `hover_net`"), "{error}");
}

#[test]
fn a_file_without_metadata_asks_for_conversion() {
    let (_dir, path) = written();
    let data = [0; 4];
    let view = TensorView::new(Dtype::F32, vec![1], &data).unwrap();
    safetensors::serialize_to_file([("a", view)], None, &path).unwrap();
    let error = Weights::read(&path, &toy()).unwrap_err();
    assert!(error.to_string().contains("metadata lacks"), "{error}");
    assert_eq!(error.hint, Some("make the file with `wsi-run convert`"));
}

#[test]
fn a_file_that_is_not_there_says_so() {
    let error = Weights::read(Path::new("/nowhere/toy.safetensors"), &toy()).unwrap_err().to_string();
    assert!(error.contains("cannot be read") && error.ends_with("/nowhere/toy.safetensors"), "{error}");
}
