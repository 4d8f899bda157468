// Colours that depend on the viewing direction: real spherical harmonics, as in ops/sh.py.
//
// DEGREE: of the spherical harmonics.
#pragma once

constexpr int USED = (DEGREE + 1) * (DEGREE + 1);

inline void basis(const float *mean, const float *centre, float (&value)[USED]) {
    float d[3], length = 0.f;
    for (int j = 0; j < 3; ++j) d[j] = mean[j] - centre[j], length += d[j] * d[j];
    const float inv = 1.f / fmaxf(sqrtf(length), 1e-12f), x = d[0] * inv, y = d[1] * inv, z = d[2] * inv;
    value[0] = 0.28209479177387814f;
    if (DEGREE >= 1) {
        const float c = 0.4886025119029199f;
        value[1 % USED] = -c * y, value[2 % USED] = c * z, value[3 % USED] = -c * x;
    }
    if (DEGREE >= 2) {
        const float c = 1.0925484305920792f, c0 = 0.31539156525252005f, c2 = 0.5462742152960396f;
        value[4 % USED] = c * x * y, value[5 % USED] = -c * y * z, value[6 % USED] = c0 * (2 * z * z - x * x - y * y);
        value[7 % USED] = -c * x * z, value[8 % USED] = c2 * (x * x - y * y);
    }
    if (DEGREE >= 3) {
        const float xx = x * x, yy = y * y, zz = z * z;
        value[9 % USED] = -0.5900435899266435f * y * (3 * xx - yy), value[10 % USED] = 2.890611442640554f * x * y * z;
        value[11 % USED] = -0.4570457994644658f * y * (4 * zz - xx - yy);
        value[12 % USED] = 0.3731763325901154f * z * (2 * zz - 3 * xx - 3 * yy);
        value[13 % USED] = -0.4570457994644658f * x * (4 * zz - xx - yy);
        value[14 % USED] = 1.445305721320277f * z * (xx - yy), value[15 % USED] = -0.5900435899266435f * x * (xx - 3 * yy);
    }
}

inline float colour(const float (&value)[USED], const float *first, const float *rest, int channel) {
    float total = 0.5f + value[0] * first[channel];
    for (int k = 1; k < USED; ++k) total += value[k] * rest[3 * (k - 1) + channel];
    return total;
}
