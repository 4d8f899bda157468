// Gaussian splatting on the CPU. The meaning is that of ops/reference/rasterize.py.
//
// Project all Gaussians, sort the visible ones by depth once, file them into tiles, and blend tile by tile in blocks of
// COLUMNS x LINES pixels, one a vector. The backward pass walks front to back too: with total = sum over outputs of
// value * gradient, what lies behind Gaussian i is total minus the prefix up to i, so no division restores the
// transmittance.
#include "simd.h"

#include "projection.h"

#include <memory>

namespace {

constexpr int TILE = 16, ACROSS = TILE / COLUMNS, DOWN = TILE / LINES;  // side of a tile; its blocks
constexpr float LOG2E = 1.4426950408889634f;
enum { X, Y, A, B, C, LOG2_OPACITY, Z, HEAD };  // a record's fields; the features follow
enum { S, SX, SY, SXX, SXY, SYY, SUMS };        // a gradient record's fields; the outputs' follow

struct Box { int16_t x0, x1, y0, y1; };  // pixels

struct State {  // what the backward pass needs of the forward pass for one image
    std::vector<Seen> seen;              // by Gaussian
    std::vector<int32_t> order;          // visible Gaussians, front to back
    std::vector<float> records;          // by place in `order`, `stride` floats each
    std::vector<Box> boxes;              // by place in `order`: what it can touch
    std::vector<int32_t> tile_start, tile_items;
    int stride = 0, tiles_x = 0, tiles_y = 0;
};

struct Item { uint32_t key; int32_t id; };

// Stable radix sort, 11 bits at a time: positive floats order like their bit patterns.
void sort_by_depth(std::vector<Item> &items) {
    std::vector<Item> other(items.size());
    std::vector<uint32_t> starts(3 * 2048, 0);
    for (const Item &item : items)
        for (int pass = 0; pass < 3; ++pass) ++starts[pass * 2048 + (item.key >> (11 * pass) & 2047)];
    for (int pass = 0; pass < 3; ++pass) {
        uint32_t *start = &starts[pass * 2048], total = 0;
        for (int i = 0; i < 2048; ++i) {
            const uint32_t count = start[i];
            start[i] = total;
            total += count;
        }
        for (const Item &item : items) other[start[item.key >> (11 * pass) & 2047]++] = item;
        items.swap(other);
    }
}

void prepare(const float *means, const float *quats, const float *scales, const float *opacities, const float *features,
             const float *probe, const Camera &cam, const Settings &s, int padded, State &state, int32_t *radii) {
    state.seen.resize(s.count);
    parallel(s.count, 2048, s.threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            state.seen[i] = project(means + 3 * i, quats + 4 * i, scales + 3 * i, opacities[i],
                                    probe ? probe + 2 * i : nullptr, cam, s);
            radii[i] = state.seen[i].radius;
        }
    });
    std::vector<Item> items;
    items.reserve(s.count);
    for (int32_t i = 0; i < s.count; ++i)
        if (radii[i]) {
            uint32_t key;
            std::memcpy(&key, &state.seen[i].z, sizeof key);
            items.push_back({key, i});
        }
    sort_by_depth(items);

    const int64_t visible = int64_t(items.size());
    state.stride = HEAD + padded, state.tiles_x = (s.width + TILE - 1) / TILE, state.tiles_y = (s.height + TILE - 1) / TILE;
    state.order.resize(visible), state.records.assign(visible * state.stride, 0.f), state.boxes.resize(visible);
    std::vector<Box> tiles(visible);
    parallel(visible, 4096, s.threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t k = begin; k < end; ++k) {
            const int32_t id = state.order[k] = items[k].id;
            const Seen &g = state.seen[id];
            float *r = &state.records[k * state.stride];
            // exp(-power) * opacity = 2^(log2 opacity - log2e * power): the factors go into the record.
            r[X] = g.x, r[Y] = g.y, r[Z] = g.z, r[A] = -0.5f * LOG2E * g.a, r[B] = -LOG2E * g.b, r[C] = -0.5f * LOG2E * g.c;
            r[LOG2_OPACITY] = std::log2(opacities[id]);
            std::memcpy(r + HEAD, features + int64_t(id) * s.channels, s.channels * sizeof(float));
            auto clip = [](float v, int high) { return int16_t(std::min(std::max(v, 0.f), float(high))); };
            // Pixel centres within the extents, a hundredth of a pixel wider against rounding.
            const float ex = g.extent_x + 0.01f, ey = g.extent_y + 0.01f;
            const int16_t x0 = clip(std::ceil(g.x - ex - 0.5f), s.width), x1 = clip(std::floor(g.x + ex + 0.5f), s.width);
            const int16_t y0 = clip(std::ceil(g.y - ey - 0.5f), s.height), y1 = clip(std::floor(g.y + ey + 0.5f), s.height);
            state.boxes[k] = {x0, x1, y0, y1};
            const bool empty = x0 >= x1 || y0 >= y1;
            auto end = [](int16_t edge) { return int16_t((edge - 1) / TILE + 1); };
            tiles[k] = empty ? Box{0, 0, 0, 0} : Box{int16_t(x0 / TILE), end(x1), int16_t(y0 / TILE), end(y1)};
        }
    });
    state.tile_start.assign(state.tiles_x * state.tiles_y + 1, 0);
    for (const Box &box : tiles)
        for (int ty = box.y0; ty < box.y1; ++ty)
            for (int tx = box.x0; tx < box.x1; ++tx) ++state.tile_start[ty * state.tiles_x + tx + 1];
    for (size_t i = 1; i < state.tile_start.size(); ++i) state.tile_start[i] += state.tile_start[i - 1];
    state.tile_items.resize(state.tile_start.back());
    std::vector<int32_t> next(state.tile_start.begin(), state.tile_start.end() - 1);
    for (int64_t k = 0; k < visible; ++k) {
        const Box &box = tiles[k];
        for (int ty = box.y0; ty < box.y1; ++ty)
            for (int tx = box.x0; tx < box.x1; ++tx) state.tile_items[next[ty * state.tiles_x + tx]++] = int32_t(k);
    }
}

struct Tile {  // where a tile lies and which Gaussians touch it
    int x0, y0, columns, rows;
    const int32_t *begin, *end;

    Tile(const State &state, const Settings &s, int64_t index) {
        x0 = int(index % state.tiles_x) * TILE, y0 = int(index / state.tiles_x) * TILE;
        columns = std::min(TILE, s.width - x0), rows = std::min(TILE, s.height - y0);
        begin = state.tile_items.data() + state.tile_start[index];
        end = state.tile_items.data() + state.tile_start[index + 1];
    }
    // body(block's row and column in the tile, first lane, first pixel of the image, how many) for the lines of its blocks.
    template <class Body>
    void each_line(const Settings &s, Body body) const {
        for (int y = 0; y < rows; ++y)
            for (int x = 0; x < columns; x += COLUMNS)
                body(y / LINES, x / COLUMNS, y % LINES * COLUMNS, int64_t(y0 + y) * s.width + x0 + x,
                     std::min(COLUMNS, columns - x));
    }
};

inline float *lanes(vf &of) { return reinterpret_cast<float *>(&of); }

struct Reach {  // blocks of a tile that a Gaussian can touch: columns i, rows j
    int i0, i1, j0, j1;

    Reach(const Box &box, const Tile &tile) {
        i0 = std::max(box.x0 - tile.x0, 0) / COLUMNS, i1 = (std::min(box.x1 - tile.x0, TILE) - 1) / COLUMNS;
        j0 = std::max(box.y0 - tile.y0, 0) / LINES, j1 = (std::min(box.y1 - tile.y0, TILE) - 1) / LINES;
    }
};

struct Centres {  // of the pixels of a tile
    vf x[ACROSS], y[DOWN];

    explicit Centres(const Tile &tile) {
        for (int i = 0; i < W; ++i) {
            for (int a = 0; a < ACROSS; ++a) x[a][i] = float(tile.x0 + a * COLUMNS + i % COLUMNS) + 0.5f;
            for (int d = 0; d < DOWN; ++d) y[d][i] = float(tile.y0 + d * LINES + i / COLUMNS) + 0.5f;
        }
    }
};

// Blending state of a tile. `live` is the transmittance while a pixel still blends, 0 once it has stopped.
struct Light {
    vf live[DOWN][ACROSS] = {}, left[DOWN][ACROSS];

    Light(const Tile &tile, const Settings &s) {
        tile.each_line(s, [&](int j, int i, int lane, int64_t, int used) {
            std::fill_n(lanes(live[j][i]) + lane, used, 1.f);
        });
        for (auto &row : left)
            for (vf &each : row) each = splat(1.f);
    }
    bool dark() const {
        vf most = vf{};
        for (const auto &row : live)
            for (const vf &each : row) most += each;
        return !any(most > vf{});
    }
};

template <int D>
void blend_tile(const State &state, const Settings &s, const Tile &tile, const float *background, float *image,
                float *alpha_out, float *depth_out) {
    vf sums[DOWN][ACROSS][D + 1] = {};
    Light light(tile, s);
    const Centres centres(tile);
    const vf top = splat(s.max_alpha), faint = splat(s.min_alpha), stop = splat(s.min_transmittance);
    int since_check = 0;
    for (const int32_t *item = tile.begin; item != tile.end; ++item) {
        if (++since_check == 32) {
            since_check = 0;
            if (light.dark()) break;
        }
        const float *r = &state.records[int64_t(*item) * state.stride];
        const Reach reach(state.boxes[*item], tile);
        for (int i = reach.i0; i <= reach.i1; ++i) {
            const vf dx = r[X] - centres.x[i], base = r[A] * dx * dx + r[LOG2_OPACITY], slope = r[B] * dx;
            for (int j = reach.j0; j <= reach.j1; ++j) {
                const vf dy = r[Y] - centres.y[j];
                const vf alpha = min(exp2_fast(base + dy * (slope + r[C] * dy)), top);
                vf &live = light.live[j][i], &left = light.left[j][i];
                const vf after = live * (1.f - alpha);
                const vi seen = alpha >= faint, kept = seen & (after > stop);
                const vf weight = kept ? alpha * live : vf{};
                live = seen ? (kept ? after : vf{}) : live;
                left = kept ? after : left;
                for (int d = 0; d <= D; ++d) sums[j][i][d] += weight * r[Z + d];
            }
        }
    }
    tile.each_line(s, [&](int j, int i, int lane, int64_t pixel, int used) {
        const float *left = lanes(light.left[j][i]) + lane;
        std::copy_n(lanes(sums[j][i][0]) + lane, used, depth_out + pixel);
        for (int x = 0; x < used; ++x) alpha_out[pixel + x] = 1.f - left[x];
        for (int d = 0; d < s.channels; ++d) {
            const float *from = lanes(sums[j][i][d + 1]) + lane, behind = background ? background[d] : 0.f;
            float *to = image + pixel * s.channels + d;
            for (int x = 0; x < used; ++x) to[x * s.channels] = from[x] + left[x] * behind;
        }
    });
}

struct Outputs { const float *image, *alpha, *depth; };

constexpr int sums_width(int values) { return (SUMS + values + 3) / 4 * 4; }

// D: at least the channels, and one more where depth has a gradient; it is the first value then.
template <int D>
void blend_tile_backward(const State &state, const Settings &s, const Tile &tile, const Outputs &out, const Outputs &grad,
                         float *sums) {
    constexpr int WIDTH = sums_width(D);
    const int deep = grad.depth ? 1 : 0, felt_to = deep + s.channels - s.num_detached;
    vf g[DOWN][ACROSS][D] = {}, g_alpha[DOWN][ACROSS] = {}, behind[DOWN][ACROSS] = {};
    tile.each_line(s, [&](int j, int i, int lane, int64_t pixel, int used) {
        // The gradient of one output to its lanes, and its part of the total.
        auto take = [&](const float *gradient, const float *value, int step, vf &to, bool felt) {
            float *into = lanes(to) + lane, *total = lanes(behind[j][i]) + lane;
            for (int x = 0; x < used; ++x) into[x] = gradient[x * step];
            for (int x = 0; felt && x < used; ++x) total[x] += gradient[x * step] * value[x * step];
        };
        take(grad.alpha + pixel, out.alpha + pixel, 1, g_alpha[j][i], true);
        if (deep) take(grad.depth + pixel, out.depth + pixel, 1, g[j][i][0], true);
        for (int d = 0; d < s.channels; ++d) {
            const int64_t at = pixel * s.channels + d;
            take(grad.image + at, out.image + at, s.channels, g[j][i][deep + d], deep + d < felt_to);
        }
    });
    Light light(tile, s);
    const Centres centres(tile);
    const vf top = splat(s.max_alpha), faint = splat(s.min_alpha), stop = splat(s.min_transmittance);
    int since_check = 0;
    for (const int32_t *item = tile.begin; item != tile.end; ++item) {
        if (++since_check == 32) {
            since_check = 0;
            if (light.dark()) break;
        }
        const float *r = &state.records[int64_t(*item) * state.stride];
        const Reach reach(state.boxes[*item], tile);
        vf all[WIDTH] = {};
        float felt[D];  // what geometry learns from: detached channels are as good as black
        for (int d = 0; d < D; ++d) felt[d] = d < felt_to ? r[HEAD - deep + d] : 0.f;
        for (int i = reach.i0; i <= reach.i1; ++i) {
            const vf dx = r[X] - centres.x[i], base = r[A] * dx * dx + r[LOG2_OPACITY], slope = r[B] * dx;
            vf p0 = vf{}, p1 = vf{};
            for (int j = reach.j0; j <= reach.j1; ++j) {
                const vf dy = r[Y] - centres.y[j];
                const vf raw = exp2_fast(base + dy * (slope + r[C] * dy)), alpha = min(raw, top);
                vf &live = light.live[j][i];
                const vf through = 1.f - alpha, after = live * through;
                const vi seen = alpha >= faint, kept = seen & (after > stop);
                const vf weight = kept ? alpha * live : vf{};
                live = seen ? (kept ? after : vf{}) : live;
                vf worth = g_alpha[j][i];
                for (int d = 0; d < D; ++d) {
                    worth += g[j][i][d] * felt[d];
                    all[SUMS + d] += weight * g[j][i][d];
                }
                worth *= weight;
                behind[j][i] -= worth;
                // d loss / d (log alpha); the clamp at max_alpha passes none.
                const vf d_power = (kept & (raw <= top)) ? worth - behind[j][i] * (alpha * inverse(through)) : vf{};
                p0 += d_power, p1 += d_power * dy, all[SYY] += d_power * (dy * dy);
            }
            all[S] += p0, all[SX] += p0 * dx, all[SY] += p1, all[SXX] += p0 * dx * dx, all[SXY] += p1 * dx;
        }
        for (int d = 0; d < WIDTH; d += 4) add_sums(all + d, sums + int64_t(*item) * WIDTH + d);
    }
}

// Call body with the smallest compiled count that holds `channels`.
template <class Body>
void with_channels(int channels, Body body) {
    if (channels <= 1) body(std::integral_constant<int, 1>());
    else if (channels <= 3) body(std::integral_constant<int, 3>());
    else if (channels <= 4) body(std::integral_constant<int, 4>());
    else if (channels <= 6) body(std::integral_constant<int, 6>());
    else if (channels <= 8) body(std::integral_constant<int, 8>());
    else if (channels <= 12) body(std::integral_constant<int, 12>());
    else body(std::integral_constant<int, 17>());  // 16, and depth
}

}  // namespace

extern "C" {

// Render one image. Returns the state for the backward pass if `keep`, to be released with rasterize_free, else null.
void *rasterize_forward(const Settings *settings, const float *means, const float *quats, const float *scales,
                        const float *opacities, const float *features, const float *viewmat, const float *K,
                        const float *background, const float *probe, int keep, float *image, float *alpha, float *depth,
                        int32_t *radii) {
    const Settings &s = *settings;
    const Camera cam(viewmat, K, s);
    auto state = std::make_unique<State>();
    with_channels(s.channels, [&](auto channels) {
        constexpr int D = decltype(channels)::value;
        prepare(means, quats, scales, opacities, features, probe, cam, s, D, *state, radii);
        parallel(int64_t(state->tiles_x) * state->tiles_y, 4, s.threads, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; ++i)
                blend_tile<D>(*state, s, Tile(*state, s, i), background, image, alpha, depth);
        });
    });
    return keep ? state.release() : nullptr;
}

void rasterize_free(void *state) { delete static_cast<State *>(state); }

// Gradients of one image; g_depth may be null. d_means, d_quats, d_scales, d_opacities and d_features are added to;
// d_probe is written.
void rasterize_backward(const Settings *settings, void *kept, const float *means, const float *quats, const float *scales,
                        const float *opacities, const float *viewmat, const float *K, const float *image,
                        const float *alpha, const float *depth, const float *g_image, const float *g_alpha,
                        const float *g_depth, float *d_means, float *d_quats, float *d_scales, float *d_opacities,
                        float *d_features, float *d_probe) {
    const Settings &s = *settings;
    const State &state = *static_cast<const State *>(kept);
    const Camera cam(viewmat, K, s);
    const int64_t visible = int64_t(state.order.size());
    const int deep = g_depth ? 1 : 0;
    with_channels(s.channels + deep, [&](auto values) {
        constexpr int D = decltype(values)::value, WIDTH = sums_width(D);
        std::vector<std::vector<float>> sums(std::max(s.threads, 1));  // one buffer a thread: no atomics
        parallel(int64_t(state.tiles_x) * state.tiles_y, 4, s.threads, [&](int64_t begin, int64_t end, int thread) {
            if (sums[thread].empty()) sums[thread].assign(visible * WIDTH, 0.f);
            for (int64_t i = begin; i < end; ++i)
                blend_tile_backward<D>(state, s, Tile(state, s, i), {image, alpha, depth}, {g_image, g_alpha, g_depth},
                                       sums[thread].data());
        });
        parallel(visible, 1024, s.threads, [&](int64_t begin, int64_t end, int) {
            for (int64_t k = begin; k < end; ++k) {
                float t[WIDTH] = {};
                for (const auto &part : sums)
                    if (!part.empty())
                        for (int i = 0; i < WIDTH; ++i) t[i] += part[k * WIDTH + i];
                const int64_t id = state.order[k];
                const Seen &g = state.seen[id];
                const ScreenGrad screen = {-(g.a * t[SX] + g.b * t[SY]), -(g.b * t[SX] + g.c * t[SY]),
                                           deep ? t[SUMS] : 0.f, -0.5f * t[SXX], -t[SXY], -0.5f * t[SYY]};
                d_opacities[id] += t[S] / opacities[id];
                for (int d = 0; d < s.channels; ++d) d_features[id * s.channels + d] += t[SUMS + deep + d];
                if (d_probe) d_probe[2 * id] = screen.x, d_probe[2 * id + 1] = screen.y;
                project_backward(means + 3 * id, quats + 4 * id, scales + 3 * id, cam, g, screen, d_means + 3 * id,
                                 d_quats + 4 * id, d_scales + 3 * id);
            }
        });
    });
}
}
