// Attention and the writing of its pages, as ops of a program on all threads, beside the machine's
// limits measured in the same process. Every call uses other pages, shuffled, of a cache larger
// than the processor's. Prints one JSON object per line.
//
// Usage: attention_bench [isa] [threads] [1.1B|0.35B|128|mqa|mha] [float32|bfloat16]
// Build: see kernels_bench.cpp; the target is attention_bench.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string_view>
#include <vector>

#include "ops.hpp"
#include "peaks.hpp"

namespace vivace::bench {
namespace {

constexpr std::size_t kCacheBytes = std::size_t(5) << 28;
constexpr int kMaxRows = 2048;
constexpr double kSecondsPerCase = 0.4;

struct Model {
  const char* name;
  int num_heads;
  int num_kv_heads;
  int head_dim;
};

constexpr Model kModels[] = {{"1.1B", 32, 4, 64},
                             {"0.35B", 15, 5, 64},
                             {"128", 32, 8, 128},
                             {"mqa", 16, 1, 128},
                             {"mha", 32, 32, 64}};

// `sequences` of `context` positions each, of which the last `rows` are computed now.
struct Case {
  int sequences;
  int context;
  int rows;

  int blocks() const { return (context + kPageTokens - 1) / kPageTokens; }
  double pairs() const { return double(sequences) * rows * (context - (rows - 1) / 2.0); }
};

// What a batch points to.
struct Step {
  std::vector<std::int32_t> tokens, positions, starts, lengths, table, sequence_of;

  Step(const Case& shape, const std::vector<std::int32_t>& pages, std::size_t first) {
    for (int s = 0; s < shape.sequences; ++s) {
      starts.push_back(s * shape.rows);
      lengths.push_back(shape.context);
      for (int row = 0; row < shape.rows; ++row) {
        positions.push_back(shape.context - shape.rows + row);
        sequence_of.push_back(s);
      }
      for (int b = 0; b < shape.blocks(); ++b) table.push_back(pages[first++ % pages.size()]);
    }
    starts.push_back(shape.sequences * shape.rows);
    tokens.assign(positions.size(), 0);
  }

  Batch batch() const {
    const int sequences = int(lengths.size());
    const int width = int(table.size()) / sequences;
    return {tokens, positions, starts, lengths, {{table.data(), sequences, width}}, {}};
  }
};

double median(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

class Bench {
 public:
  Bench(Isa isa, unsigned threads, const Model& model, DType dtype)
      : runtime_(threads, isa), dtype_(dtype), layout_{dtype, model.num_kv_heads, model.head_dim} {
    const int num_pages = int(kCacheBytes / page_bytes(layout_));
    const auto cache = std::make_shared<KVCache>(layout_, 1, num_pages);
    fill(*cache);
    const int width = model.num_heads * model.head_dim;
    const int qkv_width = width + 2 * model.num_kv_heads * model.head_dim;
    qkv_.assign(std::size_t(kMaxRows) * qkv_width, 0.3f);
    queries_.assign(std::size_t(kMaxRows) * width, 0.3f);
    out_.assign(queries_.size(), 0.0f);
    const float scale = 1.0f / float(model.head_dim);
    const AttentionOp op{cache, 0, 0, model.num_heads, scale, 0, 0.0f, nullptr};
    const int half = model.head_dim / 2;
    const Vector turns(std::size_t(16384) * half, 0.7f);
    const auto table = std::make_shared<RotaryTable>(RotaryTable{16384, half, turns, turns});
    const OpContext context{runtime_, dtype, kMaxRows, kMaxRows};
    const Rows queries{queries_.data(), width};
    attention_ = make_attention(context, queries, op, {out_.data(), width});
    write_ = make_rotary_write(context, {qkv_.data(), qkv_width}, op, {table, {}, {}}, queries);
    scratch_ = Memory(std::max(attention_->scratch_bytes(), write_->scratch_bytes()));
    pages_.resize(num_pages);
    std::iota(pages_.begin(), pages_.end(), 0);
    std::shuffle(pages_.begin(), pages_.end(), std::mt19937(1));
    cache_ = cache;
    operations_ = 4.0 * width;
  }

  double streaming_read() {
    return read_bandwidth(runtime_.pool, cache_->memory.at(), cache_->memory.bytes());
  }
  double peak() {
    const bool wide = dtype_ == DType::float32;
    return arithmetic_peak(runtime_.pool, runtime_.kernels.isa,
                           wide ? RowKind::float32 : RowKind::bfloat16);
  }

  // read: bytes per second; peak: operations per second.
  void report(const Case& shape, double read, double peak) {
    const double attend = seconds(*attention_, shape), write = seconds(*write_, shape);
    const double bytes = double(shape.sequences) * shape.blocks() * page_bytes(layout_);
    std::printf("{\"sequences\": %d, \"context\": %d, \"rows\": %d, \"attention_us\": %.1f, "
                "\"write_us\": %.1f, \"kv_gb_s\": %.1f, "
                "\"share_of_read\": %.3f, \"share_of_peak\": %.3f}\n",
                shape.sequences, shape.context, shape.rows, attend * 1e6, write * 1e6,
                bytes / attend / 1e9, bytes / attend / read,
                shape.pairs() * operations_ / attend / peak);
    std::fflush(stdout);
  }

 private:
  // Small values of both signs.
  void fill(const KVCache& cache) const {
    std::mt19937 random(2);
    std::vector<std::uint16_t> pattern(4096 + 7);
    for (std::uint16_t& value : pattern) value = std::uint16_t(0x3c00 | (random() & 0x80ff));
    const std::size_t bytes = pattern.size() * 2;
    for (std::size_t at = 0; at + bytes < cache.memory.bytes(); at += bytes) {
      std::memcpy(cache.memory.at(at), pattern.data(), bytes);
    }
  }

  double seconds(const Op& op, const Case& shape) {
    std::vector<double> times;
    const double stop = now() + kSecondsPerCase;
    while (times.size() < 5 || now() < stop) {
      const Step step(shape, pages_, next_page_);
      next_page_ += step.table.size();
      const Batch batch = step.batch();
      const Frame frame{runtime_, batch, step.sequence_of.data(), scratch_.at()};
      const double start = now();
      op.run(frame);
      times.push_back(now() - start);
    }
    return median(times);
  }

  Runtime runtime_;
  DType dtype_;
  KVLayout layout_;
  std::shared_ptr<const KVCache> cache_;
  std::vector<float> qkv_, queries_, out_;
  OpPtr attention_, write_;
  Memory scratch_;
  std::vector<std::int32_t> pages_;
  std::size_t next_page_ = 0;
  double operations_ = 0;
};

const Model& model_named(std::string_view name) {
  for (const Model& model : kModels) {
    if (name == model.name) return model;
  }
  std::fprintf(stderr, "Unknown shape.\n");
  std::exit(2);
}

void run(Isa isa, unsigned threads, const Model& model, DType dtype) {
  Bench bench(isa, threads, model, dtype);
  const double peak = bench.peak();
  const double read = bench.streaming_read();
  std::printf("{\"isa\": \"%s\", \"threads\": %u, \"shape\": \"%s\", \"dtype\": \"%s\", "
              "\"read_gb_s\": %.1f, \"peak_gflops\": %.0f}\n",
              isa_name(isa).data(), threads, model.name,
              dtype == DType::bfloat16 ? "bfloat16" : "float32", read / 1e9, peak / 1e9);
  for (const Case& shape : {Case{16, 64, 1}, {16, 256, 1}, {16, 1024, 1}, {4, 4096, 1},
                            {1, 64, 1}, {1, 1024, 1}, {1, 4096, 1}, {1, 8192, 1},
                            {1, 128, 128}, {1, 512, 512}, {1, 2048, 2048}, {1, 4096, 64}}) {
    bench.report(shape, read, peak);
  }
}

}  // namespace
}  // namespace vivace::bench

int main(int argc, char** argv) {
  using namespace vivace;
  const auto argument = [&](int i, const char* otherwise) { return i < argc ? argv[i] : otherwise; };
  const bool wide = std::string_view(argument(4, "bfloat16")) == "float32";
  bench::run(choose_isa(argument(1, "")), unsigned(std::atoi(argument(2, "2"))),
             bench::model_named(argument(3, "1.1B")), wide ? DType::float32 : DType::bfloat16);
}
