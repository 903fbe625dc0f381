// What all CUDA kernels share: numbers, vectors, division, activations, launching.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "kernels.h"

namespace stylegan2 {

// Kernels say how many blocks a multiprocessor should hold at least: left alone, the compiler aims at more, and spills.
constexpr int THREADS = 256;
constexpr int VECTOR_BYTES = 16;  // the widest access of a thread

// The type that sums of T are taken in.
template <class T> struct SumOf { using type = float; };
template <> struct SumOf<double> { using type = double; };
template <class T> using Sum = typename SumOf<T>::type;

__device__ __forceinline__ float wide(float v) { return v; }
__device__ __forceinline__ double wide(double v) { return v; }
__device__ __forceinline__ float wide(__half v) { return __half2float(v); }
__device__ __forceinline__ float wide(__nv_bfloat16 v) { return __bfloat162float(v); }

// Two neighbours are rounded at once: one instruction for both 16-bit numbers.
__device__ __forceinline__ void narrow(float v, float& to) { to = v; }
__device__ __forceinline__ void narrow(double v, double& to) { to = v; }
__device__ __forceinline__ void narrow(float v, __half& to) { to = __float2half_rn(v); }
__device__ __forceinline__ void narrow(float v, __nv_bfloat16& to) { to = __float2bfloat16_rn(v); }
template <class T>
__device__ __forceinline__ void narrow(Sum<T> a, Sum<T> b, T& to_a, T& to_b) {
  narrow(a, to_a);
  narrow(b, to_b);
}
template <>
__device__ __forceinline__ void narrow(float a, float b, __half& to_a, __half& to_b) {
  const __half2 pair = __floats2half2_rn(a, b);
  to_a = pair.x, to_b = pair.y;
}
template <>
__device__ __forceinline__ void narrow(float a, float b, __nv_bfloat16& to_a, __nv_bfloat16& to_b) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
  to_a = pair.x, to_b = pair.y;
}

// V numbers that one access of memory moves; their address is a multiple of their size.
template <class T, int V>
struct alignas(sizeof(T) * V) Vec {
  T at[V];
};

template <int V, class T>
__device__ __forceinline__ Vec<T, V> load(const T* from) {
  return *reinterpret_cast<const Vec<T, V>*>(from);
}

template <class T, int V>
__device__ __forceinline__ void store(T* to, const Sum<T> (&values)[V]) {
  Vec<T, V> out;
  if constexpr (V % 2 == 0) {
#pragma unroll
    for (int j = 0; j < V; j += 2) narrow(values[j], values[j + 1], out.at[j], out.at[j + 1]);
  } else {
#pragma unroll
    for (int j = 0; j < V; j++) narrow(values[j], out.at[j]);
  }
  *reinterpret_cast<Vec<T, V>*>(to) = out;
}

// V numbers in 16-byte reads, or `value` where there are none to read.
template <int V, class S>
__device__ __forceinline__ void read_or(S (&to)[V], const S* from, S value) {
  constexpr int WIDTH = V * sizeof(S) > VECTOR_BYTES ? VECTOR_BYTES / sizeof(S) : V;
#pragma unroll
  for (int k = 0; k < V; k += WIDTH) {
    Vec<S, WIDTH> part;
    if (from) part = load<WIDTH>(from + k);
#pragma unroll
    for (int j = 0; j < WIDTH; j++) to[k + j] = from ? part.at[j] : value;
  }
}

template <class T>
__device__ __forceinline__ void store_one(T* to, Sum<T> value) {
  narrow(value, *to);
}

inline bool is_aligned(const void* p, int64_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

constexpr int64_t SMALL = INT32_MAX;  // indices below it divide by a multiplication

// n / divisor for n < SMALL, by the upper half of a product (Granlund and Montgomery, 1994).
struct Divisor {
  uint32_t value = 1, factor = 1, shift = 0;

  Divisor() = default;
  explicit Divisor(int64_t divisor) : value(uint32_t(divisor < 1 ? 1 : divisor < SMALL ? divisor : SMALL)) {
    while ((uint64_t(1) << shift) < value) shift++;
    factor = uint32_t((((uint64_t(1) << shift) - value) << 32) / value + 1);
  }
  __device__ __forceinline__ uint32_t quotient(uint32_t n) const { return (__umulhi(n, factor) + n) >> shift; }
  __device__ __forceinline__ uint32_t remainder(uint32_t n) const { return n - quotient(n) * value; }
};

// The same for any index.
struct LongDivisor {
  uint64_t value = 1;

  LongDivisor() = default;
  explicit LongDivisor(int64_t divisor) : value(divisor < 1 ? 1 : divisor) {}
  __device__ __forceinline__ uint64_t quotient(uint64_t n) const { return n / value; }
  __device__ __forceinline__ uint64_t remainder(uint64_t n) const { return n % value; }
};

template <class Index> struct DivisorOf { using type = Divisor; };
template <> struct DivisorOf<uint64_t> { using type = LongDivisor; };

// Activation in the type of sums. Without a clamp it is nan, which no number exceeds. All choices are between numbers
// already at hand, so that they become selections and not branches.
template <class S>
struct Act {
  S rising, falling, clamp;  // slopes of the two sides

  explicit Act(const Activation& a)
      : rising(S(a.gain)), falling(S(a.gain * a.alpha)), clamp(a.clamp < 0 ? S(NAN) : S(a.clamp)) {}
  __device__ __forceinline__ S value(S t) const {
    const S y = t * (t > 0 ? rising : falling), floor = -clamp;
    const S above = y < floor ? floor : y;
    return above > clamp ? clamp : above;
  }
  // dy * slope, where the output was y
  __device__ __forceinline__ S gradient(S dy, S y) const {
    const S dx = dy * (y > 0 ? rising : falling), size = y < 0 ? -y : y;
    return size >= clamp ? S(0) : dx;
  }
};

// Makes a device current for as long as it lives.
class DeviceScope {
 public:
  explicit DeviceScope(int device) {
    error_ = cudaGetDevice(&before_);
    changed_ = error_ == cudaSuccess && before_ != device;
    if (changed_) error_ = cudaSetDevice(device);
  }
  ~DeviceScope() {
    if (changed_) cudaSetDevice(before_);
  }
  cudaError_t error() const { return error_; }

 private:
  int before_ = 0;
  bool changed_ = false;
  cudaError_t error_ = cudaSuccess;
};

// Only what the launch itself says: an older error of somebody else's is not ours to report, nor to clear.
template <class... Expected, class... Given>
const char* launch(const Device& device, void (*kernel)(Expected...), int64_t blocks, const Given&... given) {
  if (blocks <= 0) return nullptr;
  if (blocks > INT32_MAX) return "more elements than one launch has blocks for";
  const DeviceScope scope(device.index);
  cudaError_t error = scope.error();
  if (error == cudaSuccess) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(unsigned(blocks));
    config.blockDim = dim3(THREADS);
    config.stream = static_cast<cudaStream_t>(device.stream);
    error = cudaLaunchKernelEx(&config, kernel, given...);
  }
  if (error == cudaSuccess) return nullptr;
  cudaGetLastError();  // told here, and so not to be found by the next who asks
  return cudaGetErrorString(error);
}

// run(T()) for the type of numbers, or for those that vectors and tiles are made for.
template <class Run>
const char* for_short_type(Type type, const Run& run) {
  switch (type) {
    case Type::float32: return run(float());
    case Type::float16: return run(__half());
    case Type::bfloat16: return run(__nv_bfloat16());
    default: return "no such kernel for this type";
  }
}

template <class Run>
const char* for_type(Type type, const Run& run) {
  return type == Type::float64 ? run(double()) : for_short_type(type, run);
}

}  // namespace stylegan2
