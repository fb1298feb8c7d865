//! Safetensors whoever wrote them.
//!
//! Owns: [`entries`]. Must not know: metadata, networks.

use super::{Entry, Failure, Found, Placed, bytes::Source, element::Element};
use crate::model::weights::MAX_HEADER_BYTES;
use safetensors::tensor::Metadata;

/// Every tensor of the header, the file's length checked against it.
pub(super) fn entries(source: &Source) -> Result<Vec<Entry>, Failure> {
    let first = source.read(0, 8)?;
    let header = u64::from_le_bytes(first.try_into().expect("eight bytes were read"));
    if header > MAX_HEADER_BYTES {
        return Err((format!("header claims `{header}` bytes, expected at most {MAX_HEADER_BYTES}"), None));
    }
    let metadata: Metadata = serde_json::from_slice(&source.read(8, header)?)
        .map_err(|e| (format!("header cannot be read: {e}"), Some("copy or download the file again")))?;
    let data = source.len() - 8 - header;
    if metadata.data_len() as u64 != data {
        let message =
            format!("file is cut off or has a tail: `{data}` bytes of tensors, expected {}", metadata.data_len());
        return Err((message, Some("copy or download the file again")));
    }
    let mut tensors: Vec<_> = metadata.tensors().into_iter().collect();
    tensors.sort_unstable_by_key(|(_, info)| info.data_offsets);
    let entry = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let (element, shape) = (Element::of_safetensors(info.dtype), info.shape.clone());
        let mut strides = vec![1_usize; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
        }
        let start = 8 + header + info.data_offsets.0 as u64;
        Entry { name, found: Found::Tensor(Placed { element, shape, strides, start }) }
    };
    Ok(tensors.into_iter().map(entry).collect())
}
