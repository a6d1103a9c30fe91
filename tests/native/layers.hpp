// Linear layers as kernels keep them and as plain numbers, and the products of both.
#pragma once

#include "support.hpp"

namespace vivace::tests {

// What a panel must stand for: [n][k] values, or for integer formats codes less their zero points
// and [n][groups] scales.
struct Numbers {
  int k = 0;
  int group = 0;  // the whole row where it is 0
  std::vector<float> values;
  std::vector<int> codes;
  std::vector<float> scales;
  std::vector<int> zero_points;

  int groups() const { return group == 0 ? 1 : (k + group - 1) / group; }
  int group_end(int g) const { return group == 0 ? k : std::min(k, (g + 1) * group); }
  double weight(int row, int i) const {
    if (codes.empty()) return values[std::size_t(row) * k + i];
    const int g = group == 0 ? 0 : i / group;
    return double(scales[std::size_t(row) * groups() + g]) * codes[std::size_t(row) * k + i];
  }
};

struct Layer {
  Numbers numbers;
  Buffer panels;
  std::vector<float> bias;  // in the order of packed columns
  PackedMatrix matrix;
};

// Layers of random weights: three parts of different source types, whose rows are further apart
// than they are long.
Layer layer_of_floats(const KernelTable& kernels, const PackedMatrix& shape, std::mt19937& random);
// The same weights from integer parts: `layer`'s own codes and scales.
Layer layer_of_codes(const KernelTable& kernels, const Layer& layer);

// Rounds to nearest by plain loops, as formats/rounding.py does.
void round_weights(const WeightFormat& format, Numbers& numbers);

// A task's ends; null and one are none.
struct Ending {
  float multiplier = 1.0f;
  const float* residual = nullptr;
  bool biased = false;
  const ActivationTask* activation = nullptr;
};

// Outputs [m][width] from rows [m][k]; all NaN where the kernel wrote outside of them.
std::vector<float> multiply(const KernelTable& kernels, const Layer& layer, const Ending& ending,
                            const float* rows, int m);

// The columns that a task writes.
inline int width_of(const Layer& layer, const Ending& ending) {
  const bool halved = ending.activation != nullptr && ending.activation->gated;
  return halved ? layer.matrix.n / 2 : layer.matrix.n;
}

// Where output c stands among the packed columns.
inline int packed_column(const PackedMatrix& matrix, int c) {
  int column = 0;
  while (output_of(matrix, column) != c) ++column;
  return column;
}

inline const char* name(const WeightFormat& format) {
  if (format.kind == WeightKind::float32) return "float32";
  if (format.kind == WeightKind::bfloat16) return "bfloat16";
  if (format.kind == WeightKind::int8) return "int8";
  if (format.rows == RowKind::int8) return format.zero_points ? "int4 zero points" : "int4";
  return format.zero_points ? "int4-a16 zero points" : "int4-a16";
}

}  // namespace vivace::tests
