// The bytes of images as the network wants them, stain normalisation included.
//
// References: `kernels/cpu/elementwise.rs: from_rgb`; `pixels/stain/od.rs: OdTransform` and `pixels/stain/reinhard.rs:
// LabTransform`, whose bytes these are: the same operations in the same order on the same tables, none of them fused
// (`times`, `plus`). A thread has a pixel.
#pragma once
#include "common.cuh"

/// Tables of a slide, as `pixels/stain/tables.rs: StainTables`; of OD only `entries`.
struct StainTables {
    float4 entries[3][256];  // by channel and value
    float4 map[4];           // between (f(X), f(Y), f(Z)), by column; the last is the offset
    float4 light[3];         // to linear light, by column
    float2 root[2050];       // CIELAB's f and its rise to the next
    u8 encode[8193];         // 8-bit sRGB
    u8 unused[127];
};

/// What is done to an image's colours: this, plus 4 times the number of its tables. Numbers as in `infer/cuda/lane.rs`.
enum { AS_THEY_ARE = 0, OD = 1, LAB = 2 };

struct BytesArgs {
    const u8* rgb;              // [images][h][w][3]
    elem* out;                  // [images][h][w][3]; channels up to the pixel's width are set to 0
    const int* which;           // [images], or null where no image is changed
    const StainTables* tables;  // by number
    u8* seen;                   // [images][h][w][3], the changed bytes, or null; may be `rgb`
    i64 out_image;
    int images, h, w, out_row, out_pixel, unused;
    float scale[3], shift[3];   // of the normalisation: byte * scale + shift
};

/// The product of three entries as bytes, to the nearest, halves to even.
DEVICE void by_od(float (&v)[3], const StainTables& t) {
    const float4 r = t.entries[0][(int)v[0]], g = t.entries[1][(int)v[1]], b = t.entries[2][(int)v[2]];
    v[0] = rintf(fminf(times(times(r.x, g.x), b.x), 255.f));
    v[1] = rintf(fminf(times(times(r.y, g.y), b.y), 255.f));
    v[2] = rintf(fminf(times(times(r.z, g.z), b.z), 255.f));
}

/// 1.5 * 2^23: added to a number below 2^16 it leaves the nearest whole one in the low bits.
constexpr float WHOLE = 12582912.f;

/// CIELAB's f, `at` counted in steps of the table.
DEVICE float root_at(const StainTables& t, float at) {
    const float whole = plus(plus(at, -0.5f), WHOLE);
    const float2 step = t.root[min((int)(bits_of(whole) & 0xffff), 2049)];
    return plus(step.x, times(step.y, plus(at, -plus(whole, -WHOLE))));
}

/// One row of a matrix of columns times a vector.
DEVICE float row(float a, float b, float c, const float (&v)[3]) { return plus(plus(times(a, v[0]), times(b, v[1])), times(c, v[2])); }

DEVICE float cube_or_line(float f) {
    const float cube = times(times(f, f), f), line = times(plus(f, -(16.f / 116.f)), 1.f / 7.787f);
    return f > 0.2068966f ? cube : line;
}

DEVICE float encoded(const StainTables& t, float light) {
    light = light > 0.f ? light : 0.f;
    light = light < 8192.f ? light : 8192.f;
    return t.encode[min((int)(bits_of(plus(light, WHOLE)) & 0xffff), 8192)];
}

/// The affine map between CIELAB colours.
DEVICE void by_lab(float (&v)[3], const StainTables& t) {
    const float4 r = t.entries[0][(int)v[0]], g = t.entries[1][(int)v[1]], b = t.entries[2][(int)v[2]];
    const float f[3] = {root_at(t, plus(plus(r.x, g.x), b.x)), root_at(t, plus(plus(r.y, g.y), b.y)), root_at(t, plus(plus(r.z, g.z), b.z))};
    const float4 *m = t.map, *l = t.light;
    const float xyz[3] = {
        cube_or_line(plus(row(m[0].x, m[1].x, m[2].x, f), m[3].x)),
        cube_or_line(plus(row(m[0].y, m[1].y, m[2].y, f), m[3].y)),
        cube_or_line(plus(row(m[0].z, m[1].z, m[2].z, f), m[3].z)),
    };
    v[0] = encoded(t, row(l[0].x, l[1].x, l[2].x, xyz));
    v[1] = encoded(t, row(l[0].y, l[1].y, l[2].y, xyz));
    v[2] = encoded(t, row(l[0].z, l[1].z, l[2].z, xyz));
}

KERNEL(from_rgb, BytesArgs, 256, 4) {
    const i64 at = thread_index();
    const i64 per_image = (i64)a.h * a.w;
    if (at >= per_image * a.images) return;
    const int image = (int)(at / per_image), y = (int)(at % per_image / a.w), x = (int)(at % a.w);
    float v[3];
    UNROLL for (int c = 0; c < 3; c++) v[c] = a.rgb[at * 3 + c];
    const int which = a.which ? a.which[image] : AS_THEY_ARE;
    if (which != AS_THEY_ARE) {
        const StainTables& tables = a.tables[which / 4];
        if (which % 4 == OD) by_od(v, tables);
        else by_lab(v, tables);
        if (a.seen) {
            UNROLL for (int c = 0; c < 3; c++) a.seen[at * 3 + c] = (u8)v[c];
        }
    }
    elem* to = a.out + image * a.out_image + (i64)y * a.out_row + (i64)x * a.out_pixel;
    UNROLL for (int c = 0; c < 3; c++) v[c] = v[c] * a.scale[c] + a.shift[c];
    if (a.out_pixel == 4) {
        *reinterpret_cast<uint2*>(to) = {pack(v[0], v[1]), pack(v[2], 0.f)};
    } else {
        UNROLL for (int c = 0; c < 3; c++) to[c] = to_elem(v[c]);
    }
}
