// Rows of images, and sums of several rows times a tap each: the loops that take the time.
#pragma once

#include <algorithm>
#include <type_traits>

#include "cpu_types.h"

namespace stylegan2 {

// `pieces` of `length` consecutive numbers each; pieces are from_step apart where they are read, to_step where written.
struct Pieces {
  int64_t pieces, length, from_step, to_step;

  Pieces(int64_t pieces, int64_t length, int64_t from_step, int64_t to_step)
      : pieces(pieces), length(length), from_step(from_step), to_step(to_step) {
    const bool whole = pieces == 1 || (from_step == length && to_step == length);
    if (whole) this->length = length * pieces, this->pieces = length > 0 ? 1 : 0;
  }
};

template <int COUNT, bool ADD, class A>
inline void sum_of(const A* from, const int64_t* offsets, const A* taps, A* to, const Pieces& size) {
  A tap[COUNT];
  const A* source[COUNT];
  for (int k = 0; k < COUNT; k++) tap[k] = taps[k], source[k] = from + offsets[k];
  for (int64_t piece = 0; piece < size.pieces; piece++) {
#pragma GCC ivdep
    for (int64_t i = 0; i < size.length; i++) {
      A sum = ADD ? to[i] + tap[0] * source[0][i] : tap[0] * source[0][i];
      for (int k = 1; k < COUNT; k++) sum += tap[k] * source[k][i];
      to[i] = sum;
    }
    for (int k = 0; k < COUNT; k++) source[k] += size.from_step;
    to += size.to_step;
  }
}

template <bool ADD, class A>
inline void sum_of(int64_t count, const A* from, const int64_t* offsets, const A* taps, A* to, const Pieces& size) {
  switch (count) {
    case 1: return sum_of<1, ADD>(from, offsets, taps, to, size);
    case 2: return sum_of<2, ADD>(from, offsets, taps, to, size);
    case 3: return sum_of<3, ADD>(from, offsets, taps, to, size);
    case 4: return sum_of<4, ADD>(from, offsets, taps, to, size);
    case 5: return sum_of<5, ADD>(from, offsets, taps, to, size);
    default: return sum_of<6, ADD>(from, offsets, taps, to, size);
  }
}

// to[i] (+)= sum over k of taps[k] * from[offsets[k] + i].
template <class A>
inline void weighted_sum(int64_t count, const A* from, const int64_t* offsets, const A* taps, A* to, const Pieces& size,
                         bool add) {
  if (count == 0 && !add) {
    for (int64_t i = 0; i < size.pieces; i++) std::fill_n(to + i * size.to_step, size.length, A(0));
  }
  for (int64_t k = 0; k < count; k += 6, add = true) {
    const int64_t some = std::min<int64_t>(count - k, 6);
    if (add) {
      sum_of<true>(some, from, offsets + k, taps + k, to, size);
    } else {
      sum_of<false>(some, from, offsets + k, taps + k, to, size);
    }
  }
}

template <class T>
inline void load_pieces(const T* x, int64_t step, Compute<T>* to, const Pieces& size) {
  for (int64_t piece = 0; piece < size.pieces; piece++, x += size.from_step, to += size.to_step) {
    if (step == 1) {
      load_row(x, to, size.length);
    } else {
      for (int64_t i = 0; i < size.length; i++) to[i] = widen(x[i * step]);
    }
  }
}

template <class T>
inline void store_pieces(const Compute<T>* from, T* y, int64_t step, const Pieces& size) {
  for (int64_t piece = 0; piece < size.pieces; piece++, from += size.from_step, y += size.to_step) {
    if (step == 1) {
      store_row(from, y, size.length);
    } else {
      for (int64_t i = 0; i < size.length; i++) narrow(from[i], y[i * step]);
    }
  }
}

template <class A, class Size>
inline void copy_pixel(const A* from, A* to, Size channels) {
  for (int64_t c = 0; c < channels; c++) to[c] = from[c];
}

// Calls f(size) with the number of channels, for the usual ones as a constant.
template <class F>
inline void with_channels(int64_t channels, F f) {
  switch (channels) {
    case 1: return f(std::integral_constant<int64_t, 1>());
    case 3: return f(std::integral_constant<int64_t, 3>());
    case 4: return f(std::integral_constant<int64_t, 4>());
    default: return f(channels);
  }
}

// to[r * length + i] = from[i * parts + r], for all `count` pixels there are.
template <class A>
inline void split(const A* from, int64_t count, int64_t parts, int64_t length, int64_t channels, A* to) {
  if (parts == 2 && channels == 1) {
    A* odd = to + length;
    const int64_t pairs = count / 2;
#pragma GCC ivdep
    for (int64_t i = 0; i < pairs; i++) to[i] = from[2 * i], odd[i] = from[2 * i + 1];
    if (count % 2) to[pairs] = from[count - 1];
    return;
  }
  with_channels(channels, [=](auto size) {
    for (int64_t i = 0, at = 0; i < count; at++) {
      for (int64_t r = 0; r < parts && i < count; r++, i++) {
        copy_pixel(from + i * size, to + (r * length + at) * size, size);
      }
    }
  });
}

// to[i * parts + r] = from[r * length + i]: split() undone.
template <class A>
inline void interleave(const A* from, int64_t count, int64_t parts, int64_t length, int64_t channels, A* to) {
  if (parts == 2 && channels == 1) {
    const A* odd = from + length;
    const int64_t pairs = count / 2;
#pragma GCC ivdep
    for (int64_t i = 0; i < pairs; i++) to[2 * i] = from[i], to[2 * i + 1] = odd[i];
    if (count % 2) to[count - 1] = from[pairs];
    return;
  }
  with_channels(channels, [=](auto size) {
    for (int64_t i = 0, at = 0; i < count; at++) {
      for (int64_t r = 0; r < parts && i < count; r++, i++) {
        copy_pixel(from + (r * length + at) * size, to + i * size, size);
      }
    }
  });
}

}  // namespace stylegan2
