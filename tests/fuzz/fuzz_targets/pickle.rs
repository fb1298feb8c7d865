//! Whatever the bytes, a checkpoint is listed and read, or refused, soon, in bounded memory and without a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsi_run::model::weights::{Checkpoint, Selection};

/// Values of one tensor that are read: a file may claim a shape of any size and repeat one number over it.
const MAX_VALUES: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
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
});
