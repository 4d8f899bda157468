// Where a point is in the grids of the tri-plane encoder.
//
// LEVELS: of the encoder.
#pragma once

struct Grid {  // mirrored by ctypes in triplane.py
    float bound;
    int entries;
    float scales[LEVELS];
    int strides[LEVELS], offsets[LEVELS];
};

struct Place {  // a point in one level: its cell and the place inside it, along each axis
    float frac[3];
    int cell[3];
    bool inside[3];

    Place(const float *point, float bound, float scale) {
        for (int axis = 0; axis < 3; ++axis) {
            const float u = (point[axis] + bound) / (2 * bound);
            inside[axis] = u >= 0.f && u <= 1.f;
            const float position = (inside[axis] ? u : 0.f) * scale + 0.5f;
            cell[axis] = int(position);  // truncation is floor: positions are positive
            frac[axis] = position - cell[axis];
        }
    }
};

inline int first_axis(int plane) { return plane == 1; }
inline int second_axis(int plane) { return plane == 0 ? 1 : 2; }

// One entry of the features: plane by plane, coarse level first.
inline float feature(const Grid &grid, const float *table, const float *point, int index) {
    const int plane = index / LEVELS, level = index % LEVELS, a = first_axis(plane), b = second_axis(plane);
    const float scale = grid.scales[level], bound = grid.bound;
    const float u = (point[a] + bound) / (2 * bound), v = (point[b] + bound) / (2 * bound);
    if (!(u >= 0.f && u <= 1.f && v >= 0.f && v <= 1.f)) return 0.f;
    const float x = u * scale + 0.5f, y = v * scale + 0.5f;
    const int stride = grid.strides[level];
    const float *corner = table + (long long)plane * grid.entries + grid.offsets[level] + int(x) + int(y) * stride;
    const float fx = x - int(x), fy = y - int(y);
    const float low = corner[0] + fx * (corner[1] - corner[0]);
    const float high = corner[stride] + fx * (corner[stride + 1] - corner[stride]);
    return low + fy * (high - low);
}
