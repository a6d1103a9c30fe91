// Linear layers of every format beside the machine's own limits, measured in the same process.
// Prints a table; writes JSON where asked.
//
// Usage: kernels_bench [avx512] [threads=2] [format=int4-g128] [json=FILE]
// Build: cmake -S . -B build/bench -DVIVACE_KERNELS_BENCH=ON
//        cmake --build build/bench --target kernels_bench attention_bench
#include <cstdio>
#include <thread>

#include "bench.hpp"

namespace vivace::bench {
namespace {

struct Shape {
  int n, k;
};

struct NamedFormat {
  const char* name;
  WeightFormat format;
};

constexpr Shape kShapes[] = {
    {2560, 2048}, {2048, 2048}, {11264, 2048}, {2048, 5632}, {32000, 2048}};
constexpr int kRows[] = {1, 2, 4, 8, 16, 32, 128, 512};
constexpr NamedFormat kFormats[] = {
    {"float32", {WeightKind::float32, RowKind::float32}},
    {"bfloat16", {WeightKind::bfloat16, RowKind::bfloat16}},
    {"int8", {WeightKind::int8, RowKind::int8}},
    {"int4-g32", {WeightKind::int4, RowKind::int8, 32}},
    {"int4-g64", {WeightKind::int4, RowKind::int8, 64}},
    {"int4-g128", {WeightKind::int4, RowKind::int8, 128}},
    {"int4-g128-zero-points", {WeightKind::int4, RowKind::int8, 128, true}},
    {"int4-g32-a16", {WeightKind::int4, RowKind::bfloat16, 32}},
    {"int4-g128-a16", {WeightKind::int4, RowKind::bfloat16, 128}},
    {"int4-g128-zero-points-a16", {WeightKind::int4, RowKind::bfloat16, 128, true}},
};

struct Options {
  std::string isa, format, json;
  unsigned threads = std::thread::hardware_concurrency();
};

class LinearBench {
 public:
  LinearBench(const Machine& machine, const WeightFormat& format, const Shape& shape, int m)
      : machine_(machine),
        values_(std::size_t(m) * shape.k),
        out_(std::size_t(m) * shape.n),
        rows_{format.rows, format.group, m, shape.k, nullptr},
        packed_(machine.kernels.rows_bytes(rows_)),
        task_{.weights = {format, shape.n, shape.k}} {
    for (std::size_t i = 0; i < values_.size(); ++i) values_[i] = float(i * 40503 % 509) - 254;
    rows_.data = packed_.data();
    task_.rows = rows_;
    task_.out = out_.data();
    task_.out_stride = shape.n;
  }

  std::size_t weight_bytes() const {
    const PackedMatrix& weights = task_.weights;
    return machine_.kernels.panel_bytes(weights.format, weights.k) * num_panels(weights);
  }

  // Packing of rows included. Walks through copies of the weights that exceed the caches.
  double seconds() {
    const std::size_t bytes = weight_bytes();
    const int copies = rows_.m <= 32 ? std::max<int>(1, machine_.arena.size() / bytes - 1) : 1;
    return median_seconds(0.12, [&](int i) {
      task_.weights.panels = machine_.arena.data() + std::size_t(i % copies) * bytes;
      pack();
      multiply();
    });
  }

 private:
  void pack() {
    constexpr int kRowsPerItem = 16;  // neighbours share cache lines
    machine_.pool.parallel_for((rows_.m + kRowsPerItem - 1) / kRowsPerItem, [&](std::size_t item,
                                                                                unsigned) {
      const int begin = int(item) * kRowsPerItem;
      for (int row = begin; row < std::min(begin + kRowsPerItem, rows_.m); ++row) {
        machine_.kernels.pack_row(values_.data() + std::size_t(row) * rows_.k, rows_, row);
      }
    });
  }

  void multiply() {
    const int panels = num_panels(task_.weights), threads = int(machine_.pool.threads());
    const int step = threads == 1 ? panels : std::clamp(panels / (4 * threads), 1, 8);
    const int items = (panels + step - 1) / step;
    machine_.pool.parallel_for(items, [&](std::size_t item, unsigned) {
      const int begin = int(item) * step;
      machine_.kernels.gemm(task_, begin, std::min(begin + step, panels));
    });
  }

  const Machine& machine_;
  std::vector<float> values_, out_;
  PackedRows rows_;
  Memory packed_;
  GemmTask task_;
};

// The share of the nearer limit, and which it is.
void print_share(const Result& result) {
  const bool reading = result.share_of_read() > result.share_of_peak();
  const double share = reading ? result.share_of_read() : result.share_of_peak();
  std::printf(" %5.0f%c", share * 100, reading ? 'r' : 'p');
  std::fflush(stdout);
}

void bench_linears(const Machine& machine, const NamedFormat& one, std::vector<Result>& results) {
  const double peak = arithmetic_peak(machine.pool, machine.kernels.isa, one.format.rows);
  std::printf("\n%s (peak %.0f GOP/s)\n  n x k        ", one.name, peak / 1e9);
  for (const int m : kRows) std::printf(" %6d", m);
  std::printf("\n");
  for (const Shape& shape : kShapes) {
    const std::string name = std::to_string(shape.n) + "x" + std::to_string(shape.k);
    std::printf("  %-13s", name.c_str());
    const double read = machine.read();
    for (const int m : kRows) {
      LinearBench bench(machine, one.format, shape, m);
      results.push_back({.kernel = one.name,
                         .shape = name,
                         .m = m,
                         .seconds = bench.seconds(),
                         .bytes = double(bench.weight_bytes()),
                         .operations = 2.0 * m * shape.n * shape.k,
                         .read = read,
                         .peak = peak});
      print_share(results.back());
    }
    std::printf("   read %.1f GB/s\n", read / 1e9);
  }
}

void write_json(const std::string& path, const Options& options, const Machine& machine,
                const std::vector<Result>& results) {
  std::FILE* const file = std::fopen(path.c_str(), "w");
  if (file == nullptr) {
    std::perror(path.c_str());
    std::exit(1);
  }
  std::fprintf(file, "{\"isa\": \"%s\", \"threads\": %u, \"results\": [",
               isa_name(machine.kernels.isa).data(), options.threads);
  const char* separator = "\n";
  for (const Result& result : results) {
    std::fprintf(file,
                 "%s  {\"kernel\": \"%s\", \"shape\": \"%s\", \"m\": %d, \"microseconds\": %.1f, "
                 "\"gops\": %.1f, \"gb_s\": %.2f, \"share_of_read\": %.3f, "
                 "\"share_of_peak\": %.3f, \"read_gb_s\": %.2f, \"peak_gops\": %.1f}",
                 separator, result.kernel.c_str(), result.shape.c_str(), result.m,
                 result.seconds * 1e6, result.operations / result.seconds / 1e9,
                 result.bytes / result.seconds / 1e9, result.share_of_read(),
                 result.share_of_peak(), result.read / 1e9, result.peak / 1e9);
    separator = ",\n";
  }
  std::fprintf(file, "\n]}\n");
  std::fclose(file);
}

void run(const Options& options) {
  ThreadPool pool(options.threads);
  const Memory arena(std::size_t(512) << 20);
  const Machine machine{kernels(choose_isa(options.isa)), pool, arena};
  std::vector<Result> results;
  std::printf("%s, %u threads. Per cent of the nearer limit, by rows: r of the streaming read, "
              "p of the arithmetic peak.\n", isa_name(machine.kernels.isa).data(), options.threads);
  for (const NamedFormat& one : kFormats) {
    if (options.format.empty() || options.format == one.name) bench_linears(machine, one, results);
  }
  if (!options.json.empty()) write_json(options.json, options, machine, results);
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
    } else if (!take(argv[i], "format", options.format) && !take(argv[i], "json", options.json)) {
      options.isa = argv[i];
    }
    if (options.isa.find('=') != std::string::npos) {
      std::fprintf(stderr, "Unknown: %s. See the top of kernels_bench.cpp.\n", argv[i]);
      return 2;
    }
  }
  run(options);
}
