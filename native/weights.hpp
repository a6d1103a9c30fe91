// What a backend keeps of weights: packed once, read only afterwards.
#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "batch.hpp"
#include "memory.hpp"
#include "runtime.hpp"

namespace vivace {

// Throws std::invalid_argument where parts do not fit together; `what` says which.
void require_shape(bool holds, const char* what);

// Norm gains, biases, sinks.
using Vector = std::vector<float>;

// A token or position table: [rows][width] in float32, bfloat16 or int8.
struct Embedding {
  Embedding(SourceType type, int rows, int width);

  // source: as many rows of floats; of an int8 table, or of int8.
  void pack(Runtime& runtime, const WeightPart& source);
  // Memory to be filled, unless it has some; `pack` does it.
  void take_memory(Runtime& runtime);
  void use(std::shared_ptr<char> bytes) { data = std::move(bytes); }

  std::size_t nbytes() const { return rows * row_bytes; }
  std::span<char> bytes() const { return {data.get(), nbytes()}; }
  TableRow row(int index) const { return {data.get() + index * row_bytes, type}; }

  SourceType type;
  int rows;
  int width;
  std::size_t row_bytes;
  std::shared_ptr<char> data;
};

struct LowRank;  // adapters.hpp

// A packed weight [n, k] in one or more planes, and its bias, both in the order of the packed columns, and the adapters
// that rows may have beside it.
struct Linear {
  // A matrix without panels: `pack` makes them, or a file has them (packed_file.hpp).
  // bias: n values, or none.
  Linear(Runtime& runtime, const PackedMatrix& shape, const Vector& bias);

  // Packs parts stacked along the outputs, n rows of k values in all.
  void pack(Runtime& runtime, const std::vector<WeightPart>& parts);
  // As an embedding's.
  void take_memory(Runtime& runtime);
  void use(std::shared_ptr<char> bytes);

  int n() const { return matrix.n; }
  int k() const { return matrix.k / matrix.planes; }
  std::size_t nbytes() const { return panel_bytes * num_panels(matrix); }
  std::span<char> bytes() const { return {panels.get(), nbytes()}; }
  // Makes room for adapters whose parts here have at most `rank` inner values together.
  void make_room(int slots, int rank);
  // Slots count from 1; null empties one. Throws std::invalid_argument where it does not fit. Not
  // while a program runs.
  void set_adapter(int slot, std::shared_ptr<const LowRank> adapter);
  const LowRank* adapter(int slot) const { return adapters[slot - 1].get(); }

  // By panel.
  Reads reads() const { return {panels.get(), panel_bytes, std::size_t(num_panels(matrix))}; }

  PackedMatrix matrix;
  std::size_t panel_bytes;
  std::shared_ptr<char> panels;
  Vector bias;
  std::vector<std::shared_ptr<const LowRank>> adapters;  // by slot
  int adapter_rank = 0;
};

// cos and sin: [positions][half] each.
struct RotaryTable {
  int positions;
  int half;
  Vector cos;
  Vector sin;
};

// The pages of one KV group: [layer][page] of `page_bytes(layout)`.
struct KVCache {
  // Throws std::bad_alloc where there is no room.
  KVCache(KVLayout layout, int num_layers, int num_pages);

  std::size_t bytes_per_page() const { return page_bytes(layout); }
  GroupPages group_pages() const { return {static_cast<int>(num_pages), page_tokens(layout)}; }
  char* layer(int index) const { return memory.at(index * num_pages * bytes_per_page()); }
  // Copies whole pages, in order. Throws std::out_of_range for an unknown page.
  void copy_pages(const std::vector<int>& sources, const std::vector<int>& targets) const;
  // Their content is lost, and their memory the system's until they are written again. Throws
  // std::out_of_range for an unknown page.
  void release_pages(std::vector<int> pages) const;

  KVLayout layout;
  int num_layers;
  std::size_t num_pages;
  Memory memory;
};

}  // namespace vivace
