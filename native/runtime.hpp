// What everything on one CPU backend shares: its threads and its kernels.
#pragma once

#include <mutex>

#include "kernels.hpp"
#include "memory.hpp"
#include "thread_pool.hpp"

namespace vivace {

struct Runtime {
  Runtime(unsigned threads, Isa isa) : pool(threads), kernels(vivace::kernels(isa)) {}

  ThreadPool pool;
  const KernelTable& kernels;
  Arena weights;
  // Held while the pool works: it takes one loop at a time.
  std::mutex busy;
};

}  // namespace vivace
