// Tensors as the bindings see them: how they lie in memory, and new ones like them.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "kernels.h"

namespace tensors {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Sizes = std::vector<int64_t>;

inline void ok(AOTITorchError code) { STD_TORCH_CHECK(code == 0, "torch refused a call of the stylegan2 operators"); }

inline stylegan2::Type type_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case ScalarType::Float: return stylegan2::Type::float32;
    case ScalarType::Double: return stylegan2::Type::float64;
    case ScalarType::Half: return stylegan2::Type::float16;
    case ScalarType::BFloat16: return stylegan2::Type::bfloat16;
    default: STD_TORCH_CHECK(false, "stylegan2 operators take float16, bfloat16, float32 or float64");
  }
}

inline Sizes vector_of(torch::headeronly::IntHeaderOnlyArrayRef a) { return Sizes(a.begin(), a.end()); }

// Strides of `sizes` when dimensions are laid out in `order`, the fastest first.
inline Sizes strides_for(const Sizes& sizes, const Sizes& order) {
  Sizes strides(sizes.size());
  int64_t step = 1;
  for (int64_t d : order) {
    strides[d] = step;
    step *= std::max<int64_t>(sizes[d], 1);
  }
  return strides;
}

inline bool laid_out(const Tensor& x, const Sizes& order) {
  const Sizes sizes = vector_of(x.sizes()), expected = strides_for(sizes, order);
  for (size_t d = 0; d < sizes.size(); d++) {
    if (sizes[d] != 1 && x.stride(d) != expected[d]) return false;
  }
  return true;
}

inline const Sizes CHANNELS_LAST = {1, 3, 2, 0};

inline bool is_channels_last(const Tensor& x) { return x.dim() == 4 && laid_out(x, CHANNELS_LAST) && !x.is_contiguous(); }

// Whether x fills one block of memory, in whatever order of dimensions.
inline bool is_dense(const Tensor& x) {
  Sizes order;
  for (int64_t d = 0; d < x.dim(); d++) {
    if (x.size(d) != 1) order.push_back(d);
  }
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return x.stride(a) < x.stride(b); });
  return x.numel() == 0 || laid_out(x, order);
}

inline Tensor dense(const Tensor& x) { return is_dense(x) ? x : torch::stable::clone(x); }

inline Tensor new_tensor(const Tensor& like, const Sizes& sizes, const Sizes& strides,
                  std::optional<int32_t> dtype = std::nullopt) {
  int32_t kind = 0, own = 0, index = 0;
  AtenTensorHandle out = nullptr;
  ok(aoti_torch_get_device_type(like.get(), &kind));
  ok(aoti_torch_get_device_index(like.get(), &index));
  ok(aoti_torch_get_dtype(like.get(), &own));
  STD_TORCH_CHECK(aoti_torch_empty_strided(sizes.size(), sizes.data(), strides.data(), dtype.value_or(own), kind,
                                           index, &out) == 0,
                  "can't allocate memory for what a stylegan2 operator computes");  // is_out_of_memory knows these words
  return Tensor(out);
}

inline Tensor empty_as(const Tensor& x) { return new_tensor(x, vector_of(x.sizes()), vector_of(x.strides())); }

// y in the layout of x, which is dense.
inline Tensor aligned(const Tensor& y, const Tensor& x) {
  STD_TORCH_CHECK(vector_of(y.sizes()) == vector_of(x.sizes()) && y.scalar_type() == x.scalar_type(),
                  "stylegan2 operators want tensors of one size and type");
  bool same = true;
  for (int64_t d = 0; d < x.dim(); d++) same = same && (x.size(d) == 1 || x.stride(d) == y.stride(d));
  if (same) return y;
  Tensor copy = empty_as(x);
  torch::stable::copy_(copy, y);
  return copy;
}

}  // namespace tensors
