//! Weights as others save them: PyTorch checkpoints of every age, and safetensors without our metadata.
//!
//! Owns: [`Checkpoint`], [`CheckpointTensor`]. Must not know: networks.
//!
//! Only the list of tensors is read at first; values come from the file one tensor at a time. Nothing in a file is run, and
//! no length in it is believed before it is checked.

mod bytes;
mod element;
mod pickle;
mod safe;
mod select;
mod torch;
mod zip;

pub use element::Element;

use super::{Failure, WeightsError};
use bytes::Source;
use std::path::Path;

/// A tensor of a checkpoint, not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointTensor {
    /// Name in the checkpoint, without what all names have in front.
    pub name: String,
    /// Number type.
    pub element: Element,
    /// Shape.
    pub shape: Vec<usize>,
    placed: Placed,
}

/// Where a tensor's numbers lie.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Placed {
    element: Element,
    shape: Vec<usize>,
    /// Numbers from one to the next along each axis.
    strides: Vec<usize>,
    /// Position in the file of its first number.
    start: u64,
}

impl Placed {
    /// Bytes from the first number to the end of the last; `None` when nothing could be as long.
    fn span_bytes(&self) -> Option<u64> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let reach = self
            .shape
            .iter()
            .zip(&self.strides)
            .try_fold(0_usize, |sum, (&n, &stride)| sum.checked_add((n - 1).checked_mul(stride)?))?;
        reach.checked_add(1)?.checked_mul(self.element.bytes()).map(|b| b as u64)
    }

    /// Number of values.
    fn len(&self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |len, &n| len.checked_mul(n))
    }
}

/// What stands at a place of a checkpoint.
#[derive(Debug)]
enum Found {
    Tensor(Placed),
    /// A tensor of a kind that is not read; why.
    Unreadable(String),
    /// Anything else, in words.
    Other(String),
}

/// A named place of a checkpoint.
#[derive(Debug)]
struct Entry {
    name: String,
    found: Found,
}

/// What to take from a checkpoint that holds more than one network's tensors.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection<'a> {
    /// Key of the dict to read, such as `state_dict`; the known ones are found without.
    pub entry: Option<&'a str>,
    /// Only tensors whose names start so; it is taken off.
    pub prefix: Option<&'a str>,
}

/// The tensors of a checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    /// What messages call it: its path.
    name: String,
    source: Source,
    tensors: Vec<CheckpointTensor>,
    /// Entries that are no tensor: name and what they are.
    others: Vec<(String, String)>,
}

impl Checkpoint {
    /// Reads the list of tensors.
    ///
    /// # Errors
    /// [`WeightsError`]: the file cannot be read, is none of the known formats, is cut off or hostile, or does not say
    /// which of its tensors are meant.
    pub fn open(path: &Path, selection: Selection<'_>) -> Result<Self, WeightsError> {
        let name = path.display().to_string();
        let source = Source::open(path);
        Self::of_source(source, name, selection)
    }

    /// The same from bytes in memory.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`].
    pub fn from_bytes(bytes: Vec<u8>, selection: Selection<'_>) -> Result<Self, WeightsError> {
        Self::of_source(Ok(Source::Memory(bytes)), "bytes in memory".to_owned(), selection)
    }

    fn of_source(
        source: Result<Source, Failure>,
        name: String,
        selection: Selection<'_>,
    ) -> Result<Self, WeightsError> {
        let listed = source.and_then(|source| {
            let entries = listed(&source, selection)?;
            Ok((source, entries))
        });
        let (source, entries) = listed.map_err(|(message, hint)| WeightsError { message, hint, path: name.clone() })?;
        let (mut tensors, mut others) = (vec![], vec![]);
        for Entry { name, found } in entries {
            match found {
                Found::Tensor(placed) => {
                    let (element, shape) = (placed.element, placed.shape.clone());
                    tensors.push(CheckpointTensor { name, element, shape, placed });
                }
                Found::Unreadable(what) | Found::Other(what) => others.push((name, what)),
            }
        }
        Ok(Self { name, source, tensors, others })
    }

    /// Its tensors, in the file's order.
    pub fn tensors(&self) -> &[CheckpointTensor] {
        &self.tensors
    }

    /// Its entries that are no readable tensor: name, and what they are.
    pub fn others(&self) -> &[(String, String)] {
        &self.others
    }

    /// A tensor's values in row-major order, whatever its strides.
    ///
    /// Takes four bytes for each value its shape has, so look at the shape first.
    ///
    /// # Errors
    /// [`WeightsError`]: the tensor is not of floats, or the file cannot be read.
    pub fn values(&self, tensor: &CheckpointTensor) -> Result<Vec<f32>, WeightsError> {
        self.read(tensor).map_err(|(message, hint)| WeightsError { message, hint, path: self.name.clone() })
    }

    fn read(&self, tensor: &CheckpointTensor) -> Result<Vec<f32>, Failure> {
        let placed = &tensor.placed;
        let no_size =
            || (format!("`{}` has the shape `{:?}`, more than fits into memory", tensor.name, tensor.shape), None);
        let (len, span) = (placed.len().ok_or_else(no_size)?, placed.span_bytes().ok_or_else(no_size)?);
        let bytes = self.source.read(placed.start, span)?;
        let stored = placed.element.floats(&bytes).ok_or_else(|| {
            let hint = Some("save the network's floating-point weights, before any quantisation");
            (format!("`{}` is of type `{}`, expected floats", tensor.name, tensor.element), hint)
        })?;
        if len == stored.len() && is_row_major(&placed.shape, &placed.strides) {
            return Ok(stored);
        }
        Ok(gathered(&stored, &placed.shape, &placed.strides, len))
    }
}

/// The entries that `selection` means.
fn listed(source: &Source, selection: Selection<'_>) -> Result<Vec<Entry>, Failure> {
    let entries = match format_of(source)? {
        Format::Zip => select::entries(&torch::read_zip(source)?, selection.entry)?,
        Format::Legacy => select::entries(&torch::read_legacy(source)?, selection.entry)?,
        Format::Safetensors => safe::entries(source)?,
    };
    select::without_prefixes(entries, selection.prefix)
}

fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&n, &stride)| {
        let fits = n == 1 || stride == expected;
        expected = usize::saturating_mul(expected, n);
        fits
    })
}

/// Values in row-major order, the last axis fastest.
fn gathered(stored: &[f32], shape: &[usize], strides: &[usize], len: usize) -> Vec<f32> {
    let (mut values, mut index, mut at) = (Vec::with_capacity(len), vec![0; shape.len()], 0);
    while values.len() < len {
        values.push(stored[at]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= shape[axis] * strides[axis];
            index[axis] = 0;
        }
    }
    values
}

enum Format {
    Zip,
    Legacy,
    Safetensors,
}

/// Tells formats by their first bytes, never by the file's name.
fn format_of(source: &Source) -> Result<Format, Failure> {
    let first = source.read(0, source.len().min(512))?;
    let is_legacy = first.starts_with(&[0x80]) && first[..first.len().min(32)].windows(12).any(|w| w == torch::MAGIC);
    if first.starts_with(b"PK\x03\x04") {
        return Ok(Format::Zip);
    }
    if is_legacy {
        return Ok(Format::Legacy);
    }
    if first.len() > 8 && first[8] == b'{' {
        return Ok(Format::Safetensors);
    }
    let (what, hint) = foreign(&first);
    Err((format!("file is {what}, expected a PyTorch checkpoint or safetensors"), Some(hint)))
}

/// What a file is instead, and what to do.
fn foreign(first: &[u8]) -> (&'static str, &'static str) {
    let again = "download the file again, with the link of the file itself";
    let known: [(bool, &str, &str); 9] = [
        (first.is_empty(), "empty", again),
        (
            first.starts_with(b"\x89HDF\r\n\x1a\n"),
            "HDF5 (weights of Keras)",
            "Keras is not read: save each layer's kernel as `<layer>.weight`, transposed to [out, in, height, width], and its \
             bias as `<layer>.bias` with `safetensors` in Python",
        ),
        (
            first.starts_with(b"version https://git-lfs"),
            "a Git LFS pointer",
            "fetch the file itself with `git lfs pull`",
        ),
        (first.trim_ascii_start().starts_with(b"<"), "a web page", again),
        (
            first.starts_with(b"\x1f\x8b") || first.starts_with(b"BZh") || first.starts_with(b"\xfd7zXZ"),
            "compressed",
            "unpack it, and name the checkpoint in it",
        ),
        (
            first.get(257..262) == Some(b"ustar"),
            "a tar archive",
            "unpack it, and name the checkpoint in it; the tar format before PyTorch 0.1.10 must be saved again with PyTorch",
        ),
        (
            first.starts_with(&[0x80]),
            "a pickle that `torch.save` did not write",
            "load it in Python and save the tensors with `torch.save` or `safetensors`",
        ),
        (first.starts_with(b"\x93NUMPY"), "a NumPy array", "save the tensors with `torch.save` or `safetensors`"),
        (first.len() < 9, "cut off", again),
    ];
    let found = known.into_iter().find(|(is, ..)| *is);
    found.map_or(
        ("of no known format", "name the `.pth`, `.pt`, `.tar`, `.bin` or `.safetensors` file"),
        |(_, what, hint)| (what, hint),
    )
}

#[cfg(test)]
mod tests;
