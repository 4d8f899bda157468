// Structural similarity and its gradient on the CPU; the meaning is that of ops/reference/ssim.py, and of compare_crops
// in ops/similarity.py.
//
// Images are rows of width * channels floats, so a step to the next pixel is a step of `channels` floats and no
// transposition is needed. The window is separable: blur down the columns, then along the row.
#include "simd.h"

#include <algorithm>

namespace {

constexpr int RADIUS = 5, TAPS = 2 * RADIUS + 1;

struct Images {
    int64_t height, width, channels;
    int64_t step;  // floats from one row to the next
    int64_t row() const { return width * channels; }
    int64_t pad() const { return RADIUS * channels; }
    int64_t first(int64_t y) const { return std::max<int64_t>(0, y - RADIUS); }  // rows that the window of row y sees
    int64_t last(int64_t y) const { return std::min(height - 1, y + RADIUS); }
};

struct Stretch {  // floats of a row
    int64_t begin, end;

    bool empty() const { return begin >= end; }
    // All whose windows touch the stretches of rows around y.
    static Stretch around(const std::vector<Stretch> &rows, int64_t y, const Images &im) {
        Stretch all{im.row(), 0};
        for (int64_t yy = im.first(y); yy <= im.last(y); ++yy)
            if (!rows[yy].empty())
                all.begin = std::min(all.begin, rows[yy].begin), all.end = std::max(all.end, rows[yy].end);
        if (all.empty()) return {0, 0};
        return {std::max<int64_t>(0, all.begin - im.pad()), std::min(im.row(), all.end + im.pad())};
    }
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

struct Derived {  // rows to write; all but the first may be null, or the third alone
    float *similarity, *d_mean_a, *d_mean_b, *d_square, *d_product;
};

// Similarity in a stretch of row y, and the derivatives of each of its values by the blurred maps: by the means of a and
// b, by the mean of squares (the same for a and b) and by the mean of products. Up to a vector more is written.
void compare_row(Rows<5> &rows, const Images &im, const float *a, const float *b, const float *k, float c1, float c2,
                 int64_t y, Stretch part, const Derived &out) {
    if (part.empty()) return;
    const int64_t from = std::max<int64_t>(0, part.begin - im.pad()), to = std::min(im.row(), part.end + im.pad());
    for (int64_t x = from; x < to; x += W) {
        vf s[5] = {};
        for (int64_t yy = im.first(y); yy <= im.last(y); ++yy) {
            const int64_t at = yy * im.step + x;
            const vf va = load_part(a + at, im.row() - x), vb = load_part(b + at, im.row() - x);
            const vf ka = k[yy - y + RADIUS] * va, kb = k[yy - y + RADIUS] * vb;
            s[0] += ka, s[1] += kb, s[2] += ka * va, s[3] += kb * vb, s[4] += ka * vb;
        }
        for (int m = 0; m < 5; ++m) store(rows.data[m].data() + im.pad() + x, s[m]);
    }
    rows.clear_tail(im);
    for (int64_t x = part.begin; x < part.end; x += W) {
        const vf ma = rows.blur(0, x, im, k), mb = rows.blur(1, x, im, k);
        const vf aa = rows.blur(2, x, im, k), bb = rows.blur(3, x, im, k), ab = rows.blur(4, x, im, k);
        const vf l1 = 2 * ma * mb + c1, l2 = ma * ma + mb * mb + c1;
        const vf s1 = 2 * (ab - ma * mb) + c2, s2 = (aa - ma * ma) + (bb - mb * mb) + c2;
        const vf inv = 1.f / (l2 * s2), value = l1 * s1 * inv;
        const int64_t left = im.row() - x;
        store_part(out.similarity + x, value, left);
        if (!out.d_mean_a) continue;
        const vf square = -value / s2, product = 2 * l1 * inv, by_mean = 2 * s1 * inv, fall = 2 * (value / l2 + square);
        store_part(out.d_square + x, square, left), store_part(out.d_product + x, product, left);
        store_part(out.d_mean_a + x, mb * (by_mean - product) - ma * fall, left);
        if (out.d_mean_b) store_part(out.d_mean_b + x, ma * (by_mean - product) - mb * fall, left);
    }
}

struct Slopes {  // of one image: gradient of each similarity (null: 1 everywhere), and its derivatives; rows side by side
    const float *grad, *d_mean, *d_square, *d_product;
};

// Gradient to a stretch of row y of `self` (a or b), whose partner is `other`; the window is symmetric, so its adjoint is
// the same blur. Up to a vector more is written.
void pull_row(Rows<3> &rows, const Images &im, const float *self, const float *other, const float *k, const Slopes &of,
              int64_t y, Stretch part, float *d_self) {
    if (part.empty()) return;
    const int64_t from = std::max<int64_t>(0, part.begin - im.pad()), to = std::min(im.row(), part.end + im.pad());
    for (int64_t x = from; x < to; x += W) {
        vf s[3] = {};
        for (int64_t yy = im.first(y); yy <= im.last(y); ++yy) {
            const int64_t at = yy * im.row() + x, left = im.row() - x;
            const vf weight = k[yy - y + RADIUS] * (of.grad ? load_part(of.grad + at, left) : splat(1.f));
            s[0] += weight * load_part(of.d_mean + at, left), s[1] += weight * load_part(of.d_square + at, left);
            s[2] += weight * load_part(of.d_product + at, left);
        }
        for (int m = 0; m < 3; ++m) store(rows.data[m].data() + im.pad() + x, s[m]);
    }
    rows.clear_tail(im);
    for (int64_t x = part.begin; x < part.end; x += W) {
        const int64_t at = y * im.step + x, left = im.row() - x;
        const vf total = rows.blur(0, x, im, k) + 2 * load_part(self + at, left) * rows.blur(1, x, im, k) +
                         load_part(other + at, left) * rows.blur(2, x, im, k);
        store_part(d_self + x, total, left);
    }
}

}  // namespace

extern "C" {

// Similarity of `count` images, and if d_mean_a is not null its derivatives (compare_row).
void ssim_forward(const float *a, const float *b, const float *k, float c1, float c2, int64_t count, int64_t height,
                  int64_t width, int64_t channels, int threads, float *similarity, float *d_mean_a, float *d_mean_b,
                  float *d_square, float *d_product) {
    const Images im{height, width, channels, width * channels};
    parallel(count * height, 8, threads, [&](int64_t begin, int64_t end, int) {
        Rows<5> rows(im);
        for (int64_t r = begin; r < end; ++r) {
            const int64_t top = r / height * height * im.row(), at = r * im.row();
            const Derived out = d_mean_a ? Derived{similarity + at, d_mean_a + at, d_mean_b + at, d_square + at, d_product + at}
                                         : Derived{similarity + at, nullptr, nullptr, nullptr, nullptr};
            compare_row(rows, im, a + top, b + top, k, c1, c2, r % height, {0, im.row()}, out);
        }
    });
}

void ssim_backward(const float *self, const float *other, const float *k, int64_t count, int64_t height, int64_t width,
                   int64_t channels, int threads, const float *grad, const float *d_mean, const float *d_square,
                   const float *d_product, float *d_self) {
    const Images im{height, width, channels, width * channels};
    parallel(count * height, 8, threads, [&](int64_t begin, int64_t end, int) {
        Rows<3> rows(im);
        for (int64_t r = begin; r < end; ++r) {
            const int64_t top = r / height * height * im.row();
            const Slopes of{grad + top, d_mean + top, d_square + top, d_product + top};
            pull_row(rows, im, self + top, other + top, k, of, r % height, {0, im.row()}, d_self + r * im.row());
        }
    });
}

// Mean absolute difference and mean similarity of a box of two images, [2]; and the derivatives of the mean similarity by
// the box of `a`, [height][width][channels]. Where the images are equal as far as a window sees, similarity is 1 and its
// derivatives are 0: nothing is computed there.
void compare_box(const float *a, const float *b, const float *k, float c1, float c2, int64_t height, int64_t width,
                 int64_t channels, int64_t step, int threads, float *means, float *slopes) {
    const Images im{height, width, channels, step};
    const int64_t row = im.row(), all = height * row;
    std::vector<Stretch> differ(height), seen(height);
    std::vector<double> l1(height), similar(height);
    parallel(height, 16, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t y = begin; y < end; ++y) {
            const float *ra = a + y * step, *rb = b + y * step;
            int64_t first = 0, last = row;
            while (first < row && ra[first] == rb[first]) ++first;
            while (last > first && ra[last - 1] == rb[last - 1]) --last;
            differ[y] = {first, last};
            vf sum = vf{};
            for (int64_t x = first; x < last; x += W) {
                const vf d = load_part(ra + x, last - x) - load_part(rb + x, last - x);
                sum += max(d, -d);
            }
            for (int i = 0; i < W; ++i) l1[y] += sum[i];
        }
    });
    std::vector<float> d_mean(all), d_square(all), d_product(all);
    parallel(height, 8, threads, [&](int64_t begin, int64_t end, int) {
        Rows<5> rows(im);
        std::vector<float> values(row);
        for (int64_t y = begin; y < end; ++y) {
            const Stretch part = seen[y] = Stretch::around(differ, y, im);
            const int64_t at = y * row;
            compare_row(rows, im, a, b, k, c1, c2, y, part, {values.data(), &d_mean[at], nullptr, &d_square[at], &d_product[at]});
            for (int64_t x = part.begin; x < part.end; ++x) similar[y] += values[x];
            similar[y] += double(row - (part.end - part.begin));
            for (auto *map : {&d_mean, &d_square, &d_product})  // of the vector that may end beyond the stretch
                std::fill(map->begin() + at + part.end, map->begin() + at + std::min(row, part.end + W), 0.f);
        }
    });
    parallel(height, 8, threads, [&](int64_t begin, int64_t end, int) {
        Rows<3> rows(im);
        for (int64_t y = begin; y < end; ++y) {
            const Stretch part = Stretch::around(seen, y, im);
            float *out = slopes + y * row;
            pull_row(rows, im, a, b, k, {nullptr, d_mean.data(), d_square.data(), d_product.data()}, y, part, out);
            for (int64_t x = part.begin; x < part.end; ++x) out[x] /= float(all);
            std::fill(out, out + part.begin, 0.f), std::fill(out + part.end, out + row, 0.f);
        }
    });
    double sums[2] = {};
    for (int64_t y = 0; y < height; ++y) sums[0] += l1[y], sums[1] += similar[y];
    means[0] = float(sums[0] / all), means[1] = float(sums[1] / all);
}

// Add the gradient of a box's two means, from that of each of them, to the box of d_a.
void compare_box_backward(const float *a, const float *b, const float *slopes, int64_t height, int64_t width,
                          int64_t channels, int64_t step, const float *grad, float *d_a) {
    const int64_t row = width * channels;
    const float up = grad[0] / float(height * row);
    for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < row; ++x) {
            const float va = a[y * step + x], vb = b[y * step + x];
            d_a[y * step + x] += (va > vb ? up : va < vb ? -up : 0.f) + grad[1] * slopes[y * row + x];
        }
}
}
