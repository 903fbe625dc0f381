// 3x3 convolutions of channels-last images with fewer products (Winograd 1980; Lavin and Gray 2015, arXiv 1509.09308).
// For each 2x2 outputs, 36 products are written down; F(2x2, 3x3) takes 16. Of stride 2, pixels of even and of odd
// places are convolved with two taps and with one: F(2, 2) takes 3 products instead of 4 there, 25 in all.
// Tiles of 2x2 outputs, in blocks that stay in the caches, go through three stages: transform, a matrix product over the
// channels for each of these points, transform back.

#include <algorithm>

#include "vectors.h"

namespace stylegan2 {
namespace {

constexpr int64_t WEIGHTS = 16;                  // numbers that a 3x3 kernel becomes
constexpr int64_t CACHED = 8 << 20;              // bytes of transformed numbers that are worked on at a time
constexpr int64_t PER_THREAD = 1 << 15;          // numbers transformed, and so many products, are worth a thread
constexpr int64_t PRODUCTS_PER_THREAD = 1 << 20;

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

// Channels with those that fill up a vector, which are zeros; a panel of 16 is whole for every vector.
inline int64_t filled(int64_t channels) { return ceil_div(channels, 16) * 16; }

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

// One axis of the algorithm: SIDE pixels of a tile -> POINTS numbers, times those of the weights -> 2 outputs. The
// functions with _t are the transposes. `k` is the distance of neighbours in the arrays.
struct Stride1 {
  static constexpr int SIDE = 4, POINTS = 4, STEP = 1, BEFORE = 1;
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
  static constexpr int SIDE = 5, POINTS = 5, STEP = 2, BEFORE = 0;
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

// Tiles of 2x2 outputs of n images of h x w outputs, numbered image by image, row by row.
struct Tiles {
  int64_t n, h, w;

  int64_t rows() const { return (h + 1) / 2; }
  int64_t columns() const { return (w + 1) / 2; }
  int64_t count() const { return n * rows() * columns(); }

  // f(image, y, x): where the outputs of a tile begin.
  template <class F>
  void place(int64_t tile, F f) const {
    f(tile / (rows() * columns()), tile / columns() % rows() * 2, tile % columns() * 2);
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
  tiles.place(tile, [&](int64_t image, int64_t top, int64_t left) {
    const Patch<A::SIDE> patch(x, image, top * A::STEP - A::BEFORE, left * A::STEP - A::BEFORE);
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
  tiles.place(tile, [&](int64_t image, int64_t top, int64_t left) {
    const Patch<2> patch(dy, image, top, left);
    for (int64_t c = 0; c < filled(dy.channels); c += LANES) {
      float* to = v + (c / S::WIDTH * many + number) * S::WIDTH + c % S::WIDTH;
      Vector d[4], numbers[points<A>()];
      patch.read(c, std::max<int64_t>(dy.channels - c, 0), d);
      both_axes<2, A::POINTS>(d, numbers, A::output_t);
      scatter<points<A>()>(numbers, to, point_step);
    }
  });
}

// m[point * point_step + channel] becomes the 2x2 outputs of a tile.
template <class A>
inline void transform_output(const float* m, int64_t point_step, const Tiles& tiles, int64_t channels, int64_t tile,
                             float* y) {
  tiles.place(tile, [&](int64_t image, int64_t top, int64_t left) {
    float* to = y + ((image * tiles.h + top) * tiles.w + left) * channels;
    const bool right = left + 1 < tiles.w, below = top + 1 < tiles.h;
    for (int64_t c = 0; c < channels; c += LANES) {
      Vector products[points<A>()], outputs[4];
      gather<points<A>()>(m + c, point_step, products);
      both_axes<A::POINTS, 2>(products, outputs, A::output);
      const int64_t count = channels - c;
      put(outputs[0], to + c, count);
      if (right) put(outputs[1], to + channels + c, count);
      if (below) put(outputs[2], to + tiles.w * channels + c, count);
      if (below && right) put(outputs[3], to + (tiles.w + 1) * channels + c, count);
    }
  });
}

// Of all kernels, 16 numbers each: [weight][panel of outputs][input][output within the panel].
template <class A, class S>
struct WeightTransform {
  const Winograd& p;
  float* to;
  int64_t step;  // from one weight to the next

  void operator()(int64_t begin, int64_t end) const {  // over panels x inputs
    const int64_t in = filled(p.in);
    for (int64_t i = begin; i < end; i++) {
      for (int64_t o = 0; o < S::WIDTH; o += LANES) some(i / in * S::WIDTH + o, i % in, to + i * S::WIDTH + o);
    }
  }

  void some(int64_t output, int64_t input, float* u) const {
    float taps[9][LANES] = {};
    const int64_t lanes = input < p.in ? std::min(LANES, p.out - output) : 0;
    const float* w = p.w + output * p.w_stride[0] + input * p.w_stride[1];
    for (int64_t lane = 0; lane < lanes; lane++, w += p.w_stride[0]) {
      for (int64_t k = 0; k < 9; k++) taps[k][lane] = w[k / 3 * p.w_stride[2] + k % 3 * p.w_stride[3]];
    }
    Vector g[9], numbers[WEIGHTS];
    for (int k = 0; k < 9; k++) g[k] = at(taps[k]);
    both_axes<3, 4>(g, numbers, A::weights);
    for (int i = 0; i < WEIGHTS; i++) put(numbers[i], u + i * step);
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
      for (int64_t o = 0; o < p.out; o += LANES) some(from + i * filled(p.out) + o, p.dw + i * p.dw_stride[1], o);
    }
  }

  void some(const float* u, float* dw, int64_t output) const {
    Vector numbers[WEIGHTS], g[9];
    for (int i = 0; i < WEIGHTS; i++) numbers[i] = at(u + i * step);
    both_axes<4, 3>(numbers, g, A::weights_t);
    float taps[9][LANES];
    for (int k = 0; k < 9; k++) put(g[k], taps[k]);
    for (int64_t lane = 0; lane < std::min(LANES, p.out - output); lane++) {
      float* to = dw + (output + lane) * p.dw_stride[0];
      for (int64_t k = 0; k < 9; k++) to[k / 3 * p.dw_stride[2] + k % 3 * p.dw_stride[3]] = taps[k][lane];
    }
  }
};

// How many tiles are worked on at a time.
int64_t tiles_at_once(int64_t in, int64_t out, int64_t tiles) {
  const int64_t fitting = CACHED / (WEIGHTS * (filled(in) + filled(out)) * static_cast<int64_t>(sizeof(float)));
  return std::min(tiles, std::max<int64_t>(fitting / 48 * 48, 96));
}

constexpr int64_t SPARE = 16;  // rows of a last block that is not whole

// Where the numbers of the next point begin, `count` being those of one: apart in the sets of every cache, as the same
// place in all points is read and written together.
constexpr int64_t plane(int64_t count) { return ceil_div(count, 1024) * 1024 + 80; }

template <class F>
void run(const Device& device, int64_t count, int64_t work, int64_t least, F f) {
  parallel(device, count, std::max<int64_t>(1, ceil_div(least, std::max<int64_t>(work, 1))), f);
}

template <class A, class S>
void forward(const Winograd& p, const Device& device) {
  const Tiles tiles{p.n, p.out_h, p.out_w};
  const Images x{p.x, p.in_h, p.in_w, p.in};
  const int64_t in = filled(p.in), out = filled(p.out), panels = out / S::WIDTH;
  const int64_t many = tiles_at_once(p.in, p.out, tiles.count()), rows = many + SPARE;
  const int64_t u_step = plane(in * out), v_step = plane(rows * in), m_step = plane(rows * out);
  float* u = p.workspace;
  float* v = u + WEIGHTS * u_step;
  float* m = v + points<A>() * v_step;
  run(device, panels * in, S::WIDTH * WEIGHTS, PER_THREAD, WeightTransform<A, S>{p, u, u_step});
  for (int64_t i = 0; i < points<A>(); i++) std::fill_n(v + i * v_step + many * in, SPARE * in, 0.0f);  // no tile's
  for (int64_t first = 0; first < tiles.count(); first += many) {
    const int64_t now = std::min(many, tiles.count() - first);
    run(device, now, points<A>() * in, PER_THREAD, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) transform_input<A>(x, tiles, first + i, v + i * in, v_step);
    });
    run(device, points<A>() * panels, now * in * S::WIDTH, PRODUCTS_PER_THREAD, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        const int64_t point = i / panels, panel = i % panels;
        const float* right = u + weight_of<A>(point) * u_step + panel * in * S::WIDTH;
        for (int64_t row = 0; row < now; row += S::ROWS) {
          block_product<S>(v + point * v_step + row * in, in, 1, right, in,
                           m + point * m_step + row * out + panel * S::WIDTH, out, false);
        }
      }
    });
    run(device, now, points<A>() * out, PER_THREAD, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        transform_output<A>(m + i * out, m_step, tiles, p.out, first + i, p.y);
      }
    });
  }
}

template <class A, class S>
void weight_gradient(const WinogradWeightGrad& p, const Device& device) {
  const Tiles tiles{p.n, p.out_h, p.out_w};
  const Images x{p.x, p.in_h, p.in_w, p.in}, dy{p.dy, p.out_h, p.out_w, p.out};
  const int64_t in = filled(p.in), out = filled(p.out), panels = out / S::WIDTH, whole = in / S::ROWS * S::ROWS;
  const int64_t many = tiles_at_once(p.in, p.out, tiles.count());
  const int64_t u_step = plane(in * out), v_step = plane(many * in), d_step = plane(many * out);
  float* u = p.workspace;
  float* v = u + WEIGHTS * u_step;
  float* d = v + points<A>() * v_step;
  for (int64_t first = 0; first < tiles.count(); first += many) {
    const int64_t now = std::min(many, tiles.count() - first);
    run(device, now, points<A>() * (in + out), PER_THREAD, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        transform_input<A>(x, tiles, first + i, v + i * in, v_step);
        transform_gradient<A, S>(dy, tiles, first + i, d, d_step, i, many);
      }
    });
    run(device, WEIGHTS * panels, now * in * S::WIDTH, PRODUCTS_PER_THREAD, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        const int64_t weight = i / panels, panel = i % panels;
        float* to = u + weight * u_step + panel * S::WIDTH;
        bool add = first > 0;
        for (int64_t point = 0; point < points<A>(); point++) {
          if (weight_of<A>(point) != weight) continue;
          const float *left = v + point * v_step, *right = d + point * d_step + panel * many * S::WIDTH;
          for (int64_t row = 0; row < whole; row += S::ROWS) {
            block_product<S>(left + row, 1, in, right, now, to + row * out, out, add);
          }
          for (int64_t row = whole; row < in; row++) {
            block_product<Shape<1, S::COLS>>(left + row, 1, in, right, now, to + row * out, out, add);
          }
          add = true;
        }
      }
    });
  }
  run(device, p.in, out * WEIGHTS, PER_THREAD, WeightGradient<A>{p, u, u_step});
}

// f(axis, shape)
template <class F>
const char* choose(int64_t stride, int64_t out, F f) {
  if (stride != 1 && stride != 2) return "strides are 1 or 2";
  with_shape(filled(out), [&](auto shape) { stride == 1 ? f(Stride1(), shape) : f(Stride2(), shape); });
  return nullptr;
}

}  // namespace

int64_t winograd_workspace(int64_t n, int64_t out_h, int64_t out_w, int64_t in, int64_t out, int64_t stride) {
  const int64_t rows = tiles_at_once(in, out, Tiles{n, out_h, out_w}.count()) + SPARE;
  const int64_t numbers = stride == 1 ? points<Stride1>() : points<Stride2>();
  const int64_t wide_in = filled(in), wide_out = filled(out);
  return (WEIGHTS * plane(wide_in * wide_out) + numbers * (plane(rows * wide_in) + plane(rows * wide_out))) *
         static_cast<int64_t>(sizeof(float));
}

const char* winograd(const Winograd& p, const Device& device) {
  if (p.n * p.out_h * p.out_w == 0) return nullptr;
  return choose(p.stride, p.out, [&](auto axis, auto shape) { forward<decltype(axis), decltype(shape)>(p, device); });
}

const char* winograd_weight_grad(const WinogradWeightGrad& p, const Device& device) {
  if (p.n * p.out_h * p.out_w == 0) {
    std::fill_n(p.dw, 9 * p.in * p.out, 0.0f);
    return nullptr;
  }
  return choose(p.stride, p.out,
                [&](auto axis, auto shape) { weight_gradient<decltype(axis), decltype(shape)>(p, device); });
}

}  // namespace stylegan2
