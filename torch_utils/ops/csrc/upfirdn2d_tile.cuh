// Tiles of x in shared memory, for the kernels that work on one image plane (or a few channels) at a time.
#pragma once

#include "upfirdn2d.cuh"

namespace stylegan2 {

// Floor for either sign; V is a power of two.
template <int V>
__device__ __forceinline__ int round_down(int i) {
  return i & ~(V - 1);
}

// One axis of a tile: OUT outputs need IN pixels. The first output is such that tap 0 meets a pixel: with up = 2 and an
// odd pad, tiles begin one output earlier, and what lies outside is not stored.
template <int UP, int DOWN, int TAPS, int OUT>
struct Extent {
  static constexpr int IN = ((OUT - 1) * DOWN + TAPS - 1) / UP + 1;

  __host__ __device__ static constexpr int shift(int pad) { return UP == 2 ? pad & 1 : 0; }
  static int tiles(int out, int pad) { return int(ceil_div(out + shift(pad), OUT)); }
  __device__ __forceinline__ static int first_output(int tile, int pad) { return tile * OUT - shift(pad); }
  __device__ __forceinline__ static int first_pixel(int output, int pad) { return (output * DOWN - pad) / UP; }
};

// Columns of a tile are dealt out to PHASES, so that threads which begin PHASES columns apart read neighbouring words,
// in 32 different banks: column i is the (i / PHASES)-th of phase i % PHASES. V columns come from one 16-byte read and
// become V / PHASES successive words of each phase. Zeros stand for what lies outside x.
//
// FAST: rows of x are whole vectors at aligned addresses, and the first column is a multiple of V.
template <class T, int ROWS, int COLUMNS, int ROW_PITCH, int PHASE_PITCH, int PHASES, int WORKERS, bool FAST>
struct TileReader {
  static constexpr int V = VECTOR_BYTES / sizeof(T), WORDS = V / PHASES;
  static constexpr int PER_ROW = COLUMNS / V, COUNT = ROWS * PER_ROW, TURNS = (COUNT + WORKERS - 1) / WORKERS;
  static constexpr int WIDTH = WORDS < 4 ? WORDS : 4;  // of a store into shared memory
  static_assert(COLUMNS % V == 0 && V % PHASES == 0 && PHASE_PITCH % WIDTH == 0 && ROW_PITCH % WIDTH == 0, "");

  __device__ __forceinline__ static void read(float* tile, const T* x, const Image& image, int first_row,
                                              int first_column, bool inside, int worker) {
    if constexpr (FAST) read_vectors(tile, x, image, first_row, first_column, inside, worker);
    else read_singly(tile, x, image, first_row, first_column, inside, worker);
  }

  // All of a thread's reads are under way before the first is used.
  __device__ __forceinline__ static void read_vectors(float* tile, const T* x, const Image& image, int first_row,
                                                      int first_column, bool inside, int worker) {
    Vec<T, V> raw[TURNS];
#pragma unroll
    for (int k = 0; k < TURNS; k++) {
      const int i = worker + k * WORKERS, row = first_row + i / PER_ROW, column = first_column + i % PER_ROW * V;
      raw[k] = Vec<T, V>{};
      if (inside && i < COUNT && row >= 0 && row < image.in_h && column >= 0 && column < image.in_w) {
        raw[k] = load<V>(x + row * image.x_h + column);
      }
    }
#pragma unroll
    for (int k = 0; k < TURNS; k++) {
      const int i = worker + k * WORKERS;
      if (i < COUNT) write(tile + i / PER_ROW * ROW_PITCH + i % PER_ROW * WORDS, raw[k]);
    }
  }

  // For any strides; neighbouring threads read neighbouring pixels.
  __device__ __forceinline__ static void read_singly(float* tile, const T* x, const Image& image, int first_row,
                                                     int first_column, bool inside, int worker) {
#pragma unroll 4
    for (int i = worker; i < ROWS * COLUMNS; i += WORKERS) {
      const int own_row = i / COLUMNS, own_column = i % COLUMNS;
      const int row = first_row + own_row, column = first_column + own_column;
      const bool in_x = inside && row >= 0 && row < image.in_h && column >= 0 && column < image.in_w;
      tile[own_row * ROW_PITCH + own_column % PHASES * PHASE_PITCH + own_column / PHASES] =
          in_x ? wide(x[row * image.x_h + column * image.x_w]) : 0.f;
    }
  }

  __device__ __forceinline__ static void write(float* to, const Vec<T, V>& raw) {
#pragma unroll
    for (int phase = 0; phase < PHASES; phase++) {
#pragma unroll
      for (int k = 0; k < WORDS; k += WIDTH) {
        float words[WIDTH];
#pragma unroll
        for (int j = 0; j < WIDTH; j++) words[j] = wide(raw.at[(k + j) * PHASES + phase]);
        store(to + phase * PHASE_PITCH + k, words);
      }
    }
  }
};

// Whether FAST holds for tiles of image planes.
template <class T>
bool whole_vectors(const Upfirdn2d& p) {
  return vectors_fit(p, 3, VECTOR_BYTES, sizeof(T)) && p.in_w * int64_t(sizeof(T)) % VECTOR_BYTES == 0;
}

}  // namespace stylegan2
