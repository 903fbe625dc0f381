// upfirdn2d on CUDA: the choice among kernels, and the one for any filter, factors and type.

#include "upfirdn2d.cuh"

namespace stylegan2 {
namespace {

// One axis of the operation.
struct Axis {
  int64_t in, pad;
  int32_t up, down, taps;

  // The first pixel at or after mid and 0, and the tap that meets it; the next ones are one pixel and `up` taps on.
  __device__ __forceinline__ void first(int64_t output, int64_t& pixel, int64_t& tap) const {
    const int64_t mid = output * down - pad;
    pixel = mid <= 0 ? 0 : (mid + up - 1) / up;
    tap = pixel * up - mid;
  }
};

template <class Index>
struct Generic {
  const void* x;
  void* y;
  Filter filter;
  Axis h, w;
  int64_t x_n, x_c, x_h, x_w;
  Index count;
  typename DivisorOf<Index>::type c, out_h, out_w;
  bool channels_last;
};

// A thread for each output, in the order of memory.
template <class T, class Index>
__global__ void __launch_bounds__(THREADS, 3) generic_kernel(const Generic<Index> p) {
  using S = Sum<T>;
  const Index index = Index(blockIdx.x) * THREADS + threadIdx.x;
  if (index >= p.count) return;

  Index rest = index, channel = 0;
  if (p.channels_last) channel = p.c.remainder(rest), rest = p.c.quotient(rest);
  const Index ox = p.out_w.remainder(rest);
  rest = p.out_w.quotient(rest);
  const Index oy = p.out_h.remainder(rest);
  rest = p.out_h.quotient(rest);
  if (!p.channels_last) channel = p.c.remainder(rest), rest = p.c.quotient(rest);
  const T* const x = static_cast<const T*>(p.x) + int64_t(rest) * p.x_n + int64_t(channel) * p.x_c;

  int64_t iy, ix, ky, kx;
  p.h.first(oy, iy, ky);
  p.w.first(ox, ix, kx);
  S sum = 0;
  for (; ky < p.h.taps && iy < p.h.in; ky += p.h.up, iy++) {
    const T* from = x + iy * p.x_h + ix * p.x_w;
    S row = 0;
    for (int64_t k = kx, i = ix; k < p.w.taps && i < p.w.in; k += p.w.up, i++, from += p.x_w) {
      const Filter& f = p.filter;
      row += wide(*from) * (f.separable ? f.along<S>(int(k)) : f.at<S>(int(ky), int(k)));
    }
    sum += p.filter.separable ? row * p.filter.template along<S>(int(ky)) : row;
  }
  store_one(static_cast<T*>(p.y) + index, sum);
}

template <class T, class Index>
const char* run_generic(const Upfirdn2d& p, const Device& device) {
  using Divide = typename DivisorOf<Index>::type;
  const int64_t count = p.n * p.c * p.out_h * p.out_w;
  const Generic<Index> g{p.x, p.y, Filter(p), {p.in_h, p.pad_y, p.up_y, p.down_y, p.fh},
                         {p.in_w, p.pad_x, p.up_x, p.down_x, p.fw}, p.x_stride[0], p.x_stride[1], p.x_stride[2],
                         p.x_stride[3], Index(count), Divide(p.c), Divide(p.out_h), Divide(p.out_w), channels_last(p)};
  return launch(device, generic_kernel<T, Index>, ceil_div(count, THREADS), g);
}

// Whether tiled kernels know these factors: 1/1, 2/1, 1/2.
bool known_factors(const Upfirdn2d& p) {
  return p.up_x == p.up_y && p.down_x == p.down_y && p.up_x * p.down_x <= 2;
}

}  // namespace

const char* upfirdn2d(const Upfirdn2d& p, const Device& device) {
  if (p.n * p.c * p.out_h * p.out_w == 0) return nullptr;
  if (p.type != Type::float64 && known_factors(p) && fits_tiles(p)) {
    if (p.fh <= 4 && p.fw <= 4) {
      return channels_last(p) ? upfirdn2d_4x4_channels(p, device) : upfirdn2d_4x4_planes(p, device);
    }
    if (p.separable && p.fw <= 12) return upfirdn2d_separable(p, device);
  }
  return for_type(p.type, [&](auto zero) {
    using T = decltype(zero);
    return p.n * p.c * p.out_h * p.out_w < SMALL ? run_generic<T, uint32_t>(p, device)
                                                 : run_generic<T, uint64_t>(p, device);
  });
}

}  // namespace stylegan2
