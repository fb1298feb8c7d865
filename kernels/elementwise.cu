// Functions of single values and single pixels.
//
// References: `kernels/cpu/elementwise.rs`, `kernels/cpu/norm.rs: layer_norm`. A thread has V channels of a pixel, or a warp a pixel.
#pragma once
#include "common.cuh"

/// A part of a pixel's channels.
struct Cell {
    int part, x, y, image;
};
/// Where number `at` of all parts lies, channels first; past the last one `image` is none of the images.
template <class Args>
DEVICE Cell cell(i64 at, int parts, const Args& a) {
    Cell cell;
    cell.part = (int)(at % parts);
    at /= parts;
    cell.x = (int)(at % a.w);
    at /= a.w;
    cell.y = (int)(at % a.h);
    cell.image = (int)(at / a.h);
    return cell;
}
/// Its pixel in the input, and in the output.
template <class Args>
DEVICE const elem* x_of(const Args& a, const Cell& at) {
    return a.x + at.image * a.x_image + (i64)at.y * a.x_row + (i64)at.x * a.x_pixel;
}
template <class Args>
DEVICE elem* out_of(const Args& a, const Cell& at) {
    return a.out + at.image * a.out_image + (i64)at.y * a.out_row + (i64)at.x * a.out_pixel;
}

struct Source {
    const elem* x;  // [images][rows][pixels][c]; steps may be 0: one pixel for many, one image for all
    i64 image;
    int row, pixel;
    int factor;     // pixels on each axis that share one of it
    int unused;
};

struct CombineArgs {
    Source sources[8];
    elem* out;      // [images][h][w][c]
    i64 out_image;
    int images, h, w, c, out_row, out_pixel;
    int count;      // of sources
    int activation;
};

/// `activation(sum of the sources)`: sums, enlarged ones too, activations, copies.
template <int V>
DEVICE void combine(const CombineArgs& a) {
    const Cell at = cell(thread_index(), a.c / V, a);
    if (at.image >= a.images) return;
    float sum[V];
    UNROLL for (int s = 0; s < 8; s++) {
        if (s >= a.count) break;
        const Source& from = a.sources[s];
        float v[V];
        const int y = at.y / from.factor, x = at.x / from.factor;
        load<V>(v, from.x + at.image * from.image + (i64)y * from.row + (i64)x * from.pixel + at.part * V);
        UNROLL for (int i = 0; i < V; i++) sum[i] = s ? sum[i] + v[i] : v[i];
    }
    activate<V>(sum, a.activation);
    store<V>(out_of(a, at) + at.part * V, sum);
}
KERNEL(combine_v8, CombineArgs, 256, 4) { combine<8>(a); }
KERNEL(combine_v1, CombineArgs, 256, 4) { combine<1>(a); }

struct MapArgs {
    const elem* x;       // [images][h][w][c]
    const elem* gate;    // of `multiply`: [images][h][w][c], steps may be 0; with `is_narrow` one channel
    const float* scale;  // of `affine`: [c], or [images][c] by factors_image
    const float* shift;  // as scale
    elem* out;           // [images][h][w][c]
    i64 x_image, gate_image, scale_image, shift_image, out_image;
    int images, h, w, c, x_row, x_pixel, gate_row, gate_pixel, out_row, out_pixel;
    int is_narrow;
    int activation;
};

/// `x * gate`, or `activation(x * scale + shift)`.
template <int V>
DEVICE void map(const MapArgs& a) {
    const Cell at = cell(thread_index(), a.c / V, a);
    if (at.image >= a.images) return;
    const int channel = at.part * V;
    float v[V];
    load<V>(v, x_of(a, at) + channel);
    if (a.gate) {
        const elem* from = a.gate + at.image * a.gate_image + (i64)at.y * a.gate_row + (i64)at.x * a.gate_pixel;
        if (a.is_narrow) {
            const float by = to_float(*from);
            UNROLL for (int i = 0; i < V; i++) v[i] *= by;
        } else {
            float by[V];
            load<V>(by, from + channel);
            UNROLL for (int i = 0; i < V; i++) v[i] *= by[i];
        }
    } else {
        const float* scale = a.scale + at.image * a.scale_image + channel;
        const float* shift = a.shift + at.image * a.shift_image + channel;
        UNROLL for (int i = 0; i < V; i++) v[i] = v[i] * scale[i] + shift[i];
        activate<V>(v, a.activation);
    }
    store<V>(out_of(a, at) + channel, v);
}
KERNEL(map_v8, MapArgs, 256, 4) { map<8>(a); }
KERNEL(map_v1, MapArgs, 256, 4) { map<1>(a); }

struct PixelArgs {
    const elem* x;        // [images][h][w][c]
    elem* out;            // [images][h][w][c], or one channel
    const float* weight;  // of the layer normalisation: [c]
    const float* shift;   // as weight
    i64 x_image, out_image;
    int images, h, w, c, x_row, x_pixel, out_row, out_pixel;
    float eps;
    int unused;
};

/// Where a warp's pixel lies; past the last one `x` is null.
struct WarpPixel {
    const elem* x;
    elem* out;
    int lane;
};
DEVICE WarpPixel warp_pixel(const PixelArgs& a) {
    const Cell at = cell(thread_index() / 32, 1, a);
    const int lane = (int)(threadIdx.x % 32);
    if (at.image >= a.images) return {nullptr, nullptr, lane};
    return {x_of(a, at), out_of(a, at), lane};
}

/// `exp(x - max) / sum of exp(x - max)` over the channels of a pixel.
KERNEL(softmax, PixelArgs, 256, 4) {
    const WarpPixel p = warp_pixel(a);
    if (!p.x) return;
    float most = -3e38f, sum = 0.f;
    for (int c = p.lane; c < a.c; c += 32) most = larger(most, to_float(p.x[c]));
    most = warp_max(most);
    for (int c = p.lane; c < a.c; c += 32) sum += __expf(to_float(p.x[c]) - most);
    const float by = 1.f / warp_sum(sum);
    for (int c = p.lane; c < a.c; c += 32) p.out[c] = to_elem(__expf(to_float(p.x[c]) - most) * by);
}

/// Mean over the channels of a pixel.
KERNEL(channel_mean, PixelArgs, 256, 4) {
    const WarpPixel p = warp_pixel(a);
    if (!p.x) return;
    float sum = 0.f;
    for (int c = p.lane; c < a.c; c += 32) sum += to_float(p.x[c]);
    sum = warp_sum(sum);
    if (p.lane == 0) *p.out = to_elem(sum / a.c);
}

/// Largest channel of a pixel; a NaN wins.
KERNEL(channel_max, PixelArgs, 256, 4) {
    const WarpPixel p = warp_pixel(a);
    if (!p.x) return;
    float most = -3e38f;
    for (int c = p.lane; c < a.c; c += 32) most = larger(most, to_float(p.x[c]));
    most = warp_max(most);
    if (p.lane == 0) *p.out = to_elem(most);
}

/// `(x - mean) / sqrt(variance + eps) * weight + shift` over the channels of a pixel; V as in `combine`.
template <int V>
DEVICE void layer_norm(const PixelArgs& a) {
    const WarpPixel p = warp_pixel(a);
    if (!p.x) return;
    float sum = 0.f, squares = 0.f, v[V];
    for (int c = p.lane * V; c < a.c; c += 32 * V) {
        load<V>(v, p.x + c);
        UNROLL for (int i = 0; i < V; i++) sum += v[i];
    }
    const float mean = warp_sum(sum) / a.c;
    for (int c = p.lane * V; c < a.c; c += 32 * V) {
        load<V>(v, p.x + c);
        UNROLL for (int i = 0; i < V; i++) squares += (v[i] - mean) * (v[i] - mean);
    }
    const float by = rsqrtf(warp_sum(squares) / a.c + a.eps);
    for (int c = p.lane * V; c < a.c; c += 32 * V) {
        load<V>(v, p.x + c);
        UNROLL for (int i = 0; i < V; i++) v[i] = (v[i] - mean) * by * a.weight[c + i] + a.shift[c + i];
        store<V>(p.out + c, v);
    }
}
KERNEL(layer_norm_v8, PixelArgs, 256, 4) { layer_norm<8>(a); }
KERNEL(layer_norm_v1, PixelArgs, 256, 4) { layer_norm<1>(a); }
