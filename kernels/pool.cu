// Pools of windows, and resizes.
//
// References: `kernels/cpu/pool.rs`, `kernels/cpu/resize.rs`. A thread has V channels of an output.
#pragma once
#include "common.cuh"

struct WindowArgs {
    const elem* x;  // [images][h][w][c]
    elem* out;      // [images][out_h][out_w][c]
    i64 x_image, out_image;
    int images, c, h, w, x_row, x_pixel, out_h, out_w, out_row, out_pixel;
    int kernel, stride, pad, is_max;  // of a pool
    int mode;                         // of a resize: 0 nearest, 1 bilinear, 2 bilinear with corners kept
    int unused;
};

struct Place {
    int channel, x, y, image;
};
template <int V>
DEVICE Place place(const WindowArgs& a) {
    i64 at = thread_index();
    Place p;
    const int parts = a.c / V;
    p.channel = (int)(at % parts) * V;
    at /= parts;
    p.x = (int)(at % a.out_w);
    at /= a.out_w;
    p.y = (int)(at % a.out_h);
    p.image = (int)(at / a.out_h);
    return p;
}
template <int V>
DEVICE elem* target(const WindowArgs& a, const Place& p) {
    return a.out + p.image * a.out_image + (i64)p.y * a.out_row + (i64)p.x * a.out_pixel + p.channel;
}

/// Largest value or mean of each window; what lies outside does not count, a NaN wins.
template <int V>
DEVICE void pool(const WindowArgs& a) {
    const Place p = place<V>(a);
    if (p.image >= a.images) return;
    const elem* from = a.x + p.image * a.x_image + p.channel;
    const int top = max(p.y * a.stride - a.pad, 0), bottom = min(p.y * a.stride - a.pad + a.kernel, a.h);
    const int left = max(p.x * a.stride - a.pad, 0), right = min(p.x * a.stride - a.pad + a.kernel, a.w);
    float all[V];
    UNROLL for (int i = 0; i < V; i++) all[i] = a.is_max ? -3e38f : 0.f;
    for (int y = top; y < bottom; y++) {
        for (int x = left; x < right; x++) {
            float v[V];
            load<V>(v, from + (i64)y * a.x_row + (i64)x * a.x_pixel);
            UNROLL for (int i = 0; i < V; i++) all[i] = a.is_max ? larger(all[i], v[i]) : all[i] + v[i];
        }
    }
    if (!a.is_max) {
        const float by = 1.f / ((bottom - top) * (right - left));
        UNROLL for (int i = 0; i < V; i++) all[i] *= by;
    }
    store<V>(target<V>(a, p), all);
}
KERNEL(pool_v8, WindowArgs, 256, 4) { pool<8>(a); }
KERNEL(pool_v1, WindowArgs, 256, 4) { pool<1>(a); }

/// The two inputs of an output, and the second's part; as `resize.rs: taps`.
struct Between {
    int first, second;
    float part;
};
DEVICE Between between(int mode, int at, int in, int out) {
    if (mode == 0) return {(int)((i64)at * in / out), (int)((i64)at * in / out), 0.f};
    float v = 0.f;
    if (mode == 1) v = fmaxf((at + 0.5f) * in / out - 0.5f, 0.f);
    else if (out > 1) v = (float)((i64)at * (in - 1)) / (out - 1);
    const int first = min((int)v, in - 1);
    return {first, min(first + 1, in - 1), v - first};
}

template <int V>
DEVICE void resize(const WindowArgs& a) {
    const Place p = place<V>(a);
    if (p.image >= a.images) return;
    const Between y = between(a.mode, p.y, a.h, a.out_h), x = between(a.mode, p.x, a.w, a.out_w);
    const elem* from = a.x + p.image * a.x_image + p.channel;
    const elem *top = from + (i64)y.first * a.x_row, *bottom = from + (i64)y.second * a.x_row;
    float v[V];
    load<V>(v, top + (i64)x.first * a.x_pixel);
    if (a.mode != 0) {
        float right[V], below[V], last[V];
        load<V>(right, top + (i64)x.second * a.x_pixel);
        load<V>(below, bottom + (i64)x.first * a.x_pixel);
        load<V>(last, bottom + (i64)x.second * a.x_pixel);
        UNROLL for (int i = 0; i < V; i++) {
            v[i] = (1.f - y.part) * ((1.f - x.part) * v[i] + x.part * right[i]) +
                   y.part * ((1.f - x.part) * below[i] + x.part * last[i]);
        }
    }
    store<V>(target<V>(a, p), v);
}
KERNEL(resize_v8, WindowArgs, 256, 4) { resize<8>(a); }
KERNEL(resize_v1, WindowArgs, 256, 4) { resize<1>(a); }
