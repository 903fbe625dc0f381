// upfirdn2d on CUDA for separable filters of up to 12 taps: both passes within a tile, so that memory is read once and
// written once. First along x, from a tile of x to a tile of float in shared memory, then down its columns to y.
//
// CHANNELS = 1: a tile of one image plane (NCHW). CHANNELS = 4: of four neighbouring channels (channels-last), which
// lie next to each other in the tiles too; images have at most four.

#include "upfirdn2d_tile.cuh"

namespace stylegan2 {
namespace {

constexpr int TAPS = 12;

constexpr int round_up(int i, int step) { return (i + step - 1) / step * step; }

// A row pitch with which the rows that a warp reads at once, `lanes` words of each, fall into different banks.
constexpr int row_pitch(int words, int lanes) {
  while (lanes < 32 && words % (2 * lanes) != lanes) words++;
  return words;
}

// Tiles of outputs: 64 x 64 with up = 2, 64 x 32 with 1/1, 32 x 32 with down = 2, whose halo of 10 pixels then costs a
// third more reads (of the L2 cache, mostly: neighbouring tiles run at about the same time). The tile and its sums take
// 17 to 36 KB (13 to 46 KB for channels-last).
template <class T, int UP, int DOWN, int CHANNELS>
struct Shape {
  static constexpr int V = VECTOR_BYTES / sizeof(T);
  static constexpr int OUT_W = CHANNELS == 4 ? 16 : DOWN == 2 ? 32 : 64;
  static constexpr int OUT_H = CHANNELS == 4 ? (DOWN == 2 ? 16 : 32) : UP == 2 ? 64 : 32;
  using Width = Extent<UP, DOWN, TAPS, OUT_W>;
  using Height = Extent<UP, DOWN, TAPS, OUT_H>;

  // First pass: COLS sums of one row at a time, from OWN pixels, of which each serves several sums.
  static constexpr int COLS = DOWN == 2 ? V / 2 : 4, STEP = COLS * DOWN / UP;
  static constexpr int OWN = ((COLS - 1) * DOWN + TAPS - 1) / UP + 1;
  static constexpr int LANES = OUT_W / COLS * CHANNELS;
  static constexpr int COLUMNS = CHANNELS == 1 ? round_up(Width::IN + V - 1, V) : round_up(Width::IN, STEP);
  static constexpr int PITCH = row_pitch(COLUMNS * CHANNELS, LANES);

  // Second pass: a thread has PAIR neighbouring sums, and ROWS outputs below each other of each.
  static constexpr int ROW_SUMS = OUT_W * CHANNELS, PAIR = CHANNELS == 1 ? 2 : 1;
  static constexpr int GROUPS = THREADS / (ROW_SUMS / PAIR), ROWS = OUT_H / GROUPS;
  static constexpr int OWN_ROWS = ((ROWS - 1) * DOWN + TAPS - 1) / UP + 1;

  static_assert(Height::IN * (PITCH + ROW_SUMS) * sizeof(float) + 64 <= 48 * 1024, "static shared memory");
  static_assert(THREADS % (ROW_SUMS / PAIR) == 0 && OUT_H % GROUPS == 0 && ROWS * DOWN % UP == 0, "");
};

struct Launch {
  Divisor tiles_x, tiles_y, groups;  // groups of CHANNELS channels in a sample
  bool pairs;                        // whether y can be written by pairs
};

// A tile of several channels: neighbouring threads read neighbouring channels, then neighbouring pixels.
template <class S, class T, int CHANNELS>
__device__ __forceinline__ void read_channels(float* tile, const T* x, const Image& image, int first_row,
                                              int first_column, int channels) {
  for (int i = threadIdx.x; i < S::Height::IN * S::COLUMNS * CHANNELS; i += THREADS) {
    const int c = i % CHANNELS, own_column = i / CHANNELS % S::COLUMNS, own_row = i / (CHANNELS * S::COLUMNS);
    const int row = first_row + own_row, column = first_column + own_column;
    const bool inside = c < channels && row >= 0 && row < image.in_h && column >= 0 && column < image.in_w;
    tile[own_row * S::PITCH + own_column % S::STEP * (S::PITCH / S::STEP) + own_column / S::STEP * CHANNELS + c] =
        inside ? wide(x[row * image.x_h + column * image.x_w + c * image.x_c]) : 0.f;
  }
}

// Along x. `skipped` columns of the tile lie left of the first that an output needs.
template <class S, int UP, int DOWN, int CHANNELS>
__device__ __forceinline__ void filter_rows(float* sums, const float* tile, const float* taps, int skipped) {
  float f[TAPS];
#pragma unroll
  for (int k = 0; k < TAPS; k++) f[k] = taps[k];
  int own[S::STEP];  // where a lane's columns begin: the s-th is (s / STEP) * CHANNELS words after own[s % STEP]
#pragma unroll
  for (int s = 0; s < S::STEP; s++) {
    own[s] = (skipped + s) % S::STEP * (S::PITCH / S::STEP) + (skipped + s) / S::STEP * CHANNELS;
  }
  for (int i = threadIdx.x; i < S::Height::IN * S::LANES; i += THREADS) {
    const int row = i / S::LANES, lane = i % S::LANES, c = lane % CHANNELS;
    float sum[S::COLS] = {};
#pragma unroll
    for (int s = 0; s < S::OWN; s++) {
      const float pixel = tile[row * S::PITCH + lane + own[s % S::STEP] + s / S::STEP * CHANNELS];
#pragma unroll
      for (int q = 0; q < S::COLS; q++) {
        const int k = s * UP - q * DOWN;
        if (k >= 0 && k < TAPS) sum[q] += f[k] * pixel;
      }
    }
    float* const to = sums + row * S::ROW_SUMS + lane / CHANNELS * S::COLS * CHANNELS + c;
    if constexpr (CHANNELS == 1) {
      store(to, sum);
    } else {
#pragma unroll
      for (int q = 0; q < S::COLS; q++) to[q * CHANNELS] = sum[q];
    }
  }
}

template <class S, int UP, int DOWN>
__device__ __forceinline__ void add_row(float (&sum)[S::ROWS][S::PAIR], const float (&f)[TAPS],
                                        const Vec<float, S::PAIR>& own, int row) {
#pragma unroll
  for (int o = 0; o < S::ROWS; o++) {
    const int k = row * UP - o * DOWN;
    if (k < 0 || k >= TAPS) continue;
#pragma unroll
    for (int j = 0; j < S::PAIR; j++) sum[o][j] += f[k] * own.at[j];
  }
}

// Where a block's outputs lie: y is that of the first channel in the tile.
template <class T>
struct Target {
  T* y;
  int left, top, channels;
};

// Down the columns.
template <class S, class T, int UP, int DOWN, int CHANNELS>
__device__ __forceinline__ void filter_columns(const float* sums, const float* taps, const Image& image,
                                               const Target<T>& target, bool pairs) {
  const int lane = threadIdx.x % (S::ROW_SUMS / S::PAIR), group = threadIdx.x / (S::ROW_SUMS / S::PAIR);
  const int c = lane % CHANNELS, ox = target.left + lane * S::PAIR / CHANNELS, oy = target.top + group * S::ROWS;
  const float* const from = sums + group * (S::ROWS * DOWN / UP) * S::ROW_SUMS + lane * S::PAIR;
  const int pixel = CHANNELS == 1 ? 1 : image.c;  // y is dense
  float f[TAPS];
#pragma unroll
  for (int k = 0; k < TAPS; k++) f[k] = taps[k];
  float sum[S::ROWS][S::PAIR] = {};
#pragma unroll
  for (int r = 0; r < S::OWN_ROWS; r++) {
    add_row<S, UP, DOWN>(sum, f, load<S::PAIR>(from + r * S::ROW_SUMS), r);
#pragma unroll
    for (int o = 0; o < S::ROWS; o++) {
      if ((o * DOWN + TAPS - 1) / UP != r || oy + o < 0 || oy + o >= image.out_h || c >= target.channels) continue;
      T* const to = target.y + ((oy + o) * image.out_w + ox) * pixel + c;
      if (S::PAIR == 2 && pairs) {
        if (ox < image.out_w) store(to, sum[o]);
        continue;
      }
#pragma unroll
      for (int j = 0; j < S::PAIR; j++) {
        if (ox + j >= 0 && ox + j < image.out_w) store_one(to + j, sum[o][j]);
      }
    }
  }
}

template <class T, int UP, int DOWN, int CHANNELS, bool FAST>
__global__ void __launch_bounds__(THREADS, 3)
separable_kernel(const T* __restrict__ x, T* __restrict__ y, const Image image, const Filter filter,
                 const Launch grid) {
  using S = Shape<T, UP, DOWN, CHANNELS>;
  alignas(16) __shared__ float tile[S::Height::IN * S::PITCH];
  alignas(16) __shared__ float sums[S::Height::IN * S::ROW_SUMS];
  alignas(16) __shared__ float taps[TAPS];

  const uint32_t rest = grid.tiles_x.quotient(blockIdx.x), part = grid.tiles_y.quotient(rest);
  const int tile_x = grid.tiles_x.remainder(blockIdx.x), tile_y = grid.tiles_y.remainder(rest);
  const int n = grid.groups.quotient(part), c = grid.groups.remainder(part) * CHANNELS;
  const int left = S::Width::first_output(tile_x, image.pad_x), top = S::Height::first_output(tile_y, image.pad_y);
  const int column = S::Width::first_pixel(left, image.pad_x), row = S::Height::first_pixel(top, image.pad_y);
  const int first_column = FAST ? round_down<S::V>(column) : column;

  if (threadIdx.x < TAPS) taps[threadIdx.x] = int(threadIdx.x) < filter.fw ? filter.along<float>(threadIdx.x) : 0.f;
  const T* const from = x + n * image.x_n + int64_t(c) * image.x_c;
  const int64_t pixels = int64_t(image.out_h) * image.out_w;
  Target<T> target{y, left, top, CHANNELS};
  if constexpr (CHANNELS == 1) {
    TileReader<T, S::Height::IN, S::COLUMNS, S::PITCH, S::PITCH / S::STEP, S::STEP, THREADS, FAST>::read(
        tile, from, image, row, first_column, true, threadIdx.x);
    target.y += (int64_t(n) * image.c + c) * pixels;
  } else {
    target.channels = image.c - c;
    read_channels<S, T, CHANNELS>(tile, from, image, row, first_column, target.channels);
    target.y += n * pixels * image.c + c;
  }
  __syncthreads();
  filter_rows<S, UP, DOWN, CHANNELS>(sums, tile, taps, column - first_column);
  __syncthreads();
  filter_columns<S, T, UP, DOWN, CHANNELS>(sums, taps, image, target, grid.pairs);
}

template <class T, int UP, int DOWN, int CHANNELS>
const char* run(const Upfirdn2d& p, const Device& device) {
  using S = Shape<T, UP, DOWN, CHANNELS>;
  const Image image(p);
  const int64_t tiles_x = S::Width::tiles(image.out_w, image.pad_x);
  const int64_t tiles_y = S::Height::tiles(image.out_h, image.pad_y);
  const int64_t groups = ceil_div(p.c, CHANNELS);
  const bool pairs = is_aligned(p.y, 2 * sizeof(T)) && p.out_w % 2 == 0 && S::Width::shift(image.pad_x) == 0;
  const Launch grid{Divisor(tiles_x), Divisor(tiles_y), Divisor(groups), pairs};
  const bool fast = CHANNELS == 1 && whole_vectors<T>(p);
  const auto kernel =
      fast ? separable_kernel<T, UP, DOWN, CHANNELS, CHANNELS == 1> : separable_kernel<T, UP, DOWN, CHANNELS, false>;
  return launch(device, kernel, p.n * groups * tiles_y * tiles_x, static_cast<const T*>(p.x), static_cast<T*>(p.y),
                image, Filter(p), grid);
}

}  // namespace

const char* upfirdn2d_separable(const Upfirdn2d& p, const Device& device) {
  return for_short_type(p.type, [&](auto zero) {
    return for_factors(p, [&](auto up, auto down) {
      using T = decltype(zero);
      constexpr int UP = decltype(up)::value, DOWN = decltype(down)::value;
      return channels_last(p) ? run<T, UP, DOWN, 4>(p, device) : run<T, UP, DOWN, 1>(p, device);
    });
  });
}

}  // namespace stylegan2
