// The element types of CPU kernels: rows of them to and from the type that sums are taken in.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#ifdef __F16C__
#include <immintrin.h>
#endif

#include "kernels.h"

namespace stylegan2 {

struct Half {
  uint16_t bits;
};

struct BFloat {
  uint16_t bits;
};

// clang-format off
template <class T> struct ComputeOf { using type = float; };
template <> struct ComputeOf<double> { using type = double; };
// clang-format on

template <class T>
using Compute = typename ComputeOf<T>::type;

template <class To, class From>
inline To bit_cast(const From& value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  std::memcpy(&result, &value, sizeof result);
  return result;
}

inline float widen(float v) { return v; }
inline double widen(double v) { return v; }
inline float widen(BFloat v) { return bit_cast<float>(static_cast<uint32_t>(v.bits) << 16); }

inline float widen(Half v) {
  const uint32_t sign = static_cast<uint32_t>(v.bits & 0x8000) << 16, size = v.bits & 0x7fff;
  const uint32_t bias = (127 - 15) << 23;
  const uint32_t normal = (size << 13) + (size >= 0x7c00 ? 2 * bias : bias);  // inf and nan have their own exponent
  const uint32_t subnormal = bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(size)) * 0x1p-24f);
  return bit_cast<float>(sign | (size < 0x0400 ? subnormal : normal));
}

inline void narrow(float v, float& to) { to = v; }
inline void narrow(double v, double& to) { to = v; }

// To the nearest, ties to even; a nan stays one.
inline void narrow(float v, BFloat& to) {
  const uint32_t u = bit_cast<uint32_t>(v);
  const uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  to.bits = static_cast<uint16_t>((u & 0x7fffffff) > 0x7f800000 ? (u >> 16) | 0x40 : rounded);
}

inline void narrow(float v, Half& to) {
  const uint32_t u = bit_cast<uint32_t>(v), size = u & 0x7fffffff, rebiased = size - ((127 - 15) << 23);
  const uint32_t normal = (rebiased + 0xfff + ((rebiased >> 13) & 1)) >> 13;
  // One unit of float16's subnormals is the last bit of a float in [0.5, 1): the sum rounds there.
  const uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(size) + 0.5f) - 0x3f000000;
  uint32_t h = size < 0x38800000 ? subnormal : normal;
  h = size >= 0x47800000 ? 0x7c00 : h;
  h = size > 0x7f800000 ? 0x7e00 : h;
  to.bits = static_cast<uint16_t>(h | ((u >> 16) & 0x8000));
}

template <class T>
inline void load_row(const T* x, Compute<T>* to, int64_t count) {
  for (int64_t i = 0; i < count; i++) to[i] = widen(x[i]);
}

template <class T>
inline void store_row(const Compute<T>* row, T* to, int64_t count) {
  for (int64_t i = 0; i < count; i++) narrow(row[i], to[i]);
}

#ifdef __F16C__
namespace f16c {
constexpr int64_t LANES = 8;
inline void load(const void* x, float* to) {
  _mm256_storeu_ps(to, _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(x))));
}
inline void store(const float* x, void* to) {
  _mm_storeu_si128(static_cast<__m128i*>(to), _mm256_cvtps_ph(_mm256_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT));
}
}  // namespace f16c

template <>
inline void load_row<Half>(const Half* x, float* to, int64_t count) {
  int64_t i = 0;
  for (; i + f16c::LANES <= count; i += f16c::LANES) f16c::load(x + i, to + i);
  if (i == count) return;
  Half tail[f16c::LANES] = {};
  float wide[f16c::LANES];
  std::memcpy(tail, x + i, (count - i) * sizeof(Half));
  f16c::load(tail, wide);
  std::memcpy(to + i, wide, (count - i) * sizeof(float));
}

template <>
inline void store_row<Half>(const float* row, Half* to, int64_t count) {
  int64_t i = 0;
  for (; i + f16c::LANES <= count; i += f16c::LANES) f16c::store(row + i, to + i);
  if (i == count) return;
  float tail[f16c::LANES] = {};
  Half narrow[f16c::LANES];
  std::memcpy(tail, row + i, (count - i) * sizeof(float));
  f16c::store(tail, narrow);
  std::memcpy(to + i, narrow, (count - i) * sizeof(Half));
}
#endif

// The row itself where it already is of the type to compute in, else its values in `buffer`.
inline const float* as_computed(const float* x, float*, int64_t) { return x; }
inline const double* as_computed(const double* x, double*, int64_t) { return x; }

template <class T>
inline const float* as_computed(const T* x, float* buffer, int64_t count) {
  load_row(x, buffer, count);
  return buffer;
}

// Where to put a row of results, before stored() moves it to where it belongs.
inline float* target(float* y, float*) { return y; }
inline double* target(double* y, double*) { return y; }

template <class T>
inline float* target(T*, float* buffer) {
  return buffer;
}

inline void stored(const float*, float*, int64_t) {}
inline void stored(const double*, double*, int64_t) {}

template <class T>
inline void stored(const float* row, T* y, int64_t count) {
  store_row(row, y, count);
}

// f(T()) for the element type of that name.
template <class F>
inline const char* with_type(Type type, F f) {
  switch (type) {
    case Type::float32: return f(float());
    case Type::float64: return f(double());
    case Type::float16: return f(Half());
    case Type::bfloat16: return f(BFloat());
  }
  return "unknown element type";
}

template <class F>
inline void parallel(const Device& device, int64_t count, int64_t grain, F& f) {
  if (count <= 0) return;
  device.parallel_for(
      count, grain, [](int64_t begin, int64_t end, void* context) { (*static_cast<F*>(context))(begin, end); }, &f);
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Activation in the type of the sums. Without a clamp no number is beyond the limits of act() and grad().
template <class A>
struct Curve {
  A positive, negative, clip, held;

  explicit Curve(const Activation& a)
      : positive(static_cast<A>(a.gain)),
        negative(static_cast<A>(a.gain * a.alpha)),
        clip(a.clamp < 0 ? std::numeric_limits<A>::infinity() : static_cast<A>(a.clamp)),
        held(a.clamp < 0 ? std::numeric_limits<A>::quiet_NaN() : static_cast<A>(a.clamp)) {}

  A act(A t) const {
    A y = t * (t > 0 ? positive : negative);
    y = y > clip ? clip : y;
    return y < -clip ? -clip : y;
  }

  A grad(A dy, A y) const {
    const A dx = dy * (y > 0 ? positive : negative);
    return std::fabs(y) >= held ? A(0) : dx;
  }
};

}  // namespace stylegan2
