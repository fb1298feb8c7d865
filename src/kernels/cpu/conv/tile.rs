//! The heart of a convolution: a few pixels by a few vectors of channels, summed in registers.
//!
//! Owns: [`Mac`], [`Taps`], [`Tile`]. Must not know: images, bands, how inputs and weights came to be laid out.
//!
//! Inputs lie in blocks of [`WORDS`] words per pixel (a word is one float, or two bfloat16), pixels a constant distance
//! apart, so that one pointer and constant displacements reach all pixels of a tile. A sum's order is that of the
//! weights, whatever the tile.

#![expect(clippy::needless_range_loop, reason = "registers by number: such loops unroll, others may not")]

#[cfg(target_arch = "x86_64")]
use crate::kernels::cpu::simd::x86;
use crate::kernels::cpu::{
    isa::Isa,
    simd::{Portable, Simd},
};

/// Words of a pixel in a block: a cache line.
pub(super) const WORDS: usize = 16;

/// A multiply-add of words.
pub(super) trait Mac: Copy {
    /// Its vectors.
    type S: Simd;
    /// Whether a word is two bfloat16.
    const PAIRS: bool;
    /// Pixels that a tile may have, from the most to 1.
    const PIXELS: &'static [usize];

    /// `acc + Σ x · w`.
    ///
    /// # Safety
    /// The processor has the instruction.
    unsafe fn mac(x: V<Self>, w: V<Self>, acc: V<Self>) -> V<Self>;

    /// Stores the lanes rounded to bfloat16.
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
            const PAIRS: bool = false;
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

/// bfloat16 pairs with AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Bf16;

#[cfg(target_arch = "x86_64")]
impl Mac for Bf16 {
    type S = x86::Avx512;
    const PAIRS: bool = true;
    const PIXELS: &'static [usize] = &[14, 12, 8, 7, 4, 2, 1];

    #[inline(always)]
    unsafe fn mac(x: V<Self>, w: V<Self>, acc: V<Self>) -> V<Self> {
        use std::arch::x86_64::*;
        // SAFETY: the caller's promise; the vectors are reinterpreted bit by bit.
        unsafe {
            _mm512_dpbf16_ps(
                acc,
                std::mem::transmute::<__m512, __m512bh>(x),
                std::mem::transmute::<__m512, __m512bh>(w),
            )
        }
    }

    #[inline(always)]
    unsafe fn store_halves(to: *mut u16, v: V<Self>) {
        use std::arch::x86_64::*;
        // SAFETY: the caller's promise; the vectors are reinterpreted bit by bit.
        unsafe { _mm256_storeu_si256(to.cast(), std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v))) }
    }

    #[inline(always)]
    unsafe fn tile_of<const VN: usize, const D: usize>(n: usize, t: &Tile, taps: &Taps, finish: &Finish) {
        // A function of its own, as in single precision.
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        unsafe fn of<const VN: usize, const D: usize>(n: usize, t: &Tile, taps: &Taps, finish: &Finish) {
            // SAFETY: the caller's promise.
            unsafe {
                match n {
                    14 => tile::<Bf16, 14, VN, D>(t, taps, finish),
                    12 => tile::<Bf16, 12, VN, D>(t, taps, finish),
                    8 => tile::<Bf16, 8, VN, D>(t, taps, finish),
                    7 => tile::<Bf16, 7, VN, D>(t, taps, finish),
                    4 => tile::<Bf16, 4, VN, D>(t, taps, finish),
                    2 => tile::<Bf16, 2, VN, D>(t, taps, finish),
                    1 => tile::<Bf16, 1, VN, D>(t, taps, finish),
                    _ => unreachable!("tile of {n} pixels"),
                }
            }
        }
        // SAFETY: the caller's promise.
        unsafe { of::<VN, D>(n, t, taps, finish) }
    }
}

/// A kernel written over [`Mac`].
pub(super) trait MacKernel {
    /// # Safety
    /// The processor has the instructions of `M`, and the arguments' pointers are good for what the kernel says.
    unsafe fn run<M: Mac>(self);
}

/// Runs a [`MacKernel`] with this instruction set; in bfloat16 if `pairs`.
///
/// # Safety
/// The processor has the instructions of `isa`, for pairs AVX-512 BF16; the kernel's pointers are good.
pub(super) unsafe fn dispatch<K: MacKernel>(isa: Isa, pairs: bool, kernel: K) {
    /// # Safety
    /// The processor has AVX-512 and its BF16; the kernel's pointers are good.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    unsafe fn bf16<K: MacKernel>(kernel: K) {
        // SAFETY: the caller's promise.
        unsafe { kernel.run::<Bf16>() }
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
            Isa::Avx512Bf16 if pairs => bf16(kernel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 => avx512(kernel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2(kernel),
            _ => kernel.run::<Portable>(),
        }
    }
}

/// How a sum walks through its inputs: blocks of channels, rows and columns of the kernel, words in a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taps {
    /// Blocks of channels, and floats from one to the next.
    pub blocks: (usize, usize),
    /// Rows of the kernel, and floats from one to the next.
    pub rows: (usize, usize),
    /// Columns of the kernel, and floats from one to the next.
    pub cols: (usize, usize),
    /// Words side by side.
    pub run: usize,
    /// The same in the last block.
    pub last_run: usize,
}

/// What becomes of a tile's sums.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    /// Go on from what is in the output.
    pub resume: bool,
    /// Add the bias.
    pub adds_bias: bool,
    /// Added.
    pub residual: *const f32,
    /// Floats between the residual's pixels.
    pub residual_px: usize,
    /// Added before the clamp.
    pub residual_first: bool,
    /// Least and largest value.
    pub clamp: Option<(f32, f32)>,
}

/// A tile: where its input, weights and output are.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub x: *const f32,
    pub w: *const f32,
    pub bias: *const f32,
    pub out: *mut f32,
    /// Floats between the output's pixels.
    pub out_px: usize,
    /// Channels, at most the width of the vectors.
    pub channels: usize,
}

/// Sums `N` pixels by `VN` vectors; the pixels' inputs are `D` floats apart.
///
/// # Safety
/// The input is good for all taps of all pixels, the weights for all taps, the bias for `VN` vectors, the output and the
/// residual for `channels` floats of each pixel.
#[inline(always)]
unsafe fn tile<M: Mac, const N: usize, const VN: usize, const D: usize>(t: &Tile, taps: &Taps, finish: &Finish) {
    let lanes = M::S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let mut acc = [[M::S::splat(0.0); VN]; N];
        if finish.adds_bias {
            for v in 0..VN {
                let b = M::S::load(t.bias.add(v * lanes));
                for a in &mut acc {
                    a[v] = b;
                }
            }
        }
        if finish.resume {
            for i in 0..N {
                for v in 0..VN {
                    let n = t.channels.saturating_sub(v * lanes).min(lanes);
                    acc[i][v] = M::S::add(acc[i][v], M::S::load_part(t.out.add(i * t.out_px + v * lanes), n));
                }
            }
        }
        let (mut w, mut xb) = (t.w, t.x);
        for block in 0..taps.blocks.0 {
            let run = if block + 1 == taps.blocks.0 { taps.last_run } else { taps.run };
            let mut xr = xb;
            for _ in 0..taps.rows.0 {
                let mut xc = xr;
                for _ in 0..taps.cols.0 {
                    let mut x = xc;
                    for _ in 0..run / 4 {
                        for k in 0..4 {
                            step::<M, N, VN, D>(&mut acc, x.add(k), w.add(k * VN * lanes));
                        }
                        x = x.add(4);
                        w = w.add(4 * VN * lanes);
                    }
                    for _ in 0..run % 4 {
                        step::<M, N, VN, D>(&mut acc, x, w);
                        x = x.add(1);
                        w = w.add(VN * lanes);
                    }
                    xc = xc.add(taps.cols.1);
                }
                xr = xr.add(taps.rows.1);
            }
            xb = xb.add(taps.blocks.1);
        }
        put::<M, N, VN>(acc, t, finish);
    }
}

/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn step<M: Mac, const N: usize, const VN: usize, const D: usize>(
    acc: &mut [[V<M>; VN]; N],
    x: *const f32,
    w: *const f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut weights = [M::S::splat(0.0); VN];
        for v in 0..VN {
            weights[v] = M::S::load(w.add(v * M::S::LANES));
        }
        for i in 0..N {
            let value = M::S::splat(*x.add(i * D));
            for v in 0..VN {
                acc[i][v] = M::mac(value, weights[v], acc[i][v]);
            }
        }
    }
}

/// A function, not a closure: one that is called twice is not inlined, and loses its instructions.
///
/// # Safety
/// As [`tile`]; there is a residual.
#[inline(always)]
unsafe fn plus_residual<M: Mac, const N: usize, const VN: usize>(acc: &mut [[V<M>; VN]; N], t: &Tile, finish: &Finish) {
    let lanes = M::S::LANES;
    for i in 0..N {
        for v in 0..VN {
            let n = t.channels.saturating_sub(v * lanes).min(lanes);
            // SAFETY: the caller's promise.
            unsafe {
                let r = M::S::load_part(finish.residual.add(i * finish.residual_px + v * lanes), n);
                acc[i][v] = M::S::add(acc[i][v], r);
            }
        }
    }
}

/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn put<M: Mac, const N: usize, const VN: usize>(mut acc: [[V<M>; VN]; N], t: &Tile, finish: &Finish) {
    let lanes = M::S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let residual = !finish.residual.is_null();
        if residual && finish.residual_first {
            plus_residual::<M, N, VN>(&mut acc, t, finish);
        }
        if let Some((low, high)) = finish.clamp {
            let (low, high) = (M::S::splat(low), M::S::splat(high));
            for v in acc.as_flattened_mut() {
                *v = M::S::clamp(*v, low, high);
            }
        }
        if residual && !finish.residual_first {
            plus_residual::<M, N, VN>(&mut acc, t, finish);
        }
        for i in 0..N {
            for v in 0..VN {
                let n = t.channels.saturating_sub(v * lanes).min(lanes);
                M::S::store_part(t.out.add(i * t.out_px + v * lanes), acc[i][v], n);
            }
        }
    }
}
