// Layers over what is behind them, for rendering; the meaning is that of ops/composite.py. Layers are planes [4][H][W].
#include "simd.h"

#include <algorithm>

namespace {

struct Image {
    int width, height;
    int64_t pixels() const { return int64_t(width) * height; }
};

// The inside of the mouth: sums of its planes, and the rectangle outside of which it is transparent.
struct Mouth {
    double sums[4] = {};
    int x0, x1 = 0, y0, y1 = 0;

    Mouth(const float *planes, Image size, int threads) : x0(size.width), y0(size.height) {
        struct Row { double sums[4]; int x0, x1; };
        std::vector<Row> rows(size.height);
        parallel(size.height, 32, threads, [&](int64_t begin, int64_t end, int) {
            for (int64_t y = begin; y < end; ++y) {
                rows[y] = {{}, size.width, 0};
                const float *alpha = planes + 3 * size.pixels() + y * size.width;
                int x0 = 0, x1 = size.width;
                while (x0 + W <= x1 && !any(load(alpha + x0) != vf{})) x0 += W;
                while (x0 < x1 && alpha[x0] == 0) ++x0;
                while (x1 > x0 && alpha[x1 - 1] == 0) --x1;
                if (x0 == x1) continue;
                rows[y].x0 = x0, rows[y].x1 = x1;
                for (int d = 0; d < 4; ++d) {
                    const float *plane = planes + d * size.pixels() + y * size.width;
                    for (int x = x0; x < x1; ++x) rows[y].sums[d] += plane[x];
                }
            }
        });
        for (int y = 0; y < size.height; ++y) {
            if (rows[y].x1 == 0) continue;
            x0 = std::min(x0, rows[y].x0), x1 = std::max(x1, rows[y].x1), y0 = std::min(y0, y), y1 = y + 1;
            for (int d = 0; d < 4; ++d) sums[d] += rows[y].sums[d];
        }
    }
};

// In place, the largest of `size` values from each on, `stride` apart, of `count`; windows are joined in pairs.
void widen(float *values, int64_t count, int64_t stride, int size) {
    for (int reached = 1; reached < size;) {
        const int step = std::min(reached, size - reached);
        for (int64_t i = 0; i + step * stride < count; ++i) values[i] = std::max(values[i], values[i + step * stride]);
        reached += step;
    }
}

struct Coverage {  // of the background by the mouth: alpha widened by `reach` pixels to all sides
    int x0, y0, width, height;
    std::vector<float> values;

    Coverage(const float *alpha, const Mouth &mouth, int row_width, int reach) {
        const int margin = 2 * reach, size = 2 * reach + 1;
        width = std::max(mouth.x1 - mouth.x0, 0), height = std::max(mouth.y1 - mouth.y0, 0);
        x0 = mouth.x0 - reach, y0 = mouth.y0 - reach;
        if (!width) return;
        width += 2 * margin, height += 2 * margin;  // the last `margin` rows and columns are only for the windows
        values.assign(int64_t(width) * height, 0.f);
        for (int y = mouth.y0; y < mouth.y1; ++y) {
            float *row = &values[int64_t(y - y0 + reach) * width];
            std::copy(alpha + int64_t(y) * row_width + mouth.x0, alpha + int64_t(y) * row_width + mouth.x1, row + margin);
            widen(row, width, 1, size);
        }
        widen(values.data(), int64_t(width) * height, width, size);
        width -= margin, height -= margin;
    }
    // Values of row y from column x0 on; null where there are none.
    const float *row(int y, int reach) const {
        return y >= y0 && y < y0 + height && width ? &values[int64_t(y - y0) * (width + 2 * reach)] : nullptr;
    }
};

}  // namespace

extern "C" {

// rgb [H][W][3] and alpha [H][W] of planes `face` and `mouth` over `background` [H][W][3].
void compose_image(const float *face, const float *mouth, const float *background, int width, int height, int reach,
                   int threads, float *rgb, float *alpha) {
    const Image size{width, height};
    const int64_t pixels = size.pixels();
    const Mouth inside(mouth, size, threads);
    const Coverage coverage(mouth + 3 * pixels, inside, width, reach);
    float depth[3];
    for (int d = 0; d < 3; ++d) {
        const float mean = float(inside.sums[d] / std::max(inside.sums[3], 1.0));
        depth[d] = mean * mean;
    }
    parallel(height, 16, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t y = begin; y < end; ++y) {
            const float *widened = coverage.row(int(y), reach);
            for (int x = 0; x < width; x += W) {
                const int64_t at = y * width + x;
                const int used = std::min(W, width - x);
                float own[3][W] = {}, share[W], covered[W] = {};  // own: of face and mouth; share: of the background
                const float *front = face + 3 * pixels + at;
                bool there = false;
                for (int i = 0; i < used; ++i) there |= front[i] != 0;
                if (widened && x + W > coverage.x0 && x < coverage.x0 + coverage.width) {
                    there = true;
                    for (int i = 0; i < used; ++i) {
                        const int column = x + i - coverage.x0;
                        covered[i] = column >= 0 && column < coverage.width ? widened[column] : 0.f;
                        const float gap = covered[i] - mouth[3 * pixels + at + i];
                        for (int d = 0; d < 3; ++d) own[d][i] = mouth[d * pixels + at + i] + gap * depth[d];
                    }
                }
                if (!there) {
                    std::memcpy(rgb + 3 * at, background + 3 * at, 3 * used * sizeof(float));
                    std::memset(alpha + at, 0, used * sizeof(float));
                    continue;
                }
                for (int i = 0; i < used; ++i) {
                    const float through = 1.f - front[i];
                    for (int d = 0; d < 3; ++d) own[d][i] = face[d * pixels + at + i] + through * own[d][i];
                    share[i] = through * (1.f - covered[i]);
                    alpha[at + i] = front[i] + covered[i] * through;
                }
                for (int i = 0; i < used; ++i)
                    for (int d = 0; d < 3; ++d)
                        rgb[3 * (at + i) + d] = own[d][i] + share[i] * background[3 * (at + i) + d];
            }
        }
    });
}

// out [pixels][3]: straight RGBA layers in 8 bit over an opaque plate in [0, 1].
void lay_over(const uint8_t *layer, const float *plate, int64_t pixels, int threads, float *out) {
    parallel(pixels, 8192, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            const float alpha = float(layer[4 * i + 3]) * (1 / 255.f), scale = alpha * (1 / 255.f), through = 1.f - alpha;
            for (int d = 0; d < 3; ++d) out[3 * i + d] = float(layer[4 * i + d]) * scale + plate[3 * i + d] * through;
        }
    });
}
}
