// Wide convolutions on the tensor cores of a whole warpgroup, for compute capability 9.0 alone.
//
// Reference: `kernels/cpu/reference.rs: conv`; the same product as `conv.cu`, one group, granule 8. A block of two warpgroups
// makes 128 x BN of it, each 64 x BN, from a ring of STAGES pieces of 64 products. Pieces lie as rows of 128 bytes, swizzled
// by 128, which tensor cores read by themselves: what is read of shared memory per product is the less the wider BN is, and
// with 256 no more than what the products take.
//
// The order of a turn: a piece has arrived, what comes before the product is done to it, all wait; a piece that everybody
// has read is replaced; the products are started and those awaited whose piece is to be replaced next.
#pragma once
#include "conv.cu"
#ifdef HAS_WGMMA

/// PENDING: groups of products that may be under way while the next piece is made ready.
template <int BN, int STAGES, int PENDING>
DEVICE void conv_wgmma(const ConvArgs& a) {
    constexpr int BM = 128, BK = 64, CHUNKS = BK / 8, THREADS = 256;
    constexpr int ROW_STEP = THREADS / CHUNKS, ROWS = BM / ROW_STEP;
    constexpr int STAGE = (BM + BN) * BK * 2, AHEAD = STAGES - 1 - PENDING;
    DYNAMIC_SHARED(memory);
    unsigned char* shared = memory + (1024 - shared_address(memory) % 1024) % 1024;
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    const int column_tiles = a.columns / BN;
    const int n0 = (int)(blockIdx.x % column_tiles) * BN;
    const int m0 = (int)(blockIdx.x / column_tiles) * BM, per_image = a.out_h * a.out_w, pixels = a.images * per_image;

    // This thread copies chunk `col` of every ROW_STEP-th row.
    const int col = thread % CHUNKS, first_row = thread / CHUNKS;
    const Windows<ROWS> windows(a, m0 + first_row, ROW_STEP, 0);
    auto chunk = [&](int row, int column) { return row * (BK * 2) + ((column ^ (row & 7)) << 4); };

    Tap next = {0, 0, 0};
    advance(next, a, col * 8);
    const elem* weights = a.weights + (i64)(n0 + first_row) * a.k + col * 8;
    auto fetch = [&](int slot) {
        unsigned char* to = shared + slot * STAGE;
        const int from = offset(a, next);
        const int whole = 2 * min(8, max(a.cin - next.channel, 0));
        UNROLL for (int i = 0; i < ROWS; i++) {
            const int bytes = windows.has(a, i, next) ? whole : 0;
            cp_async<16>(to + chunk(first_row + i * ROW_STEP, col), bytes ? windows.at[i] + from : a.x, bytes);
        }
        unsigned char* weights_to = to + BM * BK * 2;
        UNROLL for (int i = 0; i < BN / ROW_STEP; i++) {
            cp_async<16>(weights_to + chunk(first_row + i * ROW_STEP, col), weights + (i64)i * ROW_STEP * a.k, 16);
        }
        weights += BK;
        advance(next, a, BK);
    };

    // What comes before the product, on this thread's own chunks.
    auto prepare = [&](int slot, int piece) {
        const int k = piece * BK + col * 8, t = k / a.tap_channels;
        const Tap ready = {t / a.kernel_w, t % a.kernel_w, k - t * a.tap_channels};
        NO_UNROLL for (int i = 0; i < ROWS; i++) {
            const int row = first_row + i * ROW_STEP;
            // Found again: registers are for the sums.
            const int m = m0 + row, image = m / per_image, at = m - image * per_image;
            const int y = at / a.out_w * a.stride - a.pad_top + ready.ky * a.dilation;
            const int x = at % a.out_w * a.stride - a.pad_left + ready.kx * a.dilation;
            if (m >= pixels || ready.ky >= a.kernel_h || (u32)y >= (u32)a.h || (u32)x >= (u32)a.w) continue;
            uint4* to = reinterpret_cast<uint4*>(shared + slot * STAGE + chunk(row, col));
            Eight e = unpack(*to);
            if (a.gate) {
                const elem* gate = a.gate + (i64)image * a.gate_image + ready.channel;
                UNROLL for (int j = 0; j < 8; j++) e.v[j] = ready.channel + j < a.cin ? e.v[j] * to_float(gate[j]) : 0.f;
            } else {
                UNROLL for (int j = 0; j < 8; j++) e.v[j] = e.v[j] * a.scale[ready.channel + j] + a.shift[ready.channel + j];
                if (a.relu) {
                    UNROLL for (int j = 0; j < 8; j++) e.v[j] = larger(e.v[j], 0.f);
                }
            }
            *to = pack(e);
        }
    };

    float sums[BN / 8][4];
    UNROLL for (int j = 0; j < BN / 8; j++)
        UNROLL for (int e = 0; e < 4; e++) sums[j][e] = 0.f;
    const bool has_prologue = a.scale || a.gate;
    const int group = warp / 4, pieces = a.k / BK;
    NO_UNROLL for (int s = 0; s < AHEAD; s++) {
        if (s < pieces) fetch(s);
        cp_async_commit();
    }
    NO_UNROLL for (int piece = 0, slot = 0; piece < pieces; piece++) {
        cp_async_wait<AHEAD - 1>();
        if (has_prologue) prepare(slot, piece);
        matrices_written();
        __syncthreads();
        if (piece + AHEAD < pieces) fetch(slot < STAGES - AHEAD ? slot + AHEAD : slot + AHEAD - STAGES);
        cp_async_commit();
        const u64 left = matrix_at(shared + slot * STAGE + group * 64 * BK * 2), right = matrix_at(shared + slot * STAGE + BM * BK * 2);
        wgmma_fence();
        // 16 products are 32 bytes of a row.
        UNROLL for (int kk = 0; kk < BK / 16; kk++) wgmma<BN>(sums, left + kk * 2, right + kk * 2);
        wgmma_commit();
        wgmma_wait<PENDING>();
        slot = slot + 1 == STAGES ? 0 : slot + 1;
    }
    wgmma_wait<0>();
    cp_async_wait<0>();
    __syncthreads();

    // Each warp's own 16 rows; steps of BN + 8 floats put what lanes write together into different banks.
    constexpr int STEP = BN + 8;
    float* rows = reinterpret_cast<float*>(shared) + warp * 16 * STEP;
    UNROLL for (int j = 0; j < BN / 8; j++) {
        float* to = rows + lane / 4 * STEP + j * 8 + lane % 4 * 2;
        *reinterpret_cast<float2*>(to) = {sums[j][0], sums[j][1]};
        *reinterpret_cast<float2*>(to + 8 * STEP) = {sums[j][2], sums[j][3]};
    }
    __syncwarp();
    NO_UNROLL for (int c = lane; c < 16 * (BN / 8); c += 32) {
        const int row = c / (BN / 8), eight = c % (BN / 8);
        const int m = m0 + warp * 16 + row, n = n0 + eight * 8;
        if (m >= pixels || n >= a.cout) continue;
        const float* from = rows + row * STEP + eight * 8;
        if (a.is_wide) {
            float v[8];
            UNROLL for (int e = 0; e < 8; e++) v[e] = from[e];
            finish<8>(a, v, m, 0, n);
        } else {
            NO_UNROLL for (int e = 0; e < 8; e++) {
                float v[1] = {from[e]};
                finish<1>(a, v, m, 0, n + e);
            }
        }
    }
}

// Of 128 columns two blocks have room on a multiprocessor: one computes while the other waits, loads or stores its sums.
KERNEL(conv_wgmma_128x128, ConvArgs, 256, 2) { conv_wgmma<128, 3, 0>(a); }
KERNEL(conv_wgmma_128x256, ConvArgs, 256, 1) { conv_wgmma<256, 4, 1>(a); }

#endif
