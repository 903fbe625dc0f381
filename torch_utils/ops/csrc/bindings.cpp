// Joins the kernels to torch's dispatcher, through torch's stable ABI alone: seconds to compile, and one source for the
// CPU library and (with STYLEGAN2_CUDA) the CUDA library, which link different kernels of the same names.
//
// Nothing is registered when the library is loaded, but by stylegan2_register(): the caller tries the kernels first.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "tensors.h"

#ifdef STYLEGAN2_CUDA
#define STYLEGAN2_KEY "CUDA"
// Weak: a library built for CUDA can be loaded and inspected under a torch without it.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream);
#else
#define STYLEGAN2_KEY "CPU"
#endif

namespace {

using namespace tensors;

#ifndef STYLEGAN2_CUDA
void parallel_for(int64_t count, int64_t grain, stylegan2::Body body, void* context) {
  torch_parallel_for(0, count, grain, body, context);
}
#endif

stylegan2::Device device_of(const Tensor& x) {
  stylegan2::Device device{};
#ifdef STYLEGAN2_CUDA
  device.index = x.get_device_index();
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream, "this torch has no CUDA");
  ok(aoti_torch_get_current_cuda_stream(device.index, &device.stream));
#else
  (void)x;
  device.parallel_for = parallel_for;
#endif
  return device;
}

void check(const char* error) { STD_TORCH_CHECK(error == nullptr, "stylegan2 kernel: ", error ? error : ""); }

void check_same_device(const Tensor& x, const Tensor& other, const char* name) {
  STD_TORCH_CHECK(x.is_cuda() == other.is_cuda() && x.get_device_index() == other.get_device_index(), name,
                  " is on another device than x");
}

stylegan2::Activation activation(double alpha, double gain, std::optional<double> clamp) {
  return {alpha, gain, clamp.value_or(-1.0)};
}

Tensor bias_act(Tensor x, std::optional<Tensor> b, int64_t dim, double alpha, double gain,
                std::optional<double> clamp) {
  x = dense(x);
  Tensor y = empty_as(x);
  stylegan2::BiasAct p{
      type_of(x), activation(alpha, gain, clamp), x.data_ptr(), nullptr, y.data_ptr(), x.numel(), 1, 1};
  if (b) {
    check_same_device(x, *b, "b");
    STD_TORCH_CHECK(b->scalar_type() == x.scalar_type() && b->dim() == 1 && b->size(0) == x.size(dim),
                    "b does not fit x");
    b = torch::stable::contiguous(*b);
    p.b = b->data_ptr();
    p.size = x.size(dim);
    p.step = p.size == 1 ? std::max<int64_t>(p.count, 1) : x.stride(dim);
  }
  check(stylegan2::bias_act(p, device_of(x)));
  return y;
}

Tensor bias_act_grad(Tensor dy, Tensor y, double alpha, double gain, std::optional<double> clamp) {
  check_same_device(dy, y, "y");
  dy = dense(dy);
  y = aligned(y, dy);
  Tensor dx = empty_as(dy);
  const stylegan2::Activation act = activation(alpha, gain, clamp);
  check(stylegan2::bias_act_grad({type_of(dy), act, dy.data_ptr(), y.data_ptr(), dx.data_ptr(), dy.numel()},
                                 device_of(dy)));
  return dx;
}

int64_t output_size(int64_t in, int64_t up, int64_t down, int64_t pad0, int64_t pad1, int64_t taps) {
  const int64_t full = in * up + pad0 + pad1;
  STD_TORCH_CHECK(full >= taps && up >= 1 && down >= 1, in, " pixels padded to ", full, " do not hold ", taps, " taps");
  return (full - taps) / down + 1;
}

Tensor upfirdn2d(Tensor x, Tensor f, std::vector<int64_t> up, std::vector<int64_t> down, std::vector<int64_t> padding,
                 bool flip, double gain) {
  STD_TORCH_CHECK(x.dim() == 4 && (f.dim() == 1 || f.dim() == 2), "x [N,C,H,W], f [kh,kw] or [k]");
  STD_TORCH_CHECK(up.size() == 2 && down.size() == 2 && padding.size() == 4, "up, down: 2 numbers; padding: 4");
  check_same_device(x, f, "f");
  if (f.scalar_type() != ScalarType::Float && f.scalar_type() != ScalarType::Double) {
    f = torch::stable::to(f, ScalarType::Float);
  }
  f = torch::stable::contiguous(f);

  stylegan2::Upfirdn2d p{};
  p.type = type_of(x);
  p.f_type = type_of(f);
  p.separable = f.dim() == 1;
  p.fw = f.size(f.dim() - 1);
  p.fh = f.size(0);
  p.n = x.size(0), p.c = x.size(1), p.in_h = x.size(2), p.in_w = x.size(3);
  p.out_w = output_size(p.in_w, up[0], down[0], padding[0], padding[1], p.fw);
  p.out_h = output_size(p.in_h, up[1], down[1], padding[2], padding[3], p.fh);
  p.up_x = up[0], p.up_y = up[1], p.down_x = down[0], p.down_y = down[1];
  p.pad_x = padding[0], p.pad_y = padding[2];
  p.gain = p.separable ? std::sqrt(gain) : gain;
  p.flip = flip;

  const Sizes size = {p.n, p.c, p.out_h, p.out_w};
  const Sizes strides = strides_for(size, is_channels_last(x) ? CHANNELS_LAST : Sizes{3, 2, 1, 0});
  Tensor y = new_tensor(x, size, strides);
  for (int d = 0; d < 4; d++) p.x_stride[d] = x.stride(d), p.y_stride[d] = strides[d];
  p.x = x.data_ptr(), p.f = f.data_ptr(), p.y = y.data_ptr();
  check(stylegan2::upfirdn2d(p, device_of(x)));
  return y;
}

// x where it is dense as NCHW or channels-last, else an NCHW copy.
Tensor in_format(const Tensor& x) {
  STD_TORCH_CHECK(x.dim() == 4, "x [N,C,H,W]");
  return x.is_contiguous() || is_channels_last(x) ? x : torch::stable::contiguous(x);
}

// y in the layout that an elementwise operator would give to its result for x.
Tensor in_layout_of(const Tensor& x, Tensor y) { return aligned(y, dense(x)); }

ScalarType sum_type(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// The address of t, dense, for tensors that accompany x; nullptr for none. Kernels know whether it is float or double.
const float* address(const Tensor& x, std::optional<Tensor>& t, const Sizes& size, const char* name) {
  if (!t) return nullptr;
  check_same_device(x, *t, name);
  STD_TORCH_CHECK(vector_of(t->sizes()) == size && t->scalar_type() == sum_type(x), name, " does not fit x");
  t = torch::stable::contiguous(*t);
  return static_cast<const float*>(t->data_ptr());
}

Sizes noise_size(const Tensor& x, const std::optional<Tensor>& noise) {
  return {noise && noise->dim() == 4 && noise->size(0) == 1 ? 1 : x.size(0), 1, x.size(2), x.size(3)};
}

template <class Params>
void set_sizes(Params& p, const Tensor& x, const std::optional<Tensor>& noise) {
  p.type = type_of(x);
  p.n = x.size(0), p.c = x.size(1), p.pixels = x.size(2) * x.size(3);
  p.channels_last = is_channels_last(x);
  p.noise_shared = noise_size(x, noise)[0] == 1;
}

Tensor synthesis_act(Tensor x, std::optional<Tensor> scale, std::optional<Tensor> noise, std::optional<Tensor> strength,
                     std::optional<Tensor> b, double alpha, double gain, std::optional<double> clamp) {
  STD_TORCH_CHECK(noise.has_value() == strength.has_value(), "noise and strength come together");
  const Tensor given = x;
  x = in_format(x);
  Tensor y = empty_as(x);
  stylegan2::SynthesisAct p{};
  p.act = activation(alpha, gain, clamp);
  set_sizes(p, x, noise);
  p.x = x.data_ptr(), p.y = y.data_ptr();
  p.scale = address(x, scale, {p.n, p.c}, "scale");
  p.noise = address(x, noise, noise_size(x, noise), "noise");
  p.strength = address(x, strength, {}, "strength");
  p.b = address(x, b, {p.c}, "b");
  check(stylegan2::synthesis_act(p, device_of(x)));
  return in_layout_of(given, y);
}

// [n, c] for sums of the type that they are taken in, or [0, 0].
Tensor new_sums(const Tensor& x, bool wanted) {
  const int32_t dtype = sum_type(x) == ScalarType::Double ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32();
  const Sizes size = wanted ? Sizes{x.size(0), x.size(1)} : Sizes{0, 0};
  return new_tensor(x, size, strides_for(size, {1, 0}), dtype);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> synthesis_act_grad(
    Tensor dy, Tensor y, std::optional<Tensor> x, std::optional<Tensor> scale, std::optional<Tensor> noise,
    bool with_sum, double alpha, double gain, std::optional<double> clamp) {
  const Tensor given = dy;
  check_same_device(dy, y, "y");
  dy = in_format(dy);
  y = aligned(y, dy);
  if (x) check_same_device(dy, *x, "x"), x = aligned(*x, dy);
  Tensor dx = empty_as(dy);
  Tensor sum_gx = new_sums(dy, x.has_value()), sum_gnoise = new_sums(dy, noise.has_value()),
         sum_g = new_sums(dy, with_sum);
  stylegan2::SynthesisActGrad p{};
  p.act = activation(alpha, gain, clamp);
  set_sizes(p, dy, noise);
  p.dy = dy.data_ptr(), p.y = y.data_ptr(), p.dx = dx.data_ptr();
  p.x = x ? x->data_ptr() : nullptr;
  p.scale = address(dy, scale, {p.n, p.c}, "scale");
  p.noise = address(dy, noise, noise_size(dy, noise), "noise");
  p.sum_gx = x ? static_cast<float*>(sum_gx.data_ptr()) : nullptr;
  p.sum_gnoise = noise ? static_cast<float*>(sum_gnoise.data_ptr()) : nullptr;
  p.sum_g = with_sum ? static_cast<float*>(sum_g.data_ptr()) : nullptr;
  Tensor workspace = new_tensor(dy, {stylegan2::synthesis_act_workspace(p)}, {1}, aoti_torch_dtype_uint8());
  p.workspace = workspace.data_ptr();
  check(stylegan2::synthesis_act_grad(p, device_of(dy)));
  return {in_layout_of(given, dx), sum_gx, sum_gnoise, sum_g};
}

#ifdef STYLEGAN2_CPU
Tensor channels_last(const Tensor& x) {
  STD_TORCH_CHECK(x.dim() == 4 && x.scalar_type() == ScalarType::Float, "float32 images [N,C,H,W]");
  const Sizes strides = strides_for(vector_of(x.sizes()), CHANNELS_LAST);
  if (laid_out(x, CHANNELS_LAST)) return x;
  Tensor copy = new_tensor(x, vector_of(x.sizes()), strides);
  torch::stable::copy_(copy, x);
  return copy;
}

Tensor new_images(const Tensor& like, const Sizes& sizes) {
  return new_tensor(like, sizes, strides_for(sizes, CHANNELS_LAST));
}

// The sizes of a convolution of x into `out` channels, its workspace beside them.
template <class Params>
Tensor sized(Params& p, const Tensor& x, int64_t out, int64_t stride, bool transpose) {
  const auto size = [=](int64_t n) { return stride == 1 ? n : transpose ? stride * n + 1 : (n - 3) / stride + 1; };
  p.n = x.size(0), p.in_h = x.size(2), p.in_w = x.size(3), p.in = x.size(1), p.out = out, p.stride = stride;
  p.out_h = size(p.in_h), p.out_w = size(p.in_w);
  Tensor workspace = new_tensor(x, {stylegan2::winograd_workspace(p, transpose)}, {1}, aoti_torch_dtype_uint8());
  p.workspace = static_cast<float*>(workspace.data_ptr());
  return workspace;
}

Tensor winograd(Tensor x, Tensor w, int64_t stride, bool transpose) {
  x = channels_last(x);
  const int out = transpose ? 1 : 0;
  STD_TORCH_CHECK(w.dim() == 4 && w.size(1 - out) == x.size(1) && w.size(2) == 3 && w.size(3) == 3 &&
                      w.scalar_type() == ScalarType::Float,
                  "w does not fit x");
  stylegan2::Winograd p{};
  p.transpose = transpose;
  Tensor workspace = sized(p, x, w.size(out), stride, transpose);
  Tensor y = new_images(x, {p.n, p.out, p.out_h, p.out_w});
  if (w.stride(2) != 3 || w.stride(3) != 1) w = torch::stable::contiguous(w);
  p.x = static_cast<const float*>(x.data_ptr()), p.y = static_cast<float*>(y.data_ptr());
  p.w = static_cast<const float*>(w.data_ptr());
  p.w_step_out = w.stride(out), p.w_step_in = w.stride(1 - out);
  p.turned = transpose && stride == 1;
  check(stylegan2::winograd(p, device_of(x)));
  return y;
}

Tensor winograd_weight_grad(Tensor dy, Tensor x, int64_t stride) {
  x = channels_last(x), dy = channels_last(dy);
  stylegan2::WinogradWeightGrad p{};
  Tensor workspace = sized(p, x, dy.size(1), stride, false);
  STD_TORCH_CHECK(dy.size(0) == p.n && dy.size(2) == p.out_h && dy.size(3) == p.out_w, "dy does not fit x");
  const Sizes size = {p.out, p.in, 3, 3};
  Tensor dw = new_tensor(x, size, strides_for(size, {3, 2, 1, 0}));
  p.dy = static_cast<const float*>(dy.data_ptr()), p.x = static_cast<const float*>(x.data_ptr());
  p.dw = static_cast<float*>(dw.data_ptr());
  check(stylegan2::winograd_weight_grad(p, device_of(x)));
  return dw;
}

Tensor energy(Tensor w) {
  STD_TORCH_CHECK(w.dim() == 4 && w.size(2) == 3 && w.size(3) == 3 && w.scalar_type() == ScalarType::Float,
                  "float32 weights [O,I,3,3]");
  w = torch::stable::contiguous(w);
  const Sizes size = {w.size(0), w.size(1)};
  Tensor sums = new_tensor(w, size, strides_for(size, {1, 0}));
  check(stylegan2::energy({static_cast<const float*>(w.data_ptr()), static_cast<float*>(sums.data_ptr()),
                           size[0] * size[1]}, device_of(w)));
  return sums;
}
#endif

using Boxed = void (*)(StableIValue*, uint64_t, uint64_t);
const std::pair<const char*, Boxed> OPERATORS[] = {
    {"bias_act", TORCH_BOX(&bias_act)},
    {"bias_act_grad", TORCH_BOX(&bias_act_grad)},
    {"upfirdn2d", TORCH_BOX(&upfirdn2d)},
    {"synthesis_act", TORCH_BOX(&synthesis_act)},
    {"synthesis_act_grad", TORCH_BOX(&synthesis_act_grad)},
#ifdef STYLEGAN2_CPU
    {"winograd", TORCH_BOX(&winograd)},
    {"winograd_weight_grad", TORCH_BOX(&winograd_weight_grad)},
    {"energy", TORCH_BOX(&energy)},
#endif
};

TorchLibraryHandle registered = nullptr;

}  // namespace

#define STYLEGAN2_EXPORT extern "C" __attribute__((visibility("default")))

// Makes the kernels those of torch.ops.stylegan2 for this library's dispatch key. Returns 0, or 1 on failure.
STYLEGAN2_EXPORT int stylegan2_register() {
  if (registered) return 0;
  if (aoti_torch_library_init_impl("stylegan2", STYLEGAN2_KEY, __FILE__, __LINE__, &registered)) return 1;
  for (const auto& [name, kernel] : OPERATORS) {
    if (torch_library_impl(registered, name, kernel, TORCH_ABI_VERSION)) return 1;
  }
  return 0;
}

// Takes them back: what was registered before, the reference, serves again.
STYLEGAN2_EXPORT int stylegan2_unregister() {
  TorchLibraryHandle library = registered;
  registered = nullptr;
  return library ? aoti_torch_delete_library_object(library) : 0;
}
