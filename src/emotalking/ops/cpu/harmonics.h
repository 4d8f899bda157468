// Real spherical harmonics of W directions, as in ops/sh.py.
#pragma once
#include "simd.h"

constexpr int MAX_BASES = 16;

// The first `bases` (1, 4, 9 or 16) along the lines from `eye` to W points.
static inline void basis(const vf point[3], const float *eye, int bases, vf value[MAX_BASES]) {
    value[0] = splat(0.28209479177387814f);
    if (bases < 4) return;
    vf d[3], squares = vf{};
    for (int i = 0; i < 3; ++i) d[i] = point[i] - eye[i], squares += d[i] * d[i];
    const vf scale = 1.f / max(root(squares), splat(1e-12f)), x = d[0] * scale, y = d[1] * scale, z = d[2] * scale;
    value[1] = -0.4886025119029199f * y, value[2] = 0.4886025119029199f * z, value[3] = -0.4886025119029199f * x;
    if (bases < 9) return;
    const vf xx = x * x, yy = y * y, zz = z * z;
    value[4] = 1.0925484305920792f * x * y, value[5] = -1.0925484305920792f * y * z;
    value[6] = 0.31539156525252005f * (2 * zz - xx - yy), value[7] = -1.0925484305920792f * x * z;
    value[8] = 0.5462742152960396f * (xx - yy);
    if (bases < 16) return;
    value[9] = -0.5900435899266435f * y * (3 * xx - yy), value[10] = 2.890611442640554f * x * y * z;
    value[11] = -0.4570457994644658f * y * (4 * zz - xx - yy);
    value[12] = 0.3731763325901154f * z * (2 * zz - 3 * xx - 3 * yy);
    value[13] = -0.4570457994644658f * x * (4 * zz - xx - yy);
    value[14] = 1.445305721320277f * z * (xx - yy), value[15] = -0.5900435899266435f * x * (xx - 3 * yy);
}
