// What Gaussians look like from a camera: colours by spherical harmonics (ops/sh.py) and encoded normals in the
// camera's axes (ops/normals.py). One thread a Gaussian.
//
// DEGREE: of the spherical harmonics. BASES: coefficients a colour channel has, at least (DEGREE + 1)^2.
#include "device.h"

#include "harmonics.h"
#include "projection.h"

extern "C" __global__ void colours(int batch, int count, const float *means, const float *centres, const float *first,
                                   const float *rest, float *out) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x, n = i % count;
    if (i >= batch * count) return;
    float value[USED];
    basis(means + 3 * i, centres + 3 * (i / count), value);
    for (int c = 0; c < 3; ++c) out[3 * i + c] = fmaxf(colour(value, first + 3 * n, rest + 3 * (BASES - 1) * n, c), 0.f);
}

// One thread a Gaussian, over all frames: nothing is added to atomically. Coefficients beyond the degree get zero.
extern "C" __global__ void colours_backward(int batch, int count, const float *means, const float *centres,
                                            const float *first, const float *rest, const float *grad, float *d_first,
                                            float *d_rest) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= count) return;
    float total[USED][3] = {};
    for (int b = 0; b < batch; ++b) {
        const long long i = (long long)b * count + n;
        float value[USED];
        basis(means + 3 * i, centres + 3 * b, value);
        for (int c = 0; c < 3; ++c) {
            // As clamp_min does: a colour of exactly zero still learns.
            if (!(colour(value, first + 3 * n, rest + 3 * (BASES - 1) * n, c) >= 0.f)) continue;
            for (int k = 0; k < USED; ++k) total[k][c] += value[k] * grad[3 * i + c];
        }
    }
    for (int c = 0; c < 3; ++c) {
        d_first[3 * n + c] = total[0][c];
        for (int k = 1; k < BASES; ++k) d_rest[3 * ((BASES - 1) * n + k - 1) + c] = k < USED ? total[k % USED][c] : 0.f;
    }
}

struct Normal {  // of one Gaussian, in the world
    float R[3][3], unit[4], inv_norm, sign, n[3], inv_length;
    int axis;

    Normal(const float *quat, const float *scale, const float *mean, const float *view, const float *residual) {
        rotation(quat, R, unit, inv_norm);
        axis = scale[1] < scale[0] ? 1 : 0;
        if (scale[2] < scale[axis]) axis = 2;
        float towards = 0.f, length = 0.f;
        for (int j = 0; j < 3; ++j) {
            float centre = 0.f;
            for (int k = 0; k < 3; ++k) centre -= view[4 * k + j] * view[4 * k + 3];
            towards += (axis == 0 ? R[j][0] : axis == 1 ? R[j][1] : R[j][2]) * (centre - mean[j]);
        }
        sign = towards < 0.f ? -1.f : 1.f;
        for (int j = 0; j < 3; ++j) {
            n[j] = sign * (axis == 0 ? R[j][0] : axis == 1 ? R[j][1] : R[j][2]) + residual[j];
            length += n[j] * n[j];
        }
        inv_length = 1.f / fmaxf(sqrtf(length), 1e-12f);
        for (int j = 0; j < 3; ++j) n[j] *= inv_length;
    }
};

extern "C" __global__ void normals(int batch, int count, const float *quats, const float *scales, const float *means,
                                   const float *views, const float *residuals, float *out) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= batch * count) return;
    const float *view = views + 16 * (i / count);
    const Normal normal(quats + 4 * i, scales + 3 * i, means + 3 * i, view, residuals + 3 * (i % count));
    for (int j = 0; j < 3; ++j)
        out[3 * i + j] = 0.5f + 0.5f * (view[4 * j] * normal.n[0] + view[4 * j + 1] * normal.n[1] + view[4 * j + 2] * normal.n[2]);
}

extern "C" __global__ void normals_backward(int batch, int count, const float *quats, const float *scales,
                                            const float *means, const float *views, const float *residuals,
                                            const float *grad, float *d_quats, float *d_residuals) {
    const int g = blockIdx.x * blockDim.x + threadIdx.x;
    if (g >= count) return;
    float d_residual[3] = {};
    for (int b = 0; b < batch; ++b) {
        const long long i = (long long)b * count + g;
        const float *view = views + 16 * b;
        const Normal normal(quats + 4 * i, scales + 3 * i, means + 3 * i, view, residuals + 3 * g);
        float d_n[3], along = 0.f, dR[3][3] = {}, d_quat[4] = {};
        for (int j = 0; j < 3; ++j) {
            d_n[j] = 0.5f * (view[j] * grad[3 * i] + view[4 + j] * grad[3 * i + 1] + view[8 + j] * grad[3 * i + 2]);
            along += d_n[j] * normal.n[j];
        }
        for (int j = 0; j < 3; ++j) {
            const float d_sum = (d_n[j] - along * normal.n[j]) * normal.inv_length;
            d_residual[j] += d_sum;
            for (int k = 0; k < 3; ++k) dR[j][k] = k == normal.axis ? normal.sign * d_sum : 0.f;
        }
        rotation_backward(dR, normal.unit, normal.inv_norm, d_quat);
        for (int j = 0; j < 4; ++j) d_quats[4 * i + j] = d_quat[j];
    }
    for (int j = 0; j < 3; ++j) d_residuals[3 * g + j] = d_residual[j];
}
