// Rows in memory as vectors of their columns.
#pragma once

#include <utility>

#include "block_product.h"

namespace stylegan2 {

typedef int32_t Places __attribute__((vector_size(LANES * sizeof(int32_t))));

// Numbers of two vectors; places from LANES on are those of b.
template <int... PLACES>
inline Vector picked(const Vector& a, const Vector& b) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, PLACES...);
#else
  return __builtin_shuffle(a, b, Places{PLACES...});
#endif
}

// Two rows of blocks of STEP numbers: the odd blocks of a change places with the even ones of b.
template <int STEP, int... LANE>
inline void exchange(Vector& a, Vector& b, std::integer_sequence<int, LANE...>) {
  constexpr int WIDTH = LANES;
  const Vector low = picked<((LANE & STEP) ? WIDTH + LANE - STEP : LANE)...>(a, b);
  b = picked<((LANE & STEP) ? WIDTH + LANE : LANE + STEP)...>(a, b);
  a = low;
}

// LANES vectors, transposed in place: blocks of half the size first, then within these.
template <int STEP = LANES / 2>
inline void transpose(Vector* rows) {
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++) {
    if (!(i & STEP)) exchange<STEP>(rows[i], rows[i + STEP], std::make_integer_sequence<int, LANES>());
  }
  if constexpr (STEP > 1) transpose<STEP / 2>(rows);
}

// Rows of COUNT numbers, the first of them in whole vectors, of which there is at least one.
template <int COUNT>
constexpr int in_vectors() {
  return COUNT < LANES ? COUNT : COUNT / LANES * LANES;
}

// LANES rows of COUNT numbers, `step` apart, become COUNT vectors of columns. Reads max(COUNT, LANES) numbers of a row.
template <int COUNT>
inline void read_columns(const float* from, int64_t step, Vector* columns) {
  for (int first = 0; first < in_vectors<COUNT>(); first += LANES) {
    Vector block[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) block[i] = at(from + i * step + first);
    transpose(block);
    std::copy_n(block, std::min<int>(COUNT - first, LANES), columns + first);
  }
  for (int k = in_vectors<COUNT>(); k < COUNT; k++) {
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) columns[k][i] = from[i * step + k];
  }
}

}  // namespace stylegan2
