// Last layers to head maps: probabilities and distances as fixed point.
//
// Reference: `model/heads.rs: HeadPlan::fill`. A thread has a pixel; its channels go to planes.
#pragma once
#include "common.cuh"

/// How values are read. Numbers as in `infer/cuda/argument.rs`.
enum { VALUE = 0, LOGIT = 1, SECOND_OF_TWO = 2, EXCLUSIVE = 3 };

struct HeadArgs {
    const elem* x;  // [images][h][w][c]
    short* out;     // [images][channels][h][w]
    i64 x_image;
    int images, h, w, x_row, x_pixel;
    int channels;   // of the map; 1 where one of c is kept
    int rule;
    float factor;   // of VALUE
    float scale;    // of the fixed point
    int unused;
};

DEVICE short fixed_point(float v) {
    // To the nearest, halves to even, as `round_ties_even`; bounded as Rust's `as i16`, which makes 0 of a NaN.
    return v != v ? 0 : (short)fminf(fmaxf(rintf(v), -32768.f), 32767.f);
}

KERNEL(head_map, HeadArgs, 256, 4) {
    const i64 at = thread_index();
    const int pixels = a.h * a.w, image = (int)(at / pixels), p = (int)(at % pixels);
    if (image >= a.images) return;
    const elem* x = a.x + image * a.x_image + (i64)(p / a.w) * a.x_row + (i64)(p % a.w) * a.x_pixel;
    short* out = a.out + (i64)image * a.channels * pixels + p;
    if (a.rule == VALUE) {
        for (int c = 0; c < a.channels; c++) out[(i64)c * pixels] = fixed_point(to_float(x[c]) * a.factor * a.scale);
    } else if (a.rule == EXCLUSIVE) {
        float most = -3e38f, sum = 0.f;
        for (int c = 0; c < a.channels; c++) most = larger(most, to_float(x[c]));
        for (int c = 0; c < a.channels; c++) sum += __expf(to_float(x[c]) - most);
        for (int c = 0; c < a.channels; c++) out[(i64)c * pixels] = fixed_point(__expf(to_float(x[c]) - most) / sum * a.scale);
    } else {
        const float logit = a.rule == LOGIT ? to_float(x[0]) : to_float(x[1]) - to_float(x[0]);
        out[0] = fixed_point(a.scale / (1.f + __expf(-logit)));
    }
}
