// A motion network and its gradient, for training; the meaning is that of ops/reference/network.py.
//
// A block of P points goes through all layers while its values lie in the nearest caches, [point][channel]; what the
// backward pass needs of them is kept. All products are `multiply`.
#include "simd.h"

#include <algorithm>
#include <memory>

namespace {

constexpr int NV = 2;  // vectors of a tile, along its rows
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int MR = 12;  // rows of a tile: with 32 registers, 24 for sums
#else
constexpr int MR = 6;
#endif
constexpr int P = 48;       // points of a block
constexpr int MAPS = 4;     // most attention maps
constexpr int WIDTH = 128;  // widest layer; ops/network.py says so too
constexpr int STRIDE = WIDTH + W;

struct alignas(64) Values { float of[P * STRIDE]; };  // of a block

enum Then { SET, ADD, RECTIFY, GATE };  // what becomes of a product: ADD to what is there, GATE where `gate` is positive

template <int M, int N>
inline void tile(int K, const float *a, int a_row, int a_col, const float *b, int b_row, float *c, int c_row, Then then,
                 const float *gate) {
    vf sums[M][N] = {};
    for (int k = 0; k < K; ++k, b += b_row, a += a_col) {
        vf value[N];
        for (int n = 0; n < N; ++n) value[n] = load(b + n * W);
        for (int m = 0; m < M; ++m)
            for (int n = 0; n < N; ++n) sums[m][n] += a[m * a_row] * value[n];
    }
    for (int m = 0; m < M; ++m)
        for (int n = 0; n < N; ++n) {
            float *at = c + m * c_row + n * W;
            vf sum = sums[m][n];
            if (then == ADD) sum += load(at);
            if (then == RECTIFY) sum = sum < vf{} ? vf{} : sum;  // what is no number stays none
            if (then == GATE) sum = load(gate + m * c_row + n * W) > vf{} ? sum : vf{};
            store(at, sum);
        }
}

template <int M>
inline void rows(int N, int K, const float *a, int a_row, int a_col, const float *b, int b_row, float *c, int c_row,
                 Then then, const float *gate) {
    int n = 0;
    for (; n + NV * W <= N; n += NV * W)
        tile<M, NV>(K, a, a_row, a_col, b + n, b_row, c + n, c_row, then, gate ? gate + n : nullptr);
    for (; n < N; n += W) tile<M, 1>(K, a, a_row, a_col, b + n, b_row, c + n, c_row, then, gate ? gate + n : nullptr);
}

// c[m][n] = sum over k of a[m * a_row + k * a_col] * b[k][n], rounded up to whole vectors along n.
void multiply(int M, int N, int K, const float *a, int a_row, int a_col, const float *b, int b_row, float *c, int c_row,
              Then then = SET, const float *gate = nullptr) {
    int m = 0;
    auto part = [&](auto count) {
        constexpr int R = decltype(count)::value;
        rows<R>(N, K, a + m * a_row, a_row, a_col, b, b_row, c + m * c_row, c_row, then, gate ? gate + m * c_row : nullptr);
        m += R;
    };
    while (m + MR <= M) part(std::integral_constant<int, MR>());
    while (m + 4 <= M) part(std::integral_constant<int, 4>());
    while (m < M) part(std::integral_constant<int, 1>());
}

constexpr int padded(int n) { return (n + W - 1) / W * W; }

struct Layer {  // out = weights in
    int in, out;
    std::vector<float> ahead, back;  // [in][out] and [out][in], rows padded

    // weights: [out][row], of which the columns from `first` on are this layer's.
    void set(int in_, int out_, const float *weights, int row, int first = 0) {
        in = in_, out = out_;
        ahead.assign(in * padded(out) + W, 0.f), back.assign(out * padded(in) + W, 0.f);
        for (int o = 0; o < out; ++o)
            for (int i = 0; i < in; ++i)
                ahead[i * padded(out) + o] = back[o * padded(in) + i] = weights[o * row + first + i];
    }
    void run(int points, const float *from, float *to, Then then = SET) const {
        multiply(points, out, in, from, STRIDE, 1, ahead.data(), padded(out), to, STRIDE, then);
    }
    // Gradient of what came in from that of what went out.
    void pull(int points, const float *from, float *to, Then then, const float *gate = nullptr) const {
        multiply(points, in, out, from, STRIDE, 1, back.data(), padded(in), to, STRIDE, then, gate);
    }
    int64_t size() const { return int64_t(in) * padded(out); }
    // Add the gradient of the weights, [in][out] with padded rows, to what is there.
    void learn(int points, const float *came, const float *gradient, float *sums) const {
        multiply(in, out, points, came, 1, STRIDE, gradient, STRIDE, sums, padded(out), ADD);
    }
    // Write [out][row] columns from `first` on of a gradient.
    void give(const float *sums, float *gradient, int row, int first = 0) const {
        for (int o = 0; o < out; ++o)
            for (int i = 0; i < in; ++i) gradient[o * row + first + i] = sums[i * padded(out) + o];
    }
};

}  // namespace

struct Sizes {  // mirrored by ctypes in network.py
    int32_t count, frames, threads, features, hidden, outputs, maps;
    int32_t inner[MAPS], keys[MAPS], rectified[MAPS];  // of each attention map
    int32_t shared_from;  // keys from this one on are multiplied by `share`
};

namespace {

struct Network {
    const Sizes &s;
    int keys = 0, inner = 0;
    Layer within[MAPS], outer[MAPS], base, coded, second, third;

    Network(const Sizes &sizes, const float *const *inner_weights, const float *const *outer_weights, const float *first,
            const float *second_weights, const float *third_weights)
        : s(sizes) {
        for (int h = 0; h < s.maps; ++h) {
            within[h].set(s.features, s.inner[h], inner_weights[h], s.features);
            outer[h].set(s.inner[h], s.keys[h], outer_weights[h], s.inner[h]);
            keys += s.keys[h], inner += s.inner[h];
        }
        base.set(s.features, s.hidden, first, s.features + keys);
        coded.set(keys, s.hidden, first, s.features + keys, s.features);
        second.set(s.hidden, s.hidden, second_weights, s.hidden);
        third.set(s.hidden, s.outputs, third_weights, s.hidden);
    }
};

// The `count` first values of each point of a block, from or to rows of `step` floats.
void take(Values &to, const float *from, int64_t step, int count, int points) {
    for (int p = 0; p < points; ++p) std::memcpy(to.of + p * STRIDE, from + p * step, count * sizeof(float));
}
void put(const Values &from, float *to, int64_t step, int count, int points) {
    for (int p = 0; p < points; ++p) std::memcpy(to + p * step, from.of + p * STRIDE, count * sizeof(float));
}

struct Block {  // values of P points on their way through the network
    Values features, inner, attention, base, coded, first, second, out;

    // All that frames share.
    void begin(const Network &net, const float *rows, const float *share, int points) {
        const Sizes &s = net.s;
        take(features, rows, s.features, s.features, points);
        int at = 0, key = 0;
        for (int h = 0; h < s.maps; ++h) {  // in order: what a map writes beyond its end, the next one replaces
            net.within[h].run(points, features.of, inner.of + at, RECTIFY);
            net.outer[h].run(points, inner.of + at, attention.of + key, s.rectified[h] ? RECTIFY : SET);
            at += s.inner[h], key += s.keys[h];
        }
        if (share)
            for (int p = 0; p < points; ++p)
                for (int j = s.shared_from; j < net.keys; ++j) attention.of[p * STRIDE + j] *= share[p];
        net.base.run(points, features.of, base.of);
    }
    void attend(const Network &net, const float *codes, int points) {
        for (int p = 0; p < points; ++p)
            for (int j = 0; j < net.keys; ++j) coded.of[p * STRIDE + j] = attention.of[p * STRIDE + j] * codes[j];
    }
    // The layers of one frame.
    void frame(const Network &net, const float *codes, const float *bias, int points) {
        const int H = net.s.hidden;
        for (int p = 0; p < points; ++p)
            for (int o = 0; o < H; ++o) first.of[p * STRIDE + o] = base.of[p * STRIDE + o] + (bias ? bias[o] : 0.f);
        attend(net, codes, points);
        if (net.keys) net.coded.run(points, coded.of, first.of, ADD);
        for (int p = 0; p < points; ++p)
            for (int o = 0; o < H; ++o) first.of[p * STRIDE + o] = std::max(first.of[p * STRIDE + o], 0.f);
        net.second.run(points, first.of, second.of, RECTIFY);
        net.third.run(points, second.of, out.of);
    }
};

struct Kept {  // of a point, for the backward pass: values of the maps, then of the two hidden layers of each frame
    float *values;
    int inner, keys, hidden;
    int64_t size;

    Kept(const Network &net, float *kept)
        : values(kept), inner(net.inner), keys(net.keys), hidden(net.s.hidden),
          size(net.inner + net.keys + int64_t(2) * net.s.frames * net.s.hidden) {}

    template <class Move>  // move(values of a block, rows, how many a row)
    void maps(int64_t n, Block &block, Move move) const {
        move(block.inner, values + n * size, inner), move(block.attention, values + n * size + inner, keys);
    }
    template <class Move>
    void frame(int64_t n, int f, Block &block, Move move) const {
        float *at = values + n * size + inner + keys + int64_t(2) * f * hidden;
        move(block.first, at, hidden), move(block.second, at + hidden, hidden);
    }
};

struct Sums {  // gradients of all that blocks share, of one thread
    std::vector<float> within[MAPS], outer[MAPS], base, coded, second, third, codes, bias;

    void begin(const Network &net) {
        for (int h = 0; h < net.s.maps; ++h)
            within[h].assign(net.within[h].size(), 0.f), outer[h].assign(net.outer[h].size(), 0.f);
        base.assign(net.base.size(), 0.f), coded.assign(net.coded.size(), 0.f);
        second.assign(net.second.size(), 0.f), third.assign(net.third.size(), 0.f);
        codes.assign(int64_t(net.s.frames) * net.keys, 0.f), bias.assign(int64_t(net.s.frames) * net.s.hidden, 0.f);
    }
    void add(const Sums &other, int maps) {
        auto both = [](std::vector<float> &a, const std::vector<float> &b) {
            for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
        };
        for (int h = 0; h < maps; ++h) both(within[h], other.within[h]), both(outer[h], other.outer[h]);
        both(base, other.base), both(coded, other.coded), both(second, other.second), both(third, other.third);
        both(codes, other.codes), both(bias, other.bias);
    }
};

struct Backward {  // gradients of a block
    Block values;
    Values out, second, first, coded, attention, inner, base, features;

    void run(const Network &net, const Kept &kept, int64_t n, const float *rows, const float *share, const float *codes,
             bool biased, const float *d_out, int points, Sums &sums, float *d_rows) {
        const Sizes &s = net.s;
        auto fetch = [&](Values &to, const float *from, int count) { take(to, from, kept.size, count, points); };
        take(values.features, rows + n * s.features, s.features, s.features, points);
        kept.maps(n, values, fetch);
        for (int p = 0; p < points; ++p) {
            std::fill_n(base.of + p * STRIDE, s.hidden, 0.f);
            std::fill_n(attention.of + p * STRIDE, net.keys, 0.f);
        }
        for (int f = 0; f < s.frames; ++f) {
            const float *code = codes + f * net.keys;
            kept.frame(n, f, values, fetch);
            take(out, d_out + (int64_t(f) * s.count + n) * s.outputs, s.outputs, s.outputs, points);
            net.third.learn(points, values.second.of, out.of, sums.third.data());
            net.third.pull(points, out.of, second.of, GATE, values.second.of);
            net.second.learn(points, values.first.of, second.of, sums.second.data());
            net.second.pull(points, second.of, first.of, GATE, values.first.of);
            for (int p = 0; p < points; ++p)
                for (int o = 0; o < s.hidden; ++o) base.of[p * STRIDE + o] += first.of[p * STRIDE + o];
            if (biased)
                for (int p = 0; p < points; ++p)
                    for (int o = 0; o < s.hidden; ++o) sums.bias[f * s.hidden + o] += first.of[p * STRIDE + o];
            if (!net.keys) continue;
            values.attend(net, code, points);
            net.coded.learn(points, values.coded.of, first.of, sums.coded.data());
            net.coded.pull(points, first.of, coded.of, SET);
            float *d_code = sums.codes.data() + f * net.keys;
            for (int p = 0; p < points; ++p)
                for (int j = 0; j < net.keys; ++j) {
                    d_code[j] += coded.of[p * STRIDE + j] * values.attention.of[p * STRIDE + j];
                    attention.of[p * STRIDE + j] += coded.of[p * STRIDE + j] * code[j];
                }
        }
        net.base.learn(points, values.features.of, base.of, sums.base.data());
        net.base.pull(points, base.of, features.of, SET);
        if (share)
            for (int p = 0; p < points; ++p)
                for (int j = s.shared_from; j < net.keys; ++j) attention.of[p * STRIDE + j] *= share[n + p];
        int at = 0, key = 0;
        for (int h = 0; h < s.maps; ++h) {
            float *gradient = attention.of + key;
            if (s.rectified[h])
                for (int p = 0; p < points; ++p)
                    for (int j = 0; j < s.keys[h]; ++j)
                        if (!(values.attention.of[p * STRIDE + key + j] > 0.f)) gradient[p * STRIDE + j] = 0.f;
            net.outer[h].learn(points, values.inner.of + at, gradient, sums.outer[h].data());
            net.outer[h].pull(points, gradient, inner.of, GATE, values.inner.of + at);
            net.within[h].learn(points, values.features.of, inner.of, sums.within[h].data());
            net.within[h].pull(points, inner.of, features.of, ADD);
            at += s.inner[h], key += s.keys[h];
        }
        put(features, d_rows + n * s.features, s.features, s.features, points);
    }
};

}  // namespace

extern "C" {

// Weights as torch has them, [out][in]; `first` of features, then of all keys. share, bias and kept may be null.
void network_forward(const Sizes *sizes, const float *features, const float *share, const float *codes, const float *bias,
                     const float *const *inner, const float *const *outer, const float *first, const float *second,
                     const float *third, float *kept_values, float *out) {
    const Sizes &s = *sizes;
    const Network net(s, inner, outer, first, second, third);
    const Kept kept(net, kept_values);
    parallel((s.count + P - 1) / P, 8, s.threads, [&](int64_t begin, int64_t end, int) {
        auto values = std::make_unique<Block>();
        for (int64_t n = begin * P; n < std::min<int64_t>(end * P, s.count); n += P) {
            const int points = int(std::min<int64_t>(P, s.count - n));
            auto keep = [&](Values &from, float *to, int count) { put(from, to, kept.size, count, points); };
            values->begin(net, features + n * s.features, share ? share + n : nullptr, points);
            if (kept_values) kept.maps(n, *values, keep);
            for (int f = 0; f < s.frames; ++f) {
                values->frame(net, codes + f * net.keys, bias ? bias + f * s.hidden : nullptr, points);
                if (kept_values) kept.frame(n, f, *values, keep);
                put(values->out, out + (int64_t(f) * s.count + n) * s.outputs, s.outputs, s.outputs, points);
            }
        }
    });
}

// Gradients are written; d_codes and d_bias are [frames][...].
void network_backward(const Sizes *sizes, const float *features, const float *share, const float *codes, const float *bias,
                      const float *const *inner, const float *const *outer, const float *first, const float *second,
                      const float *third, float *kept_values, const float *d_out, float *d_features, float *d_codes,
                      float *d_bias, float *const *d_inner, float *const *d_outer, float *d_first, float *d_second,
                      float *d_third) {
    const Sizes &s = *sizes;
    const Network net(s, inner, outer, first, second, third);
    const Kept kept(net, kept_values);
    const int64_t blocks = (s.count + P - 1) / P, parts = std::max(1, s.threads), chunk = (blocks + parts - 1) / parts;
    std::vector<Sums> sums(parts);  // of fixed stretches of the points: the order of additions never changes
    for (Sums &each : sums) each.begin(net);
    parallel(blocks, chunk, s.threads, [&](int64_t begin, int64_t end, int) {
        auto work = std::make_unique<Backward>();
        for (int64_t n = begin * P; n < std::min<int64_t>(end * P, s.count); n += P)
            work->run(net, kept, n, features, share, codes, bias, d_out, int(std::min<int64_t>(P, s.count - n)),
                      sums[begin / chunk], d_features);
    });
    for (int part = 1; part < parts; ++part) sums[0].add(sums[part], s.maps);
    for (int h = 0; h < s.maps; ++h) {
        net.within[h].give(sums[0].within[h].data(), d_inner[h], s.features);
        net.outer[h].give(sums[0].outer[h].data(), d_outer[h], s.inner[h]);
    }
    net.base.give(sums[0].base.data(), d_first, s.features + net.keys);
    net.coded.give(sums[0].coded.data(), d_first, s.features + net.keys, s.features);
    net.second.give(sums[0].second.data(), d_second, s.hidden);
    net.third.give(sums[0].third.data(), d_third, s.hidden);
    std::copy(sums[0].codes.begin(), sums[0].codes.end(), d_codes);
    if (d_bias) std::copy(sums[0].bias.begin(), sums[0].bias.end(), d_bias);
}
}
