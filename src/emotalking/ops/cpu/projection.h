// EWA projection of one Gaussian and its derivative (3DGS, arXiv 2308.04079, section 4), for CPU and GPU.
#pragma once
#ifndef __CUDACC_RTC__  // the GPU's compiler has none; ops/cuda/device.h says what they would
#include <algorithm>
#include <cmath>
#endif

struct Settings {  // mirrored by ctypes in ops/splatting.py, with the values
    int32_t count, width, height, channels;
    int32_t num_detached;  // of the channels, the last, that give no gradient to geometry
    int32_t threads;
    float near, max_alpha, min_alpha, min_transmittance, blur, margin, max_extent;
};

struct Camera {
    float R[3][3], t[3], fx, fy, cx, cy, u_low, u_high, v_low, v_high;

    Camera(const float *viewmat, const float *K, const Settings &s) {
        for (int i = 0; i < 3; ++i) {
            for (int j = 0; j < 3; ++j) R[i][j] = viewmat[4 * i + j];
            t[i] = viewmat[4 * i + 3];
        }
        fx = K[0], fy = K[4], cx = K[2], cy = K[5];
        const float mx = s.margin * 0.5f * s.width / fx, my = s.margin * 0.5f * s.height / fy;
        u_low = -cx / fx - mx, u_high = (s.width - cx) / fx + mx;
        v_low = -cy / fy - my, v_high = (s.height - cy) / fy + my;
    }
};

struct Seen {  // one Gaussian on the screen
    float x, y, z;           // centre in pixels, depth
    float a, b, c;           // inverse covariance: xx, xy, yy
    float extent_x, extent_y;  // half box outside which alpha < min_alpha
    int32_t radius;          // 0 = culled
};

static inline void rotation(const float *quat, float R[3][3], float unit[4], float &inv_norm) {
    inv_norm = 1.f / std::max(std::sqrt(quat[0] * quat[0] + quat[1] * quat[1] + quat[2] * quat[2] + quat[3] * quat[3]), 1e-12f);
    for (int i = 0; i < 4; ++i) unit[i] = quat[i] * inv_norm;
    const float w = unit[0], x = unit[1], y = unit[2], z = unit[3];
    R[0][0] = 1 - 2 * (y * y + z * z), R[0][1] = 2 * (x * y - w * z), R[0][2] = 2 * (x * z + w * y);
    R[1][0] = 2 * (x * y + w * z), R[1][1] = 1 - 2 * (x * x + z * z), R[1][2] = 2 * (y * z - w * x);
    R[2][0] = 2 * (x * z - w * y), R[2][1] = 2 * (y * z + w * x), R[2][2] = 1 - 2 * (x * x + y * y);
}

// Chain the gradient of a rotation matrix to the quaternion it was made of; adds to what is there.
static inline void rotation_backward(const float dR[3][3], const float unit[4], float inv_norm, float *d_quat) {
    const float w = unit[0], x = unit[1], y = unit[2], z = unit[3];
    const float d_unit[4] = {
        2 * (x * (dR[2][1] - dR[1][2]) + y * (dR[0][2] - dR[2][0]) + z * (dR[1][0] - dR[0][1])),
        2 * (w * (dR[2][1] - dR[1][2]) + y * (dR[1][0] + dR[0][1]) + z * (dR[0][2] + dR[2][0]) -
             2 * x * (dR[1][1] + dR[2][2])),
        2 * (w * (dR[0][2] - dR[2][0]) + x * (dR[1][0] + dR[0][1]) + z * (dR[2][1] + dR[1][2]) -
             2 * y * (dR[0][0] + dR[2][2])),
        2 * (w * (dR[1][0] - dR[0][1]) + x * (dR[0][2] + dR[2][0]) + y * (dR[2][1] + dR[1][2]) -
             2 * z * (dR[0][0] + dR[1][1])),
    };
    float radial = 0;
    for (int i = 0; i < 4; ++i) radial += d_unit[i] * unit[i];
    for (int i = 0; i < 4; ++i) d_quat[i] += (d_unit[i] - radial * unit[i]) * inv_norm;
}

struct Linear {  // the projection linearised at the Gaussian's centre
    float x, y, z, inv_z, u, v;      // camera coordinates; u, v = x/z, y/z held inside the widened frustum
    bool u_free, v_free;             // false where the margin holds u or v
    float M[2][3];                   // J * R: world offset -> pixel offset
    float A[2][3];                   // M * Rq * diag(scales): covariance = A A^T + blur
    float Rq[3][3], unit[4], inv_norm;

    Linear(const float *mean, const float *quat, const float *scale, const Camera &cam) {
        float p[3];
        for (int i = 0; i < 3; ++i)
            p[i] = cam.R[i][0] * mean[0] + cam.R[i][1] * mean[1] + cam.R[i][2] * mean[2] + cam.t[i];
        x = p[0], y = p[1], z = p[2], inv_z = 1.f / z;
        const float u_raw = x * inv_z, v_raw = y * inv_z;
        u = std::min(std::max(u_raw, cam.u_low), cam.u_high), v = std::min(std::max(v_raw, cam.v_low), cam.v_high);
        u_free = u == u_raw, v_free = v == v_raw;
        for (int j = 0; j < 3; ++j) {
            M[0][j] = cam.fx * inv_z * (cam.R[0][j] - u * cam.R[2][j]);
            M[1][j] = cam.fy * inv_z * (cam.R[1][j] - v * cam.R[2][j]);
        }
        rotation(quat, Rq, unit, inv_norm);
        for (int i = 0; i < 2; ++i)
            for (int j = 0; j < 3; ++j)
                A[i][j] = (M[i][0] * Rq[0][j] + M[i][1] * Rq[1][j] + M[i][2] * Rq[2][j]) * scale[j];
    }
};

static inline Seen project(const float *mean, const float *quat, const float *scale, float opacity, const float *probe,
                           const Camera &cam, const Settings &s) {
    Seen seen{};
    const float z = cam.R[2][0] * mean[0] + cam.R[2][1] * mean[1] + cam.R[2][2] * mean[2] + cam.t[2];
    if (!(z >= s.near) || !(opacity >= s.min_alpha)) return seen;
    const Linear lin(mean, quat, scale, cam);
    // In double: the determinant of a long thin Gaussian is a small difference of large products.
    double xx = s.blur, xy = 0, yy = s.blur;
    for (int j = 0; j < 3; ++j) {
        xx += double(lin.A[0][j]) * lin.A[0][j];
        xy += double(lin.A[0][j]) * lin.A[1][j];
        yy += double(lin.A[1][j]) * lin.A[1][j];
    }
    const double det = xx * yy - xy * xy;
    if (!(det > 0)) return seen;
    const float sigmas = std::min(s.max_extent, std::sqrt(2.f * std::log(opacity / s.min_alpha)));
    seen.extent_x = sigmas * std::sqrt(float(xx)), seen.extent_y = sigmas * std::sqrt(float(yy));
    const float rx = std::ceil(seen.extent_x), ry = std::ceil(seen.extent_y);
    seen.x = cam.fx * lin.x * lin.inv_z + cam.cx, seen.y = cam.fy * lin.y * lin.inv_z + cam.cy, seen.z = z;
    if (!(seen.x + rx > 0 && seen.x - rx < s.width && seen.y + ry > 0 && seen.y - ry < s.height)) return seen;
    seen.a = float(yy / det), seen.b = float(-xy / det), seen.c = float(xx / det);
    if (probe) seen.x += probe[0], seen.y += probe[1];
    seen.radius = int32_t(std::min(std::max(rx, ry), float(1 << 30)));
    return seen;
}

struct ScreenGrad {
    float x, y, z, a, b, c;
};

// Chain the screen gradients of one Gaussian to mean, quaternion and scales; adds to what is there.
static inline void project_backward(const float *mean, const float *quat, const float *scale, const Camera &cam,
                                    const Seen &seen, const ScreenGrad &g, float *d_mean, float *d_quat, float *d_scale) {
    const Linear lin(mean, quat, scale, cam);
    // Covariance: d(inverse) = -inverse d inverse, so dS = -L G L with L the inverse and G its (symmetric) gradient.
    const float a = seen.a, b = seen.b, c = seen.c, h = 0.5f * g.b;
    const float p00 = g.a * a + h * b, p01 = g.a * b + h * c, p10 = h * a + g.c * b, p11 = h * b + g.c * c;
    const float s00 = -(a * p00 + b * p10), s01 = -(a * p01 + b * p11), s11 = -(b * p01 + c * p11);
    // S = A A^T and A = M Rq diag(scale), hence dA = 2 dS A.
    float dA[2][3], dM[2][3] = {}, dRq[3][3];
    for (int j = 0; j < 3; ++j) {
        dA[0][j] = 2 * (s00 * lin.A[0][j] + s01 * lin.A[1][j]);
        dA[1][j] = 2 * (s01 * lin.A[0][j] + s11 * lin.A[1][j]);
        float along = 0;
        for (int i = 0; i < 3; ++i) {
            const float back = lin.M[0][i] * dA[0][j] + lin.M[1][i] * dA[1][j];
            along += back * lin.Rq[i][j];
            dRq[i][j] = back * scale[j];
            dM[0][i] += dA[0][j] * lin.Rq[i][j] * scale[j];
            dM[1][i] += dA[1][j] * lin.Rq[i][j] * scale[j];
        }
        d_scale[j] += along;
    }
    // M[0] = fx/z (R0 - u R2), M[1] = fy/z (R1 - v R2).
    float d_u = 0, d_v = 0, d_inv_z = 0;
    for (int j = 0; j < 3; ++j) {
        d_u -= dM[0][j] * cam.fx * lin.inv_z * cam.R[2][j];
        d_v -= dM[1][j] * cam.fy * lin.inv_z * cam.R[2][j];
        d_inv_z += dM[0][j] * cam.fx * (cam.R[0][j] - lin.u * cam.R[2][j]) +
                   dM[1][j] * cam.fy * (cam.R[1][j] - lin.v * cam.R[2][j]);
    }
    const float d_u_all = cam.fx * g.x + (lin.u_free ? d_u : 0.f), d_v_all = cam.fy * g.y + (lin.v_free ? d_v : 0.f);
    const float iz = lin.inv_z;
    const float d_p[3] = {d_u_all * iz, d_v_all * iz,
                          g.z - iz * iz * (d_u_all * lin.x + d_v_all * lin.y + d_inv_z)};
    for (int j = 0; j < 3; ++j) d_mean[j] += cam.R[0][j] * d_p[0] + cam.R[1][j] * d_p[1] + cam.R[2][j] * d_p[2];

    rotation_backward(dRq, lin.unit, lin.inv_norm, d_quat);
}
