// bias_act and its gradient on CUDA: one read and one write of memory, which is all their time.
//
// A thread holds UNROLL 16-byte vectors in flight, and a block's threads take neighbouring vectors. Addresses or counts
// that do not allow vectors take the same kernels with one element for a vector.

#include "cuda_common.cuh"

namespace stylegan2 {
namespace {

constexpr int UNROLL = 4;  // 64 bytes a thread in flight: 64 KB for a multiprocessor that holds 4 blocks

enum class Bias {
  none,
  shared,  // the elements of a vector share one: step is a multiple of V
  vector,  // they have V successive ones: channels-last
  walked,  // any step: counted along from the first
};

// Where vectors lie in the bias. `steps` and `sizes` count vectors where Bias is shared or vector, else elements.
template <class Index>
struct Layout {
  typename DivisorOf<Index>::type steps, sizes;
};

template <Bias B, class T, int V, class Index>
__device__ __forceinline__ void add_bias(Sum<T> (&t)[V], const T* b, Index vector, Layout<Index> layout) {
  if constexpr (B == Bias::shared) {
    const Sum<T> shared = wide(b[layout.sizes.remainder(layout.steps.quotient(vector))]);
#pragma unroll
    for (int j = 0; j < V; j++) t[j] += shared;
  } else if constexpr (B == Bias::vector) {
    const Vec<T, V> own = load<V>(b + layout.sizes.remainder(vector) * V);
#pragma unroll
    for (int j = 0; j < V; j++) t[j] += wide(own.at[j]);
  } else if constexpr (B == Bias::walked) {
    const Index first = vector * V, row = layout.steps.quotient(first);
    Index in_row = first - row * layout.steps.value, channel = layout.sizes.remainder(row);
#pragma unroll
    for (int j = 0; j < V; j++) {
      t[j] += wide(b[channel]);
      if (++in_row == layout.steps.value) {
        in_row = 0;
        if (++channel == layout.sizes.value) channel = 0;
      }
    }
  }
}

// `count` elements are whole vectors but for the last few, which one thread takes one by one.
template <class T, int V, Bias B, class Index>
__global__ void __launch_bounds__(THREADS, 3)
bias_act_kernel(const T* __restrict__ x, const T* __restrict__ b, T* __restrict__ y, int64_t count,
                Layout<Index> layout, Act<Sum<T>> act) {
  const Index vectors = Index(count / V), first = Index(blockIdx.x) * (THREADS * UNROLL) + threadIdx.x;
  Vec<T, V> in[UNROLL];
#pragma unroll
  for (int k = 0; k < UNROLL; k++) {
    const Index vector = first + k * THREADS;
    if (vector < vectors) in[k] = load<V>(x + int64_t(vector) * V);
  }
#pragma unroll
  for (int k = 0; k < UNROLL; k++) {
    const Index vector = first + k * THREADS;
    const int64_t begin = int64_t(vector) * V;
    Sum<T> t[V];
    if (vector < vectors) {
#pragma unroll
      for (int j = 0; j < V; j++) t[j] = wide(in[k].at[j]);
      add_bias<B>(t, b, vector, layout);
#pragma unroll
      for (int j = 0; j < V; j++) t[j] = act.value(t[j]);
      store(y + begin, t);
    } else if (V > 1 && begin < count) {
#pragma unroll
      for (int j = 0; j < V; j++) t[j] = begin + j < count ? wide(x[begin + j]) : Sum<T>(0);
      add_bias<B>(t, b, vector, layout);
#pragma unroll
      for (int j = 0; j < V; j++) {
        if (begin + j < count) store_one(y + begin + j, act.value(t[j]));
      }
    }
  }
}

template <class T, int V>
__global__ void __launch_bounds__(THREADS, 3)
bias_act_grad_kernel(const T* __restrict__ dy, const T* __restrict__ y, T* __restrict__ dx, int64_t count,
                     Act<Sum<T>> act) {
  constexpr int PAIRS = UNROLL / 2;  // two tensors are read
  const int64_t vectors = count / V, first = int64_t(blockIdx.x) * (THREADS * PAIRS) + threadIdx.x;
  Vec<T, V> in[PAIRS], out[PAIRS];
#pragma unroll
  for (int k = 0; k < PAIRS; k++) {
    const int64_t vector = first + k * THREADS;
    if (vector < vectors) in[k] = load<V>(dy + vector * V), out[k] = load<V>(y + vector * V);
  }
#pragma unroll
  for (int k = 0; k < PAIRS; k++) {
    const int64_t vector = first + k * THREADS, begin = vector * V;
    if (vector < vectors) {
      Sum<T> t[V];
#pragma unroll
      for (int j = 0; j < V; j++) t[j] = act.gradient(wide(in[k].at[j]), wide(out[k].at[j]));
      store(dx + begin, t);
    } else if (V > 1 && begin < count) {
#pragma unroll
      for (int j = 0; j < V; j++) {
        if (begin + j < count) store_one(dx + begin + j, act.gradient(wide(dy[begin + j]), wide(y[begin + j])));
      }
    }
  }
}

template <class T, int V, Bias B, class Index>
const char* run(const BiasAct& p, const Device& device, int64_t steps, int64_t sizes) {
  const Layout<Index> layout{typename DivisorOf<Index>::type(steps), typename DivisorOf<Index>::type(sizes)};
  return launch(device, bias_act_kernel<T, V, B, Index>, ceil_div(ceil_div(p.count, V), THREADS * UNROLL),
                static_cast<const T*>(p.x), static_cast<const T*>(p.b), static_cast<T*>(p.y), p.count, layout,
                Act<Sum<T>>(p.act));
}

template <class T, int V>
const char* run_walked(const BiasAct& p, const Device& device) {
  return p.count < SMALL ? run<T, V, Bias::walked, uint32_t>(p, device, p.step, p.size)
                         : run<T, V, Bias::walked, uint64_t>(p, device, p.step, p.size);
}

template <class T>
const char* run_forward(const BiasAct& p, const Device& device) {
  constexpr int V = VECTOR_BYTES / sizeof(T);
  const bool vectors = is_aligned(p.x, VECTOR_BYTES) && is_aligned(p.y, VECTOR_BYTES);
  const bool whole = p.count % V == 0 && p.count / V < SMALL;
  if (!vectors) return p.b ? run_walked<T, 1>(p, device) : run<T, 1, Bias::none, uint64_t>(p, device, 1, 1);
  if (!p.b) return run<T, V, Bias::none, uint64_t>(p, device, 1, 1);
  if (whole && p.step % V == 0) return run<T, V, Bias::shared, uint32_t>(p, device, p.step / V, p.size);
  if (whole && p.step == 1 && p.size % V == 0 && is_aligned(p.b, VECTOR_BYTES)) {
    return run<T, V, Bias::vector, uint32_t>(p, device, 1, p.size / V);
  }
  return run_walked<T, V>(p, device);
}

template <class T, int V>
const char* run_grad(const BiasActGrad& p, const Device& device) {
  return launch(device, bias_act_grad_kernel<T, V>, ceil_div(ceil_div(p.count, V), THREADS * (UNROLL / 2)),
                static_cast<const T*>(p.dy), static_cast<const T*>(p.y), static_cast<T*>(p.dx), p.count,
                Act<Sum<T>>(p.act));
}

}  // namespace

const char* bias_act(const BiasAct& p, const Device& device) {
  return for_type(p.type, [&](auto zero) { return run_forward<decltype(zero)>(p, device); });
}

const char* bias_act_grad(const BiasActGrad& p, const Device& device) {
  const bool vectors =
      is_aligned(p.dy, VECTOR_BYTES) && is_aligned(p.y, VECTOR_BYTES) && is_aligned(p.dx, VECTOR_BYTES);
  return for_type(p.type, [&](auto zero) {
    using T = decltype(zero);
    return vectors ? run_grad<T, VECTOR_BYTES / sizeof(T)>(p, device) : run_grad<T, 1>(p, device);
  });
}

}  // namespace stylegan2
