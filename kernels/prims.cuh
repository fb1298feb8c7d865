// What the kernels need of the machine: 16-bit numbers, asynchronous copies, tensor cores, shuffles.
//
// The only file with PTX, so that the others need no CUDA header and run under the emulation too, which has its own
// version of each of these in emulation/prims.h. Compiled with WSI_BF16, numbers are bfloat16, else IEEE half.
// Source: PTX ISA 8.1, sections on mma.m16n8k16, ldmatrix, cp.async, max, min and wgmma (matrix descriptors, register
// fragments).
#pragma once

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;
typedef long long i64;
typedef unsigned long long u64;

/// One stored number. Arithmetic is in f32.
struct elem {
    u16 bits;
};

#ifdef EMULATION
#include "emulation/prims.h"
#else

#define DEVICE __device__ __forceinline__
/// A kernel: its one argument is a struct, which the host writes byte by byte.
#define KERNEL(name, Args, threads, blocks_per_sm) \
    extern "C" __global__ void __launch_bounds__(threads, blocks_per_sm) name(const __grid_constant__ Args a)
/// The block's shared memory whose size the launch sets.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#define SHARED __shared__
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")

/// The larger, and the smaller; NaN where either is one, which fmaxf and fminf drop. One instruction too.
DEVICE float larger(float a, float b) {
    float r;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
    return r;
}
DEVICE float smaller(float a, float b) {
    float r;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
    return r;
}

DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

/// Copies BYTES (4, 8 or 16) to shared memory without waiting; of these the first `bytes` are read, the rest is zero.
template <int BYTES>
DEVICE void cp_async(void* shared, const void* global, int bytes) {
    if constexpr (BYTES == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes) : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(global), "n"(BYTES), "r"(bytes) : "memory");
    }
}
/// Ends a group of copies.
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until all but this thread's last N groups have arrived.
template <int N>
DEVICE void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

/// Four 8x8 matrices; lanes 8i to 8i+7 give the addresses of the rows of matrix i, each 16 bytes.
DEVICE void ldmatrix_x4(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
/// Two 8x8 matrices; lanes 0 to 15 give the addresses.
DEVICE void ldmatrix_x2(u32 (&r)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
/// Four 8x8 matrices, each transposed.
DEVICE void ldmatrix_x4_transposed(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

#ifdef WSI_BF16
#define MMA_TYPE "bf16"
DEVICE float to_float(elem e) { return __uint_as_float((u32)e.bits << 16); }
DEVICE elem to_elem(float f) {
    elem e;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(e.bits) : "f"(f));
    return e;
}
/// Two numbers in a word, the first in the lower half.
DEVICE u32 pack(float first, float second) {
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(second), "f"(first));
    return r;
}
DEVICE float first_of(u32 two) { return __uint_as_float(two << 16); }
DEVICE float second_of(u32 two) { return __uint_as_float(two & 0xffff0000u); }
#else
#define MMA_TYPE "f16"
DEVICE float to_float(elem e) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(e.bits));
    return f;
}
/// What a half cannot hold becomes its largest number: infinity would become NaN further on. A NaN stays one.
DEVICE float bounded(float f) { return smaller(larger(f, -65504.f), 65504.f); }
DEVICE elem to_elem(float f) {
    elem e;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(e.bits) : "f"(bounded(f)));
    return e;
}
DEVICE u32 pack(float first, float second) {
    u32 r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(bounded(second)), "f"(bounded(first)));
    return r;
}
DEVICE float first_of(u32 two) {
    elem e = {(u16)(two & 0xffffu)};
    return to_float(e);
}
DEVICE float second_of(u32 two) {
    elem e = {(u16)(two >> 16)};
    return to_float(e);
}
#endif

/// c += a · b of a 16x16 and a 16x8 matrix held by a warp. Lane l has rows l/4 and l/4+8 and columns 2(l%4), +1 of c.
DEVICE void mma(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." MMA_TYPE "." MMA_TYPE ".f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// Products and sums that are rounded by themselves, never fused into one operation.
DEVICE float times(float a, float b) { return __fmul_rn(a, b); }
DEVICE float plus(float a, float b) { return __fadd_rn(a, b); }
DEVICE u32 bits_of(float f) { return __float_as_uint(f); }

/// Adds to a number of the GPU's memory that others add to as well; what does not fit 32 bits is lost.
DEVICE void atomic_add(u32* to, u32 v) { atomicAdd(to, v); }

/// The value of the lane whose number differs in the bits of `mask`.
DEVICE float shuffle_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }

// ── a warpgroup's tensor cores, of compute capability 9.0 alone ──
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define HAS_WGMMA
/// How tensor cores find a matrix in shared memory: rows of 128 bytes from `rows` on, their chunks of 16 bytes swizzled by
/// 128: chunk i of row r at i ^ (r % 8). Eight rows begin at a multiple of 1024 bytes; steps along a row are added.
DEVICE u64 matrix_at(const void* rows) {
    // Start and the step of eight rows, each over 16; 1 at the top is the swizzle. The other step is not used.
    return (u64)((shared_address(rows) & 0x3ffff) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}
/// What this thread wrote to shared memory is seen by tensor cores that read it after the next barrier.
DEVICE void matrices_written() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
/// Before the first product whose sums were touched.
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
/// Ends a group of products.
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Waits until all but the last N groups of products are done.
template <int N>
DEVICE void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }
// The registers of c in the instruction's text, and as its operands.
#define SUMS_TO_64 \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
    "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
    "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
    "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define SUMS_TO_128 \
    "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79," \
    "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95," \
    "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111," \
    "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define SUMS_4(i) "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3])
#define SUMS_16(i) SUMS_4(i), SUMS_4(i + 1), SUMS_4(i + 2), SUMS_4(i + 3)
#define SUMS_64(i) SUMS_16(i), SUMS_16(i + 4), SUMS_16(i + 8), SUMS_16(i + 12)
/// c += a * b' of a 64x16 and an Nx16 matrix in shared memory, by the four warps of a warpgroup: starts it. Warp w has rows
/// 16w to 16w+15 of c; of these, and of each eight columns, a lane has what it has of `mma`.
template <int N>
DEVICE void wgmma(float (&c)[N / 8][4], u64 a, u64 b);
template <>
DEVICE void wgmma<128>(float (&c)[16][4], u64 a, u64 b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." MMA_TYPE "." MMA_TYPE " {" SUMS_TO_64 "}, %64, %65, 1, 1, 1, 0, 0;"
                 : SUMS_64(0)
                 : "l"(a), "l"(b));
}
template <>
DEVICE void wgmma<256>(float (&c)[32][4], u64 a, u64 b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32." MMA_TYPE "." MMA_TYPE " {" SUMS_TO_64 "," SUMS_TO_128 "}, %128, %129, 1, 1, 1, 0, 0;"
                 : SUMS_64(0), SUMS_64(16)
                 : "l"(a), "l"(b));
}
#endif

#endif
