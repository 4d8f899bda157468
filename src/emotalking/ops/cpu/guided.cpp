// Class scores at the resolution of a guide; the meaning is that of ops/reference/guided.py.
#include "simd.h"

#include <algorithm>

namespace {

constexpr int up(int size) { return (size + W - 1) / W * W; }

// Small planes, rows padded to whole vectors, and means over windows of them.
struct Planes {
    int width, height, stride, radius;
    std::vector<float> padded, sums;

    Planes(int width, int height, int radius)
        : width(width), height(height), stride(up(width)), radius(radius), padded(stride + 2 * radius),
          sums(int64_t(stride) * height) {}
    int64_t size() const { return int64_t(stride) * height; }
    static int reflect(int at, int count) {  // the border's pixel repeats
        while (at < 0 || at >= count) at = at < 0 ? -1 - at : 2 * count - 1 - at;
        return at;
    }
    // out(i) is called with the offset and the mean of the vector that begins there.
    template <class In, class Out>
    void mean(In in, Out out) {
        const float share = 1.f / ((2 * radius + 1) * (2 * radius + 1));
        for (int y = 0; y < height; ++y) {
            const int64_t row = int64_t(y) * stride;
            for (int x = 0; x < stride; x += W) store(&padded[radius + x], in(row + x));
            for (int k = 1; k <= radius; ++k) {
                padded[radius - k] = padded[radius + reflect(-k, width)];
                padded[radius + width + k - 1] = padded[radius + reflect(width + k - 1, width)];
            }
            for (int x = 0; x < stride; x += W) {
                vf total{};
                for (int k = 0; k <= 2 * radius; ++k) total += load(&padded[x + k]);
                store(&sums[row + x], total);
            }
        }
        std::vector<const float *> rows(2 * radius + 1);
        for (int y = 0; y < height; ++y) {
            for (int k = -radius; k <= radius; ++k) rows[k + radius] = &sums[int64_t(reflect(y + k, height)) * stride];
            for (int x = 0; x < stride; x += W) {
                vf total{};
                for (const float *row : rows) total += load(row + x);
                out(int64_t(y) * stride + x, total * share);
            }
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

}  // namespace

extern "C" {

// out [classes][height][width] of scores [h][w][classes], guide [h][w][3] and image [height][width][3] in 8 bit.
void guided_upsample(const float *scores, const uint8_t *guide, const uint8_t *image, int classes, int w, int h,
                     int width, int height, int radius, float epsilon, float *out) {
    thread_local std::vector<float> memory;  // fresh pages would take as long as the work
    Planes planes(w, h, radius);
    const int64_t n = planes.size(), stride = planes.stride;
    const int parts = 4 * (classes - 1);  // a slope for each colour and an offset, by class
    memory.resize((3 + 3 + 6 + 5 + parts) * n);
    float *colour = memory.data(), *middle = colour + 3 * n, *inverse = middle + 3 * n, *target = inverse + 6 * n;
    float *slopes = target + n, *lines = slopes + 4 * n;
    for (int y = 0; y < h; ++y)
        for (int x = 0; x < w; ++x)
            for (int d = 0; d < 3; ++d) colour[d * n + y * stride + x] = guide[3 * (int64_t(y) * w + x) + d] / 255.f;
    for (int d = 0; d < 3; ++d)
        planes.mean([&](int64_t i) { return load(colour + d * n + i); }, [&](int64_t i, vf mean) { store(middle + d * n + i, mean); });
    for (int a = 0, k = 0; a < 3; ++a)
        for (int b = a; b < 3; ++b, ++k)
            planes.mean([&](int64_t i) { return load(colour + a * n + i) * load(colour + b * n + i); },
                        [&](int64_t i, vf mean) {
                            mean -= load(middle + a * n + i) * load(middle + b * n + i);
                            store(inverse + k * n + i, a == b ? mean + epsilon : mean);
                        });
    for (int64_t i = 0; i < n; i += W) {  // rr rg rb gg gb bb, by cofactors
        vf c[6];
        for (int k = 0; k < 6; ++k) c[k] = load(inverse + k * n + i);
        const vf cofactors[6] = {c[3] * c[5] - c[4] * c[4], c[4] * c[2] - c[1] * c[5], c[1] * c[4] - c[3] * c[2],
                                 c[0] * c[5] - c[2] * c[2], c[2] * c[1] - c[0] * c[4], c[0] * c[3] - c[1] * c[1]};
        const vf whole = 1.f / (c[0] * cofactors[0] + c[1] * cofactors[1] + c[2] * cofactors[2]);
        for (int k = 0; k < 6; ++k) store(inverse + k * n + i, cofactors[k] * whole);
    }
    for (int t = 0; t + 1 < classes; ++t) {
        for (int y = 0; y < h; ++y)
            for (int x = 0; x < w; ++x) target[y * stride + x] = scores[(int64_t(y) * w + x) * classes + t];
        float *offset = slopes + 3 * n;
        planes.mean([&](int64_t i) { return load(target + i); }, [&](int64_t i, vf mean) { store(offset + i, mean); });
        for (int d = 0; d < 3; ++d)
            planes.mean([&](int64_t i) { return load(colour + d * n + i) * load(target + i); },
                        [&](int64_t i, vf mean) {
                            store(slopes + d * n + i, mean - load(middle + d * n + i) * load(offset + i));
                        });
        for (int64_t i = 0; i < n; i += W) {
            vf v[6], c[3], rest = load(offset + i);
            for (int k = 0; k < 6; ++k) v[k] = load(inverse + k * n + i);
            for (int d = 0; d < 3; ++d) c[d] = load(slopes + d * n + i);
            const vf slope[3] = {v[0] * c[0] + v[1] * c[1] + v[2] * c[2], v[1] * c[0] + v[3] * c[1] + v[4] * c[2],
                                 v[2] * c[0] + v[4] * c[1] + v[5] * c[2]};
            for (int d = 0; d < 3; ++d) store(slopes + d * n + i, slope[d]), rest -= slope[d] * load(middle + d * n + i);
            store(offset + i, rest);
        }
        for (int d = 0; d < 4; ++d)
            planes.mean([&](int64_t i) { return load(slopes + d * n + i); },
                        [&](int64_t i, vf mean) { store(lines + (4 * t + d) * n + i, mean); });
    }
    const Between columns(w, width), rows(h, height);
    const int wide = up(width);
    std::vector<float> buffers[2], pixels(3 * wide), result(int64_t(classes) * wide);
    int held[2] = {-1, -1};  // rows of the small planes that the buffers hold, as wide as the image
    for (auto &buffer : buffers) buffer.resize(int64_t(parts) * wide);
    for (int y = 0; y < height; ++y) {
        if (held[1] == rows.first[y]) std::swap(held[0], held[1]), std::swap(buffers[0], buffers[1]);
        for (int b = 0; b < 2; ++b) {
            const int row = b ? rows.second[y] : rows.first[y];
            if (held[b] == row) continue;
            held[b] = row;
            for (int part = 0; part < parts; ++part) {
                const float *from = lines + part * n + row * stride;
                float *to = &buffers[b][int64_t(part) * wide];
                columns.widen(from, to);
            }
        }
        for (int x = 0; x < width; ++x)
            for (int d = 0; d < 3; ++d) pixels[d * wide + x] = image[3 * (int64_t(y) * width + x) + d] * (1 / 255.f);
        const float share = rows.share[y];
        for (int x = 0; x < wide; x += W) {
            vf last = splat(1.f);
            for (int t = 0; t + 1 < classes; ++t) {
                vf part[4];
                for (int d = 0; d < 4; ++d) {
                    const int64_t at = int64_t(4 * t + d) * wide + x;
                    const vf first = load(&buffers[0][at]);
                    part[d] = first + (load(&buffers[1][at]) - first) * share;
                }
                for (int d = 0; d < 3; ++d) part[3] += part[d] * load(&pixels[d * wide + x]);
                store(&result[int64_t(t) * wide + x], part[3]);
                last -= part[3];
            }
            store(&result[int64_t(classes - 1) * wide + x], last);
        }
        for (int t = 0; t < classes; ++t)
            std::memcpy(out + (int64_t(t) * height + y) * width, &result[int64_t(t) * wide], width * sizeof(float));
    }
}
}
