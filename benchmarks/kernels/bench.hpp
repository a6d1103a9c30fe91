// What the benchmarks of kernels share: memory as the engine has it, limits, results.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "peaks.hpp"

namespace vivace::bench {

// Memory on huge pages where the system gives them, filled with one small value.
class Memory {
 public:
  explicit Memory(std::size_t bytes)
      : size_((bytes + 2 * kHugePage) / kHugePage * kHugePage),
        data_(static_cast<char*>(std::aligned_alloc(kHugePage, size_)), &std::free) {
    madvise(data_.get(), size_, MADV_HUGEPAGE);
    std::memset(data_.get(), 0x3c, size_);
  }
  char* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

 private:
  static constexpr std::size_t kHugePage = std::size_t(2) << 20;

  std::size_t size_;
  std::unique_ptr<char, decltype(&std::free)> data_;
};

// One kernel's time beside its limits.
struct Result {
  std::string kernel;
  std::string shape;
  int m = 0;
  double seconds = 0;
  double bytes = 0;       // that must come from memory
  double operations = 0;  // two per multiply-add
  double read = 0;        // bytes per second, measured beside it
  double peak = 0;        // operations per second

  double share_of_read() const { return bytes / seconds / read; }
  double share_of_peak() const { return operations / seconds / peak; }
};

struct Machine {
  const KernelTable& kernels;
  ThreadPool& pool;
  const Memory& arena;  // larger than the caches

  double read() const { return read_bandwidth(pool, arena.data(), arena.size() / 2); }
};

// The median of repetitions of run(i) over about `seconds`.
template <class Run>
double median_seconds(double seconds, Run run) {
  std::vector<double> times;
  const double stop = now() + seconds;
  for (int i = 0; times.size() < 5 || now() < stop; ++i) {
    const double start = now();
    run(i);
    times.push_back(now() - start);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace vivace::bench
