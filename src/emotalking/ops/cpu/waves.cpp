// Waves added to 8-bit images, as strong as each image hides them; the meaning is that of ops/reference/waves.py.
#include "simd.h"

#include <algorithm>

#include "hiding.h"

namespace {

struct Size {
    int width, height, cell;
    int rows() const { return (height + cell - 1) / cell; }
    int columns() const { return (width + cell - 1) / cell; }
};

// A plane of cells, whose rows are filled up to whole vectors.
struct Cells {
    int stride;
    std::vector<float> values;

    explicit Cells(Size size) : stride((size.columns() + W - 1) / W * W), values(int64_t(stride) * size.rows()) {}
    float *row(int r) { return &values[int64_t(r) * stride]; }
    const float *row(int r) const { return &values[int64_t(r) * stride]; }
};

template <int CHANNELS>
void green_of(const uint8_t *pixels, int width, uint8_t *green) {
    for (int x = 0; x < width; ++x) green[x] = pixels[CHANNELS * x + 1];
}

// Means of texture and level in a row of cells.
template <int CHANNELS>
void measure(const uint8_t *image, Size size, int row, int clip, float *texture, float *mean) {
    const int width = size.width, begin = row * size.cell, end = std::min(begin + size.cell, size.height);
    std::vector<uint8_t> lines(2 * (width + 1));
    std::vector<uint32_t> sums(2 * width);
    uint8_t *line = lines.data(), *below = line + width + 1;
    uint32_t *textures = sums.data(), *levels = textures + width;
    green_of<CHANNELS>(image + int64_t(begin) * width * CHANNELS, width, line);
    for (int y = begin; y < end; ++y) {
        const bool last = y + 1 == size.height;
        if (last) std::copy(line, line + width, below);
        else green_of<CHANNELS>(image + int64_t(y + 1) * width * CHANNELS, width, below);
        line[width] = line[width - 1];
        for (int x = 0; x < width; ++x) {
            const int level = line[x], right = std::abs(line[x + 1] - level), down = std::abs(below[x] - level);
            textures[x] += uint32_t(std::min(right + down, clip));
            levels[x] += uint32_t(level);
        }
        std::swap(line, below);
    }
    for (int column = 0; column < size.columns(); ++column) {
        const int x0 = column * size.cell, x1 = std::min(x0 + size.cell, width);
        uint32_t rough = 0, bright = 0;
        for (int x = x0; x < x1; ++x) rough += textures[x], bright += levels[x];
        const float count = float((x1 - x0) * (end - begin));
        texture[column] = float(rough) / count, mean[column] = float(bright) / count;
    }
}

// Means over each cell and those around it.
Cells smoothed(const Cells &cells, Size size) {
    const int rows = size.rows(), columns = size.columns();
    Cells out(size);
    for (int r = 0; r < rows; ++r) {
        const int above = std::max(r - 1, 0), below = std::min(r + 1, rows - 1);
        std::vector<float> sums(columns + 2);
        for (int from = above; from <= below; ++from)
            for (int c = 0; c < columns; ++c) sums[c + 1] += cells.row(from)[c];
        for (int c = 0; c < columns; ++c) {
            const int wide = 1 + (c > 0) + (c + 1 < columns);
            out.row(r)[c] = (sums[c] + sums[c + 1] + sums[c + 2]) / float(wide * (below - above + 1));
        }
    }
    return out;
}

std::vector<float> bump(int count, const float place[2]) {
    std::vector<float> out((count + W - 1) / W * W);
    for (int i = 0; i < count; ++i) {
        const float at = ((float(i) + 0.5f) / float(count) - place[0]) / place[1];
        out[i] = std::exp(-at * at / 2.f);
    }
    return out;
}

// Strength of both waves in each cell, of texture and mean level, which are overwritten.
void strengths(Cells &texture, Cells &mean, Size size, const Hiding &h) {
    const Cells around = smoothed(texture, size);
    const std::vector<float> down = bump(size.rows(), h.down), across = bump(size.columns(), h.across);
    const float slope = (1.f - h.faint) / (h.smooth[1] - h.smooth[0]), count = float(size.rows() * size.columns());
    Cells *const parts[2] = {&texture, &mean};
    double made[2] = {};
    for (int r = 0; r < size.rows(); ++r) {
        vf costs[2] = {};
        for (int c = 0; c < size.columns(); c += W) {
            const vf rough = load(around.row(r) + c), level = load(mean.row(r) + c);
            const vf visible = min(max(min(level - h.dark, h.bright - level) / h.fade, vf{}), splat(1.f));
            const vf whole = min(max((rough - h.smooth[0]) * slope, vf{}), splat(1.f - h.faint)) + h.faint;
            // Beyond the last column the level is 0, where none is visible.
            const vf share = whole * visible * (1.f + h.more * down[r] * load(&across[c]));
            const vf power = ln(rough + 1.f) * 1.44269504f;
            for (int k = 0; k < 2; ++k) {
                const vf some = share * exp2_fast(power * h.growth[k]);
                store(parts[k]->row(r) + c, some);
                costs[k] += h.cost[k] * exp2_fast(power * -h.fall) * some * some;
            }
        }
        for (int k = 0; k < 2; ++k) made[k] += sum(costs[k]);
    }
    for (int k = 0; k < 2; ++k) {
        const float scale = std::sqrt(h.distance[k] / std::max(float(made[k]) / count, SMALLEST_COST));
        for (float &some : parts[k]->values) some = std::min(some * scale, h.strongest[k]);
    }
}

// Where pixels lie between the middles of cells.
struct Between {
    std::vector<float> weights;  // of the next cell, for each column of pixels

    explicit Between(Size size) : weights(size.width) {
        for (int x = 0; x < size.width; ++x) {
            const float at = std::max((float(x) + 0.5f) / float(size.cell) - 0.5f, 0.f);
            weights[x] = at - std::floor(at);
        }
    }
    // The first pixel between the middles of cells c and c + 1.
    static int begin(int c, Size size) { return c == 0 ? 0 : c * size.cell + size.cell / 2; }

    void widen(const float *cells, Size size, float *out) const {
        for (int c = 0; c < size.columns(); ++c) {
            const float here = cells[c], step = cells[std::min(c + 1, size.columns() - 1)] - here;
            const int x1 = c + 1 == size.columns() ? size.width : std::min(begin(c + 1, size), size.width);
            for (int x = begin(c, size); x < x1; ++x) out[x] = here + weights[x] * step;
        }
    }
};

// Steps of brightness along a row: sevenths of a level.
void steps_of(const float *const parts[4], const float *const waves[2], float factor, float below, int width,
              int16_t *steps) {
    constexpr float ROUND = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer
    for (int x = 0; x < width; ++x) {
        const float swinging = parts[0][x] + parts[1][x] * below, still = parts[2][x] + parts[3][x] * below;
        const float wanted = swinging * waves[0][x] * factor + still * waves[1][x];
        steps[x] = int16_t(int((wanted * 7.f + ROUND) - ROUND));
    }
}

template <int CHANNELS>
void add_steps(const uint8_t *in, const int16_t *steps, int width, uint8_t *out) {
    const auto byte = [](int value) { return uint8_t(value < 0 ? 0 : value > 255 ? 255 : value); };
    for (int x = 0; x < width; ++x) {
        const int whole = ((int(steps[x]) + 7 * 1024) * 9363 >> 16) - 1024, left = steps[x] - 7 * whole;
        out[CHANNELS * x] = byte(in[CHANNELS * x] + whole + (left >> 1 & 1));
        out[CHANNELS * x + 1] = byte(in[CHANNELS * x + 1] + whole + (left >> 2));
        out[CHANNELS * x + 2] = byte(in[CHANNELS * x + 2] + whole + (left & 1));
        if (CHANNELS == 4) out[4 * x + 3] = in[4 * x + 3];
    }
}

template <int CHANNELS>
void add(const uint8_t *image, const float *waves, float factor, Size size, const Hiding &hiding, int threads,
         uint8_t *out) {
    Cells first(size), second(size);  // texture and mean level, then the strengths of both waves
    parallel(size.rows(), 8, threads, [&](int64_t begin, int64_t end, int) {
        for (int r = int(begin); r < end; ++r)
            measure<CHANNELS>(image, size, r, hiding.clip, first.row(r), second.row(r));
    });
    strengths(first, second, size, hiding);
    const Between between(size);
    const int width = size.width;
    parallel(size.rows(), 8, threads, [&](int64_t begin, int64_t end, int) {
        std::vector<float> wide(4 * width);
        std::vector<int16_t> steps(width);
        float *const here[2] = {&wide[0], &wide[2 * width]}, *const step[2] = {here[0] + width, here[1] + width};
        const float *const parts[4] = {here[0], step[0], here[1], step[1]};
        for (int r = int(begin); r < end; ++r) {
            const int next = std::min(r + 1, size.rows() - 1);
            for (int k = 0; k < 2; ++k) {
                const Cells &cells = k ? second : first;
                between.widen(cells.row(r), size, here[k]), between.widen(cells.row(next), size, step[k]);
                for (int x = 0; x < width; ++x) step[k][x] -= here[k][x];
            }
            const int y1 = r == next ? size.height : std::min(between.begin(r + 1, size), size.height);
            for (int y = between.begin(r, size); y < y1; ++y) {
                const int64_t at = int64_t(y) * width;
                const float *const rows[2] = {waves + at, waves + int64_t(size.height) * width + at};
                const float below = std::max((float(y) + 0.5f) / float(size.cell) - 0.5f, 0.f) - float(r);
                steps_of(parts, rows, factor, std::max(below, 0.f), width, steps.data());
                add_steps<CHANNELS>(image + at * CHANNELS, steps.data(), width, out + at * CHANNELS);
            }
        }
    });
}

}  // namespace

extern "C" {

// out: image [H][W][channels] with waves [2][H][W], of which the first counts `factor` times.
void add_waves(const uint8_t *image, const float *waves, float factor, int width, int height, int channels,
               const Hiding *hiding, int threads, uint8_t *out) {
    const Size size{width, height, hiding->cell};
    (channels == 3 ? add<3> : add<4>)(image, waves, factor, size, *hiding, threads, out);
}
}
