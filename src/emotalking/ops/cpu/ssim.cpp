// Structural similarity and its gradient on the CPU; the meaning is that of ops/reference/ssim.py.
//
// Images are rows of width * channels floats, so a step to the next pixel is a step of `channels` floats and no
// transposition is needed. The window is separable: blur down the columns, then along the row.
#include "simd.h"

#include <algorithm>

namespace {

constexpr int RADIUS = 5, TAPS = 2 * RADIUS + 1;

struct Images {
    int64_t count, height, width, channels;
    int64_t row() const { return width * channels; }
    int64_t pad() const { return RADIUS * channels; }
};

// MAPS rows with zeros on both sides, long enough that whole vectors can be read and written past the end.
template <int MAPS>
struct Rows {
    std::vector<float> data[MAPS];
    explicit Rows(const Images &im) {
        for (auto &d : data) d.assign(im.row() + 2 * im.pad() + 2 * W, 0.f);
    }
    // Values W at a time past the row's end must be zero again before the horizontal blur reads them.
    void clear_tail(const Images &im) {
        for (auto &d : data) std::fill(d.begin() + im.pad() + im.row(), d.end(), 0.f);
    }
    vf blur(int map, int64_t x, const Images &im, const float *k) const {
        const float *at = data[map].data() + x;  // x counts from the first pixel: the padding shifts by RADIUS taps
        vf total = vf{};
        for (int i = 0; i < TAPS; ++i) total += k[i] * load(at + i * im.channels);
        return total;
    }
};

inline vf load_part(const float *p, int64_t left) {
    if (left >= W) return load(p);
    vf v = vf{};
    std::memcpy(&v, p, left * sizeof(float));
    return v;
}
inline void store_part(float *p, vf v, int64_t left) { std::memcpy(p, &v, std::min<int64_t>(W, left) * sizeof(float)); }

}  // namespace

extern "C" {

// similarity, and if d_mean_a is not null the derivatives of each of its values by the blurred maps: by the means of a
// and b, by the mean of squares (the same for a and b) and by the mean of products.
void ssim_forward(const float *a, const float *b, const float *k, float c1, float c2, int64_t count, int64_t height,
                  int64_t width, int64_t channels, int threads, float *similarity, float *d_mean_a, float *d_mean_b,
                  float *d_square, float *d_product) {
    const Images im{count, height, width, channels};
    parallel(count * height, 8, threads, [&](int64_t begin, int64_t end, int) {
        Rows<5> rows(im);
        for (int64_t r = begin; r < end; ++r) {
            const int64_t y = r % height, first = std::max<int64_t>(0, y - RADIUS), last = std::min(height - 1, y + RADIUS);
            for (int64_t x = 0; x < im.row(); x += W) {
                vf s[5] = {};
                for (int64_t yy = first; yy <= last; ++yy) {
                    const int64_t at = (r + yy - y) * im.row() + x;
                    const vf va = load_part(a + at, im.row() - x), vb = load_part(b + at, im.row() - x);
                    const vf ka = k[yy - y + RADIUS] * va, kb = k[yy - y + RADIUS] * vb;
                    s[0] += ka, s[1] += kb, s[2] += ka * va, s[3] += kb * vb, s[4] += ka * vb;
                }
                for (int m = 0; m < 5; ++m) store(rows.data[m].data() + im.pad() + x, s[m]);
            }
            rows.clear_tail(im);
            for (int64_t x = 0; x < im.row(); x += W) {
                const vf ma = rows.blur(0, x, im, k), mb = rows.blur(1, x, im, k);
                const vf aa = rows.blur(2, x, im, k), bb = rows.blur(3, x, im, k), ab = rows.blur(4, x, im, k);
                const vf l1 = 2 * ma * mb + c1, l2 = ma * ma + mb * mb + c1;
                const vf s1 = 2 * (ab - ma * mb) + c2, s2 = (aa - ma * ma) + (bb - mb * mb) + c2;
                const vf inv = 1.f / (l2 * s2), value = l1 * s1 * inv;
                const int64_t at = r * im.row() + x, left = im.row() - x;
                store_part(similarity + at, value, left);
                if (!d_mean_a) continue;
                const vf square = -value / s2, product = 2 * l1 * inv, by_mean = 2 * s1 * inv, fall = 2 * (value / l2 + square);
                store_part(d_square + at, square, left), store_part(d_product + at, product, left);
                store_part(d_mean_a + at, mb * (by_mean - product) - ma * fall, left);
                store_part(d_mean_b + at, ma * (by_mean - product) - mb * fall, left);
            }
        }
    });
}

// Gradient to `self` (a or b), whose partner is `other`; the window is symmetric, so its adjoint is the same blur.
void ssim_backward(const float *self, const float *other, const float *k, int64_t count, int64_t height, int64_t width,
                   int64_t channels, int threads, const float *grad, const float *d_mean, const float *d_square,
                   const float *d_product, float *d_self) {
    const Images im{count, height, width, channels};
    parallel(count * height, 8, threads, [&](int64_t begin, int64_t end, int) {
        Rows<3> rows(im);
        for (int64_t r = begin; r < end; ++r) {
            const int64_t y = r % height, first = std::max<int64_t>(0, y - RADIUS), last = std::min(height - 1, y + RADIUS);
            for (int64_t x = 0; x < im.row(); x += W) {
                vf s[3] = {};
                for (int64_t yy = first; yy <= last; ++yy) {
                    const int64_t at = (r + yy - y) * im.row() + x, left = im.row() - x;
                    const vf g = k[yy - y + RADIUS] * load_part(grad + at, left);
                    s[0] += g * load_part(d_mean + at, left), s[1] += g * load_part(d_square + at, left);
                    s[2] += g * load_part(d_product + at, left);
                }
                for (int m = 0; m < 3; ++m) store(rows.data[m].data() + im.pad() + x, s[m]);
            }
            rows.clear_tail(im);
            for (int64_t x = 0; x < im.row(); x += W) {
                const int64_t at = r * im.row() + x, left = im.row() - x;
                const vf total = rows.blur(0, x, im, k) + 2 * load_part(self + at, left) * rows.blur(1, x, im, k) +
                                 load_part(other + at, left) * rows.blur(2, x, im, k);
                store_part(d_self + at, total, left);
            }
        }
    });
}
}
