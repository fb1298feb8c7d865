// Overlapping head maps to weighted sums, and sums to means: the canvas of a slide on the device.
//
// Reference: `stitch/block.rs`, whose bytes these are: `Block::add` and `rounded_mean` with a Hann window. Sums are whole
// numbers added by atomics, so that neither the order of tiles nor that of threads matters. A block of the canvas is
// [block][block] sums of weights, then [channels][block][block] sums of weighted values, 32 bits each.
#pragma once
#include "common.cuh"

/// Where the middle of a tile lies on its slide's blocks; behind it lie [across][across] of them, by byte, -1 for those
/// that nobody needs. As `infer/cuda/canvas.rs` writes it.
struct Spot {
    int left, top;            // of its corner, from that of the first block
    int x, y, right, bottom;  // the part of it that is used
};

struct CanvasAddArgs {
    const short* maps;  // [images][channels][core][core]
    const u8* window;   // [core], the weights along a side
    const u8* spots;    // [images] of spot_bytes
    i64 blocks;         // what places of blocks are counted from
    int images, core, channels, plane;  // channels of these maps, and the first one's of the block
    int block, across, spot_bytes, unused;
};

/// A thread has a pixel of a map; the head that has the first channel brings the weights along.
KERNEL(canvas_add, CanvasAddArgs, 256, 4) {
    const i64 at = thread_index();
    const int px = a.core * a.core, image = (int)(at / px), p = (int)(at % px);
    if (image >= a.images) return;
    const int x = p % a.core, y = p / a.core;
    const u8* entry = a.spots + (i64)image * a.spot_bytes;
    const Spot& spot = *reinterpret_cast<const Spot*>(entry);
    if (x < spot.x || x >= spot.right || y < spot.y || y >= spot.bottom) return;
    const int left = spot.left + x, top = spot.top + y;
    const i64* places = reinterpret_cast<const i64*>(entry + sizeof(Spot));
    const i64 place = places[top / a.block * a.across + left / a.block];
    if (place < 0) return;
    // As many 8-bit weights as there are axes, brought back to 8 bits and never zero.
    const u32 weight = ((u32)a.window[x] * a.window[y] + 254) / 255;
    const i64 area = (i64)a.block * a.block;
    u32* to = reinterpret_cast<u32*>(a.blocks + place) + (i64)(top % a.block) * a.block + left % a.block;
    if (a.plane == 0) atomic_add(to, weight);
    const short* value = a.maps + (i64)image * a.channels * px + p;
    for (int c = 0; c < a.channels; c++) atomic_add(to + (1 + a.plane + c) * area, (u32)(value[(i64)c * px] * (int)weight));
}

struct CanvasMeanArgs {
    const i64* places;  // [rows][columns] of blocks, by byte, -1 where there is none
    short* values;      // [channels][h][w]
    u8* computed;       // [h][w], whether anything was added
    i64 blocks;         // what places are counted from
    int w, h, left, top;  // of what is read; its corner from that of the first block
    int block, columns, channels, unused;
};

/// A thread has a pixel; what was added over how much, rounded half away from zero.
KERNEL(canvas_mean, CanvasMeanArgs, 256, 4) {
    const i64 at = thread_index(), px = (i64)a.w * a.h;
    if (at >= px) return;
    const int left = a.left + (int)(at % a.w), top = a.top + (int)(at / a.w);
    const i64 place = a.places[(i64)(top / a.block) * a.columns + left / a.block], area = (i64)a.block * a.block;
    const u32* from = reinterpret_cast<const u32*>(a.blocks + place) + (i64)(top % a.block) * a.block + left % a.block;
    const i64 weight = place < 0 ? 0 : *from;
    a.computed[at] = weight > 0;
    for (int c = 0; c < a.channels; c++) {
        const i64 sum = weight > 0 ? (int)from[(1 + c) * area] : 0;
        a.values[c * px + at] = weight > 0 ? (short)((2 * sum + (sum < 0 ? -weight : weight)) / (2 * weight)) : 0;
    }
}
