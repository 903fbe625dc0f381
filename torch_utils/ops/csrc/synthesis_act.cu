// What follows a synthesis layer's convolution, on CUDA: demodulation, noise, bias and activation in one pass.
//
// A thread takes GROUP vectors that share what they are combined with: the noise of one place in GROUP channels (NCHW),
// or scale and bias of the same channels in GROUP pixels (channels-last). So these extra numbers, of 4 bytes each, are
// read once for GROUP of x, and GROUP reads of x are in flight.

#include "cuda_common.cuh"

namespace stylegan2 {
namespace {

constexpr int GROUP = 4;

template <class T, class Index>
struct Forward {
  using S = Sum<T>;
  const T* x;
  const S *scale, *noise, *strength, *b;
  T* y;
  int64_t c, pixels, noise_step;               // noise_step: from sample to sample
  Index units;
  typename DivisorOf<Index>::type fast, slow;  // how many units lie along the two inner dimensions
  Act<S> act;
};

// A unit is the work of one thread: which vector of the innermost dimension, which group of the next, and which sample.
struct Place {
  int64_t inner, group, n;
};
template <class T, class Index>
__device__ __forceinline__ Place place(const Forward<T, Index>& p, Index unit) {
  const Index outer = p.fast.quotient(unit);
  return {int64_t(p.fast.remainder(unit)), int64_t(p.slow.remainder(outer)), int64_t(p.slow.quotient(outer))};
}

template <class T, int V, class Index>
__global__ void __launch_bounds__(THREADS, 3) planes_kernel(const Forward<T, Index> p) {
  using S = Sum<T>;
  const Index unit = Index(blockIdx.x) * THREADS + threadIdx.x;
  if (unit >= p.units) return;
  const Place at = place(p, unit);
  const int64_t first = at.group * GROUP, pixel = at.inner * V;
  const T* const x = p.x + (at.n * p.c + first) * p.pixels + pixel;
  T* const y = p.y + (at.n * p.c + first) * p.pixels + pixel;

  Vec<T, V> in[GROUP];
#pragma unroll
  for (int k = 0; k < GROUP; k++) {
    if (first + k < p.c) in[k] = load<V>(x + k * p.pixels);
  }
  S noise[V];
  read_or<V>(noise, p.noise ? p.noise + at.n * p.noise_step + pixel : nullptr, S(0));
  const S strength = p.strength ? *p.strength : S(0);
#pragma unroll
  for (int k = 0; k < GROUP; k++) {
    const int64_t c = first + k;
    if (c >= p.c) return;
    const S scale = p.scale ? p.scale[at.n * p.c + c] : S(1), b = p.b ? p.b[c] : S(0);
    S t[V];
#pragma unroll
    for (int j = 0; j < V; j++) t[j] = p.act.value(wide(in[k].at[j]) * scale + noise[j] * strength + b);
    store(y + k * p.pixels, t);
  }
}

template <class T, int V, class Index>
__global__ void __launch_bounds__(THREADS, 3) channels_kernel(const Forward<T, Index> p) {
  using S = Sum<T>;
  const Index unit = Index(blockIdx.x) * THREADS + threadIdx.x;
  if (unit >= p.units) return;
  const Place at = place(p, unit);
  const int64_t first = at.group * GROUP, c = at.inner * V, offset = (at.n * p.pixels + first) * p.c + c;

  Vec<T, V> in[GROUP];
#pragma unroll
  for (int k = 0; k < GROUP; k++) {
    if (first + k < p.pixels) in[k] = load<V>(p.x + offset + k * p.c);
  }
  S scale[V], b[V];
  read_or<V>(scale, p.scale ? p.scale + at.n * p.c + c : nullptr, S(1));
  read_or<V>(b, p.b ? p.b + c : nullptr, S(0));
  const S strength = p.strength ? *p.strength : S(0);
#pragma unroll
  for (int k = 0; k < GROUP; k++) {
    if (first + k >= p.pixels) return;
    const S noise = p.noise ? p.noise[at.n * p.noise_step + first + k] * strength : S(0);
    S t[V];
#pragma unroll
    for (int j = 0; j < V; j++) t[j] = p.act.value(wide(in[k].at[j]) * scale[j] + noise + b[j]);
    store(p.y + offset + k * p.c, t);
  }
}

template <class T, int V, class Index>
const char* run(const SynthesisAct& p, const Device& device) {
  using S = Sum<T>;
  using Divide = typename DivisorOf<Index>::type;
  const int64_t fast = (p.channels_last ? p.c : p.pixels) / V, slow = ceil_div(p.channels_last ? p.pixels : p.c, GROUP);
  const int64_t units = fast * slow * p.n;
  const auto sums = [](const float* at) { return reinterpret_cast<const S*>(at); };
  const Forward<T, Index> f{static_cast<const T*>(p.x), sums(p.scale), sums(p.noise), sums(p.strength), sums(p.b),
                            static_cast<T*>(p.y), p.c, p.pixels, p.noise_shared ? 0 : p.pixels, Index(units),
                            Divide(fast), Divide(slow), Act<S>(p.act)};
  return launch(device, p.channels_last ? channels_kernel<T, V, Index> : planes_kernel<T, V, Index>,
                ceil_div(units, THREADS), f);
}

// Whether vectors of V begin at aligned addresses, and none crosses from one plane or pixel to the next.
bool vectors_fit(const SynthesisAct& p, int v) {
  bool fit = is_aligned(p.x, VECTOR_BYTES) && is_aligned(p.y, VECTOR_BYTES);
  if (!p.channels_last) return fit && p.pixels % v == 0 && is_aligned(p.noise, VECTOR_BYTES);
  return fit && p.c % v == 0 && is_aligned(p.scale, VECTOR_BYTES) && is_aligned(p.b, VECTOR_BYTES);
}

}  // namespace

const char* synthesis_act(const SynthesisAct& p, const Device& device) {
  return for_type(p.type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int V = VECTOR_BYTES / sizeof(T);
    const int64_t units = p.n * (p.c + GROUP) * (p.pixels + GROUP);  // of one element, at most
    if (vectors_fit(p, V) && units / V < SMALL) return run<T, V, uint32_t>(p, device);
    return units < SMALL ? run<T, 1, uint32_t>(p, device) : run<T, 1, uint64_t>(p, device);
  });
}

}  // namespace stylegan2
