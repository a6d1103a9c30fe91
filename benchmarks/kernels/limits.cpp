// What all threads together can do at most: one JSON object of bytes and operations per second.
// Usage: limits amx|avx512bf16|avx512|avx2|portable THREADS
// Built by benchmarks/peers/limits.py.
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "peaks.hpp"

namespace vivace::bench {
namespace {

constexpr std::size_t kHugePage = std::size_t(2) << 20;
constexpr std::size_t kBytes = std::size_t(1) << 30;

Isa level(std::string_view name) {
  if (name == "amx") return Isa::amx;
  if (name == "avx512bf16") return Isa::avx512bf16;
  if (name == "avx512") return Isa::avx512;
  return name == "avx2" ? Isa::avx2 : Isa::portable;
}

// Linux gives tile registers to a process that asks for them (ARCH_REQ_XCOMP_PERM, XTILEDATA).
bool may_use(Isa isa) {
  if (isa != Isa::amx) return true;
#if defined(__linux__) && defined(__x86_64__)
  return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
  return false;
#endif
}

void report(Isa isa, unsigned threads) {
  ThreadPool pool(threads);
  char* data = static_cast<char*>(std::aligned_alloc(kHugePage, kBytes));
  madvise(data, kBytes, MADV_HUGEPAGE);
  std::memset(data, 1, kBytes);
  std::printf("{\"read\": %.0f, \"int8\": %.0f, \"bfloat16\": %.0f}\n",
              read_bandwidth(pool, data, kBytes), arithmetic_peak(pool, isa, RowKind::int8),
              arithmetic_peak(pool, isa, RowKind::bfloat16));
  std::free(data);
}

}  // namespace
}  // namespace vivace::bench

int main(int argc, char** argv) {
  using namespace vivace::bench;
  if (argc != 3) {
    std::fprintf(stderr, "usage: limits amx|avx512bf16|avx512|avx2|portable THREADS\n");
    return 2;
  }
  const vivace::Isa isa = level(argv[1]);
  if (!may_use(isa)) {
    std::fprintf(stderr, "The system does not give AMX to this process.\n");
    return 1;
  }
  report(isa, static_cast<unsigned>(std::atoi(argv[2])));
}
