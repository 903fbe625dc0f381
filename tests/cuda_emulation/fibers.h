// The threads of one CUDA block as fibers of one thread of the host.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

namespace emulation {

constexpr size_t STACK_BYTES = 64 * 1024;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
  int barrier = 0;  // the line of the barrier at which it waits
  bool finished = true;
};

inline std::vector<Fiber> fibers(1024);
inline ucontext_t scheduler;
inline Fiber* running = nullptr;
inline std::function<void()> body;

inline std::unique_lock<std::mutex> one_at_a_time() {
  static std::mutex mutex;
  return std::unique_lock(mutex);
}

[[noreturn]] inline void fail(const char* what, int line) {
  std::fprintf(stderr, "CUDA emulation: %s (line %d)\n", what, line);
  std::abort();
}

inline void barrier(int line) {
  Fiber* self = running;
  self->barrier = line;
  swapcontext(&self->context, &scheduler);
}

inline void run_fiber() {
  body();
  running->finished = true;
  swapcontext(&running->context, &scheduler);
}

inline void start(Fiber& fiber) {
  fiber.finished = false;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = STACK_BYTES;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, run_fiber, 0);
}

// All threads reach the same barrier, or all have finished.
inline void check_phase(int threads) {
  for (int i = 1; i < threads; i++) {
    if (fibers[i].finished != fibers[0].finished) {
      fail("some threads of a block left before a barrier", fibers[0].barrier);
    }
    if (!fibers[0].finished && fibers[i].barrier != fibers[0].barrier) {
      fail("threads of a block wait at different barriers", fibers[0].barrier);
    }
  }
}

template <class Identify>
void run_block(int threads, std::function<void()> kernel, Identify identify) {
  body = std::move(kernel);
  for (int i = 0; i < threads; i++) start(fibers[i]);
  for (bool backwards = false; !fibers[0].finished; backwards = !backwards) {
    for (int k = 0; k < threads; k++) {
      const int i = backwards ? threads - 1 - k : k;
      identify(i);
      running = &fibers[i];
      swapcontext(&scheduler, &fibers[i].context);
    }
    check_phase(threads);
  }
}

}  // namespace emulation
