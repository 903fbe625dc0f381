// Bias, activation, gain and clamp in one pass over memory.

#include <algorithm>

#include "cpu_types.h"

namespace stylegan2 {
namespace {

constexpr int64_t BLOCK = 1024;          // elements that are worked on at a time, in the first-level cache
constexpr int64_t PER_THREAD = 1 << 15;  // fewer elements are not worth a thread
constexpr int64_t LONG_RUN = 64;         // so many equal biases in a row are one number, not a row of numbers

template <class T>
struct Forward {
  using A = Compute<T>;

  const BiasAct& p;
  Curve<A> curve{p.act};
  const T* x = static_cast<const T*>(p.x);
  const T* b = static_cast<const T*>(p.b);
  T* y = static_cast<T*>(p.y);
  int64_t step = b ? p.step : p.count;
  int64_t period = b ? p.step * p.size : p.count;
  bool runs = step >= LONG_RUN || !b;
  bool tiled = !runs && period <= BLOCK;  // every block starts with the first bias: their rows of biases are one
  int64_t block = tiled ? BLOCK / period * period : BLOCK;

  // Each of n elements plus bias(i).
  template <class Bias>
  void apply(int64_t begin, int64_t n, Bias bias) const {
    A from[BLOCK], to[BLOCK];
    const A* t = as_computed(x + begin, from, n);
    A* out = target(y + begin, to);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) out[i] = curve.act(t[i] + bias(i));
    stored(out, y + begin, n);
  }

  void apply_runs(int64_t begin, int64_t end) const {
    for (int64_t n; begin < end; begin += n) {
      n = std::min(step - begin % step, end - begin);
      const A value = b ? widen(b[begin / step % p.size]) : A(-0.0);  // the number that changes no number
      apply(begin, n, [=](int64_t) { return value; });
    }
  }

  void bias_row(int64_t begin, int64_t n, A* row) const {
    int64_t c = begin / step % p.size, used = begin % step;
    for (int64_t i = 0; i < n;) {
      const int64_t run = std::min(step == 1 ? p.size - c : step - used, n - i);
      if (step == 1) {
        load_row(b + c, row + i, run);
      } else {
        std::fill_n(row + i, run, widen(b[c]));
      }
      c = step == 1 || c + 1 == p.size ? 0 : c + 1;
      used = 0;
      i += run;
    }
  }

  void operator()(int64_t begin, int64_t end) const {
    A biases[BLOCK];
    if (tiled) bias_row(0, block, biases);
    for (int64_t i = begin; i < end; i++) {
      const int64_t from = i * block, n = std::min(block, p.count - from);
      if (runs) {
        apply_runs(from, from + n);
        continue;
      }
      if (!tiled) bias_row(from, n, biases);
      const A* row = biases;
      apply(from, n, [=](int64_t j) { return row[j]; });
    }
  }
};

template <class T>
struct Backward {
  using A = Compute<T>;

  const BiasActGrad& p;
  Curve<A> curve{p.act};

  void operator()(int64_t begin, int64_t end) const {
    A dy_row[BLOCK], y_row[BLOCK];
    for (int64_t i = begin * BLOCK; i < std::min(end * BLOCK, p.count); i += BLOCK) {
      const int64_t n = std::min(BLOCK, p.count - i);
      const A* dy = as_computed(static_cast<const T*>(p.dy) + i, dy_row, n);
      const A* y = as_computed(static_cast<const T*>(p.y) + i, y_row, n);
      T* dx = static_cast<T*>(p.dx) + i;
      A* out = target(dx, dy_row);
#pragma GCC ivdep
      for (int64_t j = 0; j < n; j++) out[j] = curve.grad(dy[j], y[j]);
      stored(out, dx, n);
    }
  }
};

}  // namespace

const char* bias_act(const BiasAct& p, const Device& device) {
  if (p.count == 0) return nullptr;
  return with_type(p.type, [&](auto type) -> const char* {
    Forward<decltype(type)> forward{p};
    parallel(device, ceil_div(p.count, forward.block), ceil_div(PER_THREAD, forward.block), forward);
    return nullptr;
  });
}

const char* bias_act_grad(const BiasActGrad& p, const Device& device) {
  return with_type(p.type, [&](auto type) -> const char* {
    Backward<decltype(type)> backward{p};
    parallel(device, ceil_div(p.count, BLOCK), PER_THREAD / BLOCK, backward);
    return nullptr;
  });
}

}  // namespace stylegan2
