//! A slide's stain normalisation as data, for devices that apply it themselves.
//!
//! Owns: [`StainTables`]: its bytes and their order. Must not know: devices, slides.
//!
//! Whoever follows [`OdTransform::apply`](super::OdTransform::apply) and [`LabTransform::apply`](super::LabTransform::apply)
//! operation by operation, without fused ones, gets the same bytes from these tables.

use super::StainTransform;

/// What is done with the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StainMethod {
    /// The product of three entries.
    Od,
    /// An affine map between CIELAB colours.
    Lab,
}

/// Tables of one slide, as the struct `StainTables` of `kernels/pixels.cu`: f32, little-endian, then bytes.
///
/// # Shapes
/// - `[3, 256, 4]` entries by channel and value
/// - of CIELAB also `[4, 4]` the map, `[3, 4]` to light, `[2050, 2]` the root and its rise, `[8193]` u8 the encoding
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StainTables {
    method: StainMethod,
    bytes: Vec<u8>,
}

impl StainTables {
    /// What tables of any method fit in, to a multiple of what devices align to.
    pub const MOST_BYTES: usize = 37_120;

    /// The tables of a slide; none where pixels stay as they are.
    pub fn of(transform: &StainTransform) -> Option<Self> {
        let (method, bytes) = match transform {
            StainTransform::Identity => return None,
            StainTransform::Od(od) => (StainMethod::Od, od.table_bytes()),
            StainTransform::Lab(lab) => (StainMethod::Lab, lab.table_bytes()),
        };
        debug_assert!(bytes.len() <= Self::MOST_BYTES);
        Some(Self { method, bytes })
    }

    /// What is done with them.
    pub fn method(&self) -> StainMethod {
        self.method
    }

    /// The tables, one after the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
