// Tri-plane features on the CPU; the meaning is that of ops/reference/triplane.py. One vector holds W points.
#include "simd.h"

#include <algorithm>

namespace {

constexpr int PLANES = 3, AXES[PLANES][2] = {{0, 1}, {1, 2}, {0, 2}};

struct Grid {  // one encoder's shape
    int levels;
    int64_t entries;
    const float *scales;
    const int32_t *strides, *offsets;
    float bound;
};

struct Points {  // W points: coordinates in [0, 1], and where they lie outside
    vf u[3];
    vi inside[PLANES];
    int used;

    Points(const float *points, int64_t begin, int64_t end, float bound) {
        used = int(std::min<int64_t>(W, end - begin));
        vi within[3];
        for (int axis = 0; axis < 3; ++axis) {
            u[axis] = vf{};
            for (int i = 0; i < used; ++i) u[axis][i] = points[3 * (begin + i) + axis];
            u[axis] = (u[axis] + bound) / (2 * bound);
            within[axis] = (u[axis] >= vf{}) & (u[axis] <= splat(1.f));
            u[axis] = within[axis] ? u[axis] : vf{};
        }
        for (int p = 0; p < PLANES; ++p) inside[p] = within[AXES[p][0]] & within[AXES[p][1]];
    }
};

struct Cells {  // their cell and the place inside it, along each axis of one level
    vi cell[3];
    vf frac[3];

    Cells(const Points &points, float scale) {
        for (int axis = 0; axis < 3; ++axis) {
            const vf position = points.u[axis] * scale + 0.5f;
            cell[axis] = __builtin_convertvector(position, vi);  // truncation is floor: positions are positive
            frac[axis] = position - __builtin_convertvector(cell[axis], vf);
        }
    }
    // The four corners of each point's cell.
    void gather(const Grid &grid, const float *table, int plane, int level, vi &index, vf corner[4]) const {
        const int stride = grid.strides[level];
        index = cell[AXES[plane][0]] + cell[AXES[plane][1]] * stride;
        const float *values = table + plane * grid.entries + grid.offsets[level];
        for (int i = 0; i < W; ++i) {
            const float *at = values + index[i];
            corner[0][i] = at[0], corner[1][i] = at[1], corner[2][i] = at[stride], corner[3][i] = at[stride + 1];
        }
    }
};

}  // namespace

extern "C" {

void triplane_forward(const float *points, const float *table, const float *scales, const int32_t *strides,
                      const int32_t *offsets, int levels, float bound, int64_t count, int threads, float *features) {
    const Grid grid{levels, offsets[levels], scales, strides, offsets, bound};
    const int width = PLANES * levels;
    parallel(count, 1024, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t n = begin; n < end; n += W) {
            const Points here(points, n, end, bound);
            for (int l = 0; l < levels; ++l) {
                const Cells cells(here, scales[l]);
                for (int p = 0; p < PLANES; ++p) {
                    vi index;
                    vf c[4];
                    cells.gather(grid, table, p, l, index, c);
                    const vf fa = cells.frac[AXES[p][0]], fb = cells.frac[AXES[p][1]];
                    const vf low = c[0] + fa * (c[1] - c[0]), high = c[2] + fa * (c[3] - c[2]);
                    const vf value = here.inside[p] ? low + fb * (high - low) : vf{};
                    for (int i = 0; i < here.used; ++i) features[(n + i) * width + p * levels + l] = value[i];
                }
            }
        }
    });
}

// d_table is added to; d_points is written, unless null.
void triplane_backward(const float *points, const float *table, const float *scales, const int32_t *strides,
                       const int32_t *offsets, int levels, float bound, int64_t count, int threads,
                       const float *d_features, float *d_points, float *d_table) {
    const Grid grid{levels, offsets[levels], scales, strides, offsets, bound};
    const int width = PLANES * levels;
    const int64_t cells_total = PLANES * grid.entries;
    std::vector<std::vector<float>> tables(std::max(threads, 1));  // one a thread: no atomics
    parallel(count, 1024, threads, [&](int64_t begin, int64_t end, int thread) {
        if (d_table && tables[thread].empty()) tables[thread].assign(cells_total, 0.f);
        for (int64_t n = begin; n < end; n += W) {
            const Points here(points, n, end, bound);
            vf d_u[3] = {};
            for (int l = 0; l < levels; ++l) {
                const Cells cells(here, scales[l]);
                for (int p = 0; p < PLANES; ++p) {
                    const int a = AXES[p][0], b = AXES[p][1], stride = strides[l];
                    vf g = vf{}, c[4];
                    for (int i = 0; i < here.used; ++i) g[i] = d_features[(n + i) * width + p * levels + l];
                    g = here.inside[p] ? g : vf{};
                    vi index;
                    cells.gather(grid, table, p, l, index, c);
                    const vf fa = cells.frac[a], fb = cells.frac[b];
                    if (d_points) {
                        const vf left = c[0] + fb * (c[2] - c[0]), right = c[1] + fb * (c[3] - c[1]);
                        const vf low = c[0] + fa * (c[1] - c[0]), high = c[2] + fa * (c[3] - c[2]);
                        d_u[a] += g * scales[l] * (right - left);
                        d_u[b] += g * scales[l] * (high - low);
                    }
                    if (!d_table) continue;
                    const vf g_high = g * fb, g_low = g - g_high;
                    const vf w1 = g_low * fa, w0 = g_low - w1, w3 = g_high * fa, w2 = g_high - w3;
                    float *values = tables[thread].data() + p * grid.entries + offsets[l];
                    for (int i = 0; i < here.used; ++i) {
                        float *at = values + index[i];
                        at[0] += w0[i], at[1] += w1[i], at[stride] += w2[i], at[stride + 1] += w3[i];
                    }
                }
            }
            if (d_points)
                for (int axis = 0; axis < 3; ++axis)
                    for (int i = 0; i < here.used; ++i) d_points[3 * (n + i) + axis] = d_u[axis][i] / (2 * bound);
        }
    });
    if (d_table)
        for (const auto &part : tables)
            if (!part.empty())
                for (int64_t i = 0; i < cells_total; ++i) d_table[i] += part[i];
}
}
