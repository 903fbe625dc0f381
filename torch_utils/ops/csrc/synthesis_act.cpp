// What follows a synthesis layer's convolution, in one pass over memory: demodulation, noise, bias and activation.
// Backward, in one pass again, the gradient of x and the sums over pixels for those of scale, strength and bias.
//
// Sums are the same for any number of threads: a chunk of an image's pixels is summed by one thread in one order (in
// the type of the sums over at most BLOCK or ROWS numbers, then in double), and then the chunks, in theirs.

#include <algorithm>

#include "cpu_types.h"

namespace stylegan2 {
namespace {

constexpr int64_t BLOCK = 1024;          // numbers worked on at a time, in the first-level cache
constexpr int64_t PER_THREAD = 1 << 14;  // fewer numbers are not worth a thread
constexpr int64_t CHUNK = 1 << 14;       // NCHW: pixels of one channel that one thread sums
constexpr int64_t CHUNK_ROWS = 512;      // channels-last: pixels, with all their channels, that one thread sums
constexpr int64_t ROWS = 64;             // channels-last: so many of them before a sum moves on to double
constexpr int SUMS = 3;                  // of g * x, of g * noise, of g

// What one thread sums: some pixels of one image, in NCHW of one channel, in channels-last of at most BLOCK channels.
struct Chunk {
  int64_t image, channel, channels, begin, end;
  int64_t index;  // among those of the same image and channels
};

// At most BLOCK consecutive numbers of a chunk: pixels of a channel, or the channels of some pixels.
struct Run {
  int64_t image, channel, channels, pixel, pixels;
  int64_t at;  // of the first number in x
};

// In the following p has n, c, pixels and channels_last.
template <class P>
int64_t chunks_of(const P& p) {
  return ceil_div(p.pixels, p.channels_last ? CHUNK_ROWS : CHUNK);
}

// f(Chunk) for all of x, on all threads.
template <class P, class F>
void for_chunks(const P& p, const Device& device, F f) {
  const int64_t chunks = chunks_of(p), size = p.channels_last ? CHUNK_ROWS : CHUNK;
  const int64_t channels = p.channels_last ? std::min(BLOCK, p.c) : 1, planes = ceil_div(p.c, channels);
  auto body = [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; k++) {
      const int64_t index = k % chunks, plane = k / chunks, channel = plane % planes * channels;
      f(Chunk{plane / planes, channel, std::min(channels, p.c - channel), index * size,
              std::min((index + 1) * size, p.pixels), index});
    }
  };
  const int64_t work = std::max<int64_t>(std::min(size, p.pixels) * channels, 1);
  parallel(device, p.n * planes * chunks, std::max<int64_t>(PER_THREAD / work, 1), body);
}

// f(Run) for pixels [begin, end) of a chunk.
template <class P, class F>
void for_runs(const P& p, const Chunk& chunk, int64_t begin, int64_t end, F f) {
  const int64_t i = chunk.image, most = chunk.channels == p.c || !p.channels_last ? BLOCK / chunk.channels : 1;
  for (int64_t j = begin; j < end; j += most) {
    const int64_t row = p.channels_last ? i * p.pixels + j : i * p.c + chunk.channel;
    const int64_t at = p.channels_last ? row * p.c + chunk.channel : row * p.pixels + j;
    f(Run{i, chunk.channel, chunk.channels, j, std::min(most, end - j), at});
  }
}

template <class A>
const A* noise_of(const A* noise, bool shared, int64_t image, int64_t pixels) {
  return noise ? noise + (shared ? 0 : image * pixels) : nullptr;
}

template <class T>
struct Forward {
  using A = Compute<T>;

  const SynthesisAct& p;
  Curve<A> curve{p.act};
  const A* scale = reinterpret_cast<const A*>(p.scale);
  const A* noise = reinterpret_cast<const A*>(p.noise);
  const A* b = reinterpret_cast<const A*>(p.b);
  A strength = noise ? *reinterpret_cast<const A*>(p.strength) : A(0);

  void operator()(const Run& run) const {
    A x_row[BLOCK], y_row[BLOCK];
    const int64_t count = run.pixels * run.channels;
    T* y = static_cast<T*>(p.y) + run.at;
    const A* x = as_computed(static_cast<const T*>(p.x) + run.at, x_row, count);
    A* out = target(y, y_row);
    if (p.channels_last) {
      pixels(run, x, out);
    } else {
      channel(run, x, out);
    }
    stored(out, y, count);
  }

 private:
  void channel(const Run& run, const A* x, A* out) const {
    const A s = scale ? scale[run.image * p.c + run.channel] : A(1), shift = b ? b[run.channel] : A(0);
    if (const A* z = noise_of(noise, p.noise_shared, run.image, p.pixels)) {
      z += run.pixel;
#pragma GCC ivdep
      for (int64_t j = 0; j < run.pixels; j++) out[j] = curve.act(x[j] * s + (z[j] * strength + shift));
    } else {
#pragma GCC ivdep
      for (int64_t j = 0; j < run.pixels; j++) out[j] = curve.act(x[j] * s + shift);
    }
  }

  void pixels(const Run& run, const A* x, A* out) const {
    A ones[BLOCK], zeros[BLOCK];
    if (!scale) std::fill_n(ones, run.channels, A(1));
    if (!b) std::fill_n(zeros, run.channels, A(0));
    const A* s = scale ? scale + run.image * p.c + run.channel : ones;
    const A* shift = b ? b + run.channel : zeros;
    const A* z = noise_of(noise, p.noise_shared, run.image, p.pixels);
    for (int64_t j = 0; j < run.pixels; j++, x += run.channels, out += run.channels) {
      const A level = z ? z[run.pixel + j] * strength : A(0);
#pragma GCC ivdep
      for (int64_t k = 0; k < run.channels; k++) out[k] = curve.act(x[k] * s[k] + (level + shift[k]));
    }
  }
};

// Sums of a[i] and of a[i] * b[i] over n <= BLOCK numbers: many partial sums, so that each is of few numbers.
template <class A>
struct Lanes {
  static constexpr int64_t COUNT = 32;
  using Vector __attribute__((vector_size(COUNT * sizeof(A)))) = A;

  template <class Term>
  static double total(int64_t n, Term term) {
    Vector sums = {};
    int64_t i = 0;
    for (; i + COUNT <= n; i += COUNT) sums += term.vector(i);
    double result = 0;
    for (; i < n; i++) result += term.scalar(i);
    for (int64_t k = 0; k < COUNT; k++) result += sums[k];
    return result;
  }

  static Vector load(const A* from) {
    Vector v;
    std::memcpy(&v, from, sizeof v);
    return v;
  }

  struct Product {
    const A *a, *b;
    Vector vector(int64_t i) const { return load(a + i) * load(b + i); }
    A scalar(int64_t i) const { return a[i] * b[i]; }
  };

  struct Single {
    const A* a;
    Vector vector(int64_t i) const { return load(a + i); }
    A scalar(int64_t i) const { return a[i]; }
  };
};

template <class T>
struct Backward {
  using A = Compute<T>;

  const SynthesisActGrad& p;
  Curve<A> curve{p.act};
  const A* scale = reinterpret_cast<const A*>(p.scale);
  const A* noise = reinterpret_cast<const A*>(p.noise);

  // Writes dx, and the sums over one chunk: SUMS rows of p.c numbers in channels-last, of one in NCHW.
  void operator()(const Chunk& chunk, double* sums) const {
    if (!p.channels_last) {
      std::fill_n(sums, SUMS, 0.0);
      visit(chunk, chunk.begin, chunk.end, [&](const Run& run, const A* g, const A* x, const A* z) {
        sum_channel(run, g, x, z, sums);
      });
      return;
    }
    A some[SUMS][BLOCK];
    for (int s = 0; s < SUMS; s++) std::fill_n(sums + s * p.c, chunk.channels, 0.0);
    for (int64_t first = chunk.begin; first < chunk.end; first += ROWS) {
      for (A* row : some) std::fill_n(row, chunk.channels, A(0));
      visit(chunk, first, std::min(first + ROWS, chunk.end), [&](const Run& run, const A* g, const A* x, const A* z) {
        sum_pixels(run, g, x, z, some[0], some[1], some[2]);
      });
      for (int s = 0; s < SUMS; s++) {
        for (int64_t k = 0; k < chunk.channels; k++) sums[s * p.c + k] += some[s][k];
      }
    }
  }

 private:
  // f(run, g, x or nullptr, noise or nullptr) for the runs of pixels [begin, end), whose dx is then written.
  template <class F>
  void visit(const Chunk& chunk, int64_t begin, int64_t end, F f) const {
    for_runs(p, chunk, begin, end, [&](const Run& run) {
      A g_row[BLOCK], x_row[BLOCK];
      const int64_t count = run.pixels * run.channels;
      const A* g = gradient(run, count, g_row, x_row);
      const A* x = p.sum_gx ? as_computed(static_cast<const T*>(p.x) + run.at, x_row, count) : nullptr;
      f(run, g, x, p.sum_gnoise ? noise_of(noise, p.noise_shared, run.image, p.pixels) + run.pixel : nullptr);
    });
  }

  // g of a run; dx is written.
  const A* gradient(const Run& run, int64_t count, A* g, A* spare) const {
    A dx_row[BLOCK];
    const A* dy = as_computed(static_cast<const T*>(p.dy) + run.at, g, count);
    const A* y = as_computed(static_cast<const T*>(p.y) + run.at, spare, count);
#pragma GCC ivdep
    for (int64_t j = 0; j < count; j++) g[j] = curve.grad(dy[j], y[j]);
    T* dx = static_cast<T*>(p.dx) + run.at;
    A* out = target(dx, dx_row);
    if (!scale) {
      std::copy_n(g, count, out);
    } else if (p.channels_last) {
      times_scales(run, g, out);
    } else {
      const A s = scale[run.image * p.c + run.channel];
#pragma GCC ivdep
      for (int64_t j = 0; j < count; j++) out[j] = g[j] * s;
    }
    stored(out, dx, count);
    return g;
  }

  void times_scales(const Run& run, const A* g, A* out) const {
    const A* s = scale + run.image * p.c + run.channel;
    for (int64_t j = 0; j < run.pixels; j++, g += run.channels, out += run.channels) {
#pragma GCC ivdep
      for (int64_t k = 0; k < run.channels; k++) out[k] = g[k] * s[k];
    }
  }

  static void sum_channel(const Run& run, const A* g, const A* x, const A* z, double* sums) {
    using L = Lanes<A>;
    if (x) sums[0] += L::total(run.pixels, typename L::Product{g, x});
    if (z) sums[1] += L::total(run.pixels, typename L::Product{g, z});
    sums[2] += L::total(run.pixels, typename L::Single{g});
  }

  static void sum_pixels(const Run& run, const A* g, const A* x, const A* z, A* gx, A* gz, A* g_alone) {
    const int64_t n = run.channels;
    for (int64_t j = 0; j < run.pixels; j++, g += n) {
      if (x) add_products(g, x + j * n, n, gx);
      if (z) add_multiple(g, z[j], n, gz);
      add_multiple(g, A(1), n, g_alone);
    }
  }

  static void add_products(const A* a, const A* b, int64_t n, A* sums) {
#pragma GCC ivdep
    for (int64_t k = 0; k < n; k++) sums[k] += a[k] * b[k];
  }

  static void add_multiple(const A* a, A factor, int64_t n, A* sums) {
#pragma GCC ivdep
    for (int64_t k = 0; k < n; k++) sums[k] += a[k] * factor;
  }
};

// Adds up the chunks of every sum that is wanted.
template <class A>
void add_chunks(const SynthesisActGrad& p, const double* sums) {
  const int64_t chunks = chunks_of(p), row = p.channels_last ? p.c : 1, planes = p.n * p.c / row;
  float* const wanted[SUMS] = {p.sum_gx, p.sum_gnoise, p.sum_g};
  for (int64_t s = 0; s < SUMS; s++) {
    A* result = reinterpret_cast<A*>(wanted[s]);
    if (!result) continue;
    for (int64_t i = 0; i < planes * row; i++) {
      double total = 0;
      for (int64_t k = 0; k < chunks; k++) total += sums[((i / row * chunks + k) * SUMS + s) * row + i % row];
      result[i] = static_cast<A>(total);
    }
  }
}

}  // namespace

const char* synthesis_act(const SynthesisAct& p, const Device& device) {
  if (p.n * p.c == 0) return nullptr;
  return with_type(p.type, [&](auto type) -> const char* {
    const Forward<decltype(type)> forward{p};
    for_chunks(p, device, [&](const Chunk& chunk) { for_runs(p, chunk, chunk.begin, chunk.end, forward); });
    return nullptr;
  });
}

const char* synthesis_act_grad(const SynthesisActGrad& p, const Device& device) {
  if (p.n * p.c == 0) return nullptr;
  return with_type(p.type, [&](auto type) -> const char* {
    using T = decltype(type);
    const Backward<T> backward{p};
    double* const sums = static_cast<double*>(p.workspace);
    const int64_t chunks = chunks_of(p);
    for_chunks(p, device, [&](const Chunk& chunk) {
      const int64_t row = p.channels_last ? chunk.image : chunk.image * p.c + chunk.channel;
      const int64_t at = (row * chunks + chunk.index) * SUMS;
      backward(chunk, sums + (p.channels_last ? at * p.c + chunk.channel : at));
    });
    add_chunks<Compute<T>>(p, sums);
    return nullptr;
  });
}

int64_t synthesis_act_workspace(const SynthesisActGrad& p) {
  return p.n * p.c * chunks_of(p) * SUMS * static_cast<int64_t>(sizeof(double));
}

}  // namespace stylegan2
