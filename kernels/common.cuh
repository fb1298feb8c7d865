// What all kernels share: activations, eight numbers at once, sums over a warp.
//
// An activation map lies as [image][row][pixel][channel] with steps in numbers (`elem`): `image`, `row`, `pixel`;
// channels are side by side. A map is a part of a larger one where its steps say so: a dense block's layer writes its
// channels between those of others.
#pragma once
#include "prims.cuh"

/// A function of one value, as `kernels/cpu/reference.rs: activate`; a NaN stays one. Numbers as in `infer/cuda/argument.rs`.
enum { NONE = 0, RELU = 1, RELU6 = 2, GELU = 3, SILU = 4, SIGMOID = 5 };

/// N values at once: one branch for all of them.
template <int N>
DEVICE void activate(float (&v)[N], int activation) {
    switch (activation) {
        case RELU:
            UNROLL for (int i = 0; i < N; i++) v[i] = larger(v[i], 0.f);
            break;
        case RELU6:
            UNROLL for (int i = 0; i < N; i++) v[i] = smaller(larger(v[i], 0.f), 6.f);
            break;
        case GELU:
            UNROLL for (int i = 0; i < N; i++) v[i] = 0.5f * v[i] * (1.f + erff(v[i] * 0.70710678f));
            break;
        case SILU:
            UNROLL for (int i = 0; i < N; i++) v[i] = v[i] / (1.f + __expf(-v[i]));
            break;
        case SIGMOID:
            UNROLL for (int i = 0; i < N; i++) v[i] = 1.f / (1.f + __expf(-v[i]));
            break;
        default: break;
    }
}

/// Eight numbers, 16 bytes.
struct Eight {
    float v[8];
};
DEVICE Eight unpack(uint4 bits) {
    return {{first_of(bits.x), second_of(bits.x), first_of(bits.y), second_of(bits.y), first_of(bits.z), second_of(bits.z),
             first_of(bits.w), second_of(bits.w)}};
}
DEVICE uint4 pack(const Eight& e) {
    uint4 bits;
    bits.x = pack(e.v[0], e.v[1]);
    bits.y = pack(e.v[2], e.v[3]);
    bits.z = pack(e.v[4], e.v[5]);
    bits.w = pack(e.v[6], e.v[7]);
    return bits;
}
DEVICE Eight load8(const elem* from) { return unpack(*reinterpret_cast<const uint4*>(from)); }
DEVICE void store8(elem* to, const Eight& e) { *reinterpret_cast<uint4*>(to) = pack(e); }

/// V numbers: one, or eight that lie aligned.
template <int V>
DEVICE void load(float (&v)[V], const elem* from) {
    if constexpr (V == 8) {
        Eight e = load8(from);
        UNROLL for (int i = 0; i < 8; i++) v[i] = e.v[i];
    } else {
        UNROLL for (int i = 0; i < V; i++) v[i] = to_float(from[i]);
    }
}
template <int V>
DEVICE void store(elem* to, const float (&v)[V]) {
    if constexpr (V == 8) {
        Eight e;
        UNROLL for (int i = 0; i < 8; i++) e.v[i] = v[i];
        store8(to, e);
    } else {
        UNROLL for (int i = 0; i < V; i++) to[i] = to_elem(v[i]);
    }
}

/// The same sum in every lane.
DEVICE float warp_sum(float v) {
    UNROLL for (int mask = 16; mask; mask >>= 1) v += shuffle_xor(v, mask);
    return v;
}
/// The largest of all lanes in every lane; a NaN is larger than anything.
DEVICE float warp_max(float v) {
    UNROLL for (int mask = 16; mask; mask >>= 1) v = larger(v, shuffle_xor(v, mask));
    return v;
}

/// Where the threads of a one-dimensional launch stand.
DEVICE i64 thread_index() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }
