// One step of Adam or AdamW for many tensors at once; the meaning is that of ops/adam.py. Every block takes CHUNK numbers
// of one tensor, so that small tensors do not wait for large ones and large ones get the whole GPU.
//
// PARTS: most tensors of one launch.
constexpr int CHUNK = 1024;

struct Part {  // mirrored by ctypes in adam.py
    float *value, *mean, *square, *steps;  // steps: taken before this one
    const float *grad, *rate;
    float beta1, beta2, eps, decay;
    int count, first_block;
};

struct Parts {
    Part of[PARTS];
};

extern "C" __global__ void update(Parts parts, int used) {
    __shared__ float share1, share2;
    int which = 0;
    while (which + 1 < used && int(blockIdx.x) >= parts.of[which + 1].first_block) ++which;
    const Part &part = parts.of[which];
    if (threadIdx.x == 0) {
        const double steps = double(*part.steps) + 1.0;
        share1 = float(1.0 - pow(double(part.beta1), steps)), share2 = float(1.0 - pow(double(part.beta2), steps));
    }
    __syncthreads();
    const float rate = *part.rate, kept = 1.f - rate * part.decay, size = rate / share1, root = sqrtf(share2);
    const int first = (blockIdx.x - part.first_block) * CHUNK, end = min(first + CHUNK, part.count);
    for (int i = first + threadIdx.x; i < end; i += blockDim.x) {
        const float grad = part.grad[i];
        const float mean = part.mean[i] + (1.f - part.beta1) * (grad - part.mean[i]);
        const float square = part.beta2 * part.square[i] + (1.f - part.beta2) * grad * grad;
        part.mean[i] = mean, part.square[i] = square;
        part.value[i] = kept * part.value[i] - size * mean / (sqrtf(square) / root + part.eps);
    }
}

// Afterwards, because all blocks of a tensor read its number of steps.
extern "C" __global__ void count_step(Parts parts, int used) {
    if (int(threadIdx.x) < used) *parts.of[threadIdx.x].steps += 1.f;
}
