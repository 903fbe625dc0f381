// What every row and column of an output image is made of: taps, and the input pixels that they fall on; and in which
// parts an image is worked on.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <type_traits>
#include <vector>

#include "cpu_types.h"

namespace stylegan2 {

inline int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

// Outputs q, q + up, q + 2 * up, ... see the same taps: tap, tap + (the axis' whole up), ..., on consecutive pixels.
struct Phase {
  int64_t first;  // the pixel that the first tap falls on at output q; it moves on by Axis::down for every next output
  int32_t tap, count;
  int64_t at;  // where these taps are in Axis::taps
};

// Sampling along one axis, up and down without what they have in common.
struct Axis {
  int64_t up, down;
  int64_t first = 0;   // the first pixel that outputs [0, up) see
  int64_t extent = 1;  // the number of pixels they see
  int64_t most = 1;    // the most taps of one output
  std::vector<Phase> phases;
  std::vector<int32_t> taps;  // indices into the filter, phase by phase

  Axis(int32_t whole_up, int32_t whole_down, int64_t pad, int32_t size, int64_t outputs) {
    const int32_t common = std::gcd(whole_up, whole_down);
    up = whole_up / common, down = whole_down / common;
    for (int64_t q = 0; q < std::min(up, outputs); q++) {
      const int64_t start = q * whole_down - pad, pixel = -floor_div(-start, whole_up);
      const int32_t tap = static_cast<int32_t>(pixel * whole_up - start);
      const int32_t count = tap < size ? (size - tap + whole_up - 1) / whole_up : 0;
      phases.push_back({pixel, tap, count, static_cast<int64_t>(taps.size())});
      for (int32_t i = 0; i < count; i++) taps.push_back(tap + i * whole_up);
    }
    measure();
  }

  Phase phase_of(int64_t output) const {
    Phase phase = phases[output % up];
    phase.first += output / up * down;
    return phase;
  }

 private:
  void measure() {
    int64_t begin = INT64_MAX, end = INT64_MIN;
    for (const Phase& q : phases) {
      if (q.count == 0) continue;
      begin = std::min(begin, q.first), end = std::max(end, q.first + q.count), most = std::max<int64_t>(most, q.count);
    }
    if (end > begin) first = begin, extent = end - begin;
  }
};

// The filter F in the type of the sums: a column times a row where it is such a product, else row by row.
template <class A>
struct Taps {
  bool product;
  std::vector<A> column;  // in the order of the vertical Axis::taps
  std::vector<A> row;     // in the order of the horizontal Axis::taps; for a whole filter one such row per row of F

  Taps(const Upfirdn2d& p, const Axis& vertical, const Axis& horizontal) {
    const std::vector<double> f = p.f_type == Type::float64 ? scaled<double>(p) : scaled<float>(p);
    std::vector<double> down_taps(p.fh), across(p.fw);
    product = p.separable || factor(f, p, down_taps, across);
    if (p.separable) down_taps = across = f;
    if (!p.flip) std::reverse(down_taps.begin(), down_taps.end()), std::reverse(across.begin(), across.end());
    if (product) {
      for (int32_t k : vertical.taps) column.push_back(static_cast<A>(down_taps[k]));
      for (int32_t k : horizontal.taps) row.push_back(static_cast<A>(across[k]));
      return;
    }
    const int64_t last = static_cast<int64_t>(f.size()) - 1;
    for (int64_t y = 0; y < p.fh; y++) {
      for (int64_t k : horizontal.taps) row.push_back(static_cast<A>(f[p.flip ? y * p.fw + k : last - y * p.fw - k]));
    }
  }

 private:
  template <class F>
  static std::vector<double> scaled(const Upfirdn2d& p) {
    const F* f = static_cast<const F*>(p.f);
    std::vector<double> taps(p.separable ? p.fw : static_cast<int64_t>(p.fh) * p.fw);
    for (size_t i = 0; i < taps.size(); i++) taps[i] = static_cast<F>(f[i] * static_cast<F>(p.gain));
    return taps;
  }

  // Whether f[y, x] = column[y] * row[x] to the precision of the sums. Where its smallest tap divides the others, as in
  // binomial filters, both are exact.
  static bool factor(const std::vector<double>& f, const Upfirdn2d& p, std::vector<double>& column,
                     std::vector<double>& row) {
    const auto size = [](double tap) { return tap == 0 ? std::numeric_limits<double>::infinity() : std::fabs(tap); };
    const auto least = std::min_element(f.begin(), f.end(), [&](double a, double b) { return size(a) < size(b); });
    const auto smaller = [](double a, double b) { return std::fabs(a) < std::fabs(b); };
    const auto most = std::max_element(f.begin(), f.end(), smaller);
    const double tolerance = std::fabs(*most) * (sizeof(A) == sizeof(double) ? 1e-15 : 1e-7);
    return factor_at(least - f.begin(), 0, f, p, column, row) ||
           factor_at(most - f.begin(), tolerance, f, p, column, row);
  }

  static bool factor_at(int64_t pivot, double tolerance, const std::vector<double>& f, const Upfirdn2d& p,
                        std::vector<double>& column, std::vector<double>& row) {
    if (f[pivot] == 0) return false;
    for (int64_t x = 0; x < p.fw; x++) row[x] = f[pivot / p.fw * p.fw + x];
    for (int64_t y = 0; y < p.fh; y++) column[y] = f[y * p.fw + pivot % p.fw] / f[pivot];
    for (size_t i = 0; i < f.size(); i++) {
      if (!(std::fabs(f[i] - column[i / p.fw] * row[i % p.fw]) <= tolerance)) return false;
    }
    return true;
  }
};

constexpr int64_t TILE = 4096;           // numbers worked on at a time: with their inputs, in the nearest caches
constexpr int64_t FEWEST_ROWS = 8;       // of a tile of planes
constexpr int64_t MOST_CHANNELS = 128;   // of a tile, lest it become too narrow
constexpr int64_t FEWEST_CHANNELS = 16;  // shorter loops over channels are slower than taking channel by channel

// How to walk over x and y; the same for all threads.
template <class T>
struct Plan {
  using A = Compute<T>;

  const Upfirdn2d& p;
  Axis across{p.up_x, p.down_x, p.pad_x, p.fw, p.out_w};
  Axis down{p.up_y, p.down_y, p.pad_y, p.fh, p.out_h};
  Taps<A> taps{p, down, across};
  bool last = p.c > 1 && p.x_stride[1] == 1 && p.y_stride[1] == 1;  // channels are consecutive
  bool wide = last && (p.c >= FEWEST_CHANNELS || (across.up == 1 && across.down == 1));  // and are the inner loop
  bool whole = last && !wide && taps.product && p.y_stride[3] == p.c;  // and are to be moved pixel by pixel
  int64_t channels = whole || (wide && p.c <= MOST_CHANNELS) ? p.c : wide ? MOST_CHANNELS / 2 : 1;  // of a tile
  bool planes = !wide && taps.product;                                // many short rows at a time
  int64_t steps = steps_of_tile(planes ? TILE / FEWEST_ROWS : TILE);  // of across.up outputs each
  int64_t pixels = (steps - 1) * across.down + across.extent;         // of a row of inputs for a tile
  int64_t part = wide ? pixels : ceil_div(pixels, across.down);       // pixels of one phase of down
  int64_t row_size = channels * (wide ? pixels : part * across.down);
  bool split_rows = !wide && across.down > 1;
  bool input_in_place = taps.product && std::is_same_v<T, A> && (wide || p.x_stride[3] == channels);
  bool output_in_place = std::is_same_v<T, A> && (wide || (across.up == 1 && p.y_stride[3] == channels));
  std::vector<int64_t> offsets = horizontal_offsets();

  int64_t rows = std::clamp<int64_t>(TILE / std::max(row_size, steps * across.up * channels), 1, p.out_h);  // of a tile

  int64_t images() const { return wide || whole ? p.n : p.n * p.c; }
  int64_t work_per_row() const { return p.out_w * (wide || whole ? p.c : 1); }

  const T* image_of_x(int64_t i) const { return static_cast<const T*>(p.x) + image(i, p.x_stride); }
  T* image_of_y(int64_t i) const { return static_cast<T*>(p.y) + image(i, p.y_stride); }

 private:
  int64_t image(int64_t i, const int64_t* stride) const {
    return wide || whole ? i * stride[0] : i / p.c * stride[0] + i % p.c * stride[1];
  }

  int64_t steps_of_tile(int64_t size) const {
    const int64_t most = std::max<int64_t>(size / (channels * std::max(across.up, across.down)), 8);
    return std::min(most, ceil_div(p.out_w, across.up));
  }

  // Where each of across.taps finds its first number in a row of inputs.
  std::vector<int64_t> horizontal_offsets() const {
    std::vector<int64_t> result;
    for (const Phase& q : across.phases) {
      for (int64_t m = 0; m < q.count; m++) {
        const int64_t pixel = q.first - across.first + m;
        result.push_back(channels * (wide ? pixel : pixel % across.down * part + pixel / across.down));
      }
    }
    return result;
  }
};

}  // namespace stylegan2
