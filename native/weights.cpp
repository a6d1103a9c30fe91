#include "weights.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace vivace {
namespace {

constexpr int kRowsPerItem = 256;

std::size_t source_bytes(SourceType type) { return type == SourceType::float32 ? 4 : 2; }

int sum_of_rows(const std::vector<WeightPart>& parts) {
  int rows = 0;
  for (const WeightPart& part : parts) rows += part.num_rows;
  return rows;
}

}  // namespace

void require_shape(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(std::string("Shapes do not fit: ") + what + ".");
}

Embedding::Embedding(Runtime& runtime, DType dtype, const WeightPart& source, int width)
    : dtype(dtype),
      rows(source.num_rows),
      width(width),
      row_bytes(width * element_bytes(dtype)),
      memory(rows * row_bytes) {
  const std::lock_guard lock(runtime.busy);
  const std::size_t stride = source.row_stride * source_bytes(source.type);
  const auto convert = runtime.kernels.rows.convert;
  const int items = (rows + kRowsPerItem - 1) / kRowsPerItem;
  runtime.pool.parallel_for(items, [&](std::size_t item, unsigned) {
    const int begin = static_cast<int>(item) * kRowsPerItem;
    const int end = std::min(begin + kRowsPerItem, rows);
    for (int row = begin; row < end; ++row) {
      const char* from = static_cast<const char*>(source.rows) + row * stride;
      convert(from, source.type, this->width, this->dtype, memory.at(row * row_bytes));
    }
  });
}

Linear::Linear(Runtime& runtime, DType dtype, const std::vector<WeightPart>& parts, int k,
               const Vector& given_bias)
    : bias(given_bias) {
  const int n = sum_of_rows(parts);
  matrix = {.format = float_format(dtype), .n = n, .k = k};
  const int count = num_panels(matrix);
  panels = runtime.weights.take(runtime.kernels.panel_bytes(matrix.format, k) * count);
  if (!bias.empty()) bias.resize(std::size_t(count) * kPanelColumns);
  matrix.panels = panels.get();
  matrix.bias = bias.empty() ? nullptr : bias.data();

  const std::lock_guard lock(runtime.busy);
  runtime.pool.parallel_for(count, [&](std::size_t panel, unsigned) {
    const int begin = static_cast<int>(panel);
    runtime.kernels.pack_panels(parts.data(), static_cast<int>(parts.size()), matrix, begin,
                                begin + 1);
  });
}

KVCache::KVCache(KVLayout layout, int num_layers, int num_pages)
    : layout(layout),
      num_layers(num_layers),
      num_pages(num_pages),
      memory(num_layers * this->num_pages * page_bytes(layout)) {
  require_shape(num_layers > 0 && num_pages > 0, "a KV cache needs layers and pages");
}

void KVCache::copy_pages(const std::vector<int>& sources, const std::vector<int>& targets) const {
  const auto known = [&](int page) { return page >= 0 && std::size_t(page) < num_pages; };
  const bool valid = sources.size() == targets.size() &&
                     std::all_of(sources.begin(), sources.end(), known) &&
                     std::all_of(targets.begin(), targets.end(), known);
  if (!valid) {
    throw std::out_of_range("Pages to copy must come in pairs and lie in [0, " +
                            std::to_string(num_pages) + ").");
  }
  for (int index = 0; index < num_layers; ++index) {
    for (std::size_t i = 0; i < sources.size(); ++i) {
      const std::size_t bytes = bytes_per_page();
      std::memmove(layer(index) + targets[i] * bytes, layer(index) + sources[i] * bytes, bytes);
    }
  }
}

}  // namespace vivace
