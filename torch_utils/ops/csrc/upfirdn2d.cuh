// What the kernels of upfirdn2d share. Each of them first finds where u = x with zeros inserted and padded meets the
// pixels of x: with mid = o * down - pad for output o, tap k meets pixel i where mid + k == i * up.
#pragma once

#include "cuda_common.cuh"

namespace stylegan2 {

// The filter, read on the device by whoever needs a tap.
struct Filter {
  const void* f;
  double gain;
  int32_t fh, fw;
  bool is_double, separable, flip;

  explicit Filter(const Upfirdn2d& p)
      : f(p.f), gain(p.gain), fh(p.fh), fw(p.fw), is_double(p.f_type == Type::float64), separable(p.separable),
        flip(p.flip) {}

  template <class S>
  __device__ __forceinline__ S scaled(int i) const {
    return is_double ? S(static_cast<const double*>(f)[i] * gain) : S(static_cast<const float*>(f)[i] * float(gain));
  }
  // Of a separable filter, the tap that meets u[k] of one axis.
  template <class S>
  __device__ __forceinline__ S along(int k) const {
    return scaled<S>(flip ? k : fw - 1 - k);
  }
  // F[ky, kx] of kernels.h
  template <class S>
  __device__ __forceinline__ S at(int ky, int kx) const {
    if (separable) return along<S>(ky) * along<S>(kx);
    return scaled<S>(flip ? ky * fw + kx : (fh - 1 - ky) * fw + fw - 1 - kx);
  }
};

inline bool channels_last(const Upfirdn2d& p) { return p.c > 1 && p.y_stride[1] == 1; }

// Whether 32 bits hold all sizes and the offsets within an image (with room for the edges of tiles).
inline bool fits_tiles(const Upfirdn2d& p) {
  constexpr int64_t limit = 1 << 30;
  const int64_t sizes[] = {p.in_h, p.in_w, p.out_h * 2, p.out_w * 2, p.n * p.c};
  for (int64_t size : sizes) {
    if (size >= limit) return false;
  }
  int64_t reach = 0;
  for (int d = 1; d < 4; d++) {
    const int64_t size[] = {p.n, p.c, p.in_h, p.in_w};
    if (p.x_stride[d] < 0 || p.x_stride[d] >= limit) return false;
    reach += (size[d] - 1) * p.x_stride[d];
  }
  return reach < limit && p.c * p.out_h < limit && p.c * p.out_h * p.out_w < limit &&
         std::abs(p.pad_x) < limit / 4 && std::abs(p.pad_y) < limit / 4;
}

// Whether vectors of V numbers can be read from every pixel, row and image of x on, in the dimension of stride 1.
inline bool vectors_fit(const Upfirdn2d& p, int unit_dimension, int64_t bytes, int64_t element) {
  const int64_t size[] = {p.n, p.c, p.in_h, p.in_w};
  for (int d = 0; d < 4; d++) {
    if (size[d] > 1 && (d == unit_dimension ? p.x_stride[d] != 1 : p.x_stride[d] * element % bytes != 0)) return false;
  }
  return is_aligned(p.x, bytes);
}

// Sizes of x's images and strides of x, as the tiled kernels take them.
struct Image {
  int32_t in_h, in_w, out_h, out_w, pad_x, pad_y, c;
  int32_t x_c, x_h, x_w;
  int64_t x_n;

  explicit Image(const Upfirdn2d& p)
      : in_h(p.in_h), in_w(p.in_w), out_h(p.out_h), out_w(p.out_w), pad_x(p.pad_x), pad_y(p.pad_y), c(p.c),
        x_c(p.x_stride[1]), x_h(p.x_stride[2]), x_w(p.x_stride[3]), x_n(p.x_stride[0]) {}
};

// Tiled kernels for up and down by 1/1, 2/1 or 1/2 on both axes; p fits_tiles and has no more taps than the name says.
const char* upfirdn2d_4x4_planes(const Upfirdn2d& p, const Device& device);
const char* upfirdn2d_4x4_channels(const Upfirdn2d& p, const Device& device);
const char* upfirdn2d_separable(const Upfirdn2d& p, const Device& device);

// run(up, down) as types that carry constants.
template <int N> struct Const { static constexpr int value = N; };
template <class Run>
const char* for_factors(const Upfirdn2d& p, const Run& run) {
  return p.up_x == 2 ? run(Const<2>(), Const<1>()) : p.down_x == 2 ? run(Const<1>(), Const<2>())
                                                                  : run(Const<1>(), Const<1>());
}

}  // namespace stylegan2
