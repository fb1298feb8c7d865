//! Weights as the kernels read them.
//!
//! Owns: [`Store`]: bytes that are uploaded once. Must not know: what they mean.

use super::{
    argument::Place,
    launch::{Format, Region},
};
use std::collections::HashMap;

/// Tables start at multiples of this many bytes.
const ALIGN_BYTES: usize = 256;

/// Weights and tables of a network.
#[derive(Debug)]
pub struct Store {
    format: Format,
    bytes: Vec<u8>,
    /// By step and which of the step's.
    places: HashMap<(usize, usize), u64>,
}

impl Store {
    /// None yet.
    pub fn new(format: Format) -> Self {
        Self { format, bytes: vec![], places: HashMap::new() }
    }

    /// What is uploaded.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Numbers of the maps.
    pub fn format(&self) -> Format {
        self.format
    }

    fn put(&mut self, key: (usize, usize), make: impl FnOnce(Format) -> Vec<u8>) -> Place {
        let offset = match self.places.get(&key) {
            Some(offset) => *offset,
            None => {
                self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN_BYTES), 0);
                let offset = self.bytes.len() as u64;
                self.bytes.extend(make(self.format));
                self.places.insert(key, offset);
                offset
            }
        };
        Place { region: Region::Weights, offset }
    }

    /// A table in f32, with zeros up to a multiple of eight.
    pub(super) fn floats(&mut self, key: (usize, usize), values: &[f32]) -> Place {
        self.put(key, |_| {
            let count = values.len().next_multiple_of(8);
            let padded = values.iter().copied().chain(std::iter::repeat(0.0)).take(count);
            padded.flat_map(f32::to_le_bytes).collect()
        })
    }

    /// A table in 16 bits.
    pub(super) fn numbers(&mut self, key: (usize, usize), make: impl FnOnce() -> Vec<f32>) -> Place {
        self.put(key, |format| make().into_iter().flat_map(|v| format.bits(v).to_le_bytes()).collect())
    }
}
