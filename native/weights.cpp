#include "weights.hpp"

#include "adapters.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace vivace {
namespace {

constexpr int kRowsPerItem = 256;

bool is_float(SourceType type) { return type != SourceType::int8 && type != SourceType::int4; }

// A row of floats or int8.
SourceRow row_of(const WeightPart& part, int row) {
  const bool int8 = part.type == SourceType::int8;
  const std::size_t bytes = part.type == SourceType::float32 ? 4 : int8 ? 1 : 2;
  return {static_cast<const char*>(part.rows) + row * part.row_stride * bytes, part.type,
          int8 ? static_cast<const float*>(part.scales)[row] : 1.0f};
}

// Quantized rows are kept as they are, so they must be what the matrix keeps.
void require_format(const WeightPart& part, const WeightFormat& format) {
  if (is_float(part.type)) return;
  const bool int8 = part.type == SourceType::int8;
  require_shape(format.kind == (int8 ? WeightKind::int8 : WeightKind::int4),
                "quantized rows and the format of their matrix");
  require_shape(part.scales != nullptr, "quantized rows need scales");
  require_shape((part.zero_points != nullptr) == format.zero_points,
                "zero points and the format of their matrix");
}

// Kernels unpack whole groups into tiles, which hold these sizes alone.
const PackedMatrix& with_known_group(const PackedMatrix& shape) {
  const int group = shape.format.group;
  const bool in_groups = group == 32 || group == 64 || group == 128;
  const bool int4 = shape.format.kind == WeightKind::int4;
  require_shape(int4 ? in_groups : group == 0, "int4 and groups of 32, 64 or 128");
  return shape;
}

int sum_of_rows(const std::vector<WeightPart>& parts) {
  int rows = 0;
  for (const WeightPart& part : parts) rows += part.num_rows;
  return rows;
}

}  // namespace

void require_shape(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(std::string("Shapes do not fit: ") + what + ".");
}

Embedding::Embedding(SourceType type, int rows, int width)
    : type(type),
      rows(rows),
      width(width),
      row_bytes(table_row_bytes(type, width)) {}

void Embedding::take_memory(Runtime& runtime) {
  if (!data) use(runtime.weights.take(nbytes()));
}

void Embedding::pack(Runtime& runtime, const WeightPart& source) {
  require_shape(source.num_rows == rows, "a table and its rows");
  const bool stored = source.type == SourceType::int8 && source.type == type;
  require_shape(stored || is_float(source.type), "a table and its numbers");
  take_memory(runtime);
  const auto held = runtime.hold();
  const auto to_table = runtime.kernels.rows.to_table;
  const int items = (rows + kRowsPerItem - 1) / kRowsPerItem;
  runtime.pool.parallel_for(items, [&](std::size_t item, unsigned) {
    const int begin = static_cast<int>(item) * kRowsPerItem;
    const int end = std::min(begin + kRowsPerItem, rows);
    for (int row = begin; row < end; ++row) {
      to_table(row_of(source, row), width, type, data.get() + row * row_bytes);
    }
  });
}

Linear::Linear(Runtime& runtime, const PackedMatrix& shape, const Vector& given_bias)
    : matrix(with_known_group(shape)),
      panel_bytes(runtime.kernels.panel_bytes(shape.format, shape.k)) {
  require_shape(matrix.n > 0 && matrix.k > 0, "a linear layer needs weights");
  const bool whole = matrix.planes == 1 || (matrix.format.group && k() % matrix.format.group == 0);
  require_shape(matrix.planes >= 1 && whole, "planes and whole groups of inputs");
  require_shape(!matrix.gated || matrix.n % 2 == 0, "gates and ups come in pairs");
  if (given_bias.empty()) return;
  require_shape(given_bias.size() == std::size_t(matrix.n), "a bias and its outputs");
  bias.resize(std::size_t(num_panels(matrix)) * kPanelColumns);
  for (std::size_t column = 0; column < bias.size(); ++column) {
    const int output = output_of(matrix, static_cast<int>(column));
    if (output < matrix.n) bias[column] = given_bias[output];
  }
  matrix.bias = bias.data();
}

void Linear::take_memory(Runtime& runtime) {
  if (!panels) use(runtime.weights.take(nbytes()));
}

void Linear::use(std::shared_ptr<char> bytes) {
  panels = std::move(bytes);
  matrix.panels = panels.get();
}

void Linear::make_room(int slots, int rank) {
  require_shape(slots > 0 && rank > 0, "adapters need room");
  adapters.resize(slots);
  adapter_rank = rank;
}

void Linear::set_adapter(int slot, std::shared_ptr<const LowRank> adapter) {
  require_shape(slot >= 1 && std::size_t(slot) <= adapters.size(), "an adapter and the room for it");
  if (adapter) {
    require_shape(adapter->a->k() == k(), "an adapter's inputs");
    require_shape(adapter->a->n() <= adapter_rank, "an adapter's rank and the room for it");
    for (const LowRankPart& part : adapter->parts) {
      require_shape(part.first >= 0 && part.first + part.b->n() <= n(), "an adapter's outputs");
    }
  }
  adapters[slot - 1] = std::move(adapter);
}

void Linear::pack(Runtime& runtime, const std::vector<WeightPart>& parts) {
  require_shape(sum_of_rows(parts) == matrix.n, "the parts of a linear layer and its outputs");
  for (const WeightPart& part : parts) require_format(part, matrix.format);
  take_memory(runtime);
  const auto held = runtime.hold();
  runtime.pool.parallel_for(num_panels(matrix), [&](std::size_t panel, unsigned) {
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

void KVCache::release_pages(std::vector<int> pages) const {
  std::sort(pages.begin(), pages.end());
  if (!pages.empty() && (pages.front() < 0 || std::size_t(pages.back()) >= num_pages)) {
    throw std::out_of_range("Pages to release must lie in [0, " + std::to_string(num_pages) + ").");
  }
  const std::size_t bytes = bytes_per_page();
  for (std::size_t begin = 0, end = 0; begin < pages.size(); begin = end) {
    // A run of neighbours at once: little of it lies in pages of the system that others share.
    for (++end; end < pages.size() && pages[end] <= pages[end - 1] + 1;) ++end;
    const std::size_t count = pages[end - 1] - pages[begin] + 1;
    for (std::size_t index = 0; index < std::size_t(num_layers); ++index) {
      memory.release((index * num_pages + pages[begin]) * bytes, count * bytes);
    }
  }
}

}  // namespace vivace
