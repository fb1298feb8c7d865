//! Checkpoints that PyTorch wrote (`fixtures/weights/make.py`), and files that no one should load.

use super::*;

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/weights").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn open(name: &str) -> Result<Checkpoint, WeightsError> {
    Checkpoint::from_bytes(fixture(name), Selection::default())
}

fn refused(bytes: Vec<u8>) -> String {
    Checkpoint::from_bytes(bytes, Selection::default()).unwrap_err().to_string()
}

/// `n + i / 8`, the rule of `make.py`.
fn counted(n: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| n as f32 + i as f32 / 8.0).collect()
}

fn values(checkpoint: &Checkpoint, name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor = checkpoint.tensors().iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no `{name}`"));
    (tensor.shape.clone(), checkpoint.values(tensor).unwrap())
}

fn is_toy(checkpoint: &Checkpoint) {
    let names: Vec<&str> = checkpoint.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["stem.weight", "stem.bias", "bn.running_mean", "bn.num_batches_tracked"]);
    assert_eq!(values(checkpoint, "stem.weight"), (vec![2, 3, 1, 1], counted(1, 6)));
    assert_eq!(values(checkpoint, "stem.bias"), (vec![2], counted(2, 2)));
    assert_eq!(values(checkpoint, "bn.running_mean"), (vec![2], counted(3, 2)));
    let counter = &checkpoint.tensors()[3];
    assert_eq!((counter.element, &counter.shape[..]), (Element::Integer(8), &[][..]));
}

#[test]
fn both_formats_of_pytorch_are_read_at_every_precision_and_protocol() {
    for format in ["zip", "legacy"] {
        for kind in ["plain", "protocol4", "f16", "bf16", "f64", "training"] {
            is_toy(&open(&format!("{kind}.{format}.pth")).unwrap());
        }
    }
}

#[test]
fn safetensors_without_metadata_are_read() {
    let checkpoint = open("plain.safetensors").unwrap();
    assert_eq!(values(&checkpoint, "stem.weight"), (vec![2, 3, 1, 1], counted(1, 6)));
    assert_eq!(checkpoint.tensors().len(), 4);
}

#[test]
fn a_file_on_disk_is_read_as_one_in_memory() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/weights/plain.zip.pth");
    is_toy(&Checkpoint::open(&path, Selection::default()).unwrap());
    let error = Checkpoint::open(Path::new("/nowhere/a.pth"), Selection::default()).unwrap_err().to_string();
    assert!(error.contains("cannot be read") && error.ends_with("/nowhere/a.pth"), "{error}");
}

#[test]
fn views_of_one_storage_are_read_in_row_major_order() {
    for format in ["zip", "legacy"] {
        let checkpoint = open(&format!("views.{format}.pth")).unwrap();
        let base = |row: usize, column: usize| 5.0 + (row * 6 + column) as f32 / 8.0;
        let table = |rows: usize, columns: usize, at: &dyn Fn(usize, usize) -> f32| {
            let all = (0..rows * columns).map(|i| at(i / columns, i % columns)).collect::<Vec<f32>>();
            (vec![rows, columns], all)
        };
        assert_eq!(values(&checkpoint, "whole"), table(4, 6, &base));
        assert_eq!(values(&checkpoint, "transposed"), table(6, 4, &|r, c| base(c, r)));
        assert_eq!(values(&checkpoint, "columns"), table(4, 3, &|r, c| base(r, 2 * c + 1)));
        assert_eq!(values(&checkpoint, "row").1, (0..6).map(|c| base(2, c)).collect::<Vec<_>>());
        assert_eq!(values(&checkpoint, "expanded"), (vec![3], vec![base(3, 0); 3]));
        assert_eq!(values(&checkpoint, "empty"), (vec![0, 6], vec![]));
    }
}

#[test]
fn wrappers_are_looked_through_and_names_of_one_tensor_share_it() {
    for format in ["zip", "legacy"] {
        let checkpoint = open(&format!("shared.{format}.pth")).unwrap();
        assert_eq!(values(&checkpoint, "a"), (vec![2, 2], counted(4, 4)));
        assert_eq!(values(&checkpoint, "b"), values(&checkpoint, "a"));
    }
}

#[test]
fn a_whole_module_has_the_names_of_its_state_dict() {
    for format in ["zip", "legacy"] {
        let checkpoint = open(&format!("module.{format}.pth")).unwrap();
        for (i, (name, shape)) in [
            ("0.weight", vec![2, 1, 1, 1]),
            ("0.bias", vec![2]),
            ("1.0.weight", vec![2]),
            ("1.0.bias", vec![2]),
            ("1.0.running_mean", vec![2]),
            ("1.0.running_var", vec![2]),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(values(&checkpoint, name), (shape, counted(i, 2)), "{name}");
        }
    }
}

#[test]
fn of_two_networks_the_user_says_which() {
    let both = fixture("two_networks.zip.pth");
    let error = Checkpoint::from_bytes(both.clone(), Selection::default()).unwrap_err();
    assert!(error.to_string().contains("more than one dict of tensors: `encoder`, `decoder`"), "{error}");
    assert_eq!(error.hint, Some("say which is meant with `--entry`"));
    is_toy(&Checkpoint::from_bytes(both.clone(), Selection { entry: Some("decoder"), prefix: None }).unwrap());
    let error = Checkpoint::from_bytes(both, Selection { entry: Some("head"), prefix: None }).unwrap_err().to_string();
    assert!(error.contains("no entry `head`: found `encoder`, `decoder`"), "{error}");
}

#[test]
fn a_prefix_chooses_tensors_and_is_taken_off() {
    let bytes = fixture("plain.zip.pth");
    let checkpoint = Checkpoint::from_bytes(bytes.clone(), Selection { entry: None, prefix: Some("stem.") }).unwrap();
    assert_eq!(checkpoint.tensors().iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["weight", "bias"]);
    let error = Checkpoint::from_bytes(bytes, Selection { entry: None, prefix: Some("net") }).unwrap_err().to_string();
    assert!(error.contains("no tensor's name starts with `net`: found `stem.weight`, `stem.bias`"), "{error}");
}

#[test]
fn tensors_that_are_no_floats_are_named_when_they_are_wanted() {
    for format in ["zip", "legacy"] {
        let checkpoint = open(&format!("quantised.{format}.pth")).unwrap();
        assert_eq!(values(&checkpoint, "b"), (vec![2], counted(1, 2)));
        let [(name, what)] = checkpoint.others() else { panic!("{:?}", checkpoint.others()) };
        assert!(name == "a" && what.contains("`torch._utils._rebuild_qtensor`"), "{what}");
        let checkpoint = open(&format!("integers.{format}.pth")).unwrap();
        let error = checkpoint.values(&checkpoint.tensors()[0]).unwrap_err().to_string();
        assert!(error.contains("`a` is of type `64-bit integer`, expected floats"), "{error}");
    }
}

#[test]
fn a_pickle_that_would_run_something_is_refused_by_name_and_runs_nothing() {
    let error = open("hostile_system.pth").unwrap_err();
    assert!(error.to_string().contains("`posix.system` to be called"), "{error}");
    assert!(error.hint.unwrap().contains("nothing was run"));
    let error = open("hostile_eval.pth").unwrap_err().to_string();
    assert!(error.contains("`__builtin__.eval`") || error.contains("`builtins.eval`"), "{error}");
    assert!(!Path::new("/tmp/owned").exists());
}

#[test]
fn claims_of_size_are_not_believed() {
    let error = open("hostile_claims.pth").unwrap_err().to_string();
    assert!(error.contains("more than `67108864` bytes of text"), "{error}");
    let error = open("hostile_header.safetensors").unwrap_err().to_string();
    assert!(error.contains("header claims `10000000000` bytes"), "{error}");
    let error = open("hostile_shape.safetensors").unwrap_err().to_string();
    assert!(error.contains("header cannot be read"), "{error}");
}

#[test]
fn a_memo_that_doubles_costs_nothing() {
    let error = open("hostile_memo_bomb.pth").unwrap_err().to_string();
    assert!(error.contains("checkpoint holds a list, expected a dict of tensors"), "{error}");
}

/// A file of the format before PyTorch 1.6 whose object is this pickle.
fn around(pickle: &[u8]) -> Vec<u8> {
    [b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.", pickle, b"\x80\x02]."].concat()
}

#[test]
fn lists_in_lists_a_million_deep_are_no_danger() {
    let deep = [vec![b']'; 1_000_000], vec![b'a'; 999_999], b".".to_vec()].concat();
    assert!(refused(around(&deep)).contains("holds a list"));
    let tuples = [b")".to_vec(), vec![0x85; 1_000_000], b".".to_vec()].concat();
    assert!(refused(around(&tuples)).contains("holds a tuple"));
}

#[test]
fn an_endless_pickle_and_one_that_fills_dicts_again_and_again_come_to_an_end() {
    assert!(refused(around(&vec![b'N'; 6_000_000])).contains("more than `5000000` opcodes"));
    // [[None, None]] * 4000 in the memo, given to an ordered dict 4000 times.
    let mut pickle = b"]q\x00(NN\x86q\x01".to_vec();
    pickle.extend(b"h\x01".repeat(4000));
    pickle.extend(b"eccollections\nOrderedDict\nq\x02");
    pickle.extend(b"h\x02h\x00\x85R0".repeat(4000));
    pickle.push(b'.');
    let error = refused(around(&pickle));
    assert!(error.contains("fills dicts from one list again and again"), "{error}");
}

#[test]
fn python_2_and_its_ordered_dicts_are_read() {
    // OrderedDict([['a', <tensor>]]) with short binary strings, as PyTorch 0.4 on Python 2.7 wrote it.
    let mut pickle =
        b"\x80\x02ccollections\nOrderedDict\n]q\x00(]q\x01(U\x01actorch._utils\n_rebuild_tensor\n((U\x07storage"
            .to_vec();
    pickle.extend(b"ctorch\nFloatStorage\nU\x0293U\x03cpuK\x02NtQK\x00K\x02\x85K\x01\x85tRee\x85R.");
    let mut file = around(&pickle);
    file.truncate(file.len() - 4);
    file.extend(b"\x80\x02]U\x0293a.");
    file.extend(2_u64.to_le_bytes());
    file.extend([1.5_f32, -2.0].iter().flat_map(|v| v.to_le_bytes()));
    let checkpoint = Checkpoint::from_bytes(file, Selection::default()).unwrap();
    assert_eq!(values(&checkpoint, "a"), (vec![2], vec![1.5, -2.0]));
}

#[test]
fn a_file_cut_off_anywhere_is_an_error_and_no_panic() {
    for name in ["plain.zip.pth", "plain.legacy.pth", "plain.safetensors", "module.legacy.pth"] {
        let whole = fixture(name);
        for end in (0..whole.len()).step_by(7) {
            let error = refused(whole[..end].to_vec());
            assert!(error.starts_with("weights: ") && error.ends_with(": bytes in memory"), "{name} at {end}: {error}");
        }
    }
}

#[test]
fn a_file_with_any_byte_altered_is_read_or_refused_without_a_panic() {
    for name in ["views.zip.pth", "views.legacy.pth", "plain.safetensors"] {
        let whole = fixture(name);
        for at in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                let Ok(checkpoint) = Checkpoint::from_bytes(bytes, Selection::default()) else { continue };
                let small =
                    |t: &&CheckpointTensor| t.shape.iter().try_fold(1_usize, |n, &s| n.checked_mul(s)) < Some(1000);
                for tensor in checkpoint.tensors().iter().filter(small) {
                    // An altered shape or type may make it unreadable; that is an answer too.
                    let _ = checkpoint.values(tensor);
                }
            }
        }
    }
}

#[test]
fn files_of_other_kinds_are_called_by_their_name() {
    let tar = [vec![b'x'; 257], b"ustar\x0000".to_vec(), vec![0; 300]].concat();
    for (bytes, expected) in [
        (&b""[..], "empty"),
        (b"abc", "cut off"),
        (b"\x89HDF\r\n\x1a\n........", "HDF5 (weights of Keras)"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\0\0", "compressed"),
        (b"\x80\x04}\x94.          ", "a pickle that `torch.save` did not write"),
        (&tar, "a tar archive"),
        (b"not a checkpoint at all", "of no known format"),
    ] {
        let error = Checkpoint::from_bytes(bytes.to_vec(), Selection::default()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint.is_some(), "{error}");
    }
}

#[test]
fn opcodes_that_a_checkpoint_never_has_are_refused_with_their_place() {
    for (pickle, expected) in [
        (&b"\x80\x06."[..], "its protocol is `6`"),
        (b"\x82\x01.", "extension registry"),
        (b"\x97.", "its buffers are in another file"),
        (b"\xff.", "opcode `0xff` is none"),
        (b".", "its stack is empty"),
        (b"t.", "a mark is missing"),
        (b"h\x07.", "its memo has nothing under `7`"),
        (b"}(Nu.", "a key has no value"),
        (b"N(Ne.", "is no list"),
        (b"(o.", "an object has no class"),
    ] {
        let error = refused(around(pickle));
        assert!(error.contains(expected) && error.contains("before byte"), "{error}");
    }
}
