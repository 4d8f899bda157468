// Fields inverted and images moved along them; the meaning is that of ops/reference/warp.py.
#include "simd.h"

#include <algorithm>

namespace {

typedef float Pixel __attribute__((vector_size(8 * sizeof(float))));  // channels of a pixel
constexpr int ROWS = 8;                                               // of a chunk

// Where the places of an enlarged line lie between those of the given one, as torch's bilinear interpolation has it.
struct Line {
    std::vector<int> low, high;
    std::vector<float> share;

    Line(int count, int scale, int given) : low(count), high(count), share(count) {
        for (int i = 0; i < count; ++i) {
            const float at = std::max((i + 0.5f) / scale - 0.5f, 0.f);
            low[i] = std::min(int(at), given - 1), high[i] = std::min(low[i] + 1, given - 1), share[i] = at - low[i];
        }
    }
};

// Values of a plane between its pixels: places of a row's `count` points (already inside), in pixels.
void sample(const float *__restrict plane, int width, int height, const float *__restrict x, const float *__restrict y,
            int count, float sign, float *__restrict out) {
    for (int i = 0; i < count; ++i) {
        const int x0 = int(x[i]), y0 = int(y[i]);
        const int x1 = x0 + 1 < width ? x0 + 1 : x0, y1 = y0 + 1 < height ? y0 + 1 : y0;
        const float fx = x[i] - x0, fy = y[i] - y0;
        const float a = plane[y0 * width + x0], b = plane[y0 * width + x1];
        const float c = plane[y1 * width + x0], d = plane[y1 * width + x1];
        const float upper = a + fx * (b - a), lower = c + fx * (d - c);
        out[i] = sign * (upper + fy * (lower - upper));
    }
}

float inside(float at, int size) { return std::min(std::max(at, 0.f), float(size - 1)); }

// Share of a place that an image of this size, zero around it, has.
float covered(float at, int size) { return std::min(std::max(std::min(1.f + at, size - at), 0.f), 1.f); }

struct Taps {  // of a cubic convolution (a = -0.75)
    float weight[4];
    int place[4];
    static float near(float s) { return (1.25f * s - 2.25f) * s * s + 1.f; }
    static float far(float s) { return ((-0.75f * s + 3.75f) * s - 6.f) * s + 3.f; }
    Taps(float at, int size) {
        const float low = std::floor(at), t = at - low;
        weight[0] = far(1.f + t), weight[1] = near(t), weight[2] = near(1.f - t), weight[3] = far(2.f - t);
        for (int k = 0; k < 4; ++k) place[k] = std::min(std::max(int(low) + k - 1, 0), size - 1);
    }
};

// Row y of an enlarged plane.
void enlarged(const float *plane, int width, const Line &rows, const Line &columns, int y, int count, float *out) {
    const float *upper = plane + rows.low[y] * width, *lower = plane + rows.high[y] * width, share = rows.share[y];
    for (int x = 0; x < count; ++x) {
        const int a = columns.low[x], b = columns.high[x];
        const float left = upper[a] + share * (lower[a] - upper[a]), right = upper[b] + share * (lower[b] - upper[b]);
        out[x] = left + columns.share[x] * (right - left);
    }
}

}  // namespace

extern "C" {

// flow [frames][2][scale m][scale n] and others [frames][channels - 2][scale m][scale n] of planes
// [frames][channels][height][width], places in them [frames][3][m][n] and pixels by moves [frames][2][2].
void invert_field(const float *planes, const float *places, const float *jacobian, int64_t frames, int channels,
                  int height, int width, int m, int n, int scale, float step, int rounds, int threads, float *flow,
                  float *others) {
    const int M = scale * m, N = scale * n;
    const int64_t size = int64_t(M) * N;
    const Line rows(M, scale, m), columns(N, scale, n);
    std::vector<float> field(channels * size);
    for (int64_t b = 0; b < frames; ++b) {
        parallel(M, ROWS, threads, [&](int64_t begin, int64_t end, int) {
            std::vector<float> line(6 * N);
            float *x = line.data(), *y = x + N, *on = y + N, *inner_x = on + N, *inner_y = inner_x + N;
            float *value = inner_y + N;
            for (int64_t r = begin; r < end; ++r) {
                for (int k = 0; k < 3; ++k)
                    enlarged(places + (3 * b + k) * m * n, n, rows, columns, int(r), N, x + k * N);
                for (int i = 0; i < N; ++i) {
                    on[i] *= covered(x[i], width) * covered(y[i], height);
                    inner_x[i] = inside(x[i], width), inner_y[i] = inside(y[i], height);
                }
                float *out = field.data() + r * N;
                for (int c = 0; c < channels; ++c) {
                    const float *plane = planes + (b * channels + c) * height * width;
                    sample(plane, width, height, inner_x, inner_y, N, 1.f, value);
                    for (int i = 0; i < N; ++i) out[c * size + i] = on[i] * value[i];
                }
                const float *j = jacobian + 4 * b;
                for (int i = 0; i < N; ++i) {
                    const float dx = out[i], dy = out[size + i];
                    out[i] = j[0] * dx + j[1] * dy, out[size + i] = j[2] * dx + j[3] * dy;
                }
            }
        });
        parallel(M, ROWS, threads, [&](int64_t begin, int64_t end, int) {
            std::vector<float> line(4 * N);
            float *x = line.data(), *y = x + N, *first_x = y + N, *first_y = first_x + N;
            for (int64_t r = begin; r < end; ++r) {
                float *fx = flow + 2 * b * size + r * N, *fy = fx + size;
                for (int i = 0; i < N; ++i) fx[i] = -field[r * N + i], fy[i] = -field[size + r * N + i];
                for (int round = 0; round <= rounds; ++round) {
                    for (int i = 0; i < N; ++i) x[i] = inside(i + fx[i] / step, N), y[i] = inside(r + fy[i] / step, M);
                    if (round == rounds) break;
                    sample(field.data(), N, M, x, y, N, -1.f, round ? fx : first_x);
                    sample(field.data() + size, N, M, x, y, N, -1.f, round ? fy : first_y);
                    for (int i = 0; i < N && !round; ++i)
                        fx[i] = (fx[i] + first_x[i]) / 2, fy[i] = (fy[i] + first_y[i]) / 2;
                }
                for (int c = 2; c < channels; ++c)
                    sample(field.data() + c * size, N, M, x, y, N, 1.f,
                           others + (b * (channels - 2) + c - 2) * size + r * N);
            }
        });
    }
}

// out [frames][channels][height][width] and out_labels of images and labels moved by flow [frames][2][m][n]; the first
// three channels are lit by log_gain [frames][m][n] times colour [3], as far as 5 x 5 pixels have the label `lit`.
void remap(const float *images, const uint8_t *labels, const float *flow, const float *log_gain, const float *colour,
           int lit, int64_t frames, int channels, int height, int width, int m, int n, int scale, int threads,
           float *out, uint8_t *out_labels) {
    const int64_t size = int64_t(height) * width;
    const int padded = (width + W - 1) / W * W;
    const Line rows(height, scale, m), columns(width, scale, n);
    std::vector<Pixel> pixels(size);
    for (int64_t b = 0; b < frames; ++b, images += channels * size, labels += size) {
        parallel(height, ROWS, threads, [&](int64_t begin, int64_t end, int) {
            std::vector<int> count(width);
            for (int64_t y = begin; y < end; ++y) {
                const int64_t first = std::max<int64_t>(0, y - 2), last = std::min<int64_t>(height, y + 3);
                std::fill(count.begin(), count.end(), 0);
                for (int64_t r = first; r < last; ++r)
                    for (int x = 0; x < width; ++x) count[x] += labels[r * width + x] == lit;
                for (int x = 0; x < width; ++x) {
                    const int left = std::max(0, x - 2), right = std::min(width, x + 3);
                    int total = 0;
                    for (int k = left; k < right; ++k) total += count[k];
                    Pixel pixel{};
                    for (int c = 0; c < channels; ++c) pixel[c] = images[c * size + y * width + x];
                    pixel[channels] = float(total) / float((last - first) * (right - left));
                    pixels[y * width + x] = pixel;
                }
            }
        });
        parallel(height, ROWS, threads, [&](int64_t begin, int64_t end, int) {
            std::vector<float> line((3 + channels + 1) * padded);
            float *fx = line.data(), *fy = fx + padded, *gain = fy + padded, *value = gain + padded;
            for (int64_t y = begin; y < end; ++y) {
                enlarged(flow + 2 * b * m * n, n, rows, columns, int(y), width, fx);
                enlarged(flow + (2 * b + 1) * m * n, n, rows, columns, int(y), width, fy);
                enlarged(log_gain + b * m * n, n, rows, columns, int(y), width, gain);
                for (int x = 0; x < width; ++x) {
                    const Taps across(x + fx[x], width), down(y + fy[x], height);
                    Pixel total{};
                    for (int k = 0; k < 4; ++k) {
                        const Pixel *from = pixels.data() + down.place[k] * width;
                        Pixel part = across.weight[0] * from[across.place[0]];
                        for (int i = 1; i < 4; ++i) part += across.weight[i] * from[across.place[i]];
                        total += down.weight[k] * part;
                    }
                    for (int c = 0; c <= channels; ++c) value[c * padded + x] = total[c];
                    const int column = int(inside(x + fx[x], width) + 0.5f);
                    const int row = int(inside(y + fy[x], height) + 0.5f);
                    out_labels[b * size + y * width + x] = labels[row * width + column];
                }
                for (int c = 0; c < channels; ++c) {
                    float *to = value + c * padded;
                    for (int x = 0; c < 3 && x < padded; x += W) {
                        const vf skin = min(max(load(value + channels * padded + x), vf{}), splat(1.f));
                        store(to + x, load(to + x) * exp2_fast(load(gain + x) * skin * (colour[c] * 1.44269504f)));
                    }
                    std::copy(to, to + width, out + (b * channels + c) * size + y * width);
                }
            }
        });
    }
}
}
