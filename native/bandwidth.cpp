#include "bandwidth.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "memory.hpp"

namespace vivace {
namespace {

constexpr std::size_t kChunk = std::size_t{4} << 20;
constexpr std::size_t kAhead = 4096;
constexpr int kPasses = 3;

// Reads every value, sixty-four bytes a step, and prefetches as the kernels do.
std::uint64_t sum(const char* data) {
  std::uint64_t sums[8] = {};
  for (std::size_t at = 0; at < kChunk; at += sizeof(sums)) {
    __builtin_prefetch(data + at + kAhead);
    std::uint64_t values[8];
    std::memcpy(values, data + at, sizeof(values));
    for (int i = 0; i < 8; ++i) sums[i] += values[i];
  }
  for (int i = 1; i < 8; ++i) sums[0] += sums[i];
  return sums[0];
}

}  // namespace

double read_bandwidth(Runtime& runtime, std::size_t bytes) {
  const std::size_t chunks = std::max<std::size_t>(bytes / kChunk, 1);
  const Memory memory(chunks * kChunk);
  std::memset(memory.at(), 1, chunks * kChunk);
  const std::lock_guard lock(runtime.busy);
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    std::atomic<std::uint64_t> total{0};
    const auto start = std::chrono::steady_clock::now();
    runtime.pool.parallel_for(chunks, [&](std::size_t chunk, unsigned) {
      total.fetch_add(sum(memory.at(chunk * kChunk)), std::memory_order_relaxed);
    });
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    // The sum is used, so that no pass can be left out.
    if (total != 0) best = std::max(best, chunks * kChunk / elapsed.count());
  }
  return best;
}

}  // namespace vivace
