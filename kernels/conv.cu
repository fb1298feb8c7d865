// Convolutions on tensor cores, as implicit matrix products.
//
// Reference: `kernels/cpu/reference.rs: conv`. One product per group: rows are the output pixels of all images, columns
// the channels out, and what is summed over are the taps, row by row, each with its channels (padded to a multiple of
// the granule G, with weights of zero). A block makes BM x BN of it from a ring of STAGES pieces of 32 products that
// asynchronous copies fill; a warp makes WM x WN.
//
// Pieces lie in shared memory as rows of four chunks of 16 bytes, chunk i of row r at i ^ (r / 2 % 4): eight rows' equal
// chunks, which ldmatrix reads at once, are in different banks, and so are the chunks of a row.
//
// What is done to the input first (batch normalisation and ReLU, or a gate) each thread does in shared memory to the
// chunks that it copied itself, so it is done once per chunk and not once per use; the zeros of the padding stay zero.
// Sums leave through shared memory, 16 rows at a time, so that lanes write whole chunks.
#pragma once
#include "common.cuh"

struct ConvArgs {
    const elem* x;          // [images][h][w][cin of all groups]
    const elem* weights;    // [groups][columns, a multiple of BN][k], k = taps * tap_channels to a multiple of 32
    const float* bias;      // [cout of all groups], or null
    elem* out;              // [images][out_h][out_w][cout of all groups]
    const elem* residual;   // [images][out_h / residual_factor][..][cout of all groups], or null
    const float* scale;     // [cin, to a multiple of 8] of the prologue, or null; one group
    const float* shift;     // as scale
    const elem* gate;       // [images][cin], a factor of the input, or null; one group
    i64 x_image, out_image, residual_image, gate_image;
    int images, h, w, x_row, x_pixel;
    int out_h, out_w, out_row, out_pixel;
    int residual_row, residual_pixel, residual_factor;
    int cin, cout;          // of a group
    int kernel_h, kernel_w, stride, dilation, pad_top, pad_left;
    int tap_channels, k;
    int columns;            // cout to a multiple of BN
    int relu;               // of the prologue; not with a gate
    int activation, residual_first;
    int is_wide;            // out and residual lie so that eight channels may be moved at once
};

/// Where in the taps and channels a chunk stands.
struct Tap {
    int ky, kx, channel;
};

DEVICE void advance(Tap& tap, const ConvArgs& a, int by) {
    tap.channel += by;
    while (tap.channel >= a.tap_channels) {
        tap.channel -= a.tap_channels;
        if (++tap.kx == a.kernel_w) {
            tap.kx = 0;
            tap.ky++;
        }
    }
}

/// From the first tap's number to that of this one.
DEVICE int offset(const ConvArgs& a, const Tap& tap) {
    return tap.ky * a.dilation * a.x_row + tap.kx * a.dilation * a.x_pixel + tap.channel;
}

/// The windows of ROWS outputs.
template <int ROWS>
struct Windows {
    const elem* at[ROWS];  // the first tap, which may lie outside
    int corner[ROWS];      // its row and column, 16 bits each

    /// Of every `step`-th output from `first` on, from this channel on.
    DEVICE Windows(const ConvArgs& a, int first, int step, int channel) {
        const int per_image = a.out_h * a.out_w, pixels = a.images * per_image;
        UNROLL for (int i = 0; i < ROWS; i++) {
            const int m = first + i * step;
            if (m < pixels) {
                const int image = m / per_image, p = m - image * per_image;
                const int y = p / a.out_w * a.stride - a.pad_top, x = p % a.out_w * a.stride - a.pad_left;
                at[i] = a.x + image * a.x_image + (i64)y * a.x_row + (i64)x * a.x_pixel + channel;
                corner[i] = (int)((u32)y << 16 | ((u32)x & 0xffffu));
            } else {
                at[i] = a.x;
                corner[i] = (int)0x80000000u;  // a row that no tap brings inside
            }
        }
    }

    /// Whether a tap of window `i` lies inside the image.
    DEVICE bool has(const ConvArgs& a, int i, const Tap& tap) const {
        const int y = (corner[i] >> 16) + tap.ky * a.dilation, x = (int)(short)(corner[i] & 0xffff) + tap.kx * a.dilation;
        return tap.ky < a.kernel_h && (u32)y < (u32)a.h && (u32)x < (u32)a.w;
    }
};

/// Bias, residual and activation of N sums of a pixel, channels from `channel` on.
template <int N>
DEVICE void finish(const ConvArgs& a, float (&v)[N], int pixel, int group, int channel) {
    const int per_image = a.out_h * a.out_w;
    const int image = pixel / per_image, at = pixel - image * per_image;
    const int y = at / a.out_w, x = at - y * a.out_w;
    const int first = group * a.cout + channel;
    if (a.bias) {
        UNROLL for (int i = 0; i < N; i++) v[i] += a.bias[first + i];
    }
    float r[N];
    UNROLL for (int i = 0; i < N; i++) r[i] = 0.f;
    if (a.residual) {
        load<N>(r, a.residual + image * a.residual_image + (i64)(y / a.residual_factor) * a.residual_row +
                       (i64)(x / a.residual_factor) * a.residual_pixel + first);
    }
    if (a.residual_first) {
        UNROLL for (int i = 0; i < N; i++) v[i] += r[i];
    }
    activate<N>(v, a.activation);
    if (!a.residual_first) {
        UNROLL for (int i = 0; i < N; i++) v[i] += r[i];
    }
    store<N>(a.out + image * a.out_image + (i64)y * a.out_row + (i64)x * a.out_pixel + first, v);
}

template <int BM, int BN, int WM, int WN, int G, int STAGES>
DEVICE void conv(const ConvArgs& a) {
    constexpr int BK = 32, CHUNKS = BK / 8;
    constexpr int WARPS_N = BN / WN, THREADS = BM / WM * WARPS_N * 32;
    constexpr int ROW_STEP = THREADS / CHUNKS, ROWS = BM / ROW_STEP;
    constexpr int STAGE = (BM + BN) * BK * 2;
    // Sub-chunks that are copied at once; without asynchronous copies there is one.
    constexpr int SUBS = G == 4 ? 2 : 1;
    DYNAMIC_SHARED(shared);
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    const int column_tiles = a.columns / BN, group = blockIdx.z;
    const int n0 = (int)(blockIdx.x % column_tiles) * BN;
    const int m0 = (int)(blockIdx.x / column_tiles) * BM, per_image = a.out_h * a.out_w, pixels = a.images * per_image;

    // This thread copies chunk `col` of every ROW_STEP-th row.
    const int col = thread % CHUNKS, first_row = thread / CHUNKS;
    const Windows<ROWS> windows(a, m0 + first_row, ROW_STEP, group * a.cin);
    auto chunk = [&](int row, int column) { return row * (BK * 2) + ((column ^ (row >> 1 & 3)) << 4); };

    Tap taps[SUBS];
    UNROLL for (int s = 0; s < SUBS; s++) {
        taps[s] = {0, 0, 0};
        advance(taps[s], a, col * 8 + s * 4);
    }
    const bool has_prologue = a.scale || a.gate;

    auto fetch = [&](int slot, int piece) {
        const int next_k = piece * BK;
        unsigned char* to = shared + slot * STAGE;
        UNROLL for (int i = 0; i < ROWS; i++) {
            unsigned char* chunk_to = to + chunk(first_row + i * ROW_STEP, col);
            if constexpr (G == 8 || G == 4) {
                UNROLL for (int s = 0; s < SUBS; s++) {
                    const bool inside = windows.has(a, i, taps[s]);
                    const int left = a.cin - taps[s].channel;
                    const int bytes = inside ? 2 * min(G, max(left, 0)) : 0;
                    cp_async<2 * G>(chunk_to + s * 8, bytes ? windows.at[i] + offset(a, taps[s]) : a.x, bytes);
                }
            } else {
                u32 words[4];
                UNROLL for (int e = 0; e < 8; e += 2) {
                    u32 two[2];
                    UNROLL for (int h = 0; h < 2; h++) {
                        const int k = next_k + col * 8 + e + h, t = k / a.tap_channels;
                        const Tap tap = {t / a.kernel_w, t % a.kernel_w, k - t * a.tap_channels};
                        elem e = {0};
                        if (k < a.kernel_h * a.kernel_w * a.tap_channels && windows.has(a, i, tap)) e = windows.at[i][offset(a, tap)];
                        if (has_prologue && windows.has(a, i, tap)) {
                            const int image = (m0 + first_row + i * ROW_STEP) / per_image;
                            float v = to_float(e);
                            v = a.gate ? v * to_float(a.gate[(i64)image * a.gate_image + tap.channel]) : v * a.scale[tap.channel] + a.shift[tap.channel];
                            e = to_elem(a.relu ? larger(v, 0.f) : v);
                        }
                        two[h] = e.bits;
                    }
                    words[e / 2] = two[0] | two[1] << 16;
                }
                *reinterpret_cast<uint4*>(chunk_to) = {words[0], words[1], words[2], words[3]};
            }
        }
        unsigned char* weights_to = to + BM * BK * 2;
        const elem* weights = a.weights + (group * a.columns + n0) * a.k + next_k + col * 8;
        UNROLL for (int row = first_row; row < BN; row += ROW_STEP) {
            cp_async<16>(weights_to + chunk(row, col), weights + row * a.k, 16);
        }
        if constexpr (G != 1) {
            UNROLL for (int s = 0; s < SUBS; s++) advance(taps[s], a, BK);
        }
    };

    // What comes before the product, on this thread's own chunks.
    auto prepare = [&](int slot, int piece) {
        // Found again: three registers less to keep. Granules of four have no prologue.
        const int k = piece * BK + col * 8, t = k / a.tap_channels;
        const Tap ready = {t / a.kernel_w, t % a.kernel_w, k - t * a.tap_channels};
        UNROLL for (int i = 0; i < ROWS; i++) {
            if (!windows.has(a, i, ready)) continue;
            const int row = first_row + i * ROW_STEP;
            uint4* at = reinterpret_cast<uint4*>(shared + slot * STAGE + chunk(row, col));
            Eight e = unpack(*at);
            if (a.gate) {
                const elem* gate = a.gate + (i64)((m0 + row) / per_image) * a.gate_image + ready.channel;
                UNROLL for (int j = 0; j < 8; j++) e.v[j] = ready.channel + j < a.cin ? e.v[j] * to_float(gate[j]) : 0.f;
            } else {
                const float4* scale = reinterpret_cast<const float4*>(a.scale + ready.channel);
                const float4* shift = reinterpret_cast<const float4*>(a.shift + ready.channel);
                UNROLL for (int j = 0; j < 2; j++) {
                    const float4 s = scale[j], t = shift[j];
                    float* v = e.v + 4 * j;
                    v[0] = v[0] * s.x + t.x;
                    v[1] = v[1] * s.y + t.y;
                    v[2] = v[2] * s.z + t.z;
                    v[3] = v[3] * s.w + t.w;
                }
                if (a.relu) {
                    UNROLL for (int j = 0; j < 8; j++) e.v[j] = larger(e.v[j], 0.f);
                }
            }
            *at = pack(e);
        }
    };

    const int wm = warp / WARPS_N * WM, wn = warp % WARPS_N * WN;
    float sums[WM / 16][WN / 8][4];
    UNROLL for (int i = 0; i < WM / 16; i++)
        UNROLL for (int j = 0; j < WN / 8; j++)
            UNROLL for (int e = 0; e < 4; e++) sums[i][j][e] = 0.f;

    const int pieces = a.k / BK;
    NO_UNROLL for (int s = 0; s < STAGES - 1; s++) {
        if (s < pieces) fetch(s, s);
        cp_async_commit();
    }
    for (int piece = 0, slot = 0; piece < pieces; piece++) {
        cp_async_wait<STAGES - 2>();
        if (G == 8 && has_prologue) prepare(slot, piece);
        // All see this piece, and nobody reads the last one any more: the next to come takes its place.
        __syncthreads();
        if (piece + STAGES - 1 < pieces) fetch(slot == 0 ? STAGES - 1 : slot - 1, piece + STAGES - 1);
        cp_async_commit();
        const unsigned char* at = shared + slot * STAGE;
        const unsigned char* weights_at = at + BM * BK * 2;
        UNROLL for (int kk = 0; kk < BK / 16; kk++) {
            u32 left[WM / 16][4];
            UNROLL for (int i = 0; i < WM / 16; i++) ldmatrix_x4(left[i], at + chunk(wm + i * 16 + lane % 16, kk * 2 + lane / 16));
            if constexpr (WN == 8) {
                u32 right[2];
                ldmatrix_x2(right, weights_at + chunk(wn + lane % 8, kk * 2 + lane / 8 % 2));
                UNROLL for (int i = 0; i < WM / 16; i++) mma(sums[i][0], left[i], right);
            } else {
                // Two columns of eight at a time: fewer registers than all of them.
                UNROLL for (int j = 0; j < WN / 16; j++) {
                    u32 four[4];
                    ldmatrix_x4(four, weights_at + chunk(wn + j * 16 + lane % 8 + lane / 16 * 8, kk * 2 + lane / 8 % 2));
                    const u32 first[2] = {four[0], four[1]}, second[2] = {four[2], four[3]};
                    UNROLL for (int i = 0; i < WM / 16; i++) {
                        mma(sums[i][2 * j], left[i], first);
                        mma(sums[i][2 * j + 1], left[i], second);
                    }
                }
            }
        }
        slot = slot + 1 == STAGES ? 0 : slot + 1;
    }
    cp_async_wait<0>();
    __syncthreads();

    // Each warp's own 16 rows; steps of WN + 8 floats put what lanes write together into different banks.
    constexpr int STEP = WN + 8;
    float* rows = reinterpret_cast<float*>(shared) + warp * 16 * STEP;
    UNROLL for (int i = 0; i < WM / 16; i++) {
        UNROLL for (int j = 0; j < WN / 8; j++) {
            float* to = rows + lane / 4 * STEP + j * 8 + lane % 4 * 2;
            *reinterpret_cast<float2*>(to) = {sums[i][j][0], sums[i][j][1]};
            *reinterpret_cast<float2*>(to + 8 * STEP) = {sums[i][j][2], sums[i][j][3]};
        }
        __syncwarp();
        NO_UNROLL for (int c = lane; c < 16 * (WN / 8); c += 32) {
            const int row = c / (WN / 8), eight = c % (WN / 8);
            const int m = m0 + wm + i * 16 + row;
            const int n = n0 + wn + eight * 8;
            if (m >= pixels || n >= a.cout) continue;
            const float* from = rows + row * STEP + eight * 8;
            if (a.is_wide && n + 8 <= a.cout) {
                float v[8];
                UNROLL for (int e = 0; e < 8; e++) v[e] = from[e];
                finish<8>(a, v, m, group, n);
            } else {
                NO_UNROLL for (int e = 0; e < min(8, a.cout - n); e++) {
                    float v[1] = {from[e]};
                    finish<1>(a, v, m, group, n + e);
                }
            }
        }
        __syncwarp();
    }
}

// Sizes of the blocks: wide ones for many channels out, narrow ones for growth rates, groups and heads.
// Granule 8 for maps whose pixels are aligned, 4 for images of up to four channels, 1 for all others.
KERNEL(conv_128x128_g8, ConvArgs, 256, 2) { conv<128, 128, 64, 32, 8, 4>(a); }
KERNEL(conv_128x64_g8, ConvArgs, 128, 3) { conv<128, 64, 64, 32, 8, 4>(a); }
KERNEL(conv_64x64_g8, ConvArgs, 128, 4) { conv<64, 64, 32, 32, 8, 4>(a); }
KERNEL(conv_128x32_g8, ConvArgs, 128, 4) { conv<128, 32, 32, 32, 8, 4>(a); }
KERNEL(conv_128x16_g8, ConvArgs, 128, 4) { conv<128, 16, 32, 16, 8, 4>(a); }
KERNEL(conv_128x8_g8, ConvArgs, 128, 4) { conv<128, 8, 32, 8, 8, 4>(a); }
KERNEL(conv_128x64_g4, ConvArgs, 128, 3) { conv<128, 64, 64, 32, 4, 4>(a); }
KERNEL(conv_128x32_g4, ConvArgs, 128, 4) { conv<128, 32, 32, 32, 4, 4>(a); }
KERNEL(conv_128x64_g1, ConvArgs, 128, 2) { conv<128, 64, 64, 32, 1, 4>(a); }
KERNEL(conv_128x16_g1, ConvArgs, 128, 2) { conv<128, 16, 32, 16, 1, 4>(a); }
