// Upsample, pad, filter and downsample: per row of the output one sum of input rows and one along the row.
//
// Neither inserted zeros nor dropped pixels are computed: outputs of one phase (Axis) see the same taps on consecutive
// pixels, so that every inner loop runs over consecutive numbers: columns in NCHW, where strided samples are first
// split into rows of their own, and channels in channels-last. Rows are padded with zeros, so that no loop has edges.

#include <new>

#include "upfirdn2d_plane_worker.h"
#include "upfirdn2d_row_worker.h"

namespace stylegan2 {
namespace {

constexpr int64_t PER_THREAD = 1 << 14;  // fewer outputs are not worth a thread

template <class Worker, class T>
void run(const Plan<T>& plan, const Device& device) {
  const int64_t height = plan.p.out_h;
  auto rows = [&](int64_t begin, int64_t end) {
    Worker worker(plan);
    while (begin < end) {
      const int64_t i = begin / height, row = begin % height, count = std::min(height - row, end - begin);
      worker.image(i, row, row + count);
      begin += count;
    }
  };
  parallel(device, plan.images() * height, std::max<int64_t>(PER_THREAD / plan.work_per_row(), 1), rows);
}

}  // namespace

const char* upfirdn2d(const Upfirdn2d& p, const Device& device) {
  if (p.n == 0 || p.c == 0 || p.out_h == 0 || p.out_w == 0) return nullptr;
  return with_type(p.type, [&](auto type) -> const char* {
    using T = decltype(type);
    try {
      const Plan<T> plan{p};
      plan.planes ? run<PlaneWorker<T>>(plan, device) : run<RowWorker<T>>(plan, device);
    } catch (const std::bad_alloc&) {
      return "out of memory";
    }
    return nullptr;
  });
}

}  // namespace stylegan2
