#pragma once

#include <memory>

#include "upfirdn2d_plan.h"
#include "upfirdn2d_rows.h"

namespace stylegan2 {

// One thread's work on one row of a tile at a time: channels-last images, and filters that are no column times a row.
template <class T>
class RowWorker {
  using A = Compute<T>;

 public:
  explicit RowWorker(const Plan<T>& plan)
      : plan(plan), p(plan.p), channels(plan.channels), held(plan.down.most), row_offsets(plan.down.most),
        memory(new A[2 * plan.row_size + held.size() * slot_size() + 2 * plan.steps * plan.across.up * plan.channels]) {
    sum = memory.get();
    parts = sum + plan.row_size;
    ring = parts + plan.row_size;
    results = ring + held.size() * slot_size();
    line = results + plan.steps * plan.across.up * plan.channels;
  }

  // Rows [begin, end) of the output of one image.
  void image(int64_t i, int64_t begin, int64_t end) {
    const int64_t all = plan.wide ? p.c : 1;
    for (int64_t c = 0; c < all; c += channels) {
      const int64_t first = std::min(c, all - channels);  // the last tile is as wide as the others
      x = plan.image_of_x(i) + first;
      y = plan.image_of_y(i) + first;
      for (int64_t step = 0; step * plan.across.up < p.out_w; step += plan.steps) tile(step, begin, end);
    }
  }

 private:
  int64_t slot_size() const { return plan.input_in_place ? 0 : plan.row_size; }

  void tile(int64_t step, int64_t begin, int64_t end) {
    const Axis& across = plan.across;
    width = std::min(plan.steps * across.up, p.out_w - step * across.up);
    pixels = (ceil_div(width, across.up) - 1) * across.down + across.extent;
    const int64_t first = across.first + step * across.down;
    left = std::clamp<int64_t>(-first, 0, pixels);
    right = std::clamp<int64_t>(p.in_w - first, left, pixels);
    column = first + left;
    std::fill(held.begin(), held.end(), -1);
    clear_margins(sum);
    for (int64_t row = begin; row < end; row++) {
      output_row(row, y + row * p.y_stride[2] + step * across.up * p.y_stride[3]);
    }
  }

  void clear_margins(A* row) const {
    std::fill(row, row + left * channels, A(0));
    std::fill(row + right * channels, row + pixels * channels, A(0));
  }

  void output_row(int64_t row, T* to) {
    Phase q = plan.down.phase_of(row);
    const int64_t skip = std::max<int64_t>(-q.first, 0);  // rows above the image, and then those below
    const int64_t count = std::min<int64_t>(q.count, p.in_h - q.first) - skip;
    A* result = results;
    if constexpr (std::is_same_v<T, A>) {
      if (plan.output_in_place) result = to;
    }
    if (count <= 0) {
      along_row(nullptr, plan.taps.row.data(), result, false);
    } else if (plan.taps.product) {
      const A* row = vertical(q.first + skip, count, plan.taps.column.data() + q.at + skip);
      along_row(row, plan.taps.row.data(), result, false);
    } else {
      for (int64_t m = skip; m < skip + count; m++) {
        const A* taps = plan.taps.row.data() + plan.down.taps[q.at + m] * plan.across.taps.size();
        along_row(padded_row(q.first + m), taps, result, m > skip);
      }
    }
    if (!plan.output_in_place) emit(to);
  }

  // The sum of `count` rows of x times their taps, padded and split.
  const A* vertical(int64_t first, int64_t count, const A* taps) {
    const Pieces size(right - left, channels, pixel_step(), channels);
    for (int64_t m = 0; m < count; m++) row_offsets[m] = row_offset(first + m);
    weighted_sum(count, input_rows(), row_offsets.data(), taps, sum + left * channels, size, false);
    return split_row(sum, parts);
  }

  int64_t pixel_step() const { return plan.input_in_place && plan.wide ? p.x_stride[3] : channels; }

  const A* input_rows() const {
    if constexpr (std::is_same_v<T, A>) {
      if (plan.input_in_place) return x;
    }
    return ring;
  }

  // Where row r of x is, from input_rows(); in the type of the sums, the part inside the image.
  int64_t row_offset(int64_t r) {
    if (plan.input_in_place) return r * p.x_stride[2] + column * p.x_stride[3];
    const int64_t slot = r % static_cast<int64_t>(held.size());
    if (held[slot] != r) load(r, ring + slot * plan.row_size);
    held[slot] = r;
    return slot * plan.row_size;
  }

  const A* padded_row(int64_t r) {
    const int64_t slot = r % static_cast<int64_t>(held.size());
    A* row = ring + slot * plan.row_size;
    if (held[slot] == r) return row;
    A* whole = plan.split_rows ? sum : row;
    clear_margins(whole);
    load(r, whole + left * channels);
    held[slot] = r;
    return split_row(whole, row);
  }

  void load(int64_t r, A* to) const {
    const T* from = x + r * p.x_stride[2] + column * p.x_stride[3];
    if (plan.wide) {
      load_pieces(from, 1, to, Pieces(right - left, channels, p.x_stride[3], channels));
    } else {
      load_pieces(from, p.x_stride[3], to, Pieces(1, right - left, 0, 0));
    }
  }

  const A* split_row(const A* row, A* to) const {
    if (!plan.split_rows) return row;
    split(row, pixels, plan.across.down, plan.part, 1, to);
    return to;
  }

  // (Adds) what the taps make of a padded row, phase by phase; of no row zeros.
  void along_row(const A* row, const A* taps, A* to, bool add) const {
    const Axis& across = plan.across;
    const int64_t room = plan.steps;
    const int64_t pixel = plan.output_in_place ? p.y_stride[3] : channels;
    for (int64_t q = 0; q < std::min<int64_t>(across.phases.size(), width); q++) {
      const Phase& phase = across.phases[q];
      const int64_t outputs = ceil_div(width - q, across.up), count = row ? phase.count : 0;
      const int64_t* offsets = plan.offsets.data() + phase.at;
      if (plan.wide) {
        const Pieces size(outputs, channels, across.down * channels, across.up * pixel);
        weighted_sum(count, row, offsets, taps + phase.at, to + q * pixel, size, add);
      } else {
        weighted_sum(count, row, offsets, taps + phase.at, to + q * room, Pieces(1, outputs, 0, 0), add);
      }
    }
  }

  // `results` to where they belong.
  void emit(T* to) {
    if (plan.wide) return store_pieces(results, to, 1, Pieces(width, channels, channels, p.y_stride[3]));
    if (plan.across.up == 1) return store_pieces(results, to, p.y_stride[3], Pieces(1, width, 0, 0));
    if constexpr (std::is_same_v<T, A>) {
      if (p.y_stride[3] == 1) return interleave(results, width, plan.across.up, plan.steps, 1, to);
    }
    interleave(results, width, plan.across.up, plan.steps, 1, line);
    store_pieces(line, to, p.y_stride[3], Pieces(1, width, 0, 0));
  }

  const Plan<T>& plan;
  const Upfirdn2d& p;
  const int64_t channels;
  std::vector<int64_t> held, row_offsets;  // held: the row of x that each slot of the ring holds
  std::unique_ptr<A[]> memory;
  A *sum, *parts, *ring, *results, *line;
  const T* x = nullptr;
  T* y = nullptr;
  int64_t width = 0;                       // outputs of the tile
  int64_t pixels = 0, left = 0, right = 0;  // of its rows of inputs; [left, right) are inside the image
  int64_t column = 0;                      // of x, where `left` is
};

}  // namespace stylegan2
