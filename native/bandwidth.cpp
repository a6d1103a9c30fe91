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
constexpr int kPasses = 3;

// A plain sum: compilers read whole vectors for it, and the hardware prefetches.
std::uint64_t sum(const std::uint64_t* values) {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < kChunk / sizeof(*values); ++i) total += values[i];
  return total;
}

}  // namespace

double read_bandwidth(Runtime& runtime, std::size_t bytes) {
  const std::size_t chunks = std::max<std::size_t>(bytes / kChunk, 1);
  const Memory memory(chunks * kChunk);
  std::memset(memory.at(), 1, chunks * kChunk);
  const auto held = runtime.hold();
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    std::atomic<std::uint64_t> total{0};
    const auto start = std::chrono::steady_clock::now();
    runtime.pool.parallel_for(chunks, [&](std::size_t chunk, unsigned) {
      total.fetch_add(sum(memory.at<std::uint64_t>(chunk * kChunk)), std::memory_order_relaxed);
    });
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    // The sum is used, so that no pass can be left out.
    if (total != 0) best = std::max(best, chunks * kChunk / elapsed.count());
  }
  return best;
}

}  // namespace vivace
