// Upsample, pad, filter and downsample: per row of the output one sum of input rows and one along the row.
//
// Neither inserted zeros nor dropped pixels are computed: outputs of one phase (Axis) see the same taps on consecutive
// pixels, so that every inner loop runs over consecutive numbers: columns in NCHW, where strided samples are first
// split into rows of their own, and channels in channels-last. Rows are padded with zeros, so that no loop has edges.

#include <memory>
#include <new>

#include "upfirdn2d_plan.h"
#include "upfirdn2d_rows.h"

namespace stylegan2 {
namespace {

constexpr int64_t TILE = 4096;           // numbers of a row worked on at a time: with its inputs, in the nearest caches
constexpr int64_t MOST_CHANNELS = 128;   // of a tile, lest it become too narrow
constexpr int64_t FEWEST_CHANNELS = 16;  // shorter loops over channels are slower than taking channel by channel
constexpr int64_t PER_THREAD = 1 << 14;  // fewer outputs are not worth a thread

// How to walk over x and y; the same for all threads.
template <class T>
struct Plan {
  using A = Compute<T>;

  const Upfirdn2d& p;
  Axis across{p.up_x, p.down_x, p.pad_x, p.fw, p.out_w};
  Axis down{p.up_y, p.down_y, p.pad_y, p.fh, p.out_h};
  Taps<A> taps{p, down, across};
  bool wide = p.c > 1 && p.x_stride[1] == 1 && p.y_stride[1] == 1 &&
              (p.c >= FEWEST_CHANNELS || (across.up == 1 && across.down == 1));  // channels are the inner loop
  int64_t channels = !wide ? 1 : p.c <= MOST_CHANNELS ? p.c : MOST_CHANNELS / 2;   // of a tile
  int64_t steps = std::clamp<int64_t>(TILE / (channels * std::max(across.up, across.down)), 8,
                                      ceil_div(p.out_w, across.up) + 8);  // of a tile: across.up outputs each
  int64_t pixels = (steps - 1) * across.down + across.extent;              // of a row of inputs for a tile
  int64_t part = wide ? pixels : ceil_div(pixels, across.down);            // pixels of one phase of down
  int64_t row_size = wide ? pixels * channels : part * across.down;
  bool split_rows = !wide && across.down > 1;
  bool input_in_place = taps.product && std::is_same_v<T, A> && (wide || p.x_stride[3] == 1);
  bool output_in_place = std::is_same_v<T, A> && (wide || (across.up == 1 && p.y_stride[3] == 1));
  std::vector<int64_t> offsets = horizontal_offsets();

  int64_t images() const { return wide ? p.n : p.n * p.c; }
  int64_t work_per_row() const { return p.out_w * (wide ? p.c : 1); }

  const T* image_of_x(int64_t i) const { return static_cast<const T*>(p.x) + image(i, p.x_stride); }
  T* image_of_y(int64_t i) const { return static_cast<T*>(p.y) + image(i, p.y_stride); }

 private:
  int64_t image(int64_t i, const int64_t* stride) const {
    return wide ? i * stride[0] : i / p.c * stride[0] + i % p.c * stride[1];
  }

  // Where each of across.taps finds its first number in a row of inputs.
  std::vector<int64_t> horizontal_offsets() const {
    std::vector<int64_t> result;
    for (const Phase& q : across.phases) {
      for (int64_t m = 0; m < q.count; m++) {
        const int64_t pixel = q.first - across.first + m;
        result.push_back(wide ? pixel * channels : pixel % across.down * part + pixel / across.down);
      }
    }
    return result;
  }
};

// One thread's work, with memory for a tile.
template <class T>
class Worker {
  using A = Compute<T>;

 public:
  explicit Worker(const Plan<T>& plan)
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
    split(row, pixels, plan.across.down, plan.part, to);
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
      if (p.y_stride[3] == 1) return interleave(results, width, plan.across.up, plan.steps, to);
    }
    interleave(results, width, plan.across.up, plan.steps, line);
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

template <class T>
const char* filter(const Upfirdn2d& p, const Device& device) {
  const Plan<T> plan{p};
  auto rows = [&](int64_t begin, int64_t end) {
    Worker<T> worker(plan);
    while (begin < end) {
      const int64_t i = begin / p.out_h, row = begin % p.out_h, count = std::min(p.out_h - row, end - begin);
      worker.image(i, row, row + count);
      begin += count;
    }
  };
  parallel(device, plan.images() * p.out_h, std::max<int64_t>(PER_THREAD / plan.work_per_row(), 1), rows);
  return nullptr;
}

}  // namespace

const char* upfirdn2d(const Upfirdn2d& p, const Device& device) {
  if (p.n == 0 || p.c == 0 || p.out_h == 0 || p.out_w == 0) return nullptr;
  try {
    return with_type(p.type, [&](auto type) { return filter<decltype(type)>(p, device); });
  } catch (const std::bad_alloc&) {
    return "out of memory";
  }
}

}  // namespace stylegan2
