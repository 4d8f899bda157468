// Ranks of class scores at the resolution of a guide; the meaning is that of ops/reference/guided.py.
#include "simd.h"

#include <algorithm>

namespace {

typedef uint8_t bytes_t __attribute__((vector_size(W)));

constexpr int up(int size) { return (size + W - 1) / W * W; }

constexpr int radius = 5, side = 2 * radius + 1;  // of the reference; known to the compiler, it takes a quarter less

// at(0) + at(1) + ... of a window's side, in pairs: additions that wait for each other would take as long again.
template <class At>
inline vf total(At at) {
    static_assert(side == 11);
    return (((at(0) + at(1)) + (at(2) + at(3))) + ((at(4) + at(5)) + (at(6) + at(7)))) + ((at(8) + at(9)) + at(10));
}

// Sums over windows of small planes, row by row: the last rows of sums along rows, as many as a window is high.
struct Windows {
    int width, height, stride, planes;
    std::vector<float> padded, sums;

    Windows(int width, int height, int planes)
        : width(width), height(height), stride(up(width)), planes(planes), padded(stride + 2 * radius),
          sums(int64_t(side) * planes * stride) {}
    static int reflect(int at, int count) {  // the border's pixel repeats
        while (at < 0 || at >= count) at = at < 0 ? -1 - at : 2 * count - 1 - at;
        return at;
    }
    float *sums_of(int y, int plane) { return &sums[(int64_t(y % side) * planes + plane) * stride]; }
    // Take row y of a plane; in(x) is the vector of its pixels that begins there.
    template <class In>
    void take(int y, int plane, In in) {
        for (int x = 0; x < stride; x += W) store(&padded[radius + x], in(x));
        for (int k = 1; k <= radius; ++k) {
            padded[radius - k] = padded[radius + reflect(-k, width)];
            padded[radius + width + k - 1] = padded[radius + reflect(width + k - 1, width)];
        }
        float *to = sums_of(y, plane);
        for (int x = 0; x < stride; x += W) {
            const float *from = &padded[x];
            store(to + x, total([&](int k) { return load(from + k); }));
        }
    }
    // Means of all planes at row y into rows of `out`; the rows of its window have been taken.
    void mean(int y, float *out) {
        const float share = 1.f / (side * side);
        const float *rows[side];
        for (int plane = 0; plane < planes; ++plane, out += stride) {
            for (int k = 0; k < side; ++k) rows[k] = sums_of(reflect(y + k - radius, height), plane);
            for (int x = 0; x < stride; x += W)
                store(out + x, total([&](int k) { return load(rows[k] + x); }) * share);
        }
    }
};

struct Between {  // pixels of the small image beside each of the large one's, and the share of the second
    std::vector<int> first, second;
    std::vector<float> share;
    int small;
    bool twice;

    Between(int small, int large)
        : first(up(large)), second(up(large)), share(up(large)), small(small), twice(large == 2 * small && small > 1) {
        for (int i = 0; i < large; ++i) {
            const double at = std::min(std::max((i + 0.5) * small / large - 0.5, 0.0), small - 1.0);
            first[i] = int(at), second[i] = std::min(first[i] + 1, small - 1), share[i] = float(at - first[i]);
        }
    }
    // A row of the small image as wide as the large one.
    void widen(const float *__restrict from, float *__restrict to) const {
        const int *one = first.data(), *other = second.data(), count = int(first.size());
        const float *part = share.data();
        for (int x = 1; twice && x + 1 < small; ++x) {  // lookups take longer than all the rest
            to[2 * x] = from[x] + (from[x - 1] - from[x]) * 0.25f;
            to[2 * x + 1] = from[x] + (from[x + 1] - from[x]) * 0.25f;
        }
        for (int x = 0; x < count; x = twice && x == 1 ? 2 * small - 2 : x + 1)
            to[x] = from[one[x]] + (from[other[x]] - from[one[x]]) * part[x];
    }
};

// Rows of slopes and offsets of the classes, from means of colours, their products, and scores with and without them.
void solve(const float *means, float *lines, int stride, int classes, float epsilon) {
    for (int x = 0; x < stride; x += W) {
        vf m[3], c[6], v[6];  // rr rg rb gg gb bb; inverse by cofactors
        for (int d = 0; d < 3; ++d) m[d] = load(means + d * stride + x);
        for (int a = 0, k = 0; a < 3; ++a)
            for (int b = a; b < 3; ++b, ++k) {
                c[k] = load(means + (3 + k) * stride + x) - m[a] * m[b];
                if (a == b) c[k] += epsilon;
            }
        const vf cofactors[6] = {c[3] * c[5] - c[4] * c[4], c[4] * c[2] - c[1] * c[5], c[1] * c[4] - c[3] * c[2],
                                 c[0] * c[5] - c[2] * c[2], c[2] * c[1] - c[0] * c[4], c[0] * c[3] - c[1] * c[1]};
        const vf whole = 1.f / (c[0] * cofactors[0] + c[1] * cofactors[1] + c[2] * cofactors[2]);
        for (int k = 0; k < 6; ++k) v[k] = cofactors[k] * whole;
        for (int t = 0; t + 1 < classes; ++t) {
            const float *own = means + (9 + 4 * t) * stride + x;
            float *out = lines + 4 * t * stride + x;
            vf rest = load(own + 3 * stride);
            for (int d = 0; d < 3; ++d) c[d] = load(own + d * stride) - m[d] * rest;
            const vf slope[3] = {v[0] * c[0] + v[1] * c[1] + v[2] * c[2], v[1] * c[0] + v[3] * c[1] + v[4] * c[2],
                                 v[2] * c[0] + v[4] * c[1] + v[5] * c[2]};
            for (int d = 0; d < 3; ++d) store(out + d * stride, slope[d]), rest -= slope[d] * m[d];
            store(out + 3 * stride, rest);
        }
    }
}

}  // namespace

extern "C" {

// out [height][width] of scores [h][w][classes], guide [h][w][3] and image [height][width][3] in 8 bit: bit k where class
// k + 1 exceeds all before it. Row by row: whole planes of all means would not fit into the processor's own memory.
void guided_ranks(const float *scores, const uint8_t *guide, const uint8_t *image, int classes, int w, int h, int width,
                  int height, float epsilon, uint8_t *out) {
    const int parts = 4 * (classes - 1);  // a slope for each colour and an offset, by class
    Windows seen(w, h, 9 + parts), lines(w, h, parts);
    const int stride = seen.stride, wide = up(width);
    std::vector<float> colour(3 * stride), target((classes - 1) * stride);
    std::vector<float> means((9 + parts) * stride), found(parts * stride);
    const Between columns(w, width), rows(h, height);
    std::vector<float> buffers[2], pixels(3 * wide);
    std::vector<uint8_t> ranks(wide);
    for (auto &buffer : buffers) buffer.resize(int64_t(parts) * wide);  // the last two rows as wide as the image
    for (int read = 0, done = 0; done < height; ++read) {
        if (read < h) {
            for (int x = 0; x < w; ++x) {
                for (int d = 0; d < 3; ++d) colour[d * stride + x] = guide[3 * (int64_t(read) * w + x) + d] / 255.f;
                const float *score = scores + (int64_t(read) * w + x) * classes;
                for (int t = 0; t + 1 < classes; ++t) target[t * stride + x] = score[t];
            }
            const auto of = [&](int d) { return &colour[d * stride]; };
            for (int d = 0; d < 3; ++d) seen.take(read, d, [&](int x) { return load(of(d) + x); });
            for (int a = 0, k = 3; a < 3; ++a)
                for (int b = a; b < 3; ++b, ++k)
                    seen.take(read, k, [&](int x) { return load(of(a) + x) * load(of(b) + x); });
            for (int t = 0; t + 1 < classes; ++t) {
                const float *own = &target[t * stride];
                for (int d = 0; d < 3; ++d)
                    seen.take(read, 9 + 4 * t + d, [&](int x) { return load(of(d) + x) * load(own + x); });
                seen.take(read, 9 + 4 * t + 3, [&](int x) { return load(own + x); });
            }
        }
        if (const int y = read - radius; y >= 0 && y < h) {
            seen.mean(y, means.data());
            solve(means.data(), found.data(), stride, classes, epsilon);
            for (int part = 0; part < parts; ++part)
                lines.take(y, part, [&](int x) { return load(&found[part * stride + x]); });
        }
        const int small = read - 2 * radius;
        if (small < 0) continue;
        lines.mean(small, found.data());
        for (int part = 0; part < parts; ++part)
            columns.widen(&found[part * stride], &buffers[small % 2][int64_t(part) * wide]);
        for (; done < height && rows.second[done] <= small; ++done) {
            const float *above = buffers[rows.first[done] % 2].data(), *below = buffers[rows.second[done] % 2].data();
            for (int x = 0; x < width; ++x)
                for (int d = 0; d < 3; ++d) pixels[d * wide + x] = image[3 * (int64_t(done) * width + x) + d] * (1 / 255.f);
            const float share = rows.share[done];
            for (int x = 0; x < wide; x += W) {
                vf last = splat(1.f), highest = splat(-1e9f);
                vi bits{};
                for (int t = 0; t < classes; ++t) {
                    vf part[4];
                    for (int d = 0; d < 4 && t + 1 < classes; ++d) {
                        const int64_t at = int64_t(4 * t + d) * wide + x;
                        const vf first = load(above + at);
                        part[d] = first + (load(below + at) - first) * share;
                    }
                    for (int d = 0; d < 3 && t + 1 < classes; ++d) part[3] += part[d] * load(&pixels[d * wide + x]);
                    const vf score = t + 1 < classes ? part[3] : last;
                    if (t) bits |= (score > highest) & (1 << (t - 1));
                    last -= score, highest = max(highest, score);
                }
                const auto bytes = __builtin_convertvector(bits, bytes_t);
                std::memcpy(&ranks[x], &bytes, W);
            }
            std::memcpy(out + int64_t(done) * width, ranks.data(), width);
        }
    }
}
}
