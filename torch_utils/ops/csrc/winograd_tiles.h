// From images, gradients and kernels to the numbers that are multiplied, and back, tile by tile.
#pragma once

#include <algorithm>

#include "block_product.h"
#include "vector_transpose.h"
#include "winograd_axes.h"

namespace stylegan2 {

// Channels with those that fill up a vector, which are zeros; a panel of 16 is whole for every vector.
inline int64_t filled(int64_t channels) { return ceil_div(channels, 16) * 16; }

// Tiles of side x side outputs of n images of h x w outputs, numbered image by image, row by row.
struct Tiles {
  int64_t n, h, w, side;

  int64_t rows() const { return ceil_div(h, side); }
  int64_t columns() const { return ceil_div(w, side); }
  int64_t count() const { return n * rows() * columns(); }

  // f(image, row, column) of a tile.
  template <class F>
  void place(int64_t tile, F f) const {
    f(tile / (rows() * columns()), tile / columns() % rows(), tile % columns());
  }
};

// Images in memory, [n, h, w, channels].
struct Images {
  const float* data;
  int64_t h, w, channels;

  // nullptr where there is none.
  const float* pixel(int64_t image, int64_t y, int64_t x) const {
    return y >= 0 && y < h && x >= 0 && x < w ? data + ((image * h + y) * w + x) * channels : nullptr;
  }
};

// SIDE x SIDE pixels from (top, left) on, some channels of them, zeros where there are none.
template <int SIDE>
struct Patch {
  const float* pixels[SIDE * SIDE];

  Patch(const Images& x, int64_t image, int64_t top, int64_t left) {
    for (int i = 0; i < SIDE * SIDE; i++) pixels[i] = x.pixel(image, top + i / SIDE, left + i % SIDE);
  }
  void read(int64_t channel, int64_t left, Vector* to) const {
    if (left >= LANES) {
#pragma GCC unroll 32
      for (int i = 0; i < SIDE * SIDE; i++) to[i] = pixels[i] ? at(pixels[i] + channel) : Vector{};
    } else {
      for (int i = 0; i < SIDE * SIDE; i++) to[i] = pixels[i] ? at(pixels[i] + channel, left) : Vector{};
    }
  }
};

// A tile of x becomes v[point * point_step + channel].
template <class A>
inline void transform_input(const Images& x, const Tiles& tiles, int64_t tile, float* v, int64_t point_step) {
  tiles.place(tile, [&](int64_t image, int64_t row, int64_t column) {
    const Patch<A::SIDE> patch(x, image, row * A::STEP - A::BEFORE, column * A::STEP - A::BEFORE);
    for (int64_t c = 0; c < filled(x.channels); c += LANES) {
      Vector d[A::SIDE * A::SIDE], numbers[points<A>()];
      patch.read(c, std::max<int64_t>(x.channels - c, 0), d);
      both_axes<A::SIDE, A::POINTS>(d, numbers, A::input);
      scatter<points<A>()>(numbers, v + c, point_step);
    }
  });
}

// A tile of dy becomes the gradient of its points. S::WIDTH channels at a time are put together for all tiles: at
// v[point * point_step + (channel / WIDTH * many + number) * WIDTH + channel % WIDTH].
template <class A, class S>
inline void transform_gradient(const Images& dy, const Tiles& tiles, int64_t tile, float* v, int64_t point_step,
                               int64_t number, int64_t many) {
  tiles.place(tile, [&](int64_t image, int64_t row, int64_t column) {
    const Patch<2> patch(dy, image, row * 2, column * 2);
    for (int64_t c = 0; c < filled(dy.channels); c += LANES) {
      float* to = v + (c / S::WIDTH * many + number) * S::WIDTH + c % S::WIDTH;
      Vector d[4], numbers[points<A>()];
      patch.read(c, std::max<int64_t>(dy.channels - c, 0), d);
      both_axes<2, A::POINTS>(d, numbers, A::output_t);
      scatter<points<A>()>(numbers, to, point_step);
    }
  });
}

// m[point * point_step + channel] becomes the outputs of a tile.
template <class A>
inline void transform_output(const float* m, int64_t point_step, const Tiles& tiles, int64_t channels, int64_t tile,
                             float* y) {
  tiles.place(tile, [&](int64_t image, int64_t row, int64_t column) {
    const int64_t top = row * A::OUT, left = column * A::OUT;
    const int64_t rows = std::min<int64_t>(A::OUT, tiles.h - top), columns = std::min<int64_t>(A::OUT, tiles.w - left);
    float* to = y + ((image * tiles.h + top) * tiles.w + left) * channels;
    for (int64_t c = 0; c < channels; c += LANES) {
      Vector products[points<A>()], outputs[A::OUT * A::OUT];
      gather<points<A>()>(m + c, point_step, products);
      both_axes<A::POINTS, A::OUT>(products, outputs, A::output);
#pragma GCC unroll 4
      for (int i = 0; i < A::OUT; i++) {
#pragma GCC unroll 4
        for (int j = 0; j < A::OUT; j++) {
          if (i < rows && j < columns) put(outputs[i * A::OUT + j], to + (i * tiles.w + j) * channels + c, channels - c);
        }
      }
    }
  });
}

// Of all kernels, 16 numbers each: [weight][panel of outputs][input][output within the panel].
template <class A, class S>
struct WeightTransform {
  static constexpr int64_t MANY = 16;  // inputs at a time, which are neighbours in memory or whose outputs are

  const Winograd& p;
  float* to;
  int64_t step;  // from one weight to the next

  int64_t count() const { return filled(p.out) / S::WIDTH * filled(p.in) / MANY; }

  void operator()(int64_t begin, int64_t end) const {  // over panels x inputs / MANY
    const int64_t in = filled(p.in);
    for (int64_t i = begin; i < end; i++) {
      for (int64_t o = 0; o < S::WIDTH; o += LANES) {
        some(i / (in / MANY) * S::WIDTH + o, i % (in / MANY) * MANY, to + i * MANY * S::WIDTH + o);
      }
    }
  }

  // LANES outputs of MANY inputs. They are copied together, as far as there are any: far apart they are in each other's
  // way in the caches.
  void some(int64_t output, int64_t input, float* u) const {
    const int64_t outputs = std::min(p.out - output, LANES), inputs = std::min(p.in - input, MANY);
    const float* w = p.w + output * p.w_step_out + input * p.w_step_in;
    const bool rows = p.w_step_in == 9;
    const int64_t out_step = rows ? MANY * 9 : 9, in_step = rows ? 9 : LANES * 9;
    float kernels[MANY * LANES * 9 + LANES];
    if (outputs < LANES || inputs < MANY) std::fill_n(kernels, MANY * LANES * 9, 0.0f);
    if (rows) {
      for (int64_t o = 0; o < outputs; o++) std::copy_n(w + o * p.w_step_out, inputs * 9, kernels + o * out_step);
    } else {
      for (int64_t i = 0; i < inputs; i++) {
        const float* from = w + i * p.w_step_in;
        for (int64_t o = 0; o < outputs; o++) std::copy_n(from + o * p.w_step_out, 9, kernels + i * in_step + o * 9);
      }
    }
    for (int64_t i = 0; i < MANY; i++, u += S::WIDTH) {
      Vector g[9], numbers[WEIGHTS];
      read_columns<9>(kernels + i * in_step, out_step, g);
      if (p.turned) std::reverse(g, g + 9);
      both_axes<3, 4>(g, numbers, A::weights);
      for (int k = 0; k < WEIGHTS; k++) put(numbers[k], u + k * step);
    }
  }
};

// The gradient of kernels from that of their 16 numbers [weight][input][output].
template <class A>
struct WeightGradient {
  const WinogradWeightGrad& p;
  const float* from;
  int64_t step;

  void operator()(int64_t begin, int64_t end) const {  // over inputs
    for (int64_t i = begin; i < end; i++) {
      for (int64_t o = 0; o < p.out; o += LANES) some(from + i * filled(p.out) + o, p.dw + (o * p.in + i) * 9, o);
    }
  }

  void some(const float* u, float* dw, int64_t output) const {
    Vector numbers[WEIGHTS], g[9];
    for (int i = 0; i < WEIGHTS; i++) numbers[i] = at(u + i * step);
    both_axes<4, 3>(numbers, g, A::weights_t);
    float taps[9][LANES];
    for (int k = 0; k < 9; k++) put(g[k], taps[k]);
    for (int64_t lane = 0; lane < std::min(LANES, p.out - output); lane++, dw += p.in * 9) {
      for (int64_t k = 0; k < 9; k++) dw[k] = taps[k][lane];
    }
  }
};

}  // namespace stylegan2
