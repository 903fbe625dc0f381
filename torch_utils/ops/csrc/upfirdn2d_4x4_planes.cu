// upfirdn2d on CUDA for filters of up to 4x4 taps, where an image plane is contiguous in y (NCHW).
//
// A block brings tiles of x into shared memory, as float, and each thread makes ROWS x COLS outputs of one: it walks
// down its few columns, and adds each row of pixels to all the outputs that the row has a part in. So an output costs
// its products (4 with up = 2, else 16) and 1 to 8 reads of shared memory. What remains, where to read and to store, is
// shared by a thread's 8 to 32 outputs: at 16 bits a number, instructions would else take longer than memory.

#include "upfirdn2d_tile.cuh"

namespace stylegan2 {
namespace {

constexpr int TAPS = 4;

constexpr int round_up(int i, int step) { return (i + step - 1) / step * step; }

// A row pitch, from `words` on, with which the rows that a warp reads at once, of `lanes` words each and `rows` apart,
// fall into different banks. Some have none: two of their rows then share banks.
constexpr int spread(int words, int step, int rows, int lanes) {
  for (int pitch = words; lanes < 32 && pitch < words + 32; pitch += step) {
    if (rows * pitch % (2 * lanes) == lanes) return pitch;
  }
  return words;
}

// A block is LANES x GROUPS threads for a tile, and as many tiles, of successive planes, as make 256 threads.
//              outputs of a thread   of a tile   tiles   shared memory (16-bit types)
//   up = 2            4 x 8           64 x 64      2        15 KB
//   1/1               4 x 8           64 x 64      2        46 KB
//   down = 2          2 x 4           32 x 32      2        45 KB
//   small planes, up to 16 outputs wide, lest most threads fall outside:
//                  2 (1) x 4       16 (8) x 16     8        10 to 43 KB
// 46 KB leave room for 4 blocks, half of all threads, in the 228 KB of compute capability 9.0, and 2 in 100 KB of 8.6.
template <class T, int UP, int DOWN, bool SMALL_PLANES>
struct Shape {
  static constexpr int LANES = SMALL_PLANES ? 8 : 16, GROUPS = SMALL_PLANES ? 4 : 8;
  static constexpr int WORKERS = LANES * GROUPS, PLANES = THREADS / WORKERS;
  static constexpr int COLS = (SMALL_PLANES ? 2 : 4) / DOWN, ROWS = SMALL_PLANES || DOWN == 2 ? 4 : 8;
  static constexpr int STEP = COLS * DOWN / UP;  // columns of x from one lane to the next
  using Width = Extent<UP, DOWN, TAPS, LANES * COLS>;
  using Height = Extent<UP, DOWN, TAPS, GROUPS * ROWS>;
  static constexpr int V = VECTOR_BYTES / sizeof(T);
  static constexpr int COLUMNS = round_up(Width::IN + V - 1, V);  // up to V - 1 more on the left, to begin aligned
  static constexpr int GROUP_ROWS = ROWS * DOWN / UP;             // rows of x from one group to the next
  static constexpr int WORDS = V / STEP;
  static constexpr int PITCH = spread(COLUMNS / STEP, WORDS < 4 ? WORDS : 4, GROUP_ROWS, LANES);
  static constexpr int PHASE = Height::IN * PITCH, TILE = STEP * PHASE;  // phases lie one after another
  static constexpr int OWN_COLUMNS = ((COLS - 1) * DOWN + TAPS - 1) / UP + 1;
  static constexpr int OWN_ROWS = ((ROWS - 1) * DOWN + TAPS - 1) / UP + 1;
  static_assert(PLANES * TILE * sizeof(float) + 64 <= 48 * 1024, "static shared memory");
};

struct Launch {
  Divisor tiles_x, tiles_y, channels;
  int32_t planes;
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

// FAST: x is read by vectors (see TileReader), and a thread's COLS outputs lie in the image or outside together, at an
// aligned address.
template <class T, int UP, int DOWN, bool SMALL_PLANES, bool FAST>
__global__ void __launch_bounds__(THREADS, 3)
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
  const int first_column = FAST ? round_down<S::V>(column) : column;

  if (threadIdx.x < TAPS * TAPS) {
    const int ky = threadIdx.x / TAPS, kx = threadIdx.x % TAPS;
    taps[threadIdx.x] = ky < filter.fh && kx < filter.fw ? filter.at<float>(ky, kx) : 0.f;
  }
  float* const tile = tiles + threadIdx.x / S::WORKERS * S::TILE;
  const int n = grid.channels.quotient(plane), c = plane - n * image.c;
  TileReader<T, S::Height::IN, S::COLUMNS, S::PITCH, S::PHASE, S::STEP, S::WORKERS, FAST>::read(
      tile, x + n * image.x_n + c * image.x_c, image, row, first_column, plane < grid.planes, worker);
  __syncthreads();

  const int ox = left + lane * S::COLS, oy = top + group * S::ROWS;
  if (plane >= grid.planes || ox >= image.out_w || oy >= image.out_h) return;
  float f[TAPS * TAPS];
#pragma unroll
  for (int i = 0; i < TAPS * TAPS; i++) f[i] = taps[i];
  const float* own[S::STEP];  // this thread's columns: own[i % STEP][i / STEP] is the i-th
#pragma unroll
  for (int i = 0; i < S::STEP; i++) {
    const int at = column - first_column + i;
    own[i] = tile + at % S::STEP * S::PHASE + group * S::GROUP_ROWS * S::PITCH + at / S::STEP + lane;
  }
  T* const out = y + int64_t(plane) * image.out_h * image.out_w + ox;
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
      T* const to = out + (oy + o) * image.out_w;
      if constexpr (FAST) {
        store(to, sum[o]);
      } else {
#pragma unroll
        for (int q = 0; q < S::COLS; q++) {
          if (ox + q >= 0 && ox + q < image.out_w) store_one(to + q, sum[o][q]);
        }
      }
    }
  }
}

template <class T, int UP, int DOWN, bool SMALL_PLANES>
const char* run(const Upfirdn2d& p, const Device& device) {
  using S = Shape<T, UP, DOWN, SMALL_PLANES>;
  const Image image(p);
  const int64_t tiles_x = S::Width::tiles(image.out_w, image.pad_x);
  const int64_t tiles_y = S::Height::tiles(image.out_h, image.pad_y);
  const int64_t planes = p.n * p.c;
  const Launch grid{Divisor(tiles_x), Divisor(tiles_y), Divisor(p.c), int32_t(planes)};
  const bool fast = whole_vectors<T>(p) && is_aligned(p.y, S::COLS * sizeof(T)) && p.out_w % S::COLS == 0 &&
                    S::Width::shift(image.pad_x) == 0;
  const auto kernel =
      fast ? planes_kernel<T, UP, DOWN, SMALL_PLANES, true> : planes_kernel<T, UP, DOWN, SMALL_PLANES, false>;
  return launch(device, kernel, ceil_div(planes, S::PLANES) * tiles_y * tiles_x, static_cast<const T*>(p.x),
                static_cast<T*>(p.y), image, Filter(p), grid);
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
