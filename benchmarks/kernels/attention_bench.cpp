// Attention over pages in no order, as a decode and a prefill step have them; one thread.
#include "bench.hpp"

namespace vivace::bench {
namespace {

struct Case {
  int length;
  int rows;
};

double attention_seconds(const Machine& machine, DType dtype, const Case& at) {
  const KernelTable& kernels = machine.kernels;
  AttentionLayer layer{{dtype, 4, 64}, 32, 0.125f, 0, 0.0f, nullptr, machine.arena.data(), 0};
  layer.page_stride = page_bytes(layer.kv);
  const int width = 32 * 64;
  std::vector<float> queries(std::size_t(at.rows) * width, 0.01f), out(queries.size());
  const int pages = int(machine.arena.size() / layer.page_stride);
  std::vector<std::int32_t> table(at.length / kPageTokens + 1);
  const int step = std::min(at.rows, kernels.attention_rows(layer));
  const Memory scratch(kernels.attention_scratch_bytes(layer, step));
  return median_seconds(0.25, [&](int i) {
    for (std::size_t b = 0; b < table.size(); ++b) {
      table[b] = int((std::int64_t(i) * table.size() + b * 7919) % pages);
    }
    for (int head = 0; head < 4; ++head) {
      for (int row = 0; row < at.rows; row += step) {
        const std::size_t first = std::size_t(row) * width;
        const int count = std::min(step, at.rows - row);
        const int position = at.length - at.rows + row;
        const int parts = (position + count - 1) / kPartTokens + 1;
        kernels.attention(layer, {queries.data() + first, width, out.data() + first, width,
                                  table.data(), head, 1, position, count, 0, parts},
                          scratch.data());
      }
    }
  });
}

}  // namespace

std::vector<Result> bench_attention(const Machine& machine, DType dtype) {
  ThreadPool alone(1);
  const RowKind rows = dtype == DType::bfloat16 ? RowKind::bfloat16 : RowKind::float32;
  const double peak = arithmetic_peak(alone, machine.kernels.isa, rows);
  std::vector<Result> results;
  for (const Case at : {Case{1024, 1}, Case{8192, 1}, Case{512, 512}, Case{2048, 512}}) {
    const double pairs = double(at.rows) * (at.length - at.rows) + at.rows * (at.rows + 1) / 2.0;
    Result result{.kernel = dtype == DType::bfloat16 ? "attention bfloat16" : "attention float32",
                  .shape = "32/4x64@" + std::to_string(at.length),
                  .m = at.rows,
                  .bytes = double(at.length / kPageTokens) * page_bytes({dtype, 4, 64}),
                  .operations = pairs * 32 * 64 * 4,
                  .peak = peak};
    result.read = read_bandwidth(alone, machine.arena.data(), machine.arena.size() / 2);
    result.seconds = attention_seconds(machine, dtype, at);
    results.push_back(result);
  }
  return results;
}

}  // namespace vivace::bench
