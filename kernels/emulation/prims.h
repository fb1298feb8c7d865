// What prims.cuh offers, on the processor; fragment layouts are those of the PTX ISA.
#pragma once
#include "device.h"

#define DEVICE inline
#define KERNEL(name, Args, threads, blocks_per_sm)                                                                  \
    static void name(const Args& a);                                                                                \
    static emulation::Registered registered_##name(#name, {sizeof(Args), threads, [](const void* p) { name(*(const Args*)p); }}); \
    static void name(const Args& a)
#define DYNAMIC_SHARED(name) unsigned char* name = emulation::the_block->shared
#if EMULATION_THREADS
#define SHARED static
#else
#define SHARED static thread_local
#endif
#define UNROLL
#define NO_UNROLL
#define threadIdx (emulation::the_lane->index)
#define blockIdx (emulation::the_block->index)
#define blockDim (emulation::the_block->size)
#define gridDim (emulation::the_block->grid)
#define __syncthreads() emulation::barrier(__LINE__)
#define __syncwarp() emulation::together([](void**) {}, nullptr, __LINE__)
#define __expf expf
#define rsqrtf(x) (1.0f / sqrtf(x))
using std::max;
using std::min;
DEVICE float larger(float a, float b) { return a != a || b != b ? NAN : std::max(a, b); }
DEVICE float smaller(float a, float b) { return a != a || b != b ? NAN : std::min(a, b); }

#ifdef WSI_BF16
DEVICE float to_float(elem e) {
    u32 bits = (u32)e.bits << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
DEVICE elem to_elem(float f) {
    u32 bits;
    memcpy(&bits, &f, 4);
    if (f != f) return {0x7fff};
    bits += 0x7fff + (bits >> 16 & 1);
    return {(u16)(bits >> 16)};
}
#else
DEVICE float to_float(elem e) {
    _Float16 h;
    memcpy(&h, &e, 2);
    return (float)h;
}
DEVICE elem to_elem(float f) {
    // What nobody wrote is NaN, and what is bounded makes none: a NaN says that something was read which is not there.
    if (f != f && !EMULATION_THREADS) emulation::die("NaN is stored");
    _Float16 h = (_Float16)smaller(larger(f, -65504.f), 65504.f);
    elem e;
    memcpy(&e, &h, 2);
    return e;
}
#endif
// The emulation is built without fused operations.
DEVICE float times(float a, float b) { return a * b; }
DEVICE float plus(float a, float b) { return a + b; }
DEVICE u32 bits_of(float f) {
    u32 bits;
    memcpy(&bits, &f, 4);
    return bits;
}
DEVICE void atomic_add(u32* to, u32 v) { __atomic_fetch_add(to, v, __ATOMIC_RELAXED); }
DEVICE u32 pack(float first, float second) { return to_elem(first).bits | (u32)to_elem(second).bits << 16; }
DEVICE float first_of(u32 two) { return to_float({(u16)two}); }
DEVICE float second_of(u32 two) { return to_float({(u16)(two >> 16)}); }

DEVICE void arrive(const emulation::Copy& copy) {
    memset(copy.to, 0, copy.bytes);
    memcpy(copy.to, copy.from, copy.read);
}
template <int BYTES>
DEVICE void cp_async(void* shared, const void* global, int bytes) {
    if (((uintptr_t)shared | (bytes ? (uintptr_t)global : 0)) % BYTES) emulation::die("an asynchronous copy is misaligned", BYTES);
    if (bytes < 0 || bytes > BYTES) emulation::die("an asynchronous copy reads more than it copies", bytes, BYTES);
    emulation::Copy copy{shared, global, BYTES, bytes};
    if (emulation::eager_copies()) arrive(copy);
    else emulation::the_lane->copies.push_back(copy);
}
DEVICE void cp_async_commit() { emulation::the_lane->groups.push_back(emulation::the_lane->copies.size()); }
template <int N>
DEVICE void cp_async_wait() {
    auto& lane = *emulation::the_lane;
    if ((int)lane.groups.size() <= N) return;
    size_t arrived = lane.groups.size() - N, end = lane.groups[arrived - 1];
    for (size_t i = 0; i < end; i++) arrive(lane.copies[i]);
    lane.copies.erase(lane.copies.begin(), lane.copies.begin() + end);
    lane.groups.erase(lane.groups.begin(), lane.groups.begin() + arrived);
    for (auto& group : lane.groups) group -= end;
}

struct LdmatrixArgument { const void* row; u32* to; };
template <int N, bool TRANSPOSED>
void ldmatrix_of_all(void** arguments) {
    auto of = [&](int l) { return (LdmatrixArgument*)arguments[l]; };
    for (int m = 0; m < N; m++)
        for (int l = 0; l < 32; l++) {
            u16 two[2];
            for (int i = 0; i < 2; i++) {
                int row = TRANSPOSED ? l % 4 * 2 + i : l / 4, column = TRANSPOSED ? l / 4 : l % 4 * 2 + i;
                auto* from = (const u16*)of(m * 8 + row)->row;
                if ((uintptr_t)from % 16) emulation::die("a row of ldmatrix is misaligned", m, row);
                two[i] = from[column];
            }
            of(l)->to[m] = two[0] | (u32)two[1] << 16;
        }
}
DEVICE void ldmatrix_x4(u32 (&r)[4], const void* row) {
    LdmatrixArgument argument{row, r};
    emulation::together(ldmatrix_of_all<4, false>, &argument, 1);
}
DEVICE void ldmatrix_x2(u32 (&r)[2], const void* row) {
    LdmatrixArgument argument{row, r};
    emulation::together(ldmatrix_of_all<2, false>, &argument, 2);
}
DEVICE void ldmatrix_x4_transposed(u32 (&r)[4], const void* row) {
    LdmatrixArgument argument{row, r};
    emulation::together(ldmatrix_of_all<4, true>, &argument, 3);
}

struct MmaArgument { float* c; const u32 *a, *b; };
inline void mma_of_all(void** arguments) {
    float a[16][16], b[16][8], c[16][8];
    for (int l = 0; l < 32; l++) {
        auto* of = (MmaArgument*)arguments[l];
        int row = l / 4, column = l % 4 * 2;
        for (int i = 0; i < 4; i++) {
            int r = row + (i & 1) * 8, k = column + (i >> 1) * 8;
            a[r][k] = first_of(of->a[i]);
            a[r][k + 1] = second_of(of->a[i]);
            c[row + (i >> 1) * 8][column + (i & 1)] = of->c[i];
        }
        for (int i = 0; i < 2; i++) {
            b[column + i * 8][row] = first_of(of->b[i]);
            b[column + i * 8 + 1][row] = second_of(of->b[i]);
        }
    }
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 16; k++)
            for (int n = 0; n < 8; n++) c[m][n] += a[m][k] * b[k][n];
    for (int l = 0; l < 32; l++) {
        auto* of = (MmaArgument*)arguments[l];
        for (int i = 0; i < 4; i++) of->c[i] = c[l / 4 + (i >> 1) * 8][l % 4 * 2 + (i & 1)];
    }
}
DEVICE void mma(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    MmaArgument argument{c, a, b};
    emulation::together(mma_of_all, &argument, 4);
}

struct ShuffleArgument { float value; int mask; float result; };
DEVICE float shuffle_xor(float v, int mask) {
    ShuffleArgument argument{v, mask, 0};
    emulation::together([](void** arguments) {
        auto of = [&](int l) { return (ShuffleArgument*)arguments[l]; };
        for (int l = 0; l < 32; l++) of(l)->result = of(l ^ of(l)->mask)->value;
    }, &argument, 5);
    return argument.result;
}

// ── a warpgroup's tensor cores ──
// A product is done when it is waited for, lane by lane, from what shared memory holds then: a piece that is overwritten
// too early gives other sums. With EMULATION_COPIES=eager it is done at once.
#define HAS_WGMMA
/// Addresses of shared memory begin with the block's.
DEVICE u32 shared_address(const void* p) { return (u32)((const unsigned char*)p - emulation::the_block->shared); }
DEVICE u64 matrix_at(const void* rows) {
    return (u64)((shared_address(rows) & 0x3ffff) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}
DEVICE void matrices_written() {}
DEVICE void wgmma_fence() {}
/// Row `row` of a matrix: 16 numbers, as the descriptor says: start, step of eight rows, swizzle of the address's bits.
DEVICE void row_of(u64 matrix, int row, float (&to)[16]) {
    if (matrix >> 62 != 1 || (matrix >> 49 & 7) != 0) emulation::die("a matrix of another layout");
    const u32 start = (u32)(matrix & 0x3fff) << 4, step = (u32)(matrix >> 32 & 0x3fff) << 4;
    for (int k = 0; k < 16; k++) {
        u32 address = start + row / 8 * step + row % 8 * 128 + k * 2;
        address ^= (address >> 7 & 7) << 4;
        elem e;
        memcpy(&e, emulation::the_block->shared + address, 2);
        to[k] = to_float(e);
    }
}
DEVICE void multiply(const emulation::Product& p) {
    const int thread = (int)emulation::the_lane->index.x, row = thread / 32 % 4 * 16 + thread % 32 / 4, column = thread % 4 * 2;
    float a[2][16], b[16];
    row_of(p.a, row, a[0]);
    row_of(p.a, row + 8, a[1]);
    for (int n = 0; n < p.columns; n += 8)
        for (int i = 0; i < 2; i++) {
            row_of(p.b, n + column + i, b);
            for (int k = 0; k < 16; k++) {
                p.sums[n / 2 + i] += a[0][k] * b[k];
                p.sums[n / 2 + 2 + i] += a[1][k] * b[k];
            }
        }
}
template <int N>
DEVICE void wgmma(float (&c)[N / 8][4], u64 a, u64 b) {
    emulation::Product product{&c[0][0], N, a, b};
    if (emulation::eager_copies()) multiply(product);
    else emulation::the_lane->products.push_back(product);
}
DEVICE void wgmma_commit() { emulation::the_lane->product_groups.push_back(emulation::the_lane->products.size()); }
template <int N>
DEVICE void wgmma_wait() {
    auto& lane = *emulation::the_lane;
    if ((int)lane.product_groups.size() <= N) return;
    size_t done = lane.product_groups.size() - N, end = lane.product_groups[done - 1];
    for (size_t i = 0; i < end; i++) multiply(lane.products[i]);
    lane.products.erase(lane.products.begin(), lane.products.begin() + end);
    lane.product_groups.erase(lane.product_groups.begin(), lane.product_groups.begin() + done);
    for (auto& group : lane.product_groups) group -= end;
}
