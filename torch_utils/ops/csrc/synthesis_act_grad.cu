// The gradient of synthesis_act on CUDA: one pass writes dx and sums, for each sample and channel, g * x, g * noise and
// g over the pixels. Blocks sum chunks of pixels, each in one order; a second kernel adds the chunks, in theirs: there
// are no atomics, and the sums are the same from run to run.

#include "cuda_common.cuh"

namespace stylegan2 {
namespace {

constexpr int SUMS = 3;         // of g * x, of g * noise, of g
constexpr int TURNS = 8;        // NCHW: 16-byte vectors that a thread sums
constexpr int BLOCKS = 8192;    // channels-last: enough blocks for several waves on any device

int64_t element_bytes(Type type) { return type == Type::float64 ? 8 : type == Type::float32 ? 4 : 2; }

int power_of_two(int64_t at_least, int limit) {
  int result = 1;
  while (result < limit && result < at_least) result *= 2;
  return result;
}

// How pixels are shared out. It depends on sizes alone, not on addresses: the same sums, in a workspace of known size.
struct Plan {
  int64_t chunk, chunks;  // pixels in one, and how many there are
  int32_t lanes;          // threads along the pixels of a plane (NCHW) or along the channels (channels-last)

  explicit Plan(const SynthesisActGrad& p) {
    const int64_t bytes = element_bytes(p.type), v = VECTOR_BYTES / bytes;
    if (p.channels_last) {
      lanes = power_of_two(ceil_div(p.c, v), 32);
      const int64_t blocks = p.n * ceil_div(p.c, lanes * v) + 1;
      const int64_t wanted = ceil_div(BLOCKS, blocks), most = ceil_div(p.pixels + 1, 4 * THREADS / lanes);
      chunk = ceil_div(p.pixels + 1, wanted < most ? wanted : most);
    } else {  // several planes in a block where they are small
      lanes = power_of_two(ceil_div(p.pixels, v * TURNS / 2), THREADS);
      chunk = lanes * v * TURNS;
    }
    chunks = p.pixels ? ceil_div(p.pixels, chunk) : 1;
  }
};

template <class T>
struct Backward {
  using S = Sum<T>;
  const T *dy, *y, *x;
  const S *scale, *noise;
  T* dx;
  S* sums[SUMS];  // nullptr: not wanted
  S* workspace;   // [SUMS, chunks, n * c]
  int64_t planes, c, pixels, noise_step;
  int64_t chunk;  // pixels in one
  Divisor chunks, groups;  // groups of lanes * V channels (channels-last)
  int32_t lanes;
  Act<S> act;

  // The sum of a chunk: the result itself where there is one chunk.
  __device__ __forceinline__ void put(int which, int64_t at_chunk, int64_t plane, S value) const {
    if (!sums[which]) return;
    if (chunks.value == 1) sums[which][plane] = value;
    else workspace[(int64_t(which) * chunks.value + at_chunk) * planes + plane] = value;
  }
};

// parts[s][t] of each thread with k = 0 becomes the sum over the `count` threads t + k * step, by halves: in the same
// order always. All threads of a block call it, each with its own k.
template <class S, int N>
__device__ __forceinline__ void add_up(S (&parts)[N][THREADS], int k, int count, int step) {
  for (int half = count / 2; half > 0; half /= 2) {
    __syncthreads();
    if (k >= half) continue;
#pragma unroll
    for (int s = 0; s < N; s++) parts[s][threadIdx.x] += parts[s][threadIdx.x + half * step];
  }
}

// NCHW: `lanes` threads for a chunk of a plane, THREADS / lanes planes in a block.
template <class T, int V>
__global__ void __launch_bounds__(THREADS, 3) planes_kernel(const Backward<T> p) {
  using S = Sum<T>;
  __shared__ S parts[SUMS][THREADS];
  const int lane = threadIdx.x & (p.lanes - 1), t = threadIdx.x;
  const int64_t group = p.chunks.quotient(blockIdx.x), chunk = p.chunks.remainder(blockIdx.x);
  const int64_t plane = group * (THREADS / p.lanes) + t / p.lanes, begin = chunk * p.chunk;
  const int64_t end = begin + p.chunk < p.pixels ? begin + p.chunk : p.pixels;

  S sum[SUMS] = {};
  if (plane < p.planes) {
    const S scale = p.scale ? p.scale[plane] : S(1);
    const S* const noise = p.noise ? p.noise + plane / p.c * p.noise_step : nullptr;
    const int64_t base = plane * p.pixels;
#pragma unroll 2
    for (int64_t pixel = begin + lane * V; pixel < end; pixel += p.lanes * V) {
      const Vec<T, V> dy = load<V>(p.dy + base + pixel), y = load<V>(p.y + base + pixel);
      Vec<T, V> x{};
      if (p.x) x = load<V>(p.x + base + pixel);
      S out[V], noise_here[V];
      read_or<V>(noise_here, noise ? noise + pixel : nullptr, S(0));
#pragma unroll
      for (int j = 0; j < V; j++) {
        const S g = p.act.gradient(wide(dy.at[j]), wide(y.at[j]));
        sum[0] += g * wide(x.at[j]);
        sum[1] += g * noise_here[j];
        sum[2] += g;
        out[j] = g * scale;
      }
      store(p.dx + base + pixel, out);
    }
  }
#pragma unroll
  for (int s = 0; s < SUMS; s++) parts[s][t] = sum[s];
  add_up(parts, lane, p.lanes, 1);
  if (lane != 0 || plane >= p.planes) return;
#pragma unroll
  for (int s = 0; s < SUMS; s++) p.put(s, chunk, plane, parts[s][t]);
}

// Channels-last: `lanes` threads along the channels, each for V of them, and THREADS / lanes pixels at a time.
template <class T, int V>
__global__ void __launch_bounds__(THREADS, 3) channels_kernel(const Backward<T> p) {
  using S = Sum<T>;
  __shared__ S parts[V][THREADS];
  const int lane = threadIdx.x & (p.lanes - 1), row = threadIdx.x / p.lanes, rows = THREADS / p.lanes;
  const uint32_t rest = p.groups.quotient(blockIdx.x);
  const int64_t n = p.chunks.quotient(rest), chunk = p.chunks.remainder(rest);
  const int64_t c = (int64_t(p.groups.remainder(blockIdx.x)) * p.lanes + lane) * V, begin = chunk * p.chunk;
  const int64_t end = begin + p.chunk < p.pixels ? begin + p.chunk : p.pixels;

  S sum[SUMS][V] = {};
  if (c < p.c) {
    S scale[V];
#pragma unroll
    for (int j = 0; j < V; j++) scale[j] = p.scale ? p.scale[n * p.c + c + j] : S(1);
    const S* const noise = p.noise ? p.noise + n * p.noise_step : nullptr;
#pragma unroll 2
    for (int64_t pixel = begin + row; pixel < end; pixel += rows) {
      const int64_t at = (n * p.pixels + pixel) * p.c + c;
      const Vec<T, V> dy = load<V>(p.dy + at), y = load<V>(p.y + at);
      Vec<T, V> x{};
      if (p.x) x = load<V>(p.x + at);
      const S noise_here = noise ? noise[pixel] : S(0);
      S out[V];
#pragma unroll
      for (int j = 0; j < V; j++) {
        const S g = p.act.gradient(wide(dy.at[j]), wide(y.at[j]));
        sum[0][j] += g * wide(x.at[j]);
        sum[1][j] += g * noise_here;
        sum[2][j] += g;
        out[j] = g * scale[j];
      }
      store(p.dx + at, out);
    }
  }
#pragma unroll
  for (int s = 0; s < SUMS; s++) {
    if (!p.sums[s]) continue;
#pragma unroll
    for (int j = 0; j < V; j++) parts[j][threadIdx.x] = sum[s][j];
    add_up(parts, row, rows, p.lanes);
    if (row == 0 && c < p.c) {
#pragma unroll
      for (int j = 0; j < V; j++) p.put(s, chunk, n * p.c + c + j, parts[j][threadIdx.x]);
    }
    __syncthreads();
  }
}

// A thread for each sum of each sample and channel.
template <class T>
__global__ void __launch_bounds__(THREADS, 3) add_chunks_kernel(const Backward<T> p) {
  using S = Sum<T>;
  const int64_t index = int64_t(blockIdx.x) * THREADS + threadIdx.x, which = index / p.planes;
  if (which >= SUMS || !p.sums[which]) return;
  const int64_t plane = index - which * p.planes;
  const S* const from = p.workspace + which * p.chunks.value * p.planes + plane;
  S sum = 0;
#pragma unroll 8
  for (int64_t chunk = 0; chunk < p.chunks.value; chunk++) sum += from[chunk * p.planes];
  p.sums[which][plane] = sum;
}

// Whether vectors of V begin at aligned addresses, and none crosses from one plane or pixel to the next.
bool vectors_fit(const SynthesisActGrad& p, int v) {
  const void* const pointers[] = {p.dy, p.y, p.x, p.dx, p.channels_last ? nullptr : p.noise};
  for (const void* pointer : pointers) {
    if (!is_aligned(pointer, VECTOR_BYTES)) return false;
  }
  return (p.channels_last ? p.c : p.pixels) % v == 0;
}

template <class T>
const char* run(const SynthesisActGrad& p, const Device& device) {
  using S = Sum<T>;
  constexpr int WIDE = VECTOR_BYTES / sizeof(T);
  const Plan plan(p);
  const bool vectors = vectors_fit(p, WIDE);
  const int64_t groups = ceil_div(p.c, int64_t(plan.lanes) * (vectors ? WIDE : 1));
  const auto sums = [](auto* at) { return reinterpret_cast<S*>(const_cast<float*>(at)); };
  const Backward<T> b{static_cast<const T*>(p.dy), static_cast<const T*>(p.y), static_cast<const T*>(p.x),
                      sums(p.scale), sums(p.noise), static_cast<T*>(p.dx),
                      {sums(p.sum_gx), sums(p.sum_gnoise), sums(p.sum_g)}, static_cast<S*>(p.workspace), p.n * p.c, p.c,
                      p.pixels, p.noise_shared ? 0 : p.pixels, plan.chunk, Divisor(plan.chunks), Divisor(groups),
                      plan.lanes, Act<S>(p.act)};
  const char* error = nullptr;
  if (p.channels_last) {
    error = launch(device, vectors ? channels_kernel<T, WIDE> : channels_kernel<T, 1>, p.n * plan.chunks * groups, b);
  } else {
    const int64_t blocks = ceil_div(b.planes, THREADS / plan.lanes) * plan.chunks;
    error = launch(device, vectors ? planes_kernel<T, WIDE> : planes_kernel<T, 1>, blocks, b);
  }
  if (error || plan.chunks == 1) return error;
  return launch(device, add_chunks_kernel<T>, ceil_div(b.planes * SUMS, THREADS), b);
}

}  // namespace

int64_t synthesis_act_workspace(const SynthesisActGrad& p) {
  const int64_t chunks = Plan(p).chunks, bytes = p.type == Type::float64 ? sizeof(double) : sizeof(float);
  return chunks == 1 ? 0 : SUMS * chunks * p.n * p.c * bytes;
}

const char* synthesis_act_grad(const SynthesisActGrad& p, const Device& device) {
  return for_type(p.type, [&](auto zero) { return run<decltype(zero)>(p, device); });
}

}  // namespace stylegan2
