// Motion networks without gradient; the meaning is that of ops/reference/motion.py.
//
// A block of P points goes through all layers while its values lie in the nearest cache, [channel][P]. Of a layer, tiles
// of OUT channels x V vectors of points are summed in registers; weights are broadcast, [in][out].
#include "simd.h"

#include <algorithm>
#include <initializer_list>

namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int OUT = 8;  // of 32 registers, 16 for sums
#else
constexpr int OUT = 4;
#endif
constexpr int V = 2, P = V * W;
constexpr int WIDTH = 128;  // widest layer; ops/motion.py says so too
constexpr int VALUES = 10, PLANES = 3, AXES[PLANES][2] = {{0, 1}, {1, 2}, {0, 2}};

struct Values {  // of a block, by channel
    alignas(64) float of[WIDTH][P];
};

template <int N>
inline void outputs(const float *in, int width, const float *weights, int stride, const float *start, const float *bias,
                    bool rectify, float *out) {
    vf sums[N][V];
    for (int o = 0; o < N; ++o)
        for (int v = 0; v < V; ++v)
            sums[o][v] = (start ? load(start + o * P + v * W) : vf{}) + (bias ? bias[o] : 0.f);
    for (int k = 0; k < width; ++k, in += P, weights += stride) {
        vf x[V];
        for (int v = 0; v < V; ++v) x[v] = load(in + v * W);
        for (int o = 0; o < N; ++o)
            for (int v = 0; v < V; ++v) sums[o][v] += x[v] * weights[o];
    }
    for (int o = 0; o < N; ++o)
        for (int v = 0; v < V; ++v) store(out + o * P + v * W, rectify ? max(sums[o][v], vf{}) : sums[o][v]);
}

struct Layer {
    int in, out;
    const float *weights;  // [in][out]

    // out = start + bias + weights in; start and bias may be null.
    void run(const float *from, float *to, bool rectify, const float *start = nullptr, const float *bias = nullptr) const {
        auto part = [&](auto count, int o) {
            constexpr int N = decltype(count)::value;
            outputs<N>(from, in, weights + o, out, start ? start + o * P : nullptr, bias ? bias + o : nullptr, rectify,
                       to + o * P);
            return o + N;
        };
        int o = 0;
        while (o + OUT <= out) o = part(std::integral_constant<int, OUT>(), o);
        while (o + 2 <= out) o = part(std::integral_constant<int, 2>(), o);
        while (o < out) o = part(std::integral_constant<int, 1>(), o);
    }
};

struct Grid {  // the tri-planes of the emotion network
    int levels;
    int64_t entries;
    const float *table, *scales;
    const int32_t *strides, *offsets;
    float bound;

    // Features of a block's points, plane by plane.
    void encode(const float *means, float *features) const {
        vf u[3][V], fraction[3][V];
        vi inside[3][V];
        alignas(64) int32_t index[PLANES][P];
        alignas(64) int64_t pairs[PLANES][2][P];  // two neighbours along the first axis, at two places along the second
        for (int axis = 0; axis < 3; ++axis)
            for (int v = 0; v < V; ++v) {
                u[axis][v] = (load(means + axis * P + v * W) + bound) / (2 * bound);
                inside[axis][v] = (u[axis][v] >= vf{}) & (u[axis][v] <= splat(1.f));
                u[axis][v] = inside[axis][v] ? u[axis][v] : vf{};
            }
        for (int l = 0; l < levels; ++l) {
            vi cell[3][V];
            for (int axis = 0; axis < 3; ++axis)
                for (int v = 0; v < V; ++v) {
                    const vf position = u[axis][v] * scales[l] + 0.5f;
                    cell[axis][v] = __builtin_convertvector(position, vi);
                    fraction[axis][v] = position - __builtin_convertvector(cell[axis][v], vf);
                }
            for (int p = 0; p < PLANES; ++p)
                for (int v = 0; v < V; ++v) {
                    const vi at = cell[AXES[p][0]][v] + cell[AXES[p][1]][v] * strides[l];
                    std::memcpy(index[p] + v * W, &at, sizeof at);
                }
            for (int p = 0; p < PLANES; ++p) {
                const float *values = table + p * entries + offsets[l], *next = values + strides[l];
                for (int i = 0; i < P; ++i) {
                    std::memcpy(&pairs[p][0][i], values + index[p][i], 8);
                    std::memcpy(&pairs[p][1][i], next + index[p][i], 8);
                }
            }
            for (int p = 0; p < PLANES; ++p)
                for (int v = 0; v < V; ++v) {
                    const int a = AXES[p][0], b = AXES[p][1];
                    vf c[4], first, second;
                    for (int row = 0; row < 2; ++row) {
                        std::memcpy(&first, pairs[p][row] + v * W, sizeof first);
                        std::memcpy(&second, pairs[p][row] + v * W + W / 2, sizeof second);
                        unzip(first, second, c[2 * row], c[2 * row + 1]);
                    }
                    const vf low = c[0] + fraction[a][v] * (c[1] - c[0]), high = c[2] + fraction[a][v] * (c[3] - c[2]);
                    const vf value = low + fraction[b][v] * (high - low);
                    store(features + (p * levels + l) * P + v * W, inside[a][v] & inside[b][v] ? value : vf{});
                }
        }
    }
};

// weights[key][out] of a frame: first-layer weights times the frame's codes.
std::vector<float> modulated(const float *first, const float *codes, int frames, int keys, int width) {
    std::vector<float> weights(int64_t(frames) * keys * width);
    for (int64_t i = 0; i < int64_t(weights.size()); ++i)
        weights[i] = first[i % (int64_t(keys) * width)] * codes[i / width];
    return weights;
}

}  // namespace

extern "C" {

struct Sizes {  // mirrored by ctypes in motion.py
    int32_t count, frames, threads, hidden, keys;
    int32_t levels, inner, code, emotion_hidden;  // of the emotion network
    float bound;
};

int motion_block() { return P; }

// Constants of points come in blocks, [block][channel][P]; weights are [in][out]. share and bias may be null, and so may
// emotion_codes, with all that belongs to the emotion network.
void motion_move(const Sizes *sizes, const float *gaussians, const float *hidden, const float *attention,
                 const float *share, const float *first, const float *second, const float *third, const float *codes,
                 const float *bias, const float *table, const float *scales, const int32_t *strides,
                 const int32_t *offsets, const float *inner, const float *outer, const float *emotion_first,
                 const float *emotion_second, const float *emotion_third, const float *emotion_codes, float *means,
                 float *quats, float *scales_out) {
    const Sizes &s = *sizes;
    const std::vector<float> weights = modulated(first, codes, s.frames, s.keys, s.hidden);
    const int features = PLANES * s.levels, joined = features + s.code, h = s.emotion_hidden;
    std::vector<float> emotion_weights;  // [frame][features and code][out]
    if (emotion_codes)
        for (int f = 0; f < s.frames; ++f) {
            const auto attended = modulated(emotion_first + features * h, emotion_codes + f * s.code, 1, s.code, h);
            emotion_weights.insert(emotion_weights.end(), emotion_first, emotion_first + features * h);
            emotion_weights.insert(emotion_weights.end(), attended.begin(), attended.end());
        }
    parallel((s.count + P - 1) / P, 8, s.threads, [&](int64_t begin, int64_t end, int) {
        Values a, b;
        alignas(64) float offset[VALUES][P], more[VALUES][P], value[VALUES][P];
        for (int64_t block = begin; block < end; ++block)
            for (int frame = 0; frame < s.frames; ++frame) {
                const float *from = gaussians + block * VALUES * P;
                Layer{s.keys, s.hidden, weights.data() + int64_t(frame) * s.keys * s.hidden}.run(
                    attention + block * s.keys * P, a.of[0], true, hidden + block * s.hidden * P,
                    bias ? bias + int64_t(frame) * s.hidden : nullptr);
                Layer{s.hidden, s.hidden, second}.run(a.of[0], b.of[0], true);
                Layer{s.hidden, VALUES, third}.run(b.of[0], offset[0], false);
                for (int j = 0; j < VALUES; ++j)
                    for (int i = 0; i < P; i += W) {
                        const vf moved = load(offset[j] + i) * (share ? load(share + block * P + i) : splat(1.f));
                        store(offset[j] + i, moved);
                        store(value[j] + i, load(from + j * P + i) + moved);
                    }
                if (emotion_codes) {
                    Grid{s.levels, offsets[s.levels], table, scales, strides, offsets, s.bound}.encode(value[0], a.of[0]);
                    Layer{features, s.inner, inner}.run(a.of[0], b.of[0], true);
                    Layer{s.inner, s.code, outer}.run(b.of[0], a.of[features], true);
                    Layer{joined, h, emotion_weights.data() + int64_t(frame) * joined * h}.run(a.of[0], b.of[0], true);
                    Layer{h, h, emotion_second}.run(b.of[0], a.of[0], true);
                    Layer{h, VALUES, emotion_third}.run(a.of[0], more[0], false);
                    for (int j = 0; j < VALUES; ++j)
                        for (int i = 0; i < P; i += W)
                            store(value[j] + i, load(from + j * P + i) + (load(offset[j] + i) + load(more[j] + i)));
                }
                for (int j = 7; j < VALUES; ++j)
                    for (int i = 0; i < P; i += W) store(value[j] + i, softplus(load(value[j] + i)));
                const int used = int(std::min<int64_t>(P, s.count - block * P));
                for (int i = 0; i < used; ++i) {
                    const int64_t at = int64_t(frame) * s.count + block * P + i;
                    for (int j = 0; j < 3; ++j) means[3 * at + j] = value[j][i], scales_out[3 * at + j] = value[7 + j][i];
                    for (int j = 0; j < 4; ++j) quats[4 * at + j] = value[3 + j][i];
                }
            }
    });
}
}
