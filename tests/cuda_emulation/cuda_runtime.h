// The part of the CUDA runtime that the kernels use, on a CPU: a .cu file compiles as C++ and its logic is tested where
// there is no GPU. Found first on the include path; needs no CUDA toolkit.
//
// Blocks run one after another. The threads of a block are fibers that run until their next barrier; their order turns
// round at each barrier, so that a missing one shows. What real hardware would refuse, or hang on, ends the program.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "fibers.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static  // one block runs at a time
#define __align__(n) alignas(n)
#define __syncthreads() emulation::barrier(__LINE__)

struct dim3 {
  unsigned int x = 1, y = 1, z = 1;
  dim3(unsigned int x = 1, unsigned int y = 1, unsigned int z = 1) : x(x), y(y), z(z) {}
};
struct uint3 {
  unsigned int x, y, z;
};

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

inline uint32_t __umulhi(uint32_t a, uint32_t b) { return uint32_t((uint64_t(a) * b) >> 32); }

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9, cudaErrorInvalidDevice = 101 };
using cudaStream_t = void*;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  void* attrs = nullptr;
  unsigned int numAttrs = 0;
};

namespace emulation {

constexpr int DEVICES = 2;
inline int current_device = 0;
inline cudaError_t last_error = cudaSuccess;
inline long launches = 0;

inline cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

inline uint3 position(int i, const dim3& size) { return {i % size.x, i / size.x % size.y, i / size.x / size.y}; }

}  // namespace emulation

inline cudaError_t cudaGetLastError() { return std::exchange(emulation::last_error, cudaSuccess); }
inline cudaError_t cudaPeekAtLastError() { return emulation::last_error; }
inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error"
         : error == cudaErrorInvalidDevice ? "invalid device ordinal" : "invalid configuration argument";
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = emulation::current_device;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= emulation::DEVICES) return emulation::remember(cudaErrorInvalidDevice);
  emulation::current_device = device;
  return cudaSuccess;
}

// Runs the kernel before it returns. An empty grid or one beyond the hardware's limits is an error, as it is there.
template <class... Expected, class... Given>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Expected...), Given&&... given) {
  static_assert((0 + ... + sizeof(Expected)) <= 4096, "a kernel takes 4 KB of parameters");
  const dim3 grid = config->gridDim, block = config->blockDim;
  const int64_t threads = int64_t(block.x) * block.y * block.z;
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 || threads < 1 ||
      threads > 1024 || block.z > 64 || config->dynamicSmemBytes > 48 * 1024) {
    return emulation::remember(cudaErrorInvalidConfiguration);
  }
  const auto hold = emulation::one_at_a_time();
  emulation::launches++;
  gridDim = grid, blockDim = block;
  const std::tuple<Expected...> arguments(std::forward<Given>(given)...);
  for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++) {
    for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++) {
      for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) {
        emulation::run_block(int(threads), [&] { std::apply(kernel, arguments); },
                             [&](int i) { threadIdx = emulation::position(i, block); });
      }
    }
  }
  return cudaSuccess;
}
