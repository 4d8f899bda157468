// The motion networks of models/motion.py without gradient, and the Gaussians that they move: one pass from what is
// constant for an avatar to means, quaternions and scales. A warp takes 16 Gaussians through all layers.
//
// All widths are given in sixteens, with zeros behind the entries that there are. HIDDEN: of the trunk. KEYS: of the
// attention. LEVELS: of the emotion network's encoder. NARROW, CODE: of the layers of its attention.
#include "device.h"
#include "matrix.h"
#include "triplane.h"

constexpr int WARPS = 4, WIDTH = 16 * HIDDEN, OUTER = 2 * HIDDEN, INNER = HIDDEN;
constexpr int VALUES = 10, SCALES_FROM = 7;  // of a Gaussian: mean, quaternion, scales
constexpr int FEATURES = 3 * LEVELS, FEATURE_TILES = (FEATURES + 15) / 16;

struct Rows {  // the two Gaussians of a lane
    int at[2];
    bool there[2];

    Rows(int lane, int count) {
        const int first = (blockIdx.x * WARPS + (threadIdx.x >> 5)) * 16 + (lane >> 2);
        for (int r = 0; r < 2; ++r) there[r] = first + 8 * r < count, at[r] = there[r] ? first + 8 * r : count - 1;
    }
};

inline void trunk(Tile (&out)[2], const Tile (&hidden)[OUTER], const uint2 *second, const uint2 *third, int lane) {
    Left left[INNER];
    Tile sums[OUTER] = {};
    rectified<OUTER>(left, hidden);
    layer<INNER, OUTER>(sums, left, second, lane);
    rectified<OUTER>(left, sums);
    layer<INNER, 2>(out, left, third, lane);
}

// to = from + offset * scale of its column * share of its row; scales of Gaussians go through a softplus at last.
inline void write(const Tile (&out)[2], const Rows &rows, const float *from, const float *share, const float *scales,
                  bool last, int lane, float *to) {
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int column = out[j].column(j, lane, i), n = rows.at[i >> 1];
            if (column >= VALUES || !rows.there[i >> 1]) continue;
            float value = from[n * VALUES + column] + out[j].at[i] * scales[column] * (share ? share[n] : 1.f);
            if (last && column >= SCALES_FROM) value = value > 20.f ? value : log1pf(expf(value));
            to[n * VALUES + column] = value;
        }
}

// Face and mouth (equations 4 and 3): hidden = constant + bias of the frame + weights (attention * code of the frame).
extern "C" __global__ void move(int count, const float *constant, const float *bias, const float *attention,
                                const float *codes, const uint2 *first, const uint2 *second, const uint2 *third,
                                const float *from, const float *share, const float *scales, int last, float *moved) {
    const int lane = threadIdx.x & 31, frame = blockIdx.y;
    const Rows rows(lane, count);
    Tile hidden[OUTER], out[2] = {};
#pragma unroll
    for (int j = 0; j < OUTER; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int column = hidden[j].column(j, lane, i);
            hidden[j].at[i] = constant[rows.at[i >> 1] * WIDTH + column] + (bias ? bias[frame * WIDTH + column] : 0.f);
        }
#if KEYS
    Left left[KEYS];
#pragma unroll
    for (int k = 0; k < KEYS; ++k) {
        Tile keys[2];
#pragma unroll
        for (int j = 0; j < 2; ++j)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int column = keys[j].column(2 * k + j, lane, i);
                keys[j].at[i] = attention[rows.at[i >> 1] * 16 * KEYS + column] * codes[frame * 16 * KEYS + column];
            }
        left[k] = left_of(keys[0], keys[1]);
    }
    layer<KEYS, OUTER>(hidden, left, first, lane);
#endif
    trunk(out, hidden, second, third, lane);
    write(out, rows, from, share, scales, last, lane, moved + (long long)frame * count * VALUES);
}

// The emotion network on top (equation 5), read at the places that the face network has moved the Gaussians to.
extern "C" __global__ void emote(Grid grid, int count, const float *table, const float *codes, const uint2 *narrow,
                                 const uint2 *attend, const uint2 *first, const uint2 *second, const uint2 *third,
                                 const float *scales, float *moved) {
    const int lane = threadIdx.x & 31, frame = blockIdx.y;
    const Rows rows(lane, count);
    moved += (long long)frame * count * VALUES;
    float places[2][3];
    for (int r = 0; r < 2; ++r)
        for (int axis = 0; axis < 3; ++axis) places[r][axis] = moved[rows.at[r] * VALUES + axis];
    Left left[FEATURE_TILES + CODE];
#pragma unroll
    for (int k = 0; k < FEATURE_TILES; ++k) {
        Tile part[2];
#pragma unroll
        for (int j = 0; j < 2; ++j)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int column = part[j].column(2 * k + j, lane, i);
                part[j].at[i] = column < FEATURES ? feature(grid, table, places[i >> 1], column) : 0.f;
            }
        left[k] = left_of(part[0], part[1]);
    }
    Left features[FEATURE_TILES], wide[NARROW];
#pragma unroll
    for (int k = 0; k < FEATURE_TILES; ++k) features[k] = left[k];
    Tile narrowed[2 * NARROW] = {}, attention[2 * CODE] = {}, hidden[OUTER] = {}, out[2] = {};
    layer<FEATURE_TILES, 2 * NARROW>(narrowed, features, narrow, lane);
    rectified<2 * NARROW>(wide, narrowed);
    layer<NARROW, 2 * CODE>(attention, wide, attend, lane);
#pragma unroll
    for (int j = 0; j < 2 * CODE; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i)
            attention[j].at[i] = fmaxf(attention[j].at[i], 0.f) * codes[frame * 16 * CODE + attention[j].column(j, lane, i)];
#pragma unroll
    for (int k = 0; k < CODE; ++k) left[FEATURE_TILES + k] = left_of(attention[2 * k], attention[2 * k + 1]);
    layer<FEATURE_TILES + CODE, OUTER>(hidden, left, first, lane);
    trunk(out, hidden, second, third, lane);
    write(out, rows, moved, nullptr, scales, true, lane, moved);
}
