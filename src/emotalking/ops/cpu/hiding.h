// How strong waves may be in an image, for CPU and GPU.
#pragma once

struct Hiding {  // mirrored by ctypes in ops/waves.py, which says what each value means
    int32_t cell, clip;
    float growth[2], cost[2], distance[2], strongest[2], smooth[2], down[2], across[2];
    float fall, faint, dark, bright, fade, more;
};

constexpr float SMALLEST_COST = 1e-9f;
