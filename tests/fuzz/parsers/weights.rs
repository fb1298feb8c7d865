//! Files of numbers with names: weights, checkpoints of PyTorch and of our trainings.

use super::{files, scratch, write};
use std::{path::PathBuf, sync::OnceLock};
use wsi_run::{
    model::weights::{Checkpoint, Selection, Weights},
    train,
};

/// Values of one tensor that are read: a file may claim a shape of any size and repeat one number over it.
const MAX_VALUES: usize = 1 << 16;

/// The bytes, and the bytes as the header of a file whose length is right.
fn framed(bytes: &[u8]) -> [Vec<u8>; 2] {
    let header = [&(bytes.len() as u64).to_le_bytes(), bytes].concat();
    [bytes.to_vec(), header]
}

/// A file of weights is opened, or refused with a message that names it.
pub fn safetensors(bytes: &[u8]) {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let path = FILE.get_or_init(|| scratch("weights").join("weights.safetensors"));
    for bytes in framed(bytes) {
        write(path, &bytes);
        if let Err(error) = Weights::open(path) {
            assert!(error.to_string().contains("safetensors"));
        }
    }
}

pub fn safetensors_seeds() -> Vec<Vec<u8>> {
    let mut seeds = files("fixtures/weights", &[".safetensors"], 40_000);
    // The headers alone, too.
    let header = |file: &Vec<u8>| file.get(8..).map(<[u8]>::to_vec);
    seeds.extend(seeds.iter().filter_map(header).collect::<Vec<_>>());
    seeds
}

/// A checkpoint of PyTorch is listed and read, or refused.
pub fn pickle(bytes: &[u8]) {
    // The format before PyTorch 1.6 around the bytes too, so that the pickle itself is what is mutated.
    let mut stream = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    stream.extend_from_slice(bytes);
    for bytes in [bytes.to_vec(), stream] {
        for selection in [Selection::default(), Selection { entry: Some("a"), prefix: Some("b") }] {
            match Checkpoint::from_bytes(bytes.clone(), selection) {
                Ok(checkpoint) => {
                    for tensor in checkpoint.tensors() {
                        let values = tensor.shape.iter().try_fold(1_usize, |n, &side| n.checked_mul(side));
                        if values.is_some_and(|n| n <= MAX_VALUES)
                            && let Ok(read) = checkpoint.values(tensor)
                        {
                            assert_eq!(Some(read.len()), values);
                        }
                    }
                }
                Err(error) => assert!(error.to_string().len() < 10_000),
            }
        }
    }
}

pub fn pickle_seeds() -> Vec<Vec<u8>> {
    files("fixtures/weights", &[".pth"], 20_000)
}

/// What a training left for the next one is read, or refused with what to do.
pub fn checkpoint(bytes: &[u8]) {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let path = FILE.get_or_init(|| scratch("checkpoint").join("checkpoint.safetensors"));
    for bytes in framed(bytes) {
        write(path, &bytes);
        if let Err(error) = train::Checkpoint::read(path) {
            assert!(error.hint.is_some());
        }
    }
}

pub fn checkpoint_seeds() -> Vec<Vec<u8>> {
    let path = scratch("checkpoint").join("sound.safetensors");
    let sound = train::Checkpoint {
        state: "{\"step\":3}".to_owned(),
        values: [("value/b".to_owned(), vec![1.5, 2.5]), ("first/a".to_owned(), vec![])].into(),
        tables: [("steps".to_owned(), vec![0.1, 7.0])].into(),
    };
    sound.write(&path).expect("it can be written");
    let file = std::fs::read(&path).expect("it was written");
    vec![file[8..].to_vec(), file]
}
