// Colours of Gaussians along the lines of sight, and their gradient; the meaning is that of ops/sh.py.
#include "simd.h"

#include "harmonics.h"

#include <algorithm>

namespace {

struct Colours {  // one set of Gaussians
    const float *first, *rest;  // [count][3], [count][stored - 1][3]
    int64_t count;
    int used, stored;  // coefficients of a channel: up to the degree, and in all

    float of(int64_t n, int channel, const float *value) const {
        float total = 0.5f + value[0] * first[3 * n + channel];
        const float *higher = rest + 3 * (stored - 1) * n + channel;
        for (int k = 1; k < used; ++k) total += value[k] * higher[3 * (k - 1)];
        return total;
    }
};

struct Values {  // basis functions of W points, point by point
    float of[W][MAX_BASES];

    Values(const float *means, int count, const float *eye, int used) {
        vf point[3], value[MAX_BASES];
        for (int i = 0; i < 3; ++i) point[i] = column(means + i, 3, count);
        basis(point, eye, used, value);
        for (int k = 0; k < used; ++k)
            for (int i = 0; i < W; ++i) of[i][k] = value[k][i];
    }
};

// Call work(frame, point, its basis functions) for all points of all frames.
template <class Work>
void each_point(int64_t frames, int64_t count, int used, int threads, const float *means, const float *centres,
                Work work) {
    parallel(count, 512, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t f = 0; f < frames; ++f)
            for (int64_t n = begin; n < end; n += W) {
                const int points = int(std::min<int64_t>(W, end - n));
                const Values values(means + 3 * (f * count + n), points, centres + 3 * f, used);
                for (int i = 0; i < points; ++i) work(f, n + i, values.of[i]);
            }
    });
}

}  // namespace

extern "C" {

void shade_forward(int64_t frames, int64_t count, int used, int stored, int threads, const float *means,
                   const float *centres, const float *first, const float *rest, float *out) {
    const Colours colours{first, rest, count, used, stored};
    each_point(frames, count, used, threads, means, centres, [&](int64_t f, int64_t n, const float *value) {
        for (int c = 0; c < 3; ++c) out[3 * (f * count + n) + c] = std::max(colours.of(n, c, value), 0.f);
    });
}

// d_first and d_rest are added to.
void shade_backward(int64_t frames, int64_t count, int used, int stored, int threads, const float *means,
                    const float *centres, const float *first, const float *rest, const float *grad, float *d_first,
                    float *d_rest) {
    const Colours colours{first, rest, count, used, stored};
    each_point(frames, count, used, threads, means, centres, [&](int64_t f, int64_t n, const float *value) {
        for (int c = 0; c < 3; ++c) {
            // As clamp_min does: a colour of exactly zero still learns.
            if (!(colours.of(n, c, value) >= 0.f)) continue;
            const float g = grad[3 * (f * count + n) + c];
            d_first[3 * n + c] += value[0] * g;
            float *higher = d_rest + 3 * (stored - 1) * n + c;
            for (int k = 1; k < used; ++k) higher[3 * (k - 1)] += value[k] * g;
        }
    });
}
}
