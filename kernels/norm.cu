// What is taken over a whole image: group normalisation, global response normalisation, global pools.
//
// References: `kernels/cpu/norm.rs`, `kernels/cpu/pool.rs`. In two steps, so that the result does not depend on which block
// comes first: one result per slab of pixels and channel, then the slabs in their order. The factors that come of it
// are applied by `map`.
#pragma once
#include "common.cuh"

/// What a slab's result is; a NaN is the largest. Numbers as in `infer/cuda/argument.rs`.
enum { SUM = 0, SQUARES = 1, MAX = 2, MOMENTS = 3 };

struct SlabArgs {
    const elem* x;    // [images][h][w][c]
    float* partial;   // [images][slabs][2][c]: the result; of MOMENTS mean and sum of the squared distances from it
    i64 x_image;
    int images, h, w, c, x_row, x_pixel;
    int slabs, over;
};

/// Blocks of 32 channels by 8 pixels: grid [slabs, c / 32, images].
KERNEL(slab_results, SlabArgs, 256, 4) {
    SHARED float shared[8][32];
    const int channel = blockIdx.y * 32 + threadIdx.x % 32, of = threadIdx.x / 32, image = blockIdx.z;
    const int pixels = a.h * a.w;
    const int first = (int)((i64)pixels * blockIdx.x / a.slabs), last = (int)((i64)pixels * (blockIdx.x + 1) / a.slabs);
    const elem* from = a.x + image * a.x_image + channel;
    float* to = a.partial + ((i64)image * a.slabs + blockIdx.x) * 2 * a.c + channel;
    float mean = 0.f;
    for (int pass = 0; pass < (a.over == MOMENTS ? 2 : 1); pass++) {
        float result = a.over == MAX ? -3e38f : 0.f;
        if (channel < a.c) {
            for (int p = first + of; p < last; p += 8) {
                const float v = to_float(from[(i64)(p / a.w) * a.x_row + (i64)(p % a.w) * a.x_pixel]);
                if (a.over == MAX) result = larger(result, v);
                else if (a.over == SQUARES) result += v * v;
                else result += pass ? (v - mean) * (v - mean) : v;
            }
        }
        shared[of][threadIdx.x % 32] = result;
        __syncthreads();
        float all = shared[0][threadIdx.x % 32];
        for (int i = 1; i < 8; i++) {
            const float v = shared[i][threadIdx.x % 32];
            all = a.over == MAX ? larger(all, v) : all + v;
        }
        if (a.over == MOMENTS && pass == 0) mean = all = all / max(last - first, 1);
        if (of == 0 && channel < a.c) to[pass * a.c] = all;
        __syncthreads();
    }
}

struct FactorArgs {
    const float* partial;  // as in SlabArgs
    const float* weight;   // [c]
    const float* bias;     // [c]
    float* factors;        // [images][2][c]: scale, shift; of the response norm scale alone
    elem* out;             // of the pools: [images][c]
    i64 out_image;
    int images, pixels, c, slabs, groups, over;
    float eps;
    int unused;
};

DEVICE int slab_pixels(const FactorArgs& a, int slab) {
    return (int)((i64)a.pixels * (slab + 1) / a.slabs) - (int)((i64)a.pixels * slab / a.slabs);
}

/// Scale and shift of each channel from the moments. A block per group and image; Chan's formula joins two parts.
KERNEL(group_norm_factors, FactorArgs, 256, 4) {
    SHARED float means[256], squares[256], counts[256];
    const int per = a.c / a.groups, group = blockIdx.x, image = blockIdx.y, thread = threadIdx.x;
    float count = 0.f, mean = 0.f, square = 0.f;
    for (int i = thread; i < per * a.slabs; i += 256) {
        const int slab = i / per, channel = group * per + i % per;
        const float* from = a.partial + ((i64)image * a.slabs + slab) * 2 * a.c + channel;
        const float n = (float)slab_pixels(a, slab), d = from[0] - mean;
        if (n > 0.f) {
            mean += d * n / (count + n);
            square += from[a.c] + d * d * count * n / (count + n);
            count += n;
        }
    }
    means[thread] = mean;
    squares[thread] = square;
    counts[thread] = count;
    __syncthreads();
    for (int half = 128; half; half /= 2) {
        if (thread < half) {
            const float m = counts[thread], n = counts[thread + half], d = means[thread + half] - means[thread];
            if (n > 0.f) {
                means[thread] += d * n / (m + n);
                squares[thread] += squares[thread + half] + d * d * m * n / (m + n);
                counts[thread] = m + n;
            }
        }
        __syncthreads();
    }
    const float by = 1.f / sqrtf(squares[0] / counts[0] + a.eps);
    for (int i = thread; i < per; i += 256) {
        const int channel = group * per + i;
        float* to = a.factors + (i64)image * 2 * a.c + channel;
        to[0] = a.weight[channel] * by;
        to[a.c] = a.bias[channel] - means[0] * by * a.weight[channel];
    }
}

/// Scale of each channel from its squares: `1 + weight * norm / (mean of the norms + 1e-6)`. A block per image.
KERNEL(response_norm_factors, FactorArgs, 256, 4) {
    SHARED float shared[8];
    const int image = blockIdx.x, thread = threadIdx.x;
    float* to = a.factors + (i64)image * 2 * a.c;
    float sum = 0.f;
    for (int c = thread; c < a.c; c += 256) {
        float square = 0.f;
        for (int slab = 0; slab < a.slabs; slab++) square += a.partial[((i64)image * a.slabs + slab) * 2 * a.c + c];
        const float norm = sqrtf(square);
        to[c] = norm;
        sum += norm;
    }
    sum = warp_sum(sum);
    if (thread % 32 == 0) shared[thread / 32] = sum;
    __syncthreads();
    float all = 0.f;
    for (int i = 0; i < 8; i++) all += shared[i];
    const float mean = all / a.c + 1e-6f;
    for (int c = thread; c < a.c; c += 256) to[c] = 1.f + a.weight[c] * to[c] / mean;
}

/// Mean or largest value over the image; a NaN wins. A thread per channel and image.
KERNEL(pool_of_slabs, FactorArgs, 256, 4) {
    const i64 at = thread_index();
    const int channel = (int)(at % a.c), image = (int)(at / a.c);
    if (image >= a.images) return;
    float all = a.over == MAX ? -3e38f : 0.f;
    for (int slab = 0; slab < a.slabs; slab++) {
        const float v = a.partial[((i64)image * a.slabs + slab) * 2 * a.c + channel];
        all = a.over == MAX ? larger(all, v) : all + v;
    }
    a.out[image * a.out_image + channel] = to_elem(a.over == MAX ? all : all / a.pixels);
}
