// The part of a matrix product that is kept in registers, and reading and writing of vectors.
#pragma once

#include <algorithm>

#include "vectors.h"

namespace stylegan2 {

// The block of a matrix product that is kept in registers: ROWS x (COLS vectors).
template <int ROWS_, int COLS_>
struct Shape {
  static constexpr int ROWS = ROWS_, COLS = COLS_;
  static constexpr int64_t WIDTH = COLS * LANES;
};

// f(shape) for matrices of `columns` columns, which are a multiple of LANES.
template <class F>
inline auto with_shape(int64_t columns, F f) {
  constexpr int WIDE = VECTOR_REGISTERS / 8;  // 4 or 2 vectors: as many columns as leave enough rows
  if (columns % (WIDE * LANES) == 0) return f(Shape<6, WIDE>());
  if (columns % (WIDE / 2 * LANES) == 0) return f(Shape<12, WIDE / 2>());
  return f(Shape<VECTOR_REGISTERS / 2, 1>());
}

inline Vector at(const float* p) {
  Vector v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline void put(const Vector& v, float* p) { std::memcpy(p, &v, sizeof v); }

// The first `count` numbers of a vector, which may be all and more.
inline Vector at(const float* p, int64_t count) {
  if (count >= LANES) return at(p);
  Vector v{};
  std::memcpy(&v, p, count * sizeof(float));
  return v;
}

inline void put(const Vector& v, float* p, int64_t count) {
  std::memcpy(p, &v, std::min(count, LANES) * sizeof(float));
}

// COUNT vectors from or to places that are `step` apart.
template <int COUNT>
inline void gather(const float* from, int64_t step, Vector* to) {
#pragma GCC unroll 32
  for (int i = 0; i < COUNT; i++) to[i] = at(from + i * step);
}

template <int COUNT>
inline void scatter(const Vector* from, float* to, int64_t step) {
#pragma GCC unroll 32
  for (int i = 0; i < COUNT; i++) put(from[i], to + i * step);
}

// c[ROWS, WIDTH] = (add ? c : 0) + sum over k of a[k * a_step + row * a_row] * b[k, :], b's rows being WIDTH numbers.
template <class S>
inline void block_product(const float* a, int64_t a_row, int64_t a_step, const float* b, int64_t depth, float* c,
                          int64_t c_row, bool add) {
  Vector sums[S::ROWS][S::COLS] = {};
  for (int64_t k = 0; k < depth; k++, a += a_step, b += S::WIDTH) {
    Vector right[S::COLS];
#pragma GCC unroll 8
    for (int j = 0; j < S::COLS; j++) right[j] = at(b + j * LANES);
#pragma GCC unroll 32
    for (int i = 0; i < S::ROWS; i++) {
      const Vector left = a[i * a_row] - Vector{};  // in every lane
#pragma GCC unroll 8
      for (int j = 0; j < S::COLS; j++) sums[i][j] += left * right[j];
    }
  }
#pragma GCC unroll 32
  for (int i = 0; i < S::ROWS; i++) {
#pragma GCC unroll 8
    for (int j = 0; j < S::COLS; j++) {
      float* to = c + i * c_row + j * LANES;
      put(add ? at(to) + sums[i][j] : sums[i][j], to);
    }
  }
}

}  // namespace stylegan2
