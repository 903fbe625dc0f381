// __nv_bfloat16, for the emulation.
#pragma once

#include "narrow.h"

struct __nv_bfloat16 {
  uint16_t bits;
};
struct __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

inline float __bfloat162float(__nv_bfloat16 h) { return emulation::from_bfloat16(h.bits); }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return {emulation::to_bfloat16(value)}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) {
  return {__float2bfloat16_rn(a), __float2bfloat16_rn(b)};
}
