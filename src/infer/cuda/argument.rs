//! Kernels' arguments, byte by byte as in their structs.
//!
//! Owns: [`Argument`], and the numbers that kernels know things by. Must not know: plans.

use super::launch::{Launch, Pointer, Region};
use crate::model::graph::{Activation, ResizeMode};

/// A place in a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub region: Region,
    /// Byte.
    pub offset: u64,
}

/// A struct in the making: pointers first, then 64-bit, then 32-bit numbers, as the structs are declared.
#[derive(Debug, Default)]
pub(super) struct Argument {
    bytes: Vec<u8>,
    pointers: Vec<Pointer>,
}

impl Argument {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// An address, or null.
    pub(super) fn pointer(mut self, to: Option<Place>) -> Self {
        debug_assert!(self.bytes.len().is_multiple_of(8));
        if let Some(Place { region, offset }) = to {
            self.pointers.push(Pointer { at: self.bytes.len(), region, offset });
        }
        self.bytes.extend([0; 8]);
        self
    }

    pub(super) fn long(mut self, v: usize) -> Self {
        debug_assert!(self.bytes.len().is_multiple_of(8));
        self.bytes.extend((v as i64).to_le_bytes());
        self
    }

    pub(super) fn signed(mut self, v: isize) -> Self {
        let v = i32::try_from(v).expect("sizes of maps fit 32 bits");
        self.bytes.extend(v.to_le_bytes());
        self
    }

    pub(super) fn int(self, v: usize) -> Self {
        self.signed(isize::try_from(v).expect("sizes of maps fit 32 bits"))
    }

    pub(super) fn ints(self, all: &[usize]) -> Self {
        all.iter().fold(self, |argument, v| argument.int(*v))
    }

    pub(super) fn float(mut self, v: f32) -> Self {
        self.bytes.extend(v.to_le_bytes());
        self
    }

    /// A launch with this argument, padded as C pads a struct with pointers.
    pub(super) fn launch(mut self, kernel: &'static str, grid: [usize; 3], threads: usize) -> Launch {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        Launch {
            kernel,
            grid: grid.map(|n| u32::try_from(n).expect("a grid fits 32 bits")),
            threads: threads as u32,
            shared_bytes: 0,
            argument: self.bytes,
            pointers: self.pointers,
            step: 0,
        }
    }
}

/// As the enum in `kernels/common.cuh`; softmax is a kernel of its own.
pub(super) fn activation(of: Option<Activation>) -> usize {
    match of {
        None | Some(Activation::Softmax) => 0,
        Some(Activation::Relu) => 1,
        Some(Activation::Relu6) => 2,
        Some(Activation::Gelu) => 3,
        Some(Activation::Silu) => 4,
        Some(Activation::Sigmoid) => 5,
    }
}

/// As in `kernels/pool.cu`.
pub(super) fn resize_mode(mode: ResizeMode) -> usize {
    match mode {
        ResizeMode::Nearest => 0,
        ResizeMode::Bilinear => 1,
        ResizeMode::BilinearCorners => 2,
    }
}

/// What is taken over a slab; as in `kernels/norm.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Sum = 0,
    Squares = 1,
    Max = 2,
    Moments = 3,
}
