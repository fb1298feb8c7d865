// Convolutions of every channel by itself, and those followed by layer normalisation.
//
// Reference: `kernels/cpu/reference.rs: conv` with as many groups as channels; `kernels/cpu/norm.rs: layer_norm`. A thread
// has V channels of R neighbouring outputs of a row: of a stride-1 window an input is read once for all R.
#pragma once
#include "common.cuh"

struct DepthwiseArgs {
    const elem* x;          // [images][h][w][c]
    const elem* weights;    // [kernel_h][kernel_w][c]
    const float* bias;      // [c], or null
    elem* out;              // [images][out_h][out_w][c]
    const elem* residual;   // [images][out_h][out_w][c], or null
    const float* weight;    // [c] of the normalisation
    const float* shift;     // [c] of the normalisation
    i64 x_image, out_image, residual_image;
    int images, h, w, x_row, x_pixel;
    int out_h, out_w, out_row, out_pixel;
    int residual_row, residual_pixel;
    int c, kernel_h, kernel_w, stride, dilation, pad_top, pad_left;
    int activation, residual_first;
    int runs;               // of R outputs that a block of the normalising kernel has
    float eps;
};

/// Sums of R outputs from column `x` on of V channels.
template <int V, int R>
DEVICE void sum_windows(const DepthwiseArgs& a, float (&sums)[R][V], int image, int y, int x, int channel) {
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int i = 0; i < V; i++) sums[r][i] = a.bias ? a.bias[channel + i] : 0.f;
    const elem* plane = a.x + image * a.x_image + channel;
    const int left = x * a.stride - a.pad_left;
    for (int ky = 0; ky < a.kernel_h; ky++) {
        const int in_y = y * a.stride - a.pad_top + ky * a.dilation;
        if ((u32)in_y >= (u32)a.h) continue;
        const elem* row = plane + (i64)in_y * a.x_row;
        const elem* weights = a.weights + (i64)ky * a.kernel_w * a.c + channel;
        // With R > 1 the stride and the dilation are 1: column k of the input is tap k - r of output r.
        for (int k = 0; k < a.kernel_w + R - 1; k++) {
            const int in_x = left + k * a.dilation;
            if ((u32)in_x >= (u32)a.w) continue;
            float v[V];
            load<V>(v, row + (i64)in_x * a.x_pixel);
            UNROLL for (int r = 0; r < R; r++) {
                if (k < r || k - r >= a.kernel_w) continue;
                float by[V];
                load<V>(by, weights + (i64)(k - r) * a.c);
                UNROLL for (int i = 0; i < V; i++) sums[r][i] += v[i] * by[i];
            }
        }
    }
}

template <int V, int R>
DEVICE void depthwise(const DepthwiseArgs& a) {
    const int parts = a.c / V, runs = (a.out_w + R - 1) / R;
    i64 at = thread_index();
    const int part = (int)(at % parts);
    at /= parts;
    const int x = (int)(at % runs) * R;
    at /= runs;
    const int y = (int)(at % a.out_h), image = (int)(at / a.out_h), channel = part * V;
    if (image >= a.images) return;
    float sums[R][V];
    sum_windows<V, R>(a, sums, image, y, x, channel);
    UNROLL for (int r = 0; r < R; r++) {
        if (x + r >= a.out_w) continue;
        float residual[V];
        if (a.residual) {
            load<V>(residual, a.residual + image * a.residual_image + (i64)y * a.residual_row + (i64)(x + r) * a.residual_pixel + channel);
        } else {
            UNROLL for (int i = 0; i < V; i++) residual[i] = 0.f;
        }
        if (a.residual_first) {
            UNROLL for (int i = 0; i < V; i++) sums[r][i] += residual[i];
        }
        activate<V>(sums[r], a.activation);
        if (!a.residual_first) {
            UNROLL for (int i = 0; i < V; i++) sums[r][i] += residual[i];
        }
        store<V>(a.out + image * a.out_image + (i64)y * a.out_row + (i64)(x + r) * a.out_pixel + channel, sums[r]);
    }
}

/// A block has all channels of `runs` runs of R outputs, so that the sums never leave it before they are normalised.
/// Threads: runs x c / 8, to whole warps.
template <int R>
DEVICE void depthwise_layer_norm(const DepthwiseArgs& a) {
    DYNAMIC_SHARED(shared);
    float* partial = reinterpret_cast<float*>(shared);  // [runs][R][c / 8], then of each run and output the whole
    const int parts = a.c / 8, run = threadIdx.x / parts, part = threadIdx.x % parts, channel = part * 8;
    float* whole = partial + a.runs * R * parts;
    const int runs = (a.out_w + R - 1) / R;
    i64 at = (i64)blockIdx.x * a.runs + run;
    const int x = (int)(at % runs) * R;
    at /= runs;
    const int y = (int)(at % a.out_h), image = (int)(at / a.out_h);
    const bool is_mine = run < a.runs && image < a.images;
    float sums[R][8];
    if (is_mine) sum_windows<8, R>(a, sums, image, y, x, channel);
    float mean[R];
    // First the mean, then the mean square of the distance from it: sums of squares alone would lose digits.
    UNROLL for (int pass = 0; pass < 2; pass++) {
        if (is_mine) {
            UNROLL for (int r = 0; r < R; r++) {
                float sum = 0.f;
                UNROLL for (int i = 0; i < 8; i++) {
                    const float d = pass ? sums[r][i] - mean[r] : 0.f;
                    sum += pass ? d * d : sums[r][i];
                }
                partial[(run * R + r) * parts + part] = sum;
            }
        }
        __syncthreads();
        for (int o = threadIdx.x / 32; o < a.runs * R; o += blockDim.x / 32) {
            float sum = 0.f;
            for (int p = threadIdx.x % 32; p < parts; p += 32) sum += partial[o * parts + p];
            sum = warp_sum(sum);
            if (threadIdx.x % 32 == 0) whole[o] = sum / a.c;
        }
        __syncthreads();
        if (is_mine && pass == 0) {
            UNROLL for (int r = 0; r < R; r++) mean[r] = whole[run * R + r];
        }
    }
    if (!is_mine) return;
    UNROLL for (int r = 0; r < R; r++) {
        if (x + r >= a.out_w) continue;
        const float by = rsqrtf(whole[run * R + r] + a.eps);
        UNROLL for (int i = 0; i < 8; i++) {
            sums[r][i] = (sums[r][i] - mean[r]) * by * a.weight[channel + i] + a.shift[channel + i];
        }
        store<8>(a.out + image * a.out_image + (i64)y * a.out_row + (i64)(x + r) * a.out_pixel + channel, sums[r]);
    }
}

KERNEL(depthwise_v8_r4, DepthwiseArgs, 128, 4) { depthwise<8, 4>(a); }
KERNEL(depthwise_v8_r1, DepthwiseArgs, 128, 6) { depthwise<8, 1>(a); }
KERNEL(depthwise_v1_r1, DepthwiseArgs, 128, 8) { depthwise<1, 1>(a); }
KERNEL(depthwise_layer_norm_r4, DepthwiseArgs, 256, 2) { depthwise_layer_norm<4>(a); }
