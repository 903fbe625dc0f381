#pragma once

#include <memory>

#include "upfirdn2d_plan.h"
#include "upfirdn2d_rows.h"

namespace stylegan2 {

// One thread's work on many rows at a time, so that short rows cost little: of one channel in NCHW, of all channels, if
// they are few, in channels-last. The filter is a column times a row. All rows of one phase that no edge touches are
// one call.
template <class T>
class PlaneWorker {
  using A = Compute<T>;

 public:
  explicit PlaneWorker(const Plan<T>& plan)
      : plan(plan), p(plan.p), channels(plan.channels), vertical_offsets(plan.down.most),
        sheet_size(sheet_rows() * plan.row_size),
        memory(new A[2 * sums_size() + sheet_size + results_size() + plan.steps * plan.across.up * plan.channels]) {
    sums = memory.get();
    parts = sums + sums_size();
    sheet = parts + sums_size();
    results = sheet + sheet_size;
    line = results + results_size();
  }

  // Rows [begin, end) of the output of one image.
  void image(int64_t i, int64_t begin, int64_t end) {
    x = plan.image_of_x(i), y = plan.image_of_y(i);
    for (int64_t step = 0; step * plan.across.up < p.out_w; step += plan.steps) {
      start_column(step);
      for (int64_t row = begin; row < end; row += plan.rows) {
        const int64_t count = std::min(plan.rows, end - row);
        vertical(row, row + count);
        horizontal(count, y + row * p.y_stride[2] + step * plan.across.up * p.y_stride[3]);
      }
    }
  }

 private:
  int64_t sums_size() const { return plan.rows * plan.row_size; }
  int64_t result_size() const { return plan.steps * plan.across.up * channels; }
  int64_t results_size() const { return plan.output_in_place ? 0 : plan.rows * result_size(); }

  int64_t sheet_rows() const {
    return plan.input_in_place ? 0 : (plan.rows / plan.down.up + 1) * plan.down.down + plan.down.extent;
  }

  void start_column(int64_t step) {
    const Axis& across = plan.across;
    width = std::min(plan.steps * across.up, p.out_w - step * across.up);
    const int64_t first = across.first + step * across.down;
    const int64_t old_left = left, old_right = right, old_pixels = pixels;
    pixels = (ceil_div(width, across.up) - 1) * across.down + across.extent;
    left = std::clamp<int64_t>(-first, 0, pixels);
    right = std::clamp<int64_t>(p.in_w - first, left, pixels);
    column = first + left;
    if (left != old_left || right != old_right || pixels != old_pixels) clear_margins();
  }

  void clear_margins() const {
    for (int64_t row = 0; row < plan.rows; row++) {
      A* start = sums + row * plan.row_size;
      std::fill_n(start, left * channels, A(0));
      std::fill(start + right * channels, start + pixels * channels, A(0));
    }
  }

  // sums[row - begin] = the rows of x times their taps, for rows [begin, end) of the output.
  void vertical(int64_t begin, int64_t end) {
    read(begin, end);
    const Axis& down = plan.down;
    for (int64_t q = 0; q < static_cast<int64_t>(down.phases.size()); q++) {
      Phase phase = down.phases[q];
      const int64_t from = std::max<int64_t>(ceil_div(begin - q, down.up), 0), to = ceil_div(end - q, down.up);
      if (from >= to) continue;
      // Steps [low, high) have all their rows inside the image.
      const int64_t low = std::clamp(-floor_div(phase.first, down.down), from, to);
      const int64_t high = std::clamp(floor_div(p.in_h - phase.count - phase.first, down.down) + 1, low, to);
      for (int64_t t = from; t < low; t++) sum_rows(phase, t, 1, row_of_sums(q + t * down.up - begin));
      if (low < high) sum_rows(phase, low, high - low, row_of_sums(q + low * down.up - begin));
      for (int64_t t = high; t < to; t++) sum_rows(phase, t, 1, row_of_sums(q + t * down.up - begin));
    }
  }

  A* row_of_sums(int64_t row) const { return sums + row * plan.row_size + left * channels; }

  // The sums at `steps` steps from t on, which see alike many rows inside the image.
  void sum_rows(const Phase& phase, int64_t t, int64_t steps, A* to) {
    const int64_t first = phase.first + t * plan.down.down, skip = std::max<int64_t>(-first, 0);
    const int64_t count = std::max<int64_t>(std::min<int64_t>(phase.count, p.in_h - first) - skip, 0);
    const A* taps = plan.taps.column.data() + phase.at + (count ? skip : 0);
    for (int64_t m = 0; m < count; m++) vertical_offsets[m] = (first + skip + m) * input_step + input_offset;
    const int64_t from_step = plan.down.down * input_step, to_step = plan.down.up * plan.row_size;
    const Pieces size(steps, (right - left) * channels, from_step, to_step);
    weighted_sum(count, input, vertical_offsets.data(), taps, to, size, false);
  }

  // Makes row r of x, of the type of the sums, be at input + r * input_step + input_offset.
  void read(int64_t begin, int64_t end) {
    if constexpr (std::is_same_v<T, A>) {
      if (plan.input_in_place) {
        input = x, input_step = p.x_stride[2], input_offset = column * channels;
        return;
      }
    }
    const Axis& down = plan.down;
    const int64_t first = std::clamp<int64_t>(begin / down.up * down.down + down.first, 0, p.in_h);
    const int64_t last = std::clamp<int64_t>((end - 1) / down.up * down.down + down.first + down.extent, first, p.in_h);
    input = sheet, input_step = (right - left) * channels, input_offset = -first * input_step;
    const T* from = x + first * p.x_stride[2] + column * p.x_stride[3];
    if (p.x_stride[3] == channels) {
      return load_pieces(from, 1, sheet, Pieces(last - first, input_step, p.x_stride[2], input_step));
    }
    for (int64_t r = 0; r < last - first; r++) {
      load(from + r * p.x_stride[2], sheet + r * input_step);
    }
  }

  // One row of pixels that are not consecutive.
  void load(const T* from, A* to) const {
    if (plan.whole) return load_pieces(from, 1, to, Pieces(right - left, channels, p.x_stride[3], channels));
    load_pieces(from, p.x_stride[3], to, Pieces(1, right - left, 0, 0));
  }

  void horizontal(int64_t rows, T* to) {
    const Axis& across = plan.across;
    const A* row = sums;
    if (plan.split_rows) {
      for (int64_t r = 0; r < rows; r++) {
        split(sums + r * plan.row_size, pixels, across.down, plan.part, channels, parts + r * plan.row_size);
      }
      row = parts;
    }
    A* result = results;
    int64_t result_step = result_size();
    if constexpr (std::is_same_v<T, A>) {
      if (plan.output_in_place) result = to, result_step = p.y_stride[2];
    }
    for (int64_t q = 0; q < std::min<int64_t>(across.phases.size(), width); q++) {
      const Phase& phase = across.phases[q];
      weighted_sum(phase.count, row, plan.offsets.data() + phase.at, plan.taps.row.data() + phase.at,
                   result + q * plan.steps * channels,
                   Pieces(rows, ceil_div(width - q, across.up) * channels, plan.row_size, result_step), false);
    }
    if (plan.output_in_place) return;
    for (int64_t r = 0; r < rows; r++) emit(results + r * result_step, to + r * p.y_stride[2]);
  }

  void emit(const A* result, T* to) {
    const int64_t step = plan.whole ? 1 : p.y_stride[3];
    const Pieces size(1, width * channels, 0, 0);
    if (plan.across.up == 1) return store_pieces(result, to, step, size);
    if constexpr (std::is_same_v<T, A>) {
      if (step == 1) return interleave(result, width, plan.across.up, plan.steps, channels, to);
    }
    interleave(result, width, plan.across.up, plan.steps, channels, line);
    store_pieces(line, to, step, size);
  }

  const Plan<T>& plan;
  const Upfirdn2d& p;
  const int64_t channels;
  std::vector<int64_t> vertical_offsets;
  int64_t sheet_size;
  std::unique_ptr<A[]> memory;
  A *sums, *parts, *sheet, *results, *line;
  const T* x = nullptr;
  T* y = nullptr;
  const A* input = nullptr;
  int64_t input_step = 0, input_offset = 0;
  int64_t width = 0;                        // outputs of the tile
  int64_t pixels = 0, left = 0, right = 0;  // of its rows of inputs; [left, right) are inside the image
  int64_t column = 0;                       // of x, where `left` is
};

}  // namespace stylegan2
