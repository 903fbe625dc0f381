// Convolutions of one axis with fewer products than are written down (Winograd 1980; Lavin and Gray 2015).
#pragma once

#include "vectors.h"

namespace stylegan2 {

constexpr int WEIGHTS = 16;  // numbers that a 3x3 kernel becomes

// One axis of the algorithm: SIDE pixels, which begin BEFORE the tile's place and are STEP further for the next tile, ->
// POINTS numbers, times those of the weights -> OUT outputs. The functions with _t are the transposes. k and l are the
// distances of neighbours in the arrays.
struct Stride1 {
  static constexpr int SIDE = 4, POINTS = 4, OUT = 2, STEP = 2, BEFORE = 1;
  static constexpr int WEIGHT_OF[POINTS] = {0, 1, 2, 3};

  static void input(const Vector* d, int k, Vector* v, int l) {
    v[0] = d[0] - d[2 * k];
    v[l] = d[k] + d[2 * k];
    v[2 * l] = d[2 * k] - d[k];
    v[3 * l] = d[k] - d[3 * k];
  }
  static void output(const Vector* m, int k, Vector* y, int l) {
    y[0] = m[0] + m[k] + m[2 * k];
    y[l] = m[k] - m[2 * k] - m[3 * k];
  }
  static void output_t(const Vector* y, int k, Vector* m, int l) {
    m[0] = y[0];
    m[l] = y[0] + y[k];
    m[2 * l] = y[0] - y[k];
    m[3 * l] = -y[k];
  }
  static void weights(const Vector* g, int k, Vector* u, int l) {
    u[0] = g[0];
    u[l] = (g[0] + g[k] + g[2 * k]) * 0.5f;
    u[2 * l] = (g[0] - g[k] + g[2 * k]) * 0.5f;
    u[3 * l] = g[2 * k];
  }
  static void weights_t(const Vector* u, int k, Vector* g, int l) {
    g[0] = u[0] + (u[k] + u[2 * k]) * 0.5f;
    g[l] = (u[k] - u[2 * k]) * 0.5f;
    g[2 * l] = (u[k] + u[2 * k]) * 0.5f + u[3 * k];
  }
};

struct Stride2 {
  static constexpr int SIDE = 5, POINTS = 5, OUT = 2, STEP = 4, BEFORE = 0;
  static constexpr int WEIGHT_OF[POINTS] = {0, 1, 2, 3, 3};

  static void input(const Vector* d, int k, Vector* v, int l) {
    v[0] = d[0] - d[2 * k];
    v[l] = d[2 * k];
    v[2 * l] = d[2 * k] - d[4 * k];
    v[3 * l] = d[k];
    v[4 * l] = d[3 * k];
  }
  static void output(const Vector* m, int k, Vector* y, int l) {
    y[0] = m[0] + m[k] + m[3 * k];
    y[l] = m[k] - m[2 * k] + m[4 * k];
  }
  static void output_t(const Vector* y, int k, Vector* m, int l) {
    m[0] = m[3 * l] = y[0];
    m[l] = y[0] + y[k];
    m[2 * l] = -y[k];
    m[4 * l] = y[k];
  }
  static void weights(const Vector* g, int k, Vector* u, int l) {
    u[0] = g[0];
    u[l] = g[0] + g[2 * k];
    u[2 * l] = g[2 * k];
    u[3 * l] = g[k];
  }
  static void weights_t(const Vector* u, int k, Vector* g, int l) {
    g[0] = u[0] + u[k];
    g[l] = u[3 * k];
    g[2 * l] = u[k] + u[2 * k];
  }
};

// The transpose of Stride2, from n pixels to 2n + 1.
struct Stride2Transposed {
  static constexpr int SIDE = 3, POINTS = 5, OUT = 4, STEP = 2, BEFORE = 1;
  static constexpr int WEIGHT_OF[POINTS] = {0, 1, 2, 3, 3};

  static void input(const Vector* d, int k, Vector* v, int l) {
    v[0] = d[0] - d[k];
    v[l] = v[3 * l] = d[k];
    v[2 * l] = d[k] - d[2 * k];
    v[4 * l] = d[2 * k];
  }
  static void output(const Vector* m, int k, Vector* y, int l) {
    y[0] = m[0] + m[k];
    y[l] = m[3 * k];
    y[2 * l] = m[k] - m[2 * k];
    y[3 * l] = m[4 * k];
  }
  static void weights(const Vector* g, int k, Vector* u, int l) {
    u[0] = g[2 * k];
    u[l] = g[0] + g[2 * k];
    u[2 * l] = g[0];
    u[3 * l] = g[k];
  }
};

template <class A>
constexpr int points() {
  return A::POINTS * A::POINTS;
}

template <class A>
constexpr int weight_of(int point) {
  return A::WEIGHT_OF[point / A::POINTS] * 4 + A::WEIGHT_OF[point % A::POINTS];
}

// Both axes: from [ROWS][ROWS] to [TO][TO], by f along the columns and then along the rows.
template <int FROM, int TO, class F>
inline void both_axes(const Vector* from, Vector* to, F f) {
  Vector half[TO * FROM];
#pragma GCC unroll 8
  for (int i = 0; i < FROM; i++) f(from + i, FROM, half + i, FROM);
#pragma GCC unroll 8
  for (int i = 0; i < TO; i++) f(half + i * FROM, 1, to + i * TO, 1);
}

}  // namespace stylegan2
