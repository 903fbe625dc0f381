// 3x3 convolutions of channels-last images with fewer products (Winograd 1980; Lavin and Gray 2015, arXiv 1509.09308).
// For each 2x2 outputs, 36 products are written down; F(2x2, 3x3) takes 16. Of stride 2, pixels of even and of odd
// places are convolved with two taps and with one: F(2, 2) takes 3 products instead of 4 there, 25 in all; and so it is
// for the 4x4 outputs of its transpose. Tiles of outputs, in blocks that stay in the caches, go through three stages:
// transform, a matrix product over the channels for each of these points, transform back.

#include <algorithm>
#include <new>

#include "winograd_tiles.h"

namespace stylegan2 {
namespace {

constexpr int64_t NEAR = 640 << 10;              // bytes of transformed numbers that a core has next to itself,
constexpr int64_t SHARED = 4 << 20;              // and that all cores share
constexpr int64_t PER_THREAD = 1 << 15;          // numbers transformed, and so many products, are worth a thread
constexpr int64_t PRODUCTS_PER_THREAD = 1 << 20;
constexpr int64_t SPARE = 16;                    // rows of a last block that is not whole
constexpr int64_t FEWEST = 48;                   // tiles at a time, fewer of which would wait for the weights
constexpr int64_t MOST_GROUPS = 16;              // of tiles whose gradients are added up at the end

// Where the numbers of the next point begin, `count` being those of one: apart in the sets of every cache, as the same
// place in all points is read and written together.
constexpr int64_t plane(int64_t count) { return ceil_div(count, 1024) * 1024 + 80; }

// How the work is shared: by cores that each take tiles of their own, where these and what becomes of them stay near,
// else by all cores together for a block of tiles.
template <class A>
struct Plan {
  int64_t in, out, tiles, many;  // channels filled up; tiles in all and at a time
  bool apart;

  explicit Plan(const WinogradSizes& p)
      : in(filled(p.in)), out(filled(p.out)), tiles(Tiles{p.n, p.out_h, p.out_w, A::OUT}.count()) {
    const int64_t bytes = points<A>() * (in + out) * static_cast<int64_t>(sizeof(float));  // of a tile
    apart = NEAR / bytes >= FEWEST;
    const int64_t fitting = std::max<int64_t>((apart ? NEAR : SHARED) / bytes / FEWEST, apart ? 1 : 2) * FEWEST;
    many = std::max<int64_t>(std::min(tiles, fitting), 1);
  }
  // Groups of tiles, whole blocks of them, and how many tiles a group has.
  int64_t group() const { return std::max<int64_t>(ceil_div(ceil_div(tiles, many), MOST_GROUPS), 1) * many; }
  int64_t groups() const { return apart ? ceil_div(tiles, group()) : 1; }
  int64_t products(int64_t count) const { return points<A>() * count * in * out; }  // of so many tiles

  int64_t weights_step() const { return plane(in * out); }
  int64_t input_step() const { return plane((many + SPARE) * in); }
  int64_t output_step() const { return plane((many + SPARE) * out); }
  int64_t weights() const { return WEIGHTS * weights_step(); }
  int64_t numbers() const { return points<A>() * (input_step() + output_step()); }
};

// Memory of one thread, aligned to lines of the cache.
struct Buffer {
  static constexpr std::align_val_t LINE{64};
  float* data;

  explicit Buffer(int64_t count) : data(static_cast<float*>(::operator new(count * sizeof(float), LINE))) {}
  ~Buffer() { ::operator delete(data, LINE); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
};

// Who does a stage of the work: f over [0, count), of which so much is worth a thread.
struct Together {
  const Device& device;
  template <class F>
  void operator()(int64_t count, int64_t work, int64_t least, F f) const {
    parallel(device, count, std::max<int64_t>(1, ceil_div(least, std::max<int64_t>(work, 1))), f);
  }
};

struct Alone {
  template <class F>
  void operator()(int64_t count, int64_t, int64_t, F f) const {
    f(int64_t{0}, count);
  }
};

// Tiles [from, to): u are the transformed weights, v room for plan.numbers().
template <class A, class S, class Run>
void forward_tiles(const Winograd& p, const Plan<A>& plan, const float* u, float* v, int64_t from, int64_t to,
                   Run run) {
  const Tiles tiles{p.n, p.out_h, p.out_w, A::OUT};
  const Images x{p.x, p.in_h, p.in_w, p.in};
  const int64_t in = plan.in, out = plan.out, panels = out / S::WIDTH;
  const int64_t u_step = plan.weights_step(), v_step = plan.input_step(), m_step = plan.output_step();
  float* m = v + points<A>() * v_step;
  for (int64_t i = 0; i < points<A>(); i++) std::fill_n(v + i * v_step + plan.many * in, SPARE * in, 0.0f);
  for (int64_t first = from; first < to; first += plan.many) {
    const int64_t now = std::min(plan.many, to - first);
    run(now, points<A>() * in, PER_THREAD, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) transform_input<A>(x, tiles, first + i, v + i * in, v_step);
    });
    run(points<A>() * panels, now * in * S::WIDTH, PRODUCTS_PER_THREAD, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        const int64_t point = i / panels, panel = i % panels;
        const float* right = u + weight_of<A>(point) * u_step + panel * in * S::WIDTH;
        for (int64_t row = 0; row < now; row += S::ROWS) {
          block_product<S>(v + point * v_step + row * in, in, 1, right, in,
                           m + point * m_step + row * out + panel * S::WIDTH, out, false);
        }
      }
    });
    run(now, points<A>() * out, PER_THREAD, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        transform_output<A>(m + i * out, m_step, tiles, p.out, first + i, p.y);
      }
    });
  }
}

template <class A, class S>
void forward(const Winograd& p, const Device& device) {
  const Plan<A> plan(p);
  const Together together{device};
  float *u = p.workspace, *v = u + plan.weights();
  const WeightTransform<A, S> weights{p, u, plan.weights_step()};
  together(weights.count(), weights.MANY * S::WIDTH * WEIGHTS, PER_THREAD, weights);
  if (!plan.apart) return forward_tiles<A, S>(p, plan, u, v, 0, plan.tiles, together);
  together(ceil_div(plan.tiles, plan.many), plan.products(plan.many), PRODUCTS_PER_THREAD,
           [&](int64_t begin, int64_t end) {
             Buffer near(plan.numbers());
             forward_tiles<A, S>(p, plan, u, near.data, begin * plan.many, std::min(end * plan.many, plan.tiles),
                                 Alone());
           });
}

// The gradient of the transformed weights u [weight][input][output] from tiles [from, to).
template <class A, class S, class Run>
void gradient_tiles(const WinogradWeightGrad& p, const Plan<A>& plan, float* u, float* v, int64_t from, int64_t to,
                    Run run) {
  const Tiles tiles{p.n, p.out_h, p.out_w, A::OUT};
  const Images x{p.x, p.in_h, p.in_w, p.in}, dy{p.dy, p.out_h, p.out_w, p.out};
  const int64_t in = plan.in, out = plan.out, many = plan.many, panels = out / S::WIDTH;
  const int64_t u_step = plan.weights_step(), v_step = plan.input_step(), d_step = plan.output_step();
  const int64_t whole = in / S::ROWS * S::ROWS;
  float* d = v + points<A>() * v_step;
  for (int64_t first = from; first < to; first += many) {
    const int64_t now = std::min(many, to - first);
    run(now, points<A>() * (in + out), PER_THREAD, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        transform_input<A>(x, tiles, first + i, v + i * in, v_step);
        transform_gradient<A, S>(dy, tiles, first + i, d, d_step, i, many);
      }
    });
    run(WEIGHTS * panels, now * in * S::WIDTH, PRODUCTS_PER_THREAD, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        const int64_t weight = i / panels, panel = i % panels;
        float* sums = u + weight * u_step + panel * S::WIDTH;
        bool add = first > from;
        for (int64_t point = 0; point < points<A>(); point++) {
          if (weight_of<A>(point) != weight) continue;
          const float *left = v + point * v_step, *right = d + point * d_step + panel * many * S::WIDTH;
          for (int64_t row = 0; row < whole; row += S::ROWS) {
            block_product<S>(left + row, 1, in, right, now, sums + row * out, out, add);
          }
          for (int64_t row = whole; row < in; row++) {
            block_product<Shape<1, S::COLS>>(left + row, 1, in, right, now, sums + row * out, out, add);
          }
          add = true;
        }
      }
    });
  }
}

template <class A, class S>
void weight_gradient(const WinogradWeightGrad& p, const Device& device) {
  const Plan<A> plan(p);
  const Together together{device};
  const int64_t groups = plan.groups(), step = plan.weights();
  float* u = p.workspace;
  if (plan.apart) {
    together(groups, plan.products(plan.group()), PRODUCTS_PER_THREAD, [&](int64_t begin, int64_t end) {
      Buffer near(plan.numbers());
      for (int64_t i = begin; i < end; i++) {
        gradient_tiles<A, S>(p, plan, u + i * step, near.data, i * plan.group(),
                             std::min((i + 1) * plan.group(), plan.tiles), Alone());
      }
    });
    together(step / LANES, groups * LANES, PER_THREAD, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * LANES; i < end * LANES; i += LANES) {
        Vector sum = at(u + i);
        for (int64_t k = 1; k < groups; k++) sum += at(u + i + k * step);
        put(sum, u + i);
      }
    });
  } else {
    gradient_tiles<A, S>(p, plan, u, u + step, 0, plan.tiles, together);
  }
  together(p.in, plan.out * WEIGHTS, PER_THREAD, WeightGradient<A>{p, u, plan.weights_step()});
}

}  // namespace

namespace {

template <class A>
int64_t workspace(const WinogradSizes& p) {
  const Plan<A> plan(p);
  return (plan.apart ? plan.groups() * plan.weights() : plan.weights() + plan.numbers()) *
         static_cast<int64_t>(sizeof(float));
}

}  // namespace

int64_t winograd_workspace(const WinogradSizes& p, bool transpose) {
  return p.stride == 1 ? workspace<Stride1>(p) : transpose ? workspace<Stride2Transposed>(p) : workspace<Stride2>(p);
}

const char* winograd(const Winograd& p, const Device& device) {
  if (p.n * p.out_h * p.out_w == 0) return nullptr;
  if (p.stride != 1 && p.stride != 2) return "strides are 1 or 2";
  with_shape(filled(p.out), [&](auto shape) {
    using S = decltype(shape);
    if (p.stride == 1) {
      forward<Stride1, S>(p, device);
    } else if (p.transpose) {
      forward<Stride2Transposed, S>(p, device);
    } else {
      forward<Stride2, S>(p, device);
    }
  });
  return nullptr;
}

const char* winograd_weight_grad(const WinogradWeightGrad& p, const Device& device) {
  if (p.stride != 1 && p.stride != 2) return "strides are 1 or 2";
  if (p.n * p.out_h * p.out_w == 0) {
    std::fill_n(p.dw, 9 * p.in * p.out, 0.0f);
    return nullptr;
  }
  with_shape(filled(p.out), [&](auto shape) {
    using S = decltype(shape);
    p.stride == 1 ? weight_gradient<Stride1, S>(p, device) : weight_gradient<Stride2, S>(p, device);
  });
  return nullptr;
}

}  // namespace stylegan2
