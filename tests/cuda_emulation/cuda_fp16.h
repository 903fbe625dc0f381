// __half, for the emulation.
#pragma once

#include "narrow.h"

struct __half {
  uint16_t bits;
};
struct __half2 {
  __half x, y;
};

inline float __half2float(__half h) { return emulation::from_float16(h.bits); }
inline __half __float2half_rn(float value) { return {emulation::to_float16(value)}; }
inline __half2 __floats2half2_rn(float a, float b) { return {__float2half_rn(a), __float2half_rn(b)}; }
