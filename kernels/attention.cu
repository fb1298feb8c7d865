// Scaled dot-product attention: of every pixel to every pixel, and inside windows.
//
// References: `kernels/cpu/attention.rs`, `kernels/cpu/window_attention.rs`. A thread has one query of one head: its D
// channels and the running weighted sum of the values stay in registers, keys and values pass through shared memory,
// from which all threads read the same one at a time. The softmax is taken on the way: when a larger score comes, what
// was summed shrinks (Milakov and Gimelshein 2018).
#pragma once
#include "common.cuh"

struct AttentionArgs {
    const elem* queries;  // [images][h][w][heads * D]; of windows [images][h][w][3 * heads * D]
    const elem* keys;     // [images][key_h][key_w][2 * heads * D], keys and then values
    const float* bias;    // of windows: [heads][window * window][window * window]
    elem* out;            // [images][h][w][heads * D]
    i64 query_image, key_image, out_image;
    int images, h, w, query_row, query_pixel;
    int key_h, key_w, key_row, key_pixel;
    int out_row, out_pixel;
    int heads, part;      // part: channels of a head, at most D
    int window, shift_y, shift_x;
};

/// Added to the score of pixels that a shift brought together, as in the CPU's.
#define APART (-100.f)

template <int D>
struct Running {
    float query[D], sum[D], most, weight;
    DEVICE void start(const elem* from, int part) {
        const float by = rsqrtf((float)part);
        UNROLL for (int i = 0; i < D; i++) {
            query[i] = i < part ? to_float(from[i]) * by : 0.f;
            sum[i] = 0.f;
        }
        most = -3e38f;
        weight = 0.f;
    }
    /// `key`, `value`: [D] in shared memory.
    DEVICE void add(const float* key, const float* value, float bias) {
        float score = bias;
        UNROLL for (int i = 0; i < D; i++) score += query[i] * key[i];
        if (score > most) {
            const float shrink = __expf(most - score);
            UNROLL for (int i = 0; i < D; i++) sum[i] *= shrink;
            weight *= shrink;
            most = score;
        }
        const float by = __expf(score - most);
        weight += by;
        UNROLL for (int i = 0; i < D; i++) sum[i] += by * value[i];
    }
    DEVICE void finish(elem* to, int part) {
        const float by = 1.f / weight;
        UNROLL for (int i = 0; i < D; i++)
            if (i < part) to[i] = to_elem(sum[i] * by);
    }
};

/// Grid [queries / 128, heads, images], 128 threads; 32 keys at a time.
template <int D>
DEVICE void attention(const AttentionArgs& a) {
    SHARED float keys[32][D], values[32][D];
    const int head = blockIdx.y, image = blockIdx.z, query = blockIdx.x * 128 + threadIdx.x;
    const int c = a.heads * a.part;
    const bool is_mine = query < a.h * a.w;
    Running<D> running;
    const int y = query / a.w, x = query % a.w;
    if (is_mine) running.start(a.queries + image * a.query_image + (i64)y * a.query_row + (i64)x * a.query_pixel + head * a.part, a.part);
    for (int first = 0; first < a.key_h * a.key_w; first += 32) {
        const int count = min(32, a.key_h * a.key_w - first);
        for (int i = threadIdx.x; i < count * D; i += 128) {
            const int k = i / D, channel = i % D, at = first + k;
            const elem* from = a.keys + image * a.key_image + (i64)(at / a.key_w) * a.key_row + (i64)(at % a.key_w) * a.key_pixel + head * a.part + channel;
            keys[k][channel] = channel < a.part ? to_float(from[0]) : 0.f;
            values[k][channel] = channel < a.part ? to_float(from[c]) : 0.f;
        }
        __syncthreads();
        if (is_mine) {
            for (int k = 0; k < count; k++) running.add(keys[k], values[k], 0.f);
        }
        __syncthreads();
    }
    if (is_mine) running.finish(a.out + image * a.out_image + (i64)y * a.out_row + (i64)x * a.out_pixel + head * a.part, a.part);
}

/// Grid [windows, heads, images], 64 or more threads, one per pixel of a window; dynamic shared memory [2][pixels][D].
template <int D>
DEVICE void window_attention(const AttentionArgs& a) {
    DYNAMIC_SHARED(shared);
    const int pixels = a.window * a.window, head = blockIdx.y, image = blockIdx.z, c = a.heads * a.part;
    float* keys = reinterpret_cast<float*>(shared);
    float* values = keys + pixels * D;
    const int across = a.w / a.window, top = (int)blockIdx.x / across * a.window, left = (int)blockIdx.x % across * a.window;
    // Rows and columns of the rolled map, and where they lie on the map.
    auto offset = [&](int at, int row_step, int pixel_step) {
        const int y = top + at / a.window + a.shift_y, x = left + at % a.window + a.shift_x;
        return (i64)(y >= a.h ? y - a.h : y) * row_step + (i64)(x >= a.w ? x - a.w : x) * pixel_step;
    };
    auto wraps = [&](int at) {
        const int y = top + at / a.window, x = left + at % a.window;
        return (y >= a.h - a.shift_y ? 1 : 0) + (x >= a.w - a.shift_x ? 2 : 0);
    };
    const elem* from = a.queries + image * a.query_image + head * a.part;
    for (int i = threadIdx.x; i < pixels * D; i += blockDim.x) {
        const int k = i / D, channel = i % D;
        const elem* at = from + offset(k, a.query_row, a.query_pixel) + channel;
        keys[i] = channel < a.part ? to_float(at[c]) : 0.f;
        values[i] = channel < a.part ? to_float(at[2 * c]) : 0.f;
    }
    __syncthreads();
    for (int query = threadIdx.x; query < pixels; query += blockDim.x) {
        Running<D> running;
        running.start(from + offset(query, a.query_row, a.query_pixel), a.part);
        const float* bias = a.bias + ((i64)head * pixels + query) * pixels;
        const int mine = wraps(query);
        for (int k = 0; k < pixels; k++) running.add(keys + k * D, values + k * D, bias[k] + (wraps(k) == mine ? 0.f : APART));
        running.finish(a.out + image * a.out_image + offset(query, a.out_row, a.out_pixel) + head * a.part, a.part);
    }
}

KERNEL(attention_d32, AttentionArgs, 128, 4) { attention<32>(a); }
KERNEL(attention_d64, AttentionArgs, 128, 3) { attention<64>(a); }
KERNEL(window_attention_d32, AttentionArgs, 256, 2) { window_attention<32>(a); }
KERNEL(window_attention_d64, AttentionArgs, 256, 1) { window_attention<64>(a); }
