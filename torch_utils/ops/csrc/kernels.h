// What the bindings hand to a kernel on any device: addresses, sizes, strides. No torch and no CUDA in here, so that
// kernels compile alone, in seconds, with any compiler.
//
// Each function returns nullptr, or a static text that says what went wrong. x, y and their gradients have type `type`;
// sums and products are taken in float (double where type is float64). Sizes and strides count elements. Counts of zero
// are allowed everywhere. Results do not depend on the number of threads, and are the same from run to run.
#pragma once

#include <cstdint>

namespace stylegan2 {

enum class Type : int32_t { float32, float64, float16, bfloat16 };

using Body = void (*)(int64_t begin, int64_t end, void* context);

struct Device {
  int32_t index;  // of the CUDA device; of no meaning on a CPU
  void* stream;   // cudaStream_t to launch on; of no meaning on a CPU
  // CPU: runs body(begin, end, context) over parts of [0, count), none but the last shorter than grain, on torch's
  // threads
  void (*parallel_for)(int64_t count, int64_t grain, Body body, void* context);
};

// A piecewise-linear activation: act(t) = gain * (t > 0 ? t : alpha * t), clipped to +-clamp. A nan t stays nan.
// Its slope follows from its output y: 0 where |y| >= clamp, else gain where y > 0 and gain * alpha where not.
struct Activation {
  double alpha;  // >= 0
  double gain;   // > 0
  double clamp;  // exact in the type of x; < 0: none
};

// y[i] = act(x[i] + b[(i / step) % size]) for i in [0, count): dense x and y of one layout.
struct BiasAct {
  Type type;
  Activation act;
  const void* x;
  const void* b;  // [size], or nullptr
  void* y;
  int64_t count, step, size;
};

// dx[i] = dy[i] * slope(y[i]).
struct BiasActGrad {
  Type type;
  Activation act;
  const void* dy;
  const void* y;
  void* dx;
  int64_t count;
};

// y[oy, ox] = sum over ky, kx of F[ky, kx] * u[oy * down_y + ky, ox * down_x + kx] for each of n * c images, where
// u[j, i] = x[(j - pad_y) / up_y, (i - pad_x) / up_x] where that is whole and inside, else 0.
// F[ky, kx] = T[ky, kx] where flip, else T[fh-1-ky, fw-1-kx]; T = f * gain, or for a separable f (one row of fw = fh
// taps) T[ky, kx] = (f[ky] * gain) * (f[kx] * gain). Each f * gain is rounded to the type of f.
struct Upfirdn2d {
  Type type;
  Type f_type;  // float32 or float64
  const void* x;
  const void* f;  // dense, on the device of x: [fh, fw], or [fw] where separable
  void* y;
  int64_t n, c, in_h, in_w, out_h, out_w;
  int64_t x_stride[4], y_stride[4];  // of n, c, h, w; x_stride may be anything, y is dense NCHW or channels-last
  int32_t fh, fw;
  int32_t up_x, up_y, down_x, down_y;
  int64_t pad_x, pad_y;  // left and top, negative where they crop; right and bottom follow from out_w and out_h
  double gain;
  bool separable, flip;
};

// y[n,c,p] = act(x[n,c,p] * scale[n,c] + noise[n or 0,p] * *strength + b[c]) for dense x and y of one layout.
struct SynthesisAct {
  Type type;
  Activation act;
  const void* x;
  const float* scale;     // [n,c], or nullptr; double where type is float64, and so are the next three
  const float* noise;     // [n,pixels], or [pixels] where noise_shared, or nullptr
  const float* strength;  // one number; nullptr where noise is
  const float* b;         // [c], or nullptr
  void* y;
  int64_t n, c, pixels;
  bool channels_last, noise_shared;
};

// With g = dy * slope(y): dx = g * scale, and the sums over p that the gradients of scale, strength and b are made of.
struct SynthesisActGrad {
  Type type;
  Activation act;
  const void* dy;
  const void* y;
  const void* x;       // nullptr where sum_gx is
  const float* scale;  // [n,c], or nullptr for ones; double where type is float64, and so are the next four
  const float* noise;  // nullptr where sum_gnoise is
  void* dx;
  float* sum_gx;      // [n,c] sum of g * x, or nullptr where it is not wanted
  float* sum_gnoise;  // [n,c] sum of g * noise, or nullptr
  float* sum_g;       // [n,c] sum of g, or nullptr
  void* workspace;    // of synthesis_act_workspace(...) bytes
  int64_t n, c, pixels;
  bool channels_last, noise_shared;
};

// Sizes of a 3x3 convolution of [n, in_h, in_w, in] to [n, out_h, out_w, out], all float32 and dense.
struct WinogradSizes {
  int64_t n, in_h, in_w, in, out_h, out_w, out, stride;
};

// y[n,h,w,o] = sum over i, ky, kx of x[n, h * stride + ky - before, w * stride + kx - before, i] * w[o, i, ky, kx],
// where x is 0 outside the image. stride 1: before = 1, images keep their size; stride 2: before = 0.
// transpose, of stride 2 only: its transpose, to 2 * in_h + 1 by 2 * in_w + 1 pixels, with w[o, i] for what is w[i, o]
// there; of stride 1 it is the same as with the kernels turned round.
struct Winograd : WinogradSizes {
  const float* x;
  const float* w;  // [out, in, 3, 3], or as the steps say
  float* y;
  float* workspace;               // winograd_workspace(...) bytes
  int64_t w_step_out, w_step_in;  // between kernels, of 9 numbers that are neighbours
  bool transpose, turned;         // turned: w is kernels turned round
};

// dw[o, i, ky, kx] = sum over n, h, w of dy[n,h,w,o] * x[n, h * stride + ky - before, w * stride + kx - before, i].
struct WinogradWeightGrad : WinogradSizes {
  const float* dy;
  const float* x;
  float* dw;         // [out, in, 3, 3]
  float* workspace;  // winograd_workspace(...) bytes
};

// sums[i] = of the squares of w[i, 9].
struct Energy {
  const float* w;
  float* sums;
  int64_t count;
};

const char* bias_act(const BiasAct& p, const Device& device);
const char* bias_act_grad(const BiasActGrad& p, const Device& device);
const char* upfirdn2d(const Upfirdn2d& p, const Device& device);
const char* synthesis_act(const SynthesisAct& p, const Device& device);
const char* synthesis_act_grad(const SynthesisActGrad& p, const Device& device);
int64_t synthesis_act_workspace(const SynthesisActGrad& p);
const char* winograd(const Winograd& p, const Device& device);  // these on a CPU alone
const char* winograd_weight_grad(const WinogradWeightGrad& p, const Device& device);
int64_t winograd_workspace(const WinogradSizes& p, bool transpose);
const char* energy(const Energy& p, const Device& device);

}  // namespace stylegan2
