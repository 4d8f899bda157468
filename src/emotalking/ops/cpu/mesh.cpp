// Z-buffered triangle rasterization and attribute interpolation on one CPU core.
// Meaning and argument order are those of ops/reference/mesh.py; pixel centres lie at .5.
#include <algorithm>
#include <cmath>
#include <cstdint>

extern "C" void rasterize_mesh(const float* vertices, const int32_t* faces, int64_t num_faces, int32_t width,
                               int32_t height, float near, int32_t* face_id, float* bary, float* depth) {
    const int64_t pixels = int64_t(width) * height;
    std::fill(face_id, face_id + pixels, -1);
    std::fill(bary, bary + 3 * pixels, 0.0f);
    std::fill(depth, depth + pixels, INFINITY);
    for (int64_t f = 0; f < num_faces; ++f) {
        const float* a = vertices + 3 * int64_t(faces[3 * f]);
        const float* b = vertices + 3 * int64_t(faces[3 * f + 1]);
        const float* c = vertices + 3 * int64_t(faces[3 * f + 2]);
        if (!(a[2] > near && b[2] > near && c[2] > near)) continue;  // also drops NaN
        const double area = double(b[0] - a[0]) * (c[1] - a[1]) - double(b[1] - a[1]) * (c[0] - a[0]);
        if (!(std::abs(area) > 1e-12) || !std::isfinite(area)) continue;
        const float left = std::min({a[0], b[0], c[0]}), right = std::max({a[0], b[0], c[0]});
        const float top = std::min({a[1], b[1], c[1]}), bottom = std::max({a[1], b[1], c[1]});
        if (right < 0 || bottom < 0 || left > width || top > height) continue;
        const int x0 = std::max(0, int(std::ceil(left - 0.5f))), x1 = std::min(width - 1, int(std::floor(right - 0.5f)));
        const int y0 = std::max(0, int(std::ceil(top - 0.5f))), y1 = std::min(height - 1, int(std::floor(bottom - 0.5f)));
        const double inverse = 1.0 / area;
        const double step_a = (double(b[1]) - c[1]) * inverse, step_b = (double(c[1]) - a[1]) * inverse;
        const double ia = 1.0 / a[2], ib = 1.0 / b[2], ic = 1.0 / c[2];
        for (int y = y0; y <= y1; ++y) {
            // Screen-space barycentrics, linear along the row. Two faces may claim a shared edge: the nearer (or first) wins.
            const double py = y + 0.5, px0 = 0.5;
            const double wa0 = ((b[0] - px0) * (c[1] - py) - (b[1] - py) * (c[0] - px0)) * inverse;
            const double wb0 = ((c[0] - px0) * (a[1] - py) - (c[1] - py) * (a[0] - px0)) * inverse;
            for (int x = x0; x <= x1; ++x) {
                const double wa = wa0 + x * step_a, wb = wb0 + x * step_b, wc = 1.0 - wa - wb;
                if (wa < 0 || wb < 0 || wc < 0) continue;
                const double pa = wa * ia, pb = wb * ib, pc = wc * ic;
                const double z = 1.0 / (pa + pb + pc);
                const int64_t p = int64_t(y) * width + x;
                if (float(z) >= depth[p]) continue;
                depth[p] = float(z);
                face_id[p] = int32_t(f);
                bary[3 * p] = float(pa * z);
                bary[3 * p + 1] = float(pb * z);
                bary[3 * p + 2] = float(pc * z);
            }
        }
    }
}

extern "C" void interpolate_vertices(const float* values, int32_t channels, const int32_t* faces, const int32_t* face_id,
                                     const float* bary, int64_t pixels, float* out) {
    for (int64_t p = 0; p < pixels; ++p) {
        float* o = out + p * channels;
        const int32_t f = face_id[p];
        if (f < 0) {
            std::fill(o, o + channels, 0.0f);
            continue;
        }
        const float* a = values + int64_t(faces[3 * int64_t(f)]) * channels;
        const float* b = values + int64_t(faces[3 * int64_t(f) + 1]) * channels;
        const float* c = values + int64_t(faces[3 * int64_t(f) + 2]) * channels;
        const float wa = bary[3 * p], wb = bary[3 * p + 1], wc = bary[3 * p + 2];
        for (int32_t d = 0; d < channels; ++d) o[d] = wa * a[d] + wb * b[d] + wc * c[d];
    }
}

extern "C" void vertex_normals(const float* vertices, int64_t num_vertices, const int32_t* faces, int64_t num_faces,
                               float* normals) {
    std::fill(normals, normals + 3 * num_vertices, 0.0f);
    for (int64_t f = 0; f < num_faces; ++f) {
        const int32_t* corner = faces + 3 * f;
        const float* a = vertices + 3 * int64_t(corner[0]);
        const float* b = vertices + 3 * int64_t(corner[1]);
        const float* c = vertices + 3 * int64_t(corner[2]);
        const float u[3] = {b[0] - a[0], b[1] - a[1], b[2] - a[2]}, v[3] = {c[0] - a[0], c[1] - a[1], c[2] - a[2]};
        const float across[3] = {u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]};
        for (int k = 0; k < 3; ++k)
            for (int d = 0; d < 3; ++d) normals[3 * int64_t(corner[k]) + d] += across[d];
    }
    for (int64_t i = 0; i < num_vertices; ++i) {
        float* n = normals + 3 * i;
        const float length = std::sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]);
        if (length > 0)
            for (int d = 0; d < 3; ++d) n[d] /= length;
    }
}
