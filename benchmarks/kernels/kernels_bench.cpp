// Every op beside this machine's own limits, which are measured in the same process: linear layers
// of every format, experts, attention, ops on rows, draws. Ops run as they do in a program, on the
// runtime's threads and with its shares of work. Prints tables; writes JSON where asked.
//
// Usage: kernels_bench [avx512] [threads=2] [op=linear|experts|attention|rows|draw]
//                      [format=int4-g128] [json=FILE]
// Build: cmake -S . -B build/bench -DVIVACE_KERNELS_BENCH=ON
//        cmake --build build/bench --target kernels_bench
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "bench.hpp"

namespace vivace::bench {
namespace {

constexpr std::size_t kArenaBytes = std::size_t(640) << 20;

struct Options {
  std::string isa, op, format, json;
  unsigned threads = std::thread::hardware_concurrency();
};

void run(const Options& options) {
  Runtime runtime(options.threads, choose_isa(options.isa));
  runtime.pool.settle();
  const Memory arena(kArenaBytes);
  std::memset(arena.at(), 0x3c, arena.bytes());
  const Machine machine{runtime, arena};
  const auto wanted = [&](const char* op) { return options.op.empty() || options.op == op; };
  std::printf("%s, %u threads, streaming read %.1f GB/s. Per cent of the nearest limit: r the "
              "streaming read,\np the arithmetic peak, c a plain copy; ! below %.0f.",
              isa_name(runtime.kernels.isa).data(), options.threads, machine.read() / 1e9,
              Report::kSlow * 100);
  Report report;
  if (wanted("linear")) bench_linears(machine, options.format, report);
  if (wanted("experts")) bench_experts(machine, report);
  if (wanted("attention")) bench_attention(machine, report);
  if (wanted("rows")) bench_rows(machine, report);
  if (wanted("draw")) bench_draws(machine, report);
  report.slowest();
  if (!options.json.empty()) report.write_json(options.json, machine);
}

// Whether `argument` is key=value; sets the value.
bool take(const std::string& argument, const char* key, std::string& value) {
  const std::string start = std::string(key) + "=";
  if (argument.rfind(start, 0) != 0) return false;
  value = argument.substr(start.size());
  return true;
}

}  // namespace
}  // namespace vivace::bench

int main(int argc, char** argv) {
  using namespace vivace::bench;
  Options options;
  for (int i = 1; i < argc; ++i) {
    std::string value;
    if (take(argv[i], "threads", value)) {
      options.threads = unsigned(std::max(1, std::atoi(value.c_str())));
    } else if (!take(argv[i], "op", options.op) && !take(argv[i], "format", options.format) &&
               !take(argv[i], "json", options.json)) {
      options.isa = argv[i];
    }
    if (options.isa.find('=') != std::string::npos) {
      std::fprintf(stderr, "Unknown: %s. See the top of kernels_bench.cpp.\n", argv[i]);
      return 2;
    }
  }
  run(options);
}
