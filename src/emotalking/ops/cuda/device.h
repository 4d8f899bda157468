// What the standard headers would say: the GPU's run-time compiler has none.
#pragma once
#ifdef __CUDACC_RTC__
typedef int int32_t;
namespace std {
inline float min(float a, float b) { return a < b ? a : b; }
inline float max(float a, float b) { return a > b ? a : b; }
inline float sqrt(float v) { return ::sqrtf(v); }
inline float log(float v) { return ::logf(v); }
inline float ceil(float v) { return ::ceilf(v); }
}  // namespace std
#endif
