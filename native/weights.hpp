// What a backend keeps of weights: packed once, read only afterwards.
#pragma once

#include <memory>
#include <vector>

#include "memory.hpp"
#include "runtime.hpp"

namespace vivace {

// Throws std::invalid_argument where parts do not fit together; `what` says which.
void require_shape(bool holds, const char* what);

// Norm gains, biases, sinks.
using Vector = std::vector<float>;

// A token or position table: [rows][width] in `dtype`.
struct Embedding {
  Embedding(Runtime& runtime, DType dtype, const WeightPart& source, int width);

  const void* row(int index) const { return memory.at(index * row_bytes); }

  DType dtype;
  int rows;
  int width;
  std::size_t row_bytes;
  Memory memory;
};

// A packed weight [n, k] and its bias; parts are stacked along the outputs.
struct Linear {
  // bias: n values, or none.
  Linear(Runtime& runtime, DType dtype, const std::vector<WeightPart>& parts, int k,
         const Vector& bias);

  int n() const { return matrix.n; }
  int k() const { return matrix.k; }

  std::shared_ptr<char> panels;
  Vector bias;  // padded to whole panels
  PackedMatrix matrix;
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
  char* layer(int index) const { return memory.at(index * num_pages * bytes_per_page()); }
  // Copies whole pages, in order. Throws std::out_of_range for an unknown page.
  void copy_pages(const std::vector<int>& sources, const std::vector<int>& targets) const;

  KVLayout layout;
  int num_layers;
  std::size_t num_pages;
  Memory memory;
};

}  // namespace vivace
