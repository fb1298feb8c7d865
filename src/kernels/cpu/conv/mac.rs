//! How products are formed: of single floats, of pairs of bfloat16, of pairs of whole numbers.
//!
//! Owns: [`Mac`], [`Word`], [`whole`]. Must not know: tiles' loops, where words lie.
//!
//! A processor that multiplies pairs of halves does twice the products of single precision. bfloat16 keeps eight bits of
//! each factor whatever its size, so nothing else needs to be known of it. Whole numbers of 16 bits keep up to fifteen, but
//! their sums have to stay within 32 bits: by Cauchy and Schwarz they do where the norms of what is multiplied do, so the
//! inputs of a pixel share one scale, and the weights of a channel out.

use super::tile::{Finish, Taps, Tile, tile};
#[cfg(target_arch = "x86_64")]
use crate::kernels::cpu::simd::x86;
use crate::kernels::cpu::{
    isa::Isa,
    simd::{Portable, Simd},
};
#[cfg(target_arch = "x86_64")]
use std::{
    arch::{asm, x86_64::*},
    mem::transmute,
};

/// What 32 bits hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// A number in single precision.
    Float,
    /// Two bfloat16.
    Bfloats,
    /// Two whole numbers, each a multiple of its pixel's or channel's scale.
    Integers,
}

impl Word {
    /// Numbers of a word.
    pub(super) const fn numbers(self) -> usize {
        match self {
            Self::Float => 1,
            Self::Bfloats | Self::Integers => 2,
        }
    }
}

/// Whole numbers of 16 bits whose sums of products fit 32: `(32600 + √K / 2) · (65400 + √K / 2) < 2³¹` for as many
/// products as [`whole::MOST`], half of each number having been added by rounding.
pub(super) mod whole {
    use super::{Mac, Simd, V};

    /// Norm of a pixel's inputs; so none of them is more than an `i16`.
    pub(in super::super) const INPUT_NORM: f32 = 32600.0;
    /// Norm of a channel's weights.
    pub(in super::super) const WEIGHT_NORM: f32 = 65400.0;
    /// The most products of a sum.
    pub(in super::super) const MOST: usize = 1 << 16;

    /// What a channel's weights are divided by.
    pub(in super::super) fn weight_scale(weights: impl Iterator<Item = f32>) -> f32 {
        let (squares, largest) = weights.fold((0.0, 0.0_f32), |(s, m), w| (s + f64::from(w).powi(2), m.max(w.abs())));
        (squares.sqrt() as f32 / WEIGHT_NORM).max(largest / f32::from(i16::MAX))
    }

    /// A weight as a multiple of its channel's scale.
    pub(in super::super) fn rounded(weight: f32, scale: f32) -> u16 {
        // A weight of a channel of zeros, or of nobody's channel.
        if weight == 0.0 { 0 } else { (weight / scale).round_ties_even() as i16 as u16 }
    }

    /// The sum of the lanes.
    ///
    /// # Safety
    /// The processor has the instructions of `M`.
    #[inline(always)]
    pub(in super::super) unsafe fn sum<M: Mac>(v: V<M>) -> f32 {
        // SAFETY: the caller's promise.
        let all = unsafe { M::S::lanes(v) };
        let half = |v: &[f32], i: usize| v[i] + v[i + v.len() / 2];
        let eight: [f32; 8] = std::array::from_fn(|i| half(&all, i));
        let four: [f32; 4] = std::array::from_fn(|i| half(&eight, i));
        (four[0] + four[2]) + (four[1] + four[3])
    }

    /// What the inputs of `N` pixels are multiplied by, and what they are then to be multiplied by; of the sums of their
    /// squares. Zeros stay zeros; where one is not finite, no sum is.
    #[inline(always)]
    pub(in super::super) fn input_scales<const N: usize>(squares: [f32; N]) -> ([f32; N], [f32; N]) {
        let (mut into, mut back) = ([0.0; N], [0.0; N]);
        for i in 0..N {
            let norm = squares[i].sqrt();
            let is_zero = squares[i] < f32::MIN_POSITIVE;
            into[i] = if is_zero { 0.0 } else { INPUT_NORM / norm };
            back[i] = if is_zero { 0.0 } else { norm / INPUT_NORM };
        }
        (into, back)
    }
}

/// Two halves in one word.
pub(super) fn pair([first, second]: [u16; 2]) -> f32 {
    f32::from_bits(u32::from(first) | (u32::from(second) << 16))
}

/// A multiply-add of words.
pub(super) trait Mac: Copy {
    /// Its vectors.
    type S: Simd;
    /// What it multiplies.
    const WORD: Word;
    /// Pixels that a tile may have, from the most to 1.
    const PIXELS: &'static [usize];

    /// `acc + Σ x · w`.
    ///
    /// # Safety
    /// The processor has the instruction.
    unsafe fn mac(x: V<Self>, w: V<Self>, acc: V<Self>) -> V<Self>;

    /// A sum as a number in single precision.
    ///
    /// # Safety
    /// As `mac`.
    #[inline(always)]
    unsafe fn float(acc: V<Self>) -> V<Self> {
        acc
    }

    /// Stores the lanes rounded to halves of a word.
    ///
    /// # Safety
    /// As `mac`; `to` is good for all lanes.
    unsafe fn store_halves(to: *mut u16, v: V<Self>);

    /// [`tile`] of `n` pixels, one of [`Mac::PIXELS`], by `VN` vectors; the pixels' inputs are `D` floats apart.
    ///
    /// # Safety
    /// As [`tile`].
    unsafe fn tile_of<const VN: usize, const D: usize>(n: usize, t: &Tile, taps: &Taps, finish: &Finish);
}

/// The vector of a [`Mac`].
pub(super) type V<M> = <<M as Mac>::S as Simd>::V;

/// Single precision on the vectors of an instruction set, with tiles of these many pixels.
macro_rules! single {
    ($simd:ty, $(#[$features:meta])? $($pixels:literal)*) => {
        impl Mac for $simd {
            type S = Self;
            const WORD: Word = Word::Float;
            const PIXELS: &'static [usize] = &[$($pixels),*];

            #[inline(always)]
            unsafe fn mac(x: V<Self>, w: V<Self>, acc: V<Self>) -> V<Self> {
                // SAFETY: the caller's promise.
                unsafe { Self::fma(x, w, acc) }
            }

            #[inline(always)]
            unsafe fn store_halves(_: *mut u16, _: V<Self>) {
                unreachable!("halves in single precision");
            }

            #[inline(always)]
            unsafe fn tile_of<const VN: usize, const D: usize>(n: usize, t: &Tile, taps: &Taps, finish: &Finish) {
                // A function of its own: compiled once, whoever calls it.
                $(#[$features])?
                unsafe fn of<const VN: usize, const D: usize>(n: usize, t: &Tile, taps: &Taps, finish: &Finish) {
                    match n {
                        // SAFETY: the caller's promise.
                        $($pixels => unsafe { tile::<$simd, $pixels, VN, D>(t, taps, finish) },)*
                        _ => unreachable!("tile of {n} pixels"),
                    }
                }
                // SAFETY: the caller's promise.
                unsafe { of::<VN, D>(n, t, taps, finish) }
            }
        }
    };
}

single!(Portable, 4 1);
#[cfg(target_arch = "x86_64")]
single!(x86::Avx2, #[target_feature(enable = "avx2,fma")] 6 4 2 1);
#[cfg(target_arch = "x86_64")]
single!(x86::Avx512, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")] 14 12 8 7 4 2 1);

/// Pairs of halves with AVX-512.
#[cfg(target_arch = "x86_64")]
macro_rules! pairs {
    ($(#[$doc:meta])* $name:ident, $word:expr, $features:literal,
        |$x:ident, $w:ident, $acc:ident| $mac:expr, |$v:ident| $halves:expr $(, |$sum:ident| $float:expr)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(super) struct $name;

        impl Mac for $name {
            type S = x86::Avx512;
            const WORD: Word = $word;
            const PIXELS: &'static [usize] = &[14, 12, 8, 7, 4, 2, 1];

            #[inline(always)]
            unsafe fn mac($x: V<Self>, $w: V<Self>, $acc: V<Self>) -> V<Self> {
                // SAFETY: the caller's promise; the vectors are reinterpreted bit by bit.
                unsafe { $mac }
            }

            $(
                #[inline(always)]
                unsafe fn float($sum: V<Self>) -> V<Self> {
                    // SAFETY: as above.
                    unsafe { $float }
                }
            )?

            #[inline(always)]
            unsafe fn store_halves(to: *mut u16, $v: V<Self>) {
                // SAFETY: as above.
                unsafe { _mm256_storeu_si256(to.cast(), $halves) }
            }

            #[inline(always)]
            unsafe fn tile_of<const VN: usize, const D: usize>(n: usize, t: &Tile, taps: &Taps, finish: &Finish) {
                // A function of its own, as in single precision.
                #[target_feature(enable = $features)]
                unsafe fn of<const VN: usize, const D: usize>(n: usize, t: &Tile, taps: &Taps, finish: &Finish) {
                    // SAFETY: the caller's promise.
                    unsafe {
                        match n {
                            14 => tile::<$name, 14, VN, D>(t, taps, finish),
                            12 => tile::<$name, 12, VN, D>(t, taps, finish),
                            8 => tile::<$name, 8, VN, D>(t, taps, finish),
                            7 => tile::<$name, 7, VN, D>(t, taps, finish),
                            4 => tile::<$name, 4, VN, D>(t, taps, finish),
                            2 => tile::<$name, 2, VN, D>(t, taps, finish),
                            1 => tile::<$name, 1, VN, D>(t, taps, finish),
                            _ => unreachable!("tile of {n} pixels"),
                        }
                    }
                }
                // SAFETY: the caller's promise.
                unsafe { of::<VN, D>(n, t, taps, finish) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pairs!(
    /// bfloat16.
    Bfloats,
    Word::Bfloats,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma",
    |x, w, acc| _mm512_dpbf16_ps(acc, transmute::<__m512, __m512bh>(x), transmute::<__m512, __m512bh>(w)),
    |v| transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v))
);

#[cfg(target_arch = "x86_64")]
pairs!(
    /// Whole numbers.
    Integers,
    Word::Integers,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma",
    |x, w, acc| plus_products(x, w, acc),
    |v| _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(v)),
    |sum| _mm512_cvtepi32_ps(_mm512_castps_si512(sum))
);

/// `acc + Σ x · w` of whole numbers. Left to the compiler, the instruction becomes two: it takes it for a slow one.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn plus_products(x: __m512, w: __m512, mut acc: __m512) -> __m512 {
    // SAFETY: registers alone, and the processor has the instruction.
    unsafe {
        asm!(
            "vpdpwssd {acc}, {x}, {w}",
            acc = inout(zmm_reg) acc,
            x = in(zmm_reg) x,
            w = in(zmm_reg) w,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

/// A kernel written over [`Mac`].
pub(super) trait MacKernel {
    /// # Safety
    /// The processor has the instructions of `M`, and the arguments' pointers are good for what the kernel says.
    unsafe fn run<M: Mac>(self);
}

/// Runs a [`MacKernel`] with this instruction set, on words of this kind.
///
/// # Safety
/// The processor has the instructions of `isa`, for pairs those of [`Isa::Avx512Bf16`]; the kernel's pointers are good.
pub(super) unsafe fn dispatch<K: MacKernel>(isa: Isa, word: Word, kernel: K) {
    /// # Safety
    /// The processor has AVX-512 and its BF16; the kernel's pointers are good.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    unsafe fn bfloats<K: MacKernel>(kernel: K) {
        // SAFETY: the caller's promise.
        unsafe { kernel.run::<Bfloats>() }
    }
    /// # Safety
    /// The processor has AVX-512 and its VNNI; the kernel's pointers are good.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
    unsafe fn integers<K: MacKernel>(kernel: K) {
        // SAFETY: the caller's promise.
        unsafe { kernel.run::<Integers>() }
    }
    /// # Safety
    /// The processor has AVX-512; the kernel's pointers are good.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    unsafe fn avx512<K: MacKernel>(kernel: K) {
        // SAFETY: the caller's promise.
        unsafe { kernel.run::<x86::Avx512>() }
    }
    /// # Safety
    /// The processor has AVX2 and FMA; the kernel's pointers are good.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2<K: MacKernel>(kernel: K) {
        // SAFETY: the caller's promise.
        unsafe { kernel.run::<x86::Avx2>() }
    }
    // SAFETY: the caller's promise.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 if word == Word::Bfloats => bfloats(kernel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 if word == Word::Integers => integers(kernel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 => avx512(kernel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2(kernel),
            _ => kernel.run::<Portable>(),
        }
    }
}
