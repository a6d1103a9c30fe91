// What everything on one CPU backend shares: its threads and its kernels.
#pragma once

#include <mutex>

#include "kernels.hpp"
#include "memory.hpp"
#include "thread_pool.hpp"

namespace vivace {

struct Runtime {
  Runtime(unsigned threads, Isa isa) : pool(threads), kernels(vivace::kernels(isa)) {}

  // Held while the pool works: it takes one loop at a time.
  std::unique_lock<std::mutex> hold() {
    std::unique_lock lock(busy);
    pool.settle();
    return lock;
  }

  ThreadPool pool;
  const KernelTable& kernels;
  Arena weights;
  std::mutex busy;
};

}  // namespace vivace
