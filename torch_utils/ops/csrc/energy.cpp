// The energy of 3x3 kernels, which demodulation adds up: one pass over the weights, a kernel in each lane.

#include <algorithm>

#include "vector_transpose.h"

namespace stylegan2 {
namespace {

constexpr int64_t PER_THREAD = 1 << 12;  // kernels

// LANES kernels at w, of which max(9, LANES) numbers from each are there to be read.
Vector energies(const float* w) {
  Vector taps[9];
  read_columns<9>(w, 9, taps);
  Vector sum = taps[0] * taps[0];
#pragma GCC unroll 8
  for (int k = 1; k < 9; k++) sum += taps[k] * taps[k];
  return sum;
}

}  // namespace

const char* energy(const Energy& p, const Device& device) {
  const int64_t blocks = ceil_div(p.count, LANES), whole = std::max<int64_t>(p.count / LANES - 1, 0);
  auto body = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * LANES; i < end * LANES; i += LANES) {
      if (i < whole * LANES) {
        put(energies(p.w + i * 9), p.sums + i);
      } else {
        float last[LANES * 9 + LANES] = {};
        const int64_t kernels = std::min(LANES, p.count - i);
        std::copy_n(p.w + i * 9, kernels * 9, last);
        put(energies(last), p.sums + i, kernels);
      }
    }
  };
  parallel(device, blocks, PER_THREAD / LANES, body);
  return nullptr;
}

}  // namespace stylegan2
