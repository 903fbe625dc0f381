// Channels-last images and four taps, a column times a row, up and down by 1 or 2: the filters of the networks.
#pragma once

#include <algorithm>
#include <type_traits>

#include "upfirdn2d_plan.h"
#include "vectors.h"

namespace stylegan2 {

// One thread's work. A vector of channels walks along ROWS rows of the output at once: each pixel of the input is read
// once for all of them, and the sums along columns that the next outputs see again stay in registers.
//
// SHIFT, of up 2: how many pixels later odd outputs begin than even ones, across and down.
template <class T, int UP, int DOWN, int SHIFT = 0>
class ChannelsWorker {
  static constexpr int TAPS = 4 / UP;                             // of an output, along each axis
  static constexpr int WINDOW = UP == 1 ? TAPS : TAPS + SHIFT;   // pixels that UP neighbouring outputs see
  static constexpr int KEPT = WINDOW - DOWN;                      // of which the next outputs see so many again
  static constexpr int ROWS = VECTOR_REGISTERS >= 32 ? (DOWN == 1 ? 4 : 2) : 2;
  static constexpr int INPUT_ROWS = UP == 1 ? (ROWS - 1) * DOWN + TAPS : ROWS / 2 - 1 + TAPS + SHIFT;
  static constexpr int64_t TILE_PIXELS = 512;  // input rows of a tile stay in the outer caches for the next rows
  static constexpr int64_t TILE_CHANNELS = 64;
  static constexpr int64_t BEYOND_CACHES = 1 << 24;  // bytes

 public:
  explicit ChannelsWorker(const Plan<T>& plan) : plan(plan), p(plan.p) {
    for (int q = 0; q < UP; q++) {
      for (int k = 0; k < TAPS; k++) {
        column[q][k] = plan.taps.column[plan.down.phases[q].at + k];
        row[q][k] = plan.taps.row[plan.across.phases[q].at + k];
      }
    }
  }

  static int64_t blocks(const Upfirdn2d& p) { return ceil_div(p.out_h, ROWS); }
  static bool fits(const Axis& across, const Axis& down) {
    return fits(across) && fits(down);
  }

  // Blocks [begin, end) of ROWS rows of the output of one image.
  void image(int64_t i, int64_t begin, int64_t end) {
    for (int64_t c = 0; c < p.c; c += TILE_CHANNELS) {
      for (int64_t g = 0; g * UP < p.out_w; g += TILE_PIXELS) {
        for (int64_t block = begin; block < end; block++) tile(i, block * ROWS, g, c);
      }
    }
    if (past_caches) streamed();
  }

 private:
  static bool fits(const Axis& axis) {
    if (axis.up != UP || axis.down != DOWN || static_cast<int64_t>(axis.phases.size()) != UP) return false;
    for (const Phase& q : axis.phases) {
      if (q.count != TAPS) return false;
    }
    return axis.phases[UP - 1].first - axis.phases[0].first == SHIFT;
  }

  void tile(int64_t i, int64_t first_row, int64_t first_group, int64_t first_channel) {
    top = plan.down.phases[0].first + first_row / UP * DOWN;
    left = plan.across.phases[0].first + first_group * DOWN;
    rows = std::min<int64_t>(ROWS, p.out_h - first_row);
    columns = std::min(TILE_PIXELS * UP, p.out_w - first_group * UP);
    const bool inside = top >= 0 && top + INPUT_ROWS <= p.in_h && rows == ROWS;
    const T* x = plan.image_of_x(i) + top * p.x_stride[2];
    T* y = plan.image_of_y(i) + first_row * p.y_stride[2] + first_group * UP * p.y_stride[3];
    const int64_t end = std::min(first_channel + TILE_CHANNELS, p.c);
    for (int64_t c = first_channel; c < end; c += LANES) {
      const int64_t from = std::min(c, p.c - LANES);  // the last vector may overlap the one before
      inside ? walk<true>(x + from, y + from) : walk<false>(x + from, y + from);
    }
  }

  // INSIDE: all rows that are read and written are there.
  template <bool INSIDE>
  void walk(const T* x, T* y) const {
    Vector window[ROWS][WINDOW];
#pragma GCC unroll 8
    for (int k = 0; k < KEPT; k++) vertical<INSIDE>(x, left + k, window, k);
    int64_t pixel = left + KEPT;
    for (int64_t column = 0; column < columns; column += UP, pixel += DOWN, y += UP * p.y_stride[3]) {
#pragma GCC unroll 8
      for (int d = 0; d < DOWN; d++) vertical<INSIDE>(x, pixel + d, window, KEPT + d);
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; r++) {
#pragma GCC unroll 8
        for (int q = 0; q < UP; q++) {
          const Vector sum = dot(window[r] + q * SHIFT, row[q]);
          if ((INSIDE || r < rows) && (UP == 1 || column + q < columns)) {
            put(sum, y + r * p.y_stride[2] + q * p.y_stride[3]);
          }
        }
#pragma GCC unroll 8
        for (int k = 0; k < KEPT; k++) window[r][k] = window[r][k + DOWN];
      }
    }
  }

  // The sums along the column at `pixel`, for all rows.
  template <bool INSIDE>
  void vertical(const T* x, int64_t pixel, Vector (&window)[ROWS][WINDOW], int k) const {
    Vector in[INPUT_ROWS];
    const bool there = pixel >= 0 && pixel < p.in_w;
    const T* from = x + pixel * p.x_stride[3];
#pragma GCC unroll 16
    for (int m = 0; m < INPUT_ROWS; m++) {
      const bool read = there && (INSIDE || (top + m >= 0 && top + m < p.in_h));
      in[m] = read ? load(from + m * p.x_stride[2]) : Vector{};
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
      window[r][k] = dot(in + (UP == 1 ? r * DOWN : r / 2 + r % 2 * SHIFT), column[r % UP]);
    }
  }

  void put(const Vector& sum, T* to) const {
    if constexpr (std::is_same_v<T, float>) {
      if (past_caches) return stream(sum, to);
    }
    store(sum, to);
  }

  static Vector dot(const Vector* v, const float* taps) {
    Vector sum = v[0] * taps[0];
#pragma GCC unroll 4
    for (int k = 1; k < TAPS; k++) sum += v[k] * taps[k];
    return sum;
  }

  const Plan<T>& plan;
  const Upfirdn2d& p;
  float column[UP][TAPS], row[UP][TAPS];
  const bool past_caches = std::is_same_v<T, float> && p.c % LANES == 0 &&
                           reinterpret_cast<uintptr_t>(p.y) % sizeof(Vector) == 0 &&
                           p.n * p.c * p.out_h * p.out_w * static_cast<int64_t>(sizeof(T)) > BEYOND_CACHES;
  int64_t top = 0, left = 0;      // the first row and pixel that the tile sees
  int64_t rows = 0, columns = 0;  // of its outputs
};

}  // namespace stylegan2
