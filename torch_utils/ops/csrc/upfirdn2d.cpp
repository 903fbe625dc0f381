// Upsample, pad, filter and downsample: per row of the output one sum of input rows and one along the row.
//
// Neither inserted zeros nor dropped pixels are computed: outputs of one phase (Axis) see the same taps on consecutive
// pixels, so that every inner loop runs over consecutive numbers: columns in NCHW, where strided samples are first
// split into rows of their own, and channels in channels-last. Rows are padded with zeros, so that no loop has edges.

#include <new>

#include "upfirdn2d_channels_worker.h"
#include "upfirdn2d_plane_worker.h"
#include "upfirdn2d_row_worker.h"

namespace stylegan2 {
namespace {

constexpr int64_t PER_THREAD = 1 << 14;  // fewer outputs are not worth a thread

// All images in units of rows, `units` of `outputs` numbers each an image; a worker serves one thread.
template <class Worker, class T>
void run(const Plan<T>& plan, const Device& device, int64_t units, int64_t outputs) {
  auto some = [&](int64_t begin, int64_t end) {
    Worker worker(plan);
    while (begin < end) {
      const int64_t i = begin / units, unit = begin % units, count = std::min(units - unit, end - begin);
      worker.image(i, unit, unit + count);
      begin += count;
    }
  };
  parallel(device, plan.images() * units, std::max<int64_t>(PER_THREAD / outputs, 1), some);
}

// Whether a ChannelsWorker has done it: Worker where it fits, else one of the others.
template <class T, class Worker, class... Others>
bool run_channels(const Plan<T>& plan, const Device& device) {
  if (Worker::fits(plan.across, plan.down)) {
    const int64_t blocks = Worker::blocks(plan.p);
    run<Worker>(plan, device, blocks, plan.work_per_row() * ceil_div(plan.p.out_h, blocks));
    return true;
  }
  if constexpr (sizeof...(Others) > 0) return run_channels<T, Others...>(plan, device);
  return false;
}

template <class T>
bool run_channels(const Plan<T>& plan, const Device& device) {
  if constexpr (std::is_same_v<T, float> || std::is_same_v<T, BFloat>) {
    return plan.taps.product && plan.p.c >= LANES && plan.p.x_stride[1] == 1 && plan.p.y_stride[1] == 1 &&
           run_channels<T, ChannelsWorker<T, 1, 1>, ChannelsWorker<T, 1, 2>, ChannelsWorker<T, 2, 1, 0>,
                        ChannelsWorker<T, 2, 1, 1>>(plan, device);
  }
  return false;
}

template <class T>
void run(const Plan<T>& plan, const Device& device) {
  if (plan.wide && run_channels(plan, device)) return;
  const int64_t rows = plan.p.out_h;
  plan.planes ? run<PlaneWorker<T>>(plan, device, rows, plan.work_per_row())
              : run<RowWorker<T>>(plan, device, rows, plan.work_per_row());
}

}  // namespace

const char* upfirdn2d(const Upfirdn2d& p, const Device& device) {
  if (p.n == 0 || p.c == 0 || p.out_h == 0 || p.out_w == 0) return nullptr;
  return with_type(p.type, [&](auto type) -> const char* {
    using T = decltype(type);
    try {
      run(Plan<T>{p}, device);
    } catch (const std::bad_alloc&) {
      return "out of memory";
    }
    return nullptr;
  });
}

}  // namespace stylegan2
