// upfirdn2d on CUDA for filters of up to 4x4 taps, where the channels of a pixel are contiguous in y (channels-last).
//
// Neighbouring threads take neighbouring channels, V of them each, and walk down COLS columns of outputs together. No
// shared memory: a pixel is needed whole by each of the few threads that read it, and those of one block find it in the
// L1 cache, whose bandwidth is several times what memory delivers. Products are the only arithmetic.

#include "upfirdn2d.cuh"

namespace stylegan2 {
namespace {

constexpr int TAPS = 4;
constexpr int COLS = 2, ROWS = 8;  // outputs of a thread

// A turn reads DOWN rows of pixels. They have a part in PENDING rows of outputs, of which UP are complete thereafter.
template <int UP, int DOWN>
struct Shape {
  static constexpr int OWN_COLUMNS = ((COLS - 1) * DOWN + TAPS - 1) / UP + 1;
  static constexpr int PENDING = TAPS / DOWN, TURNS = (ROWS + PENDING - 1) / UP + UP - 1;

  // With up = 2 and an odd pad, threads begin one output earlier, so that tap 0 meets a pixel.
  __host__ __device__ static constexpr int shift(int pad) { return UP == 2 ? pad & 1 : 0; }
};

// A block is `lanes` threads along the channels (a power of two, at most a warp, 256 bytes) by
// THREADS / lanes along x, so that it has neighbours in x to share pixels with.
struct Launch {
  int32_t lanes, lanes_log2;
  Divisor tiles_c, tiles_x, tiles_y;
};

// The pixels of one turn, as they are in memory: the next turn's are under way while this turn's are summed.
template <class T, int V, int UP, int DOWN>
struct Pixels {
  static constexpr int OWN_COLUMNS = Shape<UP, DOWN>::OWN_COLUMNS;
  Vec<T, V> at[DOWN][OWN_COLUMNS];

  __device__ __forceinline__ void read(const T* x, const Image& image, int row, int column) {
#pragma unroll
    for (int r = 0; r < DOWN; r++) {
      const bool in_rows = row + r >= 0 && row + r < image.in_h;
#pragma unroll
      for (int i = 0; i < OWN_COLUMNS; i++) {
        at[r][i] = Vec<T, V>{};
        if (in_rows && column + i >= 0 && column + i < image.in_w) {
          at[r][i] = load<V>(x + (row + r) * image.x_h + (column + i) * image.x_w);
        }
      }
    }
  }
};

template <int V, int PENDING>
using Sums = float[PENDING][COLS][V];

template <class T, int V, int UP, int DOWN, int PENDING>
__device__ __forceinline__ void add(Sums<V, PENDING>& sum, const Pixels<T, V, UP, DOWN>& pixels,
                                    const float (&f)[TAPS * TAPS]) {
#pragma unroll
  for (int r = 0; r < DOWN; r++) {
#pragma unroll
    for (int i = 0; i < Shape<UP, DOWN>::OWN_COLUMNS; i++) {
#pragma unroll
      for (int j = 0; j < V; j++) {
        const float pixel = wide(pixels.at[r][i].at[j]);
#pragma unroll
        for (int o = 0; o < PENDING; o++) {
          const int ky = r + (PENDING - 1 - o) * DOWN;
#pragma unroll
          for (int q = 0; q < COLS; q++) {
            const int kx = i * UP - q * DOWN;
            if (kx >= 0 && kx < TAPS) sum[o][q][j] += f[ky * TAPS + kx] * pixel;
          }
        }
      }
    }
  }
}

// The oldest UP rows of sums have been stored.
template <int V, int PENDING, int UP>
__device__ __forceinline__ void move_up(Sums<V, PENDING>& sum) {
#pragma unroll
  for (int o = 0; o < PENDING; o++) {
#pragma unroll
    for (int q = 0; q < COLS; q++) {
#pragma unroll
      for (int j = 0; j < V; j++) sum[o][q][j] = o + UP < PENDING ? sum[(o + UP) % PENDING][q][j] : 0.f;
    }
  }
}

template <class T, int V, int UP, int DOWN>
__global__ void __launch_bounds__(THREADS, 2)
channels_kernel(const T* __restrict__ x, T* __restrict__ y, const Image image, const Filter filter, const Launch grid) {
  using S = Shape<UP, DOWN>;
  alignas(16) __shared__ float taps[TAPS * TAPS];
  if (threadIdx.x < TAPS * TAPS) {
    const int ky = threadIdx.x / TAPS, kx = threadIdx.x % TAPS;
    taps[threadIdx.x] = ky < filter.fh && kx < filter.fw ? filter.at<float>(ky, kx) : 0.f;
  }
  __syncthreads();

  uint32_t rest = blockIdx.x;
  const int tile_c = grid.tiles_c.remainder(rest);
  rest = grid.tiles_c.quotient(rest);
  const int tile_x = grid.tiles_x.remainder(rest);
  rest = grid.tiles_x.quotient(rest);
  const int tile_y = grid.tiles_y.remainder(rest), n = grid.tiles_y.quotient(rest);
  const int c = (tile_c * grid.lanes + (threadIdx.x & (grid.lanes - 1))) * V;
  const int turn_x = tile_x * (THREADS >> grid.lanes_log2) + (threadIdx.x >> grid.lanes_log2);
  const int ox = turn_x * COLS - S::shift(image.pad_x);
  const int oy = tile_y * ROWS - S::shift(image.pad_y);
  if (c >= image.c || ox >= image.out_w) return;

  float f[TAPS * TAPS];
#pragma unroll
  for (int i = 0; i < TAPS * TAPS; i++) f[i] = taps[i];
  const int column = (ox * DOWN - image.pad_x) / UP, row = (oy * DOWN - image.pad_y) / UP;
  const T* const from = x + n * image.x_n + c * image.x_c;
  T* const to = y + int64_t(n) * image.out_h * image.out_w * image.c + c;

  Sums<V, S::PENDING> sum = {};
  Pixels<T, V, UP, DOWN> next;
  next.read(from, image, row, column);
#pragma unroll 1
  for (int turn = 0; turn < S::TURNS; turn++) {
    const Pixels<T, V, UP, DOWN> pixels = next;
    if (turn + 1 < S::TURNS) next.read(from, image, row + (turn + 1) * DOWN, column);
    add<T, V, UP, DOWN, S::PENDING>(sum, pixels, f);
#pragma unroll
    for (int done = 0; done < UP; done++) {
      const int o = turn * UP - (S::PENDING - 1) + done;
      if (o < 0 || o >= ROWS || oy + o < 0 || oy + o >= image.out_h) continue;
#pragma unroll
      for (int q = 0; q < COLS; q++) {
        if (ox + q >= 0 && ox + q < image.out_w) store(to + ((oy + o) * image.out_w + ox + q) * image.c, sum[done][q]);
      }
    }
    move_up<V, S::PENDING, UP>(sum);
  }
}

template <class T, int V, int UP, int DOWN>
const char* run(const Upfirdn2d& p, const Device& device) {
  using S = Shape<UP, DOWN>;
  const Image image(p);
  const int64_t vectors = ceil_div(p.c, V);
  Launch grid{1, 0, {}, {}, {}};
  while (grid.lanes < 32 && grid.lanes < vectors) grid.lanes *= 2, grid.lanes_log2++;
  const int64_t tiles_c = ceil_div(vectors, grid.lanes), columns = ceil_div(p.out_w + S::shift(image.pad_x), COLS);
  const int64_t tiles_x = ceil_div(columns, THREADS / grid.lanes);
  const int64_t tiles_y = ceil_div(p.out_h + S::shift(image.pad_y), ROWS);
  grid.tiles_c = Divisor(tiles_c), grid.tiles_x = Divisor(tiles_x), grid.tiles_y = Divisor(tiles_y);
  return launch(device, channels_kernel<T, V, UP, DOWN>, p.n * tiles_y * tiles_x * tiles_c,
                static_cast<const T*>(p.x), static_cast<T*>(p.y), image, Filter(p), grid);
}

}  // namespace

const char* upfirdn2d_4x4_channels(const Upfirdn2d& p, const Device& device) {
  return for_short_type(p.type, [&](auto zero) {
    return for_factors(p, [&](auto up, auto down) {
      using T = decltype(zero);
      constexpr int UP = decltype(up)::value, DOWN = decltype(down)::value;
      // 8 bytes: a warp then reads 256 in a row. With 16 there would be twice the sums and pixels to hold in registers.
      constexpr int V = 8 / sizeof(T);
      const bool vectors = p.c % V == 0 && vectors_fit(p, 1, 8, sizeof(T)) && is_aligned(p.y, 8);
      return vectors ? run<T, V, UP, DOWN>(p, device) : run<T, 1, UP, DOWN>(p, device);
    });
  });
}

}  // namespace stylegan2
