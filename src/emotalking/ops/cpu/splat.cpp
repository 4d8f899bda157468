// Gaussians drawn for rendering, without gradient: colours and coverage. The meaning is that of ops/reference/splat.py.
//
// One vector of Gaussians at a time is projected and coloured; the visible ones are sorted by depth and filed into tiles,
// and a tile is blended in blocks of COLUMNS x LINES pixels, one a vector, so that small Gaussians fill it.
#include "simd.h"

#include "harmonics.h"
#include "projection.h"

#include <memory>

namespace {

constexpr int TILE = 16, ACROSS = TILE / COLUMNS, DOWN = TILE / LINES;  // side of a tile; its blocks
constexpr float LOG2E = 1.4426950408889634f;
constexpr int LOOK = 2;  // of a Gaussian's constants: log2 of the opacity, half size in standard deviations; then colours

constexpr int AHEAD = 12;  // Gaussians whose record is fetched ahead: they lie apart in memory

struct Box { int16_t x0, x1, y0, y1; };  // pixels, or tiles

struct alignas(64) Record {  // one Gaussian on the screen
    float x, y, a, b, c, log2_opacity, colour[3];  // a, b, c: inverse covariance, as factors of the exponent of 2
    Box box;                                       // pixels that it can touch
};

struct Drawn {  // what sorting and filing read of a Gaussian
    float depth;  // infinity: not seen
    Box tiles;
};

struct Gaussians {
    const float *means, *quats, *scales;
    const float *look;  // [block][LOOK + 3 * bases][W]
    int bases;
};

struct Sight {  // W Gaussians seen by a camera
    vf x, y, z, a, b, c, extent_x, extent_y;
    vi visible;

    Sight(const Gaussians &of, int64_t n, int used, const vf *look, const vf mean[3], const Camera &cam, const Settings &s) {
        vf p[3], q[4], scale[3];
        for (int i = 0; i < 3; ++i) {
            scale[i] = column(of.scales + 3 * n + i, 3, used);
            p[i] = cam.R[i][0] * mean[0] + cam.R[i][1] * mean[1] + cam.R[i][2] * mean[2] + cam.t[i];
        }
        z = p[2];
        const vi front = z >= splat(s.near);
        const vf inv_z = 1.f / (front ? z : splat(1.f));
        const vf u_raw = p[0] * inv_z, v_raw = p[1] * inv_z;
        const vf u = min(max(u_raw, splat(cam.u_low)), splat(cam.u_high));
        const vf v = min(max(v_raw, splat(cam.v_low)), splat(cam.v_high));
        vf squares = vf{};
        for (int i = 0; i < 4; ++i) q[i] = column(of.quats + 4 * n + i, 4, used), squares += q[i] * q[i];
        const vf inv_norm = 1.f / max(root(squares), splat(1e-12f));
        for (vf &part : q) part *= inv_norm;
        const vf w = q[0], i = q[1], j = q[2], k = q[3];
        const vf R[3][3] = {{1 - 2 * (j * j + k * k), 2 * (i * j - w * k), 2 * (i * k + w * j)},
                            {2 * (i * j + w * k), 1 - 2 * (i * i + k * k), 2 * (j * k - w * i)},
                            {2 * (i * k - w * j), 2 * (j * k + w * i), 1 - 2 * (i * i + j * j)}};
        vf A[2][3];  // covariance = A A^T + blur
        for (int j = 0; j < 3; ++j) {
            vf along[3];
            for (int r = 0; r < 3; ++r) along[r] = cam.R[r][0] * R[0][j] + cam.R[r][1] * R[1][j] + cam.R[r][2] * R[2][j];
            A[0][j] = cam.fx * inv_z * (along[0] - u * along[2]) * scale[j];
            A[1][j] = cam.fy * inv_z * (along[1] - v * along[2]) * scale[j];
        }
        const vf xx = A[0][0] * A[0][0] + A[0][1] * A[0][1] + A[0][2] * A[0][2];
        const vf xy = A[0][0] * A[1][0] + A[0][1] * A[1][1] + A[0][2] * A[1][2];
        const vf yy = A[1][0] * A[1][0] + A[1][1] * A[1][1] + A[1][2] * A[1][2];
        // The determinant as a sum of squares of minors (Cauchy-Binet): of a long thin Gaussian, xx yy - xy xy is a small
        // difference of large products.
        vf det = s.blur * (xx + yy) + s.blur * s.blur;
        for (int j = 0; j < 3; ++j) {
            const vf minor = A[0][j] * A[1][(j + 1) % 3] - A[0][(j + 1) % 3] * A[1][j];
            det += minor * minor;
        }
        extent_x = look[1] * root(xx + s.blur), extent_y = look[1] * root(yy + s.blur);
        x = cam.fx * u_raw + cam.cx, y = cam.fy * v_raw + cam.cy;
        visible = front & (look[1] > vf{}) & (det > vf{}) & (x + extent_x > -1.f) & (x - extent_x < s.width + 1.f) &
                  (y + extent_y > -1.f) & (y - extent_y < s.height + 1.f);
        const vf factor = -0.5f * LOG2E / det;
        a = factor * (yy + s.blur), b = -2.f * factor * xy, c = factor * (xx + s.blur);
    }
};

// Colours of W Gaussians along the line of sight (ops/sh.py), never negative.
inline void shade(const vf *coefficients, int bases, const vf mean[3], const float *eye, vf colour[3]) {
    vf value[MAX_BASES];
    basis(mean, eye, bases, value);
    for (int i = 0; i < 3; ++i) {
        vf sum = splat(0.5f);
        for (int k = 0; k < bases; ++k) sum += value[k] * coefficients[3 * k + i];
        colour[i] = max(sum, vf{});
    }
}

// Records of the Gaussians from n on (a block).
void project(const Gaussians &of, int64_t n, const Camera &cam, const float *eye, const Settings &s, Record *records,
             Drawn *drawn) {
    const int used = int(std::min<int64_t>(W, s.count - n)), width = LOOK + 3 * of.bases;
    vf look[LOOK + 48], mean[3], colour[3];
    std::memcpy(look, of.look + n * width, width * sizeof(vf));
    for (int i = 0; i < 3; ++i) mean[i] = column(of.means + 3 * n + i, 3, used);
    const Sight seen(of, n, used, look, mean, cam, s);
    shade(look + LOOK, of.bases, mean, eye, colour);
    auto pixels = [&](vf edge, int high) {  // pixel centres within the extents, a hundredth wider against rounding
        const vf whole = min(max(seen.visible ? edge : vf{}, vf{}), splat(float(high)));
        return __builtin_convertvector(whole, vi);
    };
    const vi x0 = pixels(seen.x - seen.extent_x + 0.49f, s.width), x1 = pixels(seen.x + seen.extent_x + 0.51f, s.width);
    const vi y0 = pixels(seen.y - seen.extent_y + 0.49f, s.height), y1 = pixels(seen.y + seen.extent_y + 0.51f, s.height);
    const vi drawn_at_all = seen.visible & (x0 < x1) & (y0 < y1);
    const vf depth = drawn_at_all ? seen.z : splat(INFINITY);
    auto box = [](int left, int right, int top, int bottom) {
        return Box{int16_t(left), int16_t(right), int16_t(top), int16_t(bottom)};
    };
    const vi left = x0 / TILE, right = (x1 + (TILE - 1)) / TILE, top = y0 / TILE, bottom = (y1 + (TILE - 1)) / TILE;
    for (int i = 0; i < used; ++i) {
        records[n + i] = {seen.x[i], seen.y[i], seen.a[i], seen.b[i], seen.c[i], look[0][i],
                          {colour[0][i], colour[1][i], colour[2][i]}, box(x0[i], x1[i], y0[i], y1[i])};
        drawn[n + i] = {depth[i], box(left[i], right[i], top[i], bottom[i])};
    }
}

struct Placed { int32_t id; Box tiles; };

// The visible Gaussians, from front to back.
std::vector<Placed> by_depth(const Drawn *drawn, int64_t count) {
    constexpr int BITS = 11, BINS = 1 << BITS;
    float low = INFINITY, high = 0;
    for (int64_t i = 0; i < count; ++i)
        if (drawn[i].depth < INFINITY) low = std::min(low, drawn[i].depth), high = std::max(high, drawn[i].depth);
    const float scale = float(BINS) * BINS * (1 - 1e-6f) / std::max(high - low, 1e-6f * high);
    struct Item { uint32_t key; int32_t id; };
    std::vector<Item> items, half;
    items.reserve(count);
    uint32_t starts[2][BINS] = {};
    for (int32_t i = 0; i < count; ++i)
        if (drawn[i].depth < INFINITY) {
            const auto key = uint32_t((drawn[i].depth - low) * scale);
            items.push_back({key, i});
            ++starts[0][key & (BINS - 1)], ++starts[1][key >> BITS];
        }
    for (auto &start : starts) {
        uint32_t total = 0;
        for (uint32_t &bin : start) std::swap(bin, total), total += bin;
    }
    half.resize(items.size());
    for (const Item &item : items) half[starts[0][item.key & (BINS - 1)]++] = item;
    std::vector<Placed> order(items.size());
    for (const Item &item : half) order[starts[1][item.key >> BITS]++] = {item.id, drawn[item.id].tiles};
    return order;
}

struct Tiles {  // which Gaussians touch which tile, front to back
    int across, down;
    std::vector<std::vector<int32_t>> items;  // of bands of tile rows, one a thread
    std::vector<std::pair<int64_t, int64_t>> ranges;  // of each tile in its band's items
    int band_rows;

    Tiles(const std::vector<Placed> &order, const Settings &s) {
        across = (s.width + TILE - 1) / TILE, down = (s.height + TILE - 1) / TILE;
        const int bands = std::max(1, std::min(s.threads, down));
        band_rows = (down + bands - 1) / bands;
        items.resize(bands), ranges.resize(int64_t(across) * down);
        parallel(bands, 1, s.threads, [&](int64_t begin, int64_t end, int) {
            for (int64_t band = begin; band < end; ++band) file(order, int(band));
        });
    }

    void file(const std::vector<Placed> &order, int band) {
        const int top = band * band_rows, bottom = std::min(down, top + band_rows);
        auto each = [&](auto body) {
            for (const auto &[id, box] : order) {
                const int y1 = std::min(int(box.y1), bottom);
                for (int ty = std::max(int(box.y0), top); ty < y1; ++ty)
                    for (int tx = box.x0; tx < box.x1; ++tx) body(ranges[int64_t(ty) * across + tx], id);
            }
        };
        each([](auto &range, int32_t) { ++range.second; });
        int64_t total = 0;
        for (int64_t t = int64_t(top) * across; t < int64_t(bottom) * across; ++t) {
            const int64_t here = ranges[t].second;
            ranges[t] = {total, total}, total += here;
        }
        items[band].resize(total);
        each([&](auto &range, int32_t id) { items[band][range.second++] = id; });
    }
};

// 2^x, relative error below 5e-6.
inline vf exp2_short(vf x) {
    const vf magic = splat(12582912.f);  // as in exp2_fast
    x = max(x, splat(-126.f));
    const vf shifted = x + magic, f = x - (shifted - magic);
    vf p = splat(9.46331e-3f);
    p = p * f + 5.585724e-2f;
    p = p * f + 2.4026696e-1f;
    p = p * f + 6.9313456e-1f;
    p = p * f + 1.f;
    vi bits, exponent;
    std::memcpy(&bits, &p, sizeof bits), std::memcpy(&exponent, &shifted, sizeof exponent);
    bits += exponent << 23;
    std::memcpy(&p, &bits, sizeof p);
    return p;
}

struct Block {  // pixels of a tile, one vector
    vf live;     // transmittance while a pixel still blends, then 0
    vf sums[4];  // colour and coverage
};

// Blend one tile into planes [4][H][W].
void blend(const Record *records, const int32_t *item, const int32_t *end, int left, int top, const Settings &s,
           float *planes) {
    Block blocks[DOWN][ACROSS];
    vf column_of, line_of;
    for (int i = 0; i < W; ++i) column_of[i] = float(i % COLUMNS) + 0.5f, line_of[i] = float(i / COLUMNS) + 0.5f;
    for (int j = 0; j < DOWN; ++j)
        for (int i = 0; i < ACROSS; ++i) {
            const vi inside = (column_of + float(left + i * COLUMNS) < splat(float(s.width))) &
                              (line_of + float(top + j * LINES) < splat(float(s.height)));
            blocks[j][i] = {inside ? splat(1.f) : vf{}, {}};
        }
    const vf most = splat(s.max_alpha), faint = splat(s.min_alpha), stop = splat(s.min_transmittance);
    for (int since = 0; item != end; ++item) {
        if (++since == 16) {
            since = 0;
            vf light = vf{};
            for (const auto &row : blocks)
                for (const Block &block : row) light += block.live;
            if (!any(light > vf{})) break;
        }
        if (end - item > AHEAD) __builtin_prefetch(&records[item[AHEAD]]);
        const Record &r = records[*item];
        const int i0 = std::max(r.box.x0 - left, 0) / COLUMNS, i1 = std::min(r.box.x1 - left - 1, TILE - 1) / COLUMNS;
        const int j0 = std::max(r.box.y0 - top, 0) / LINES, j1 = std::min(r.box.y1 - top - 1, TILE - 1) / LINES;
        for (int i = i0; i <= i1; ++i) {
            const vf dx = (r.x - float(left + i * COLUMNS)) - column_of;
            const vf base = r.a * dx * dx + r.log2_opacity, slope = r.b * dx;
            vf dy = (r.y - float(top + j0 * LINES)) - line_of;
            for (int j = j0; j <= j1; ++j, dy -= float(LINES)) {
                Block &block = blocks[j][i];
                const vf raw = min(exp2_short(base + dy * (slope + r.c * dy)), most);
                const vf alpha = raw >= faint ? raw : vf{};
                const vf weight = alpha * block.live, after = block.live - weight;
                block.live = after > stop ? after : vf{};
                const vf kept = after > stop ? weight : vf{};
                for (int d = 0; d < 3; ++d) block.sums[d] += kept * r.colour[d];
                block.sums[3] += kept;
            }
        }
    }
    for (int line = 0; line < std::min(TILE, s.height - top); ++line)
        for (int i = 0; i < ACROSS; ++i)
            for (int d = 0; d < 4; ++d) {
                const int x = left + i * COLUMNS, used = std::min(COLUMNS, s.width - x);
                float *to = planes + (int64_t(d) * s.height + top + line) * s.width + x;
                const float *from = reinterpret_cast<const float *>(&blocks[line / LINES][i].sums[d]) + line % LINES * COLUMNS;
                if (used == COLUMNS) std::memcpy(to, from, COLUMNS * sizeof(float));
                else for (int c = 0; c < used; ++c) to[c] = from[c];
            }
}

}  // namespace

extern "C" {

int splat_block() { return W; }

// Draw one image: planes [4][H][W] of premultiplied colours and alpha. `look` comes in blocks, [block][2 + 3 * bases][W].
void splat_image(const Settings *settings, const float *means, const float *quats, const float *scales, const float *look,
                 int bases, const float *viewmat, const float *K, const float *eye, float *planes) {
    const Settings &s = *settings;
    const Camera cam(viewmat, K, s);
    const Gaussians gaussians{means, quats, scales, look, bases};
    const std::unique_ptr<Record[]> records(new Record[s.count]);
    const std::unique_ptr<Drawn[]> drawn(new Drawn[s.count]);
    parallel((s.count + W - 1) / W, 64, s.threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t block = begin; block < end; ++block)
            project(gaussians, block * W, cam, eye, s, records.get(), drawn.get());
    });
    const Tiles tiles(by_depth(drawn.get(), s.count), s);
    parallel(int64_t(tiles.across) * tiles.down, 4, s.threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t t = begin; t < end; ++t) {
            const int row = int(t / tiles.across), column = int(t % tiles.across);
            const int32_t *items = tiles.items[row / tiles.band_rows].data();
            blend(records.get(), items + tiles.ranges[t].first, items + tiles.ranges[t].second, column * TILE, row * TILE,
                  s, planes);
        }
    });
}
}
