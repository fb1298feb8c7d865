//! Which instructions the processor has.
//!
//! Owns: [`Isa`], [`Precision`]. Must not know: kernels.

use std::sync::OnceLock;

/// Instruction sets the kernels are compiled for, from the least to the most able.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// What the compiler makes of plain Rust, on any processor.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 and its dot products of bfloat16 and (VNNI) of 16-bit whole numbers.
    Avx512Bf16,
}

impl Isa {
    /// All of them, from the least to the most able.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16];

    /// Name in `WSI_RUN_ISA` and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512_bf16",
        }
    }

    /// The one of this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|isa| isa.name() == name)
    }

    /// The most able one this processor has.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(probe)
    }

    /// The fastest one, or one that the environment's `WSI_RUN_ISA` names, as far as the processor has it. An unknown
    /// name changes nothing.
    ///
    /// The fastest is [`Isa::best`], except that Intel's dot product for bfloat16 does half of what its single precision
    /// does (measured on Emerald Rapids: 111 against 213 GFLOP/s a core) and is left aside.
    pub fn detect() -> Self {
        static DETECTED: OnceLock<Isa> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            let wanted = std::env::var("WSI_RUN_ISA").ok().and_then(|name| Self::from_name(&name));
            let fastest = if is_intel() { Self::best().min(Self::Avx512) } else { Self::best() };
            wanted.map_or(fastest, |isa| isa.min(Self::best()))
        })
    }

    /// This one, or the most able one there is when the processor lacks it.
    pub fn available(self) -> Self {
        self.min(Self::best())
    }
}

#[cfg(target_arch = "x86_64")]
fn probe() -> Isa {
    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
        Isa::Portable
    } else if !(is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl"))
    {
        Isa::Avx2
    } else if !(is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vnni")) {
        Isa::Avx512
    } else {
        Isa::Avx512Bf16
    }
}

#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    // The vendor's twelve letters are in ebx, edx and ecx of leaf 0.
    std::arch::x86_64::__cpuid(0).ebx.to_le_bytes() == *b"Genu"
}

#[cfg(not(target_arch = "x86_64"))]
fn is_intel() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn probe() -> Isa {
    Isa::Portable
}

/// How exactly products are formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Single precision throughout.
    F32,
    /// Factors rounded to bfloat16, sums in single precision. Where the processor has no dot product for them, or
    /// another way is faster, the factors stay single.
    Bf16,
    /// As [`Precision::Bf16`], but 1×1 convolutions multiply whole numbers of 16 bits, with a scale for the inputs of each
    /// pixel and one for the weights of each channel out: several times closer, and a little slower.
    Int16,
}

impl Precision {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int16 => "int16",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_isa_has_a_name_that_finds_it() {
        for isa in Isa::ALL {
            assert_eq!(Isa::from_name(isa.name()), Some(isa));
            assert!(isa.available() <= Isa::best());
        }
        assert_eq!(Isa::from_name("mmx"), None);
    }
}
