// The bytes of images as the network wants them, stain normalisation included.
//
// References: `infer/cpu/elementwise.rs: from_rgb`; `pixels/stain/od.rs: OdTransform`, of which the same bytes come. A
// thread has a pixel.
#pragma once
#include "common.cuh"

struct BytesArgs {
    const u8* rgb;         // [images][h][w][3]
    elem* out;             // [images][h][w][3]; channels up to the pixel's width are set to 0
    const float4* stain;   // [input channel][256], or null: the new brightness is the product of the pixel's three
    i64 out_image;
    int images, h, w, out_row, out_pixel, unused;
    float scale[3], shift[3];   // of the normalisation: byte * scale + shift
};

KERNEL(from_rgb, BytesArgs, 256, 4) {
    const i64 at = thread_index();
    const i64 per_image = (i64)a.h * a.w;
    if (at >= per_image * a.images) return;
    const int image = (int)(at / per_image), y = (int)(at % per_image / a.w), x = (int)(at % a.w);
    float v[3];
    UNROLL for (int c = 0; c < 3; c++) v[c] = a.rgb[at * 3 + c];
    if (a.stain) {
        const float4 r = a.stain[(int)v[0]], g = a.stain[256 + (int)v[1]], b = a.stain[512 + (int)v[2]];
        // Bytes again, to the nearest, halves to even.
        v[0] = rintf(fminf(r.x * g.x * b.x, 255.f));
        v[1] = rintf(fminf(r.y * g.y * b.y, 255.f));
        v[2] = rintf(fminf(r.z * g.z * b.z, 255.f));
    }
    elem* to = a.out + image * a.out_image + (i64)y * a.out_row + (i64)x * a.out_pixel;
    UNROLL for (int c = 0; c < 3; c++) v[c] = v[c] * a.scale[c] + a.shift[c];
    if (a.out_pixel == 4) {
        *reinterpret_cast<uint2*>(to) = {pack(v[0], v[1]), pack(v[2], 0.f)};
    } else {
        UNROLL for (int c = 0; c < 3; c++) to[c] = to_elem(v[c]);
    }
}
