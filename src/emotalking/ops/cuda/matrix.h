// Products of small matrices on the tensor cores: m16n8k16, sums in single precision. An operand is the sum of two numbers
// in half precision, which leaves errors near those of single precision: order in depth decides what covers what, so
// positions must not depend on the kernel.
//
// Lane 4 g + t of a warp holds of a 16 x 8 tile of sums rows g and g + 8 at columns 2 t and 2 t + 1. Two such tiles side
// by side are the left operand of the next product, so a chain of layers never leaves the registers.
#pragma once

struct Tile {
    float at[4];  // row g: columns 2 t and 2 t + 1; row g + 8: the same

    inline int column(int tile, int lane, int i) const { return 8 * tile + 2 * (lane & 3) + (i & 1); }
};

struct Left {
    unsigned high[4], low[4];
};

#ifdef __CUDACC_RTC__
inline unsigned pack_half(float low, float high) {
    unsigned packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

inline void unpack_half(unsigned packed, float &low, float &high) {
    asm("{.reg .f16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}" : "=f"(low), "=f"(high) : "r"(packed));
}

inline void multiply_add(Tile &c, const unsigned (&a)[4], uint2 b) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c.at[0]), "+f"(c.at[1]), "+f"(c.at[2]), "+f"(c.at[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
}
#else  // emulated, for tests
inline void multiply_add(Tile &c, const unsigned (&a)[4], uint2 b) { emulated_multiply_add(c, a, b); }
#endif

inline Left left_of(const Tile &first, const Tile &second) {
    Left left;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const Tile &from = i < 2 ? first : second;
        const float x = from.at[2 * (i & 1)], y = from.at[2 * (i & 1) + 1];
        float high_x, high_y;
        left.high[i] = pack_half(x, y);
        unpack_half(left.high[i], high_x, high_y);
        left.low[i] = pack_half(x - high_x, y - high_y);
    }
    return left;
}

inline Tile positive(const Tile &v) {
    return {{fmaxf(v.at[0], 0.f), fmaxf(v.at[1], 0.f), fmaxf(v.at[2], 0.f), fmaxf(v.at[3], 0.f)}};
}

// sums += left (16 x 16 INNER) * weights (16 INNER x 8 OUTER), which lie as ops/cuda/motion.py packs them.
template <int INNER, int OUTER>
inline void layer(Tile (&sums)[OUTER], const Left (&left)[INNER], const uint2 *weights, int lane) {
    const uint2 *low = weights + INNER * OUTER * 32;
#pragma unroll
    for (int i = 0; i < INNER; ++i) {
#pragma unroll
        for (int j = 0; j < OUTER; ++j) multiply_add(sums[j], left[i].high, weights[(i * OUTER + j) * 32 + lane]);
#pragma unroll
        for (int j = 0; j < OUTER; ++j) multiply_add(sums[j], left[i].low, weights[(i * OUTER + j) * 32 + lane]);
#pragma unroll
        for (int j = 0; j < OUTER; ++j) multiply_add(sums[j], left[i].high, low[(i * OUTER + j) * 32 + lane]);
    }
}

template <int OUTER>
inline void rectified(Left (&left)[OUTER / 2], const Tile (&sums)[OUTER]) {
#pragma unroll
    for (int i = 0; i < OUTER / 2; ++i) left[i] = left_of(positive(sums[2 * i]), positive(sums[2 * i + 1]));
}
