// Gaussian splatting on the CPU. The meaning is that of ops/reference/rasterize.py.
//
// Project all Gaussians, sort the visible ones by depth once, file them into tiles as wide as a vector register, and
// blend tile by tile: one vector is a row of the tile. The backward pass walks front to back too: with
// total = sum over outputs of value * gradient, what lies behind Gaussian i is total minus the prefix up to i, so no
// division restores the transmittance.
#include "simd.h"

#include "projection.h"

#include <memory>

namespace {

constexpr int ROWS = 16;  // tile height
constexpr float LOG2E = 1.4426950408889634f;
enum { X, Y, A, B, C, LOG2_OPACITY, Z, HEAD };  // a record's fields; the features follow
enum { S, SX, SY, SXX, SXY, SYY, SZ, SUMS };    // a gradient record's fields; the features' follow

struct State {  // what the backward pass needs of the forward pass for one image
    std::vector<Seen> seen;              // by Gaussian
    std::vector<int32_t> order;          // visible Gaussians, front to back
    std::vector<float> records;          // by place in `order`, `stride` floats each
    std::vector<int16_t> spans;          // by place in `order`: first and last+1 row that it can touch
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
    state.stride = HEAD + padded, state.tiles_x = (s.width + W - 1) / W, state.tiles_y = (s.height + ROWS - 1) / ROWS;
    state.order.resize(visible), state.records.assign(visible * state.stride, 0.f), state.spans.resize(2 * visible);
    struct Box { int16_t x0, x1, y0, y1; };
    std::vector<Box> boxes(visible);
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
            state.spans[2 * k] = y0, state.spans[2 * k + 1] = y1;
            const bool empty = x0 >= x1 || y0 >= y1;
            boxes[k] = empty ? Box{0, 0, 0, 0}
                             : Box{int16_t(x0 / W), int16_t((x1 - 1) / W + 1), int16_t(y0 / ROWS), int16_t((y1 - 1) / ROWS + 1)};
        }
    });
    state.tile_start.assign(state.tiles_x * state.tiles_y + 1, 0);
    for (const Box &box : boxes)
        for (int ty = box.y0; ty < box.y1; ++ty)
            for (int tx = box.x0; tx < box.x1; ++tx) ++state.tile_start[ty * state.tiles_x + tx + 1];
    for (size_t i = 1; i < state.tile_start.size(); ++i) state.tile_start[i] += state.tile_start[i - 1];
    state.tile_items.resize(state.tile_start.back());
    std::vector<int32_t> next(state.tile_start.begin(), state.tile_start.end() - 1);
    for (int64_t k = 0; k < visible; ++k) {
        const Box &box = boxes[k];
        for (int ty = box.y0; ty < box.y1; ++ty)
            for (int tx = box.x0; tx < box.x1; ++tx) state.tile_items[next[ty * state.tiles_x + tx]++] = int32_t(k);
    }
}

struct Tile {  // where a tile lies and which Gaussians touch it
    int x0, y0, columns, rows;
    const int32_t *begin, *end;

    Tile(const State &state, const Settings &s, int64_t index) {
        x0 = int(index % state.tiles_x) * W, y0 = int(index / state.tiles_x) * ROWS;
        columns = std::min(W, s.width - x0), rows = std::min(ROWS, s.height - y0);
        begin = state.tile_items.data() + state.tile_start[index];
        end = state.tile_items.data() + state.tile_start[index + 1];
    }
};

// Blending state of a tile. `live` is the transmittance while a pixel still blends, 0 once it has stopped.
struct Light {
    vf live[ROWS], left[ROWS];

    explicit Light(const Tile &tile) {
        const vf lanes = lane_index();
        for (int y = 0; y < ROWS; ++y) {
            live[y] = lanes < splat(float(tile.columns)) ? splat(y < tile.rows ? 1.f : 0.f) : vf{};
            left[y] = splat(1.f);
        }
    }
    bool dark() const {
        vf most = vf{};
        for (int y = 0; y < ROWS; ++y) most += live[y];
        return !any(most > vf{});
    }
};

// The rows of a tile that Gaussian k can touch.
static inline void rows_of(const State &state, const Tile &tile, int32_t k, int &y0, int &y1) {
    y0 = std::max(int(state.spans[2 * k]) - tile.y0, 0), y1 = std::min(int(state.spans[2 * k + 1]) - tile.y0, tile.rows);
}

template <int D>
void blend_tile(const State &state, const Settings &s, const Tile &tile, const float *background, float *image,
                float *alpha_out, float *depth_out) {
    vf sums[ROWS][D + 1] = {};
    Light light(tile);
    const vf columns = lane_index() + (tile.x0 + 0.5f);
    const vf top = splat(s.max_alpha), faint = splat(s.min_alpha), stop = splat(s.min_transmittance);
    int since_check = 0;
    for (const int32_t *item = tile.begin; item != tile.end; ++item) {
        if (++since_check == 32) {
            since_check = 0;
            if (light.dark()) break;
        }
        const float *r = &state.records[int64_t(*item) * state.stride];
        int y0, y1;
        rows_of(state, tile, *item, y0, y1);
        const vf dx = r[X] - columns, base = r[A] * dx * dx + r[LOG2_OPACITY], slope = r[B] * dx;
        for (int y = y0; y < y1; ++y) {
            const float dy = r[Y] - (tile.y0 + y + 0.5f);
            const vf alpha = min(exp2_fast(base + dy * (slope + r[C] * dy)), top);
            const vf live = light.live[y], after = live * (1.f - alpha);
            const vi seen = alpha >= faint, kept = seen & (after > stop);
            light.live[y] = seen ? (kept ? after : vf{}) : live;
            light.left[y] = kept ? after : light.left[y];
            const vf weight = kept ? alpha * live : vf{};
            for (int d = 0; d <= D; ++d) sums[y][d] += weight * r[Z + d];
        }
    }
    for (int y = 0; y < tile.rows; ++y) {
        const int64_t pixel = int64_t(tile.y0 + y) * s.width + tile.x0;
        for (int x = 0; x < tile.columns; ++x) {
            const float left = light.left[y][x];
            alpha_out[pixel + x] = 1.f - left, depth_out[pixel + x] = sums[y][0][x];
            for (int d = 0; d < s.channels; ++d)
                image[(pixel + x) * s.channels + d] = sums[y][d + 1][x] + (background ? left * background[d] : 0.f);
        }
    }
}

struct Outputs { const float *image, *alpha, *depth; };

template <int D>
void blend_tile_backward(const State &state, const Settings &s, const Tile &tile, const Outputs &out, const Outputs &grad,
                         float *sums) {
    vf g[ROWS][D + 1], g_alpha[ROWS], behind[ROWS];  // g: of depth, then of the features
    std::memset(g, 0, sizeof g), std::memset(g_alpha, 0, sizeof g_alpha), std::memset(behind, 0, sizeof behind);
    for (int y = 0; y < tile.rows; ++y)
        for (int x = 0; x < tile.columns; ++x) {
            const int64_t pixel = int64_t(tile.y0 + y) * s.width + tile.x0 + x;
            g_alpha[y][x] = grad.alpha[pixel], g[y][0][x] = grad.depth[pixel];
            float total = grad.alpha[pixel] * out.alpha[pixel] + grad.depth[pixel] * out.depth[pixel];
            for (int d = 0; d < s.channels; ++d) {
                const float value = grad.image[pixel * s.channels + d];
                g[y][d + 1][x] = value;
                if (d < s.channels - s.num_detached) total += value * out.image[pixel * s.channels + d];
            }
            behind[y][x] = total;
        }
    Light light(tile);
    const vf columns = lane_index() + (tile.x0 + 0.5f);
    const vf top = splat(s.max_alpha), faint = splat(s.min_alpha), stop = splat(s.min_transmittance);
    int since_check = 0;
    for (const int32_t *item = tile.begin; item != tile.end; ++item) {
        if (++since_check == 32) {
            since_check = 0;
            if (light.dark()) break;
        }
        const float *r = &state.records[int64_t(*item) * state.stride];
        int y0, y1;
        rows_of(state, tile, *item, y0, y1);
        const vf dx = r[X] - columns, base = r[A] * dx * dx + r[LOG2_OPACITY], slope = r[B] * dx;
        vf p0 = vf{}, p1 = vf{}, p2 = vf{}, values[D + 1] = {};
        const float *felt = r + Z;  // what geometry learns from: detached channels are as good as black
        float dimmed[D + 1];
        if (s.num_detached) {
            for (int d = 0; d <= D; ++d) dimmed[d] = d <= s.channels - s.num_detached ? r[Z + d] : 0.f;
            felt = dimmed;
        }
        for (int y = y0; y < y1; ++y) {
            const float dy = r[Y] - (tile.y0 + y + 0.5f);
            const vf raw = exp2_fast(base + dy * (slope + r[C] * dy)), alpha = min(raw, top);
            const vf live = light.live[y], through = 1.f - alpha, after = live * through;
            const vi seen = alpha >= faint, kept = seen & (after > stop);
            light.live[y] = seen ? (kept ? after : vf{}) : live;
            const vf weight = kept ? alpha * live : vf{};
            vf worth = g_alpha[y];
            for (int d = 0; d <= D; ++d) {
                worth += g[y][d] * felt[d];
                values[d] += weight * g[y][d];
            }
            worth *= weight;
            behind[y] -= worth;
            // d loss / d (log alpha); the clamp at max_alpha passes none.
            const vf d_power = (kept & (raw <= top)) ? worth - behind[y] * alpha / through : vf{};
            p0 += d_power, p1 += d_power * dy, p2 += d_power * (dy * dy);
        }
        float *into = sums + int64_t(*item) * (SUMS + D);
        into[S] += sum(p0), into[SX] += sum(p0 * dx), into[SY] += sum(p1);
        into[SXX] += sum(p0 * dx * dx), into[SXY] += sum(p1 * dx), into[SYY] += sum(p2);
        for (int d = 0; d <= D; ++d) into[SZ + d] += sum(values[d]);
    }
}

// Call body with the smallest compiled channel count that holds `channels`.
template <class Body>
void with_channels(int channels, Body body) {
    if (channels <= 1) body(std::integral_constant<int, 1>());
    else if (channels <= 3) body(std::integral_constant<int, 3>());
    else if (channels <= 4) body(std::integral_constant<int, 4>());
    else if (channels <= 6) body(std::integral_constant<int, 6>());
    else if (channels <= 8) body(std::integral_constant<int, 8>());
    else if (channels <= 12) body(std::integral_constant<int, 12>());
    else body(std::integral_constant<int, 16>());
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

// Gradients of one image. d_means, d_quats, d_scales, d_opacities and d_features are added to; d_probe is written.
void rasterize_backward(const Settings *settings, void *kept, const float *means, const float *quats, const float *scales,
                        const float *opacities, const float *viewmat, const float *K, const float *image,
                        const float *alpha, const float *depth, const float *g_image, const float *g_alpha,
                        const float *g_depth, float *d_means, float *d_quats, float *d_scales, float *d_opacities,
                        float *d_features, float *d_probe) {
    const Settings &s = *settings;
    const State &state = *static_cast<const State *>(kept);
    const Camera cam(viewmat, K, s);
    const int64_t visible = int64_t(state.order.size());
    with_channels(s.channels, [&](auto channels) {
        constexpr int D = decltype(channels)::value, WIDTH = SUMS + D;
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
                const ScreenGrad screen = {-(g.a * t[SX] + g.b * t[SY]), -(g.b * t[SX] + g.c * t[SY]), t[SZ],
                                           -0.5f * t[SXX], -t[SXY], -0.5f * t[SYY]};
                d_opacities[id] += t[S] / opacities[id];
                for (int d = 0; d < s.channels; ++d) d_features[id * s.channels + d] += t[SUMS + d];
                if (d_probe) d_probe[2 * id] = screen.x, d_probe[2 * id + 1] = screen.y;
                project_backward(means + 3 * id, quats + 4 * id, scales + 3 * id, cam, g, screen, d_means + 3 * id,
                                 d_quats + 4 * id, d_scales + 3 * id);
            }
        });
    });
}
}
