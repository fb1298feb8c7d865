//! Number types of tensors in checkpoints.
//!
//! Owns: [`Element`]. Must not know: files, shapes.

use safetensors::Dtype;

/// How a number is stored, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// IEEE half.
    F16,
    /// The upper half of a 32-bit float.
    Bf16,
    /// An integer or a boolean of this many bytes.
    Integer(u8),
    /// Complex, quantised or of fewer than 8 bits: never a weight here. Bytes of one.
    Other(u8),
}

impl Element {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 => 8,
            Self::F16 | Self::Bf16 => 2,
            Self::Integer(bytes) | Self::Other(bytes) => usize::from(bytes),
        }
    }

    /// The type of PyTorch's storage class `torch.<name>`.
    pub(super) fn of_storage(name: &str) -> Option<Self> {
        Some(match name {
            "FloatStorage" => Self::F32,
            "DoubleStorage" => Self::F64,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::Bf16,
            "LongStorage" => Self::Integer(8),
            "IntStorage" => Self::Integer(4),
            "ShortStorage" => Self::Integer(2),
            "CharStorage" | "ByteStorage" | "BoolStorage" => Self::Integer(1),
            "UntypedStorage" | "QInt8Storage" | "QUInt8Storage" => Self::Other(1),
            "QUInt4x2Storage" | "QUInt2x4Storage" => Self::Other(1),
            "QInt32Storage" => Self::Other(4),
            "ComplexFloatStorage" => Self::Other(8),
            "ComplexDoubleStorage" => Self::Other(16),
            _ => return None,
        })
    }

    pub(super) fn of_safetensors(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F64 => Self::F64,
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::Bf16,
            Dtype::BOOL | Dtype::U8 | Dtype::I8 => Self::Integer(1),
            Dtype::I16 | Dtype::U16 => Self::Integer(2),
            Dtype::I32 | Dtype::U32 => Self::Integer(4),
            Dtype::I64 | Dtype::U64 => Self::Integer(8),
            other => Self::Other(u8::try_from(other.bitsize() / 8).unwrap_or(0)),
        }
    }

    /// Numbers as f32; `None` when they are no floats.
    pub(super) fn floats(self, bytes: &[u8]) -> Option<Vec<f32>> {
        Some(match self {
            Self::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Self::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
            Self::F16 => bytes.as_chunks().0.iter().map(|&b| f32_from_half(u16::from_le_bytes(b))).collect(),
            Self::Bf16 => {
                let wide = |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16);
                bytes.as_chunks().0.iter().map(|&b| wide(b)).collect()
            }
            Self::Integer(_) | Self::Other(_) => return None,
        })
    }
}

impl std::fmt::Display for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::F32 => f.write_str("f32"),
            Self::F64 => f.write_str("f64"),
            Self::F16 => f.write_str("f16"),
            Self::Bf16 => f.write_str("bf16"),
            Self::Integer(bytes) => write!(f, "{}-bit integer", u32::from(*bytes) * 8),
            Self::Other(_) => f.write_str("complex or quantised"),
        }
    }
}

/// IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits. Exact.
fn f32_from_half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        0x1f if fraction == 0.0 => sign * f32::INFINITY,
        0x1f => f32::NAN,
        e => sign * (1.0 + fraction / 1024.0) * 2f32.powi(e - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_read_exactly() {
        // Greatest, least normal, least, one third, minus two, both zeros, infinity.
        let cases = [
            (0x7bff, 65504.0),
            (0x0400, 2f32.powi(-14)),
            (0x0001, 2f32.powi(-24)),
            (0x3555, 0.333_251_95),
            (0xc000, -2.0),
            (0x0000, 0.0),
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (bits, value) in cases {
            assert_eq!(f32_from_half(bits), value, "{bits:04x}");
        }
        assert!(f32_from_half(0x8000).is_sign_negative() && f32_from_half(0x7e00).is_nan());
    }

    #[test]
    fn every_half_goes_there_and_back() {
        for bits in (0..=u16::MAX).filter(|b| b & 0x7c00 != 0x7c00) {
            let value = f32_from_half(bits);
            let exponent = if value == 0.0 { -15 } else { value.abs().log2().floor().max(-15.0) as i32 };
            let fraction = if exponent < -14 {
                (value.abs() * 2f32.powi(24)) as u16
            } else {
                ((value.abs() / 2f32.powi(exponent) - 1.0) * 1024.0) as u16 | ((exponent + 15) as u16) << 10
            };
            assert_eq!(fraction | bits & 0x8000, bits, "{bits:04x} is {value}");
        }
    }
}
