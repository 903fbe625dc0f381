// Vectors of floats as wide as the processor's registers, in the compilers' own notation.
#pragma once

#ifdef __AVX__
#include <immintrin.h>
#endif

#include "cpu_types.h"

namespace stylegan2 {

#if defined(__AVX512F__)
constexpr int64_t LANES = 16, VECTOR_REGISTERS = 32;
#elif defined(__AVX__)
constexpr int64_t LANES = 8, VECTOR_REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int64_t LANES = 4, VECTOR_REGISTERS = 32;
#else
constexpr int64_t LANES = 4, VECTOR_REGISTERS = 16;
#endif

typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));

template <class T>
inline Vector load(const T* x) {
  float wide[LANES];
  load_row(x, wide, LANES);
  return bit_cast<Vector>(wide);
}

template <class T>
inline void store(const Vector& v, T* to) {
  float wide[LANES];
  std::memcpy(wide, &v, sizeof v);
  store_row(wide, to, LANES);
}

// Past the caches, for what is too large to be found there again: nothing is read to be overwritten. `to` is aligned to
// a vector; streamed() comes before other threads read.
inline void stream(const Vector& v, float* to) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, reinterpret_cast<const __m512&>(v));
#elif defined(__AVX__)
  _mm256_stream_ps(to, reinterpret_cast<const __m256&>(v));
#else
  store(v, to);
#endif
}

inline void streamed() {
#ifdef __AVX__
  _mm_sfence();
#endif
}

}  // namespace stylegan2
