// One core's matmul and attention beside the same core's limits, measured in the same process.
// Prints one JSON object per line. Usage: kernels_bench [isa] [float32|bfloat16]
// Build: cmake -S . -B build/bench -DVIVACE_KERNELS_BENCH=ON
//        cmake --build build/bench --target kernels_bench
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "peaks.hpp"

namespace vivace::bench {
namespace {

constexpr std::size_t kHugePage = std::size_t(2) << 20;

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
  std::size_t size_;
  std::unique_ptr<char, decltype(&std::free)> data_;
};

double median(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

struct Shape {
  int n, k;
};

struct Bench {
  const KernelTable& kernels;
  DType dtype;
  Memory arena{std::size_t(512) << 20};

  // Walks through copies of the weights that together exceed the caches.
  double gemm_seconds(const Shape& shape, int m) const {
    GemmTask task{.weights = {.format = float_format(dtype), .n = shape.n, .k = shape.k},
                  .rows = {.kind = row_kind(dtype), .m = m, .k = shape.k},
                  .out_stride = shape.n};
    const std::size_t bytes = weight_bytes(shape);
    const int copies = std::max<int>(1, m <= 32 ? arena.size() / bytes - 1 : 1);
    const Memory rows(kernels.rows_bytes(task.rows));
    std::vector<float> out(std::size_t(m) * shape.n);
    task.rows.data = rows.data();
    task.out = out.data();
    std::vector<double> times;
    const double stop = now() + 0.25;
    for (int i = 0; times.size() < 5 || now() < stop; ++i) {
      task.weights.panels = arena.data() + std::size_t(i % copies) * bytes;
      const double start = now();
      kernels.gemm(task, 0, num_panels(task.weights));
      times.push_back(now() - start);
    }
    return median(times);
  }

  std::size_t weight_bytes(const Shape& shape) const {
    const PackedMatrix matrix{.format = float_format(dtype), .n = shape.n, .k = shape.k};
    return kernels.panel_bytes(matrix.format, shape.k) * num_panels(matrix);
  }

  double attention_seconds(int length, int rows) const {
    AttentionLayer layer{{dtype, 4, 64}, 32, 0.125f, 0, 0.0f, nullptr, arena.data(), 0};
    layer.page_stride = page_bytes(layer.kv);
    const int width = 32 * 64;
    std::vector<float> queries(std::size_t(rows) * width, 0.01f), out(queries.size());
    const int pages = int(arena.size() / layer.page_stride);
    std::vector<std::int32_t> table(length / kPageTokens + 1);
    const int step = std::min(rows, kernels.attention_rows(layer));
    const Memory scratch(kernels.attention_scratch_bytes(layer, step));
    std::vector<double> times;
    const double stop = now() + 0.25;
    for (int i = 0; times.size() < 5 || now() < stop; ++i) {
      for (std::size_t b = 0; b < table.size(); ++b) {
        table[b] = int((std::int64_t(i) * table.size() + b * 7919) % pages);
      }
      const double start = now();
      for (int head = 0; head < 4; ++head) {
        for (int row = 0; row < rows; row += step) {
          const std::size_t at = std::size_t(row) * width;
          const int count = std::min(step, rows - row);
          kernels.attention(layer, {queries.data() + at, width, out.data() + at, width,
                                    table.data(), head, length - rows + row, count},
                            scratch.data());
        }
      }
      times.push_back(now() - start);
    }
    return median(times);
  }
};

void report(const char* kind, const char* shape, int m, double seconds, double share_of_read,
            double share_of_peak, double flops) {
  std::printf("{\"kernel\": \"%s\", \"shape\": \"%s\", \"m\": %d, \"microseconds\": %.1f, "
              "\"share_of_read\": %.3f, \"share_of_peak\": %.3f, \"gflops\": %.1f}\n",
              kind, shape, m, seconds * 1e6, share_of_read, share_of_peak, flops / seconds / 1e9);
  std::fflush(stdout);
}

void run(Isa isa, DType dtype) {
  const Bench bench{kernels(isa), dtype};
  const double peak = arithmetic_peak(isa, dtype);
  double read = read_bandwidth(bench.arena.data(), bench.arena.size() / 2);
  std::printf("{\"isa\": \"%s\", \"dtype\": \"%s\", \"read_gb_s\": %.1f, \"peak_gflops\": %.0f}\n",
              isa_name(isa).data(), dtype == DType::bfloat16 ? "bfloat16" : "float32", read / 1e9,
              peak / 1e9);
  for (const Shape& shape : {Shape{960, 960}, {2560, 960}, {2048, 2048}, {5632, 2048},
                             {32000, 2048}}) {
    read = read_bandwidth(bench.arena.data(), bench.arena.size() / 2);
    for (const int m : {1, 4, 16, 32, 128, 512}) {
      const double seconds = bench.gemm_seconds(shape, m);
      const double bytes = double(bench.weight_bytes(shape));
      const double flops = 2.0 * m * shape.n * shape.k;
      char name[32];
      std::snprintf(name, sizeof name, "%dx%d", shape.n, shape.k);
      report("gemm", name, m, seconds, bytes / seconds / read, flops / seconds / peak, flops);
    }
  }
  for (const auto& [length, rows] : {std::pair{1024, 1}, {8192, 1}, {512, 512}, {2048, 512}}) {
    const double seconds = bench.attention_seconds(length, rows);
    const double pairs = double(rows) * (length - rows) + rows * (rows + 1) / 2.0;
    const double flops = pairs * 32 * 64 * 4;
    const double bytes = double(length / kPageTokens) * page_bytes({dtype, 4, 64});
    char name[32];
    std::snprintf(name, sizeof name, "32/4x64@%d", length);
    report("attention", name, rows, seconds, bytes / seconds / read, flops / seconds / peak, flops);
  }
}

}  // namespace
}  // namespace vivace::bench

int main(int argc, char** argv) {
  using namespace vivace;
  const bool wide = argc > 2 && std::strcmp(argv[2], "float32") == 0;
  bench::run(choose_isa(argc > 1 ? argv[1] : ""), wide ? DType::float32 : DType::bfloat16);
}
