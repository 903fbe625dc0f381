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
template <class T, int ROWS, int COLUMNS, int PITCH, int PHASES, int WORKERS>
struct TileReader {
  static constexpr int V = VECTOR_BYTES / sizeof(T), PHASE = PITCH / PHASES, WORDS = V / PHASES;
  static constexpr int PER_ROW = COLUMNS / V, COUNT = ROWS * PER_ROW, TURNS = (COUNT + WORKERS - 1) / WORKERS;
  static_assert(COLUMNS % V == 0 && V % PHASES == 0 && PITCH >= COLUMNS && PITCH % PHASES == 0, "");
  static constexpr int WIDTH = WORDS < 4 ? WORDS : 4;  // of a store into shared memory
  static_assert(PHASE % WIDTH == 0, "");

  // All of a thread's reads are under way before the first is used.
  __device__ __forceinline__ static void read(float* tile, const T* x, const Image& image, int first_row, int first_column,
                                              bool inside, bool vectors, int worker) {
    Vec<T, V> raw[TURNS];
#pragma unroll
    for (int k = 0; k < TURNS; k++) {
      const int i = worker + k * WORKERS, row = first_row + i / PER_ROW, column = first_column + i % PER_ROW * V;
      const bool in_rows = inside && i < COUNT && row >= 0 && row < image.in_h;
      const T* const from = x + row * image.x_h;
      if (in_rows && vectors && column >= 0 && column + V <= image.in_w) {
        raw[k] = load<V>(from + column);
      } else {
#pragma unroll
        for (int j = 0; j < V; j++) {
          const bool in_row = in_rows && column + j >= 0 && column + j < image.in_w;
          if (in_row) raw[k].at[j] = from[(column + j) * image.x_w];
          else narrow(0.f, raw[k].at[j]);
        }
      }
    }
#pragma unroll
    for (int k = 0; k < TURNS; k++) {
      const int i = worker + k * WORKERS;
      if (i < COUNT) write(tile + i / PER_ROW * PITCH + i % PER_ROW * WORDS, raw[k]);
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
        store(to + phase * PHASE + k, words);
      }
    }
  }
};

}  // namespace stylegan2
