// upfirdn2d on CUDA for filters of up to 4x4 taps, where an image plane is contiguous in y (NCHW).
//
// A block brings a tile of x into shared memory, as float, and each thread makes ROWS x COLS outputs of it: it walks down
// its few columns, and adds each row of pixels to all the outputs that the row has a part in. So an output costs its
// products (4 with up = 2, else 16) and 1 to 10 reads of shared memory, without a bank conflict.

#include "upfirdn2d_tile.cuh"

namespace stylegan2 {
namespace {

constexpr int TAPS = 4;

constexpr int round_up(int i, int step) { return (i + step - 1) / step * step; }

// The shape of a block. Large planes: a warp takes 32 neighbours in x, and 8 warps lie below each other. Small planes (up
// to 16 outputs wide): 8 x 4 threads for a plane, and 8 planes, lest most lanes fall outside.
//
// COLS = 2 makes stores of pairs. With down = 2 the tile of such a block would be 38 KB; with one column it is 21 KB,
// which leaves room for 4 blocks of 256 threads in 100 KB (compute capability 8.6), 8 in 228 KB (9.0).
template <class T, int UP, int DOWN, bool SMALL_PLANES>
struct Shape {
  static constexpr int LANES = SMALL_PLANES ? 8 : 32, GROUPS = SMALL_PLANES ? 4 : 8;
  static constexpr int WORKERS = LANES * GROUPS, PLANES = THREADS / WORKERS;
  static constexpr int COLS = DOWN == 2 ? 1 : 2, ROWS = SMALL_PLANES || DOWN == 2 ? 4 : 8;
  static constexpr int STEP = COLS * DOWN / UP;  // columns of x from one lane to the next
  using Width = Extent<UP, DOWN, TAPS, LANES * COLS>;
  using Height = Extent<UP, DOWN, TAPS, GROUPS * ROWS>;
  static constexpr int V = VECTOR_BYTES / sizeof(T);
  static constexpr int COLUMNS = round_up(Width::IN + V - 1, V);     // up to V - 1 more on the left, to begin aligned
  static constexpr int PITCH = COLUMNS + (SMALL_PLANES ? 4 * STEP : 0);  // spreads the 4 rows that a warp reads at once
  static constexpr int TILE = Height::IN * PITCH;
  static constexpr int OWN_COLUMNS = ((COLS - 1) * DOWN + TAPS - 1) / UP + 1;
  static constexpr int OWN_ROWS = ((ROWS - 1) * DOWN + TAPS - 1) / UP + 1;
  static_assert(PLANES * TILE * sizeof(float) + 64 <= 48 * 1024, "static shared memory");
};

struct Launch {
  Divisor tiles_x, tiles_y, channels;
  int32_t planes;
  bool vectors, pairs;  // whether x can be read by vectors, y written by pairs
};

// One row of pixels, added to the outputs it has a part in: output o has tap ky there if o * DOWN + ky == row * UP.
template <class S, int UP, int DOWN>
__device__ __forceinline__ void add_row(float (&sum)[S::ROWS][S::COLS], const float (&f)[TAPS * TAPS],
                                        const float (&pixels)[S::OWN_COLUMNS], int row) {
#pragma unroll
  for (int o = 0; o < S::ROWS; o++) {
    const int ky = row * UP - o * DOWN;
    if (ky < 0 || ky >= TAPS) continue;
#pragma unroll
    for (int q = 0; q < S::COLS; q++) {
#pragma unroll
      for (int kx = 0; kx < TAPS; kx++) {
        if ((q * DOWN + kx) % UP == 0) sum[o][q] += f[ky * TAPS + kx] * pixels[(q * DOWN + kx) / UP];
      }
    }
  }
}

template <class T, int COLS>
__device__ __forceinline__ void store_columns(T* row, const float (&sum)[COLS], int ox, int out_w, bool pairs) {
  if (COLS == 2 && pairs) {
    if (ox < out_w) store(row + ox, sum);
    return;
  }
#pragma unroll
  for (int q = 0; q < COLS; q++) {
    if (ox + q >= 0 && ox + q < out_w) store_one(row + ox + q, sum[q]);
  }
}

template <class T, int UP, int DOWN, bool SMALL_PLANES>
__global__ void __launch_bounds__(THREADS, 4)
planes_kernel(const T* __restrict__ x, T* __restrict__ y, const Image image, const Filter filter, const Launch grid) {
  using S = Shape<T, UP, DOWN, SMALL_PLANES>;
  alignas(16) __shared__ float tiles[S::PLANES * S::TILE];
  alignas(16) __shared__ float taps[TAPS * TAPS];

  const int worker = threadIdx.x % S::WORKERS, lane = worker % S::LANES, group = worker / S::LANES;
  const uint32_t rest = grid.tiles_x.quotient(blockIdx.x);
  const int tile_x = grid.tiles_x.remainder(blockIdx.x), tile_y = grid.tiles_y.remainder(rest);
  const int plane = grid.tiles_y.quotient(rest) * S::PLANES + threadIdx.x / S::WORKERS;
  const int left = S::Width::first_output(tile_x, image.pad_x), top = S::Height::first_output(tile_y, image.pad_y);
  const int column = S::Width::first_pixel(left, image.pad_x), row = S::Height::first_pixel(top, image.pad_y);
  const int first_column = grid.vectors ? round_down<S::V>(column) : column;

  if (threadIdx.x < TAPS * TAPS) {
    const int ky = threadIdx.x / TAPS, kx = threadIdx.x % TAPS;
    taps[threadIdx.x] = ky < filter.fh && kx < filter.fw ? filter.at<float>(ky, kx) : 0.f;
  }
  float* const tile = tiles + threadIdx.x / S::WORKERS * S::TILE;
  const int n = grid.channels.quotient(plane), c = plane - n * image.c;
  TileReader<T, S::Height::IN, S::COLUMNS, S::PITCH, S::STEP, S::WORKERS>::read(
      tile, x + n * image.x_n + c * image.x_c, image, row, first_column, plane < grid.planes, grid.vectors, worker);
  __syncthreads();
  if (plane >= grid.planes) return;

  float f[TAPS * TAPS];
#pragma unroll
  for (int i = 0; i < TAPS * TAPS; i++) f[i] = taps[i];
  const float* own[S::STEP];  // this thread's columns: own[i % STEP][i / STEP] is the i-th
#pragma unroll
  for (int i = 0; i < S::STEP; i++) {
    const int at = column - first_column + i;
    own[i] = tile + group * (S::ROWS * DOWN / UP) * S::PITCH + at % S::STEP * (S::PITCH / S::STEP) + at / S::STEP + lane;
  }
  const int ox = left + lane * S::COLS, oy = top + group * S::ROWS;
  T* const out = y + int64_t(plane) * image.out_h * image.out_w;
  float sum[S::ROWS][S::COLS] = {};
#pragma unroll
  for (int r = 0; r < S::OWN_ROWS; r++) {
    float pixels[S::OWN_COLUMNS];
#pragma unroll
    for (int i = 0; i < S::OWN_COLUMNS; i++) pixels[i] = own[i % S::STEP][r * S::PITCH + i / S::STEP];
    add_row<S, UP, DOWN>(sum, f, pixels, r);
#pragma unroll
    for (int o = 0; o < S::ROWS; o++) {  // stored as soon as complete: few sums are alive at a time
      if ((o * DOWN + TAPS - 1) / UP != r || oy + o < 0 || oy + o >= image.out_h) continue;
      store_columns<T, S::COLS>(out + (oy + o) * image.out_w, sum[o], ox, image.out_w, grid.pairs);
    }
  }
}

template <class T, int UP, int DOWN, bool SMALL_PLANES>
const char* run(const Upfirdn2d& p, const Device& device) {
  using S = Shape<T, UP, DOWN, SMALL_PLANES>;
  const Image image(p);
  const int64_t tiles_x = S::Width::tiles(image.out_w, image.pad_x), tiles_y = S::Height::tiles(image.out_h, image.pad_y);
  const int64_t planes = p.n * p.c;
  const bool pairs = is_aligned(p.y, 2 * sizeof(T)) && p.out_w % 2 == 0 && S::Width::shift(image.pad_x) == 0;
  const Launch grid{Divisor(tiles_x), Divisor(tiles_y), Divisor(p.c), int32_t(planes),
                    vectors_fit(p, 3, VECTOR_BYTES, sizeof(T)), pairs};
  return launch(device, planes_kernel<T, UP, DOWN, SMALL_PLANES>, ceil_div(planes, S::PLANES) * tiles_y * tiles_x,
                static_cast<const T*>(p.x), static_cast<T*>(p.y), image, Filter(p), grid);
}

}  // namespace

const char* upfirdn2d_4x4_planes(const Upfirdn2d& p, const Device& device) {
  return for_short_type(p.type, [&](auto zero) {
    return for_factors(p, [&](auto up, auto down) {
      using T = decltype(zero);
      constexpr int UP = decltype(up)::value, DOWN = decltype(down)::value;
      return p.out_w <= 16 ? run<T, UP, DOWN, true>(p, device) : run<T, UP, DOWN, false>(p, device);
    });
  });
}

}  // namespace stylegan2
