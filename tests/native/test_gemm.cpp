// Matmul of every format: values, tails, endings, stacked parts of every source type, and batch
// invariance.
#include "layers.hpp"

namespace vivace::tests {
namespace {

constexpr ActivationTask kSilu{ActivationKind::silu, false};
constexpr ActivationTask kGatedSilu{ActivationKind::silu, true};

// A row as the matmul sees it.
struct SeenRow {
  std::vector<float> values;  // of float rows, rounded to their type
  std::vector<int> codes;
  float scale = 1.0f;
};

SeenRow see(RowKind kind, const float* row, int k) {
  SeenRow seen;
  if (kind != RowKind::int8) {
    const bool half = kind == RowKind::bfloat16;
    for (int i = 0; i < k; ++i) seen.values.push_back(half ? widen(narrow(row[i])) : row[i]);
    return seen;
  }
  float magnitude = 0;
  for (int i = 0; i < k; ++i) magnitude = std::max(magnitude, std::fabs(row[i]));
  const bool vanishes = magnitude < 1e-30f;
  seen.scale = vanishes ? 0.0f : magnitude / 127.0f;
  const float factor = vanishes ? 0.0f : 127.0f / magnitude;
  for (int i = 0; i < k; ++i) seen.codes.push_back(int(std::nearbyint(row[i] * factor)));
  return seen;
}

struct Product {
  double value = 0;
  double size = 0;  // of the terms
};

Product product_of(const Numbers& numbers, const SeenRow& row, int column) {
  Product product;
  for (int i = 0; i < numbers.k; ++i) {
    const double x = row.codes.empty() ? row.values[i] : double(row.scale) * row.codes[i];
    const double term = x * numbers.weight(column, i);
    product.value += term;
    product.size += std::fabs(term);
  }
  return product;
}

// int8 rows are summed exactly within a group; what follows is one known order of operations.
float exact_product(Isa isa, const Numbers& numbers, const SeenRow& row, int column) {
  float total = 0;
  for (int g = 0; g < numbers.groups(); ++g) {
    std::int64_t sum = 0;
    for (int i = g * numbers.group; i < numbers.group_end(g); ++i) {
      sum += std::int64_t(row.codes[i]) * numbers.codes[std::size_t(column) * numbers.k + i];
    }
    const float scale = numbers.scales[std::size_t(column) * numbers.groups() + g];
    const float part = static_cast<float>(sum) * scale;
    total = isa == Isa::portable ? part + total : std::fma(float(sum), scale, total);
  }
  return total * row.scale;
}

double silu(double x) { return x / (1 + std::exp(-x)); }

// Expected outputs of a row, and the size of the terms that went into each.
Product output_of(const Layer& layer, const Ending& ending, const SeenRow& row, int column) {
  const auto biased = [&](int c) {
    Product product = product_of(layer.numbers, row, c);
    if (!ending.biased) return product;
    const double bias = layer.bias[packed_column(layer.matrix, c)];
    return Product{product.value + bias, product.size + std::fabs(bias)};
  };
  Product product = biased(column);
  if (ending.activation == nullptr) return product;
  const Product up = ending.activation->gated ? biased(layer.matrix.n / 2 + column) : Product{1, 1};
  return {silu(product.value) * up.value, (1 + product.size) * (1 + up.size)};
}

void check_values(const KernelTable& kernels, const Layer& layer, const Ending& ending,
                  const std::vector<float>& rows, int m, Checks& checks) {
  const int k = layer.matrix.k, width = width_of(layer, ending);
  const std::vector<float> out = multiply(kernels, layer, ending, rows.data(), m);
  const bool plain = ending.activation == nullptr && ending.residual == nullptr && !ending.biased;
  const bool exact = plain && layer.matrix.format.rows == RowKind::int8;
  double worst = 0;
  int different = 0;
  for (int r = 0; r < m; ++r) {
    const SeenRow row = see(layer.matrix.format.rows, rows.data() + std::size_t(r) * k, k);
    for (int c = 0; c < width; ++c) {
      const std::size_t at = std::size_t(r) * width + c;
      const Product product = output_of(layer, ending, row, c);
      const double residual = ending.residual != nullptr ? ending.residual[at] : 0;
      const double expected = residual + ending.multiplier * product.value;
      const double size = product.size + std::fabs(residual) + 1e-30;
      const double error = std::fabs(out[at] - expected) / size;
      worst = error <= worst ? worst : error;  // a NaN is kept
      if (exact) different += out[at] != exact_product(kernels.isa, layer.numbers, row, c);
    }
  }
  const WeightFormat& format = layer.matrix.format;
  checks.that(worst < 1e-6, "%s group %d gemm m=%d n=%d k=%d: error %g", name(format), format.group,
              m, layer.matrix.n, k, worst);
  checks.that(different == 0, "%s group %d gemm m=%d n=%d k=%d: %d values are not exact",
              name(format), format.group, m, layer.matrix.n, k, different);
}

void check_invariance(const KernelTable& kernels, const Layer& layer, const Ending& ending,
                      const std::vector<float>& rows, int max_m, Checks& checks) {
  const int k = layer.matrix.k, width = width_of(layer, ending);
  std::vector<float> alone;
  for (int r = 0; r < max_m; ++r) {
    const std::vector<float> one =
        multiply(kernels, layer, ending, rows.data() + std::size_t(r) * k, 1);
    alone.insert(alone.end(), one.begin(), one.end());
  }
  for (int m = 2; m <= max_m; m = m < 42 ? m + 1 : m + 29) {
    const int first = max_m - m;
    const std::vector<float> out =
        multiply(kernels, layer, ending, rows.data() + std::size_t(first) * k, m);
    const bool same = std::memcmp(out.data(), alone.data() + std::size_t(first) * width,
                                  out.size() * sizeof(float)) == 0;
    checks.that(same, "%s group %d gemm k=%d: rows differ at m=%d from alone",
                name(layer.matrix.format), layer.matrix.format.group, k, m);
  }
}

void check_extremes(const KernelTable& kernels, const WeightFormat& format, std::mt19937& random,
                    Checks& checks) {
  constexpr int kDepth = 67;
  const Layer layer = layer_of_floats(kernels, {format, 40, kDepth}, random);
  std::vector<float> rows(5 * kDepth, 0.0f);
  for (int i = 0; i < kDepth; ++i) rows[kDepth + i] = 1e35f, rows[3 * kDepth + i] = 1.0f;
  rows[2 * kDepth + 5] = NAN;
  rows[4 * kDepth + 66] = INFINITY;
  const std::vector<float> out = multiply(kernels, layer, {}, rows.data(), 5);
  for (int c = 0; c < 40; ++c) {
    checks.that(out[c] == 0.0f, "%s: zero row gives %g", name(format), out[c]);
    checks.that(std::isfinite(out[40 + c]), "%s: 1e35 gives %g", name(format), out[40 + c]);
    checks.that(std::isnan(out[80 + c]), "%s: NaN row gives %g", name(format), out[80 + c]);
    checks.that(std::isfinite(out[120 + c]), "%s: NaN spread to a neighbour", name(format));
    checks.that(!std::isfinite(out[160 + c]), "%s: infinity gives %g", name(format), out[160 + c]);
  }
}

// The largest codes of both signs everywhere: sums of the greatest magnitude there are.
void check_saturation(const KernelTable& kernels, const WeightFormat& format, std::mt19937& random,
                      Checks& checks) {
  constexpr int kDepth = 5632;
  Layer layer = layer_of_floats(kernels, {format, 4, kDepth}, random);
  const bool whole = format.kind == WeightKind::int8;
  for (int i = 0; i < 4 * kDepth; ++i) {
    const bool low = i / kDepth % 2 == 0;
    layer.numbers.codes[i] = whole ? (low ? -127 : 127) : (low ? -8 : 7);
  }
  std::fill(layer.numbers.zero_points.begin(), layer.numbers.zero_points.end(), 8);
  const Layer stored = layer_of_codes(kernels, layer);
  std::vector<float> rows(std::size_t(3) * kDepth, 3.0f);
  for (int i = 0; i < kDepth; ++i) rows[kDepth + i] = -3.0f, rows[2 * kDepth + i] = i % 2 ? 3 : -3;
  check_values(kernels, stored, {}, rows, 3, checks);
}

void test_shape(const KernelTable& kernels, const PackedMatrix& shape, std::mt19937& random,
                Checks& checks) {
  const Layer layer = layer_of_floats(kernels, shape, random);
  const std::vector<float> rows = random_values(random, std::size_t(100) * shape.k);
  const std::vector<float> residual = random_values(random, std::size_t(100) * shape.n);
  const Ending finished{0.37f, residual.data(), true, nullptr};
  const bool large = shape.k * shape.n > 20000;
  for (int m = 1; m <= 100; m = m < 40 ? m + (large ? 7 : 1) : m + 60) {
    check_values(kernels, layer, m % 2 ? Ending{} : finished, rows, m, checks);
  }
  check_values(kernels, layer, {1, nullptr, true, &kSilu}, rows, 3, checks);
  if (shape.n == 33) check_invariance(kernels, layer, finished, rows, 1, checks);
  if (shape.n == 100) check_invariance(kernels, layer, {}, rows, 100, checks);
  if (shape.format.kind < WeightKind::int8) return;
  const Layer stored = layer_of_codes(kernels, layer);
  check_values(kernels, stored, {}, rows, 2, checks);
}

// Enough of everything that kernels take depth, rows and panels in parts: rows are as alone.
void check_parts(const KernelTable& kernels, const WeightFormat& format, std::mt19937& random,
                 Checks& checks) {
  constexpr int kDepth = 1101, kRows = 523, kOutputs = 560;
  if (kernels.isa < Isa::avx512) return;  // slow there
  const Layer layer = layer_of_floats(kernels, {format, kOutputs, kDepth}, random);
  const std::vector<float> rows = random_values(random, std::size_t(kRows) * kDepth);
  const std::vector<float> all = multiply(kernels, layer, {}, rows.data(), kRows);
  for (const int r : {0, 31, 32, 300, kRows - 1}) {
    const float* const row = rows.data() + std::size_t(r) * kDepth;
    const std::vector<float> one = multiply(kernels, layer, {}, row, 1);
    const bool same = std::memcmp(one.data(), all.data() + std::size_t(r) * kOutputs,
                                  kOutputs * sizeof(float)) == 0;
    checks.that(same, "%s group %d gemm: row %d of %d differs from alone", name(format),
                format.group, r, kRows);
  }
  check_values(kernels, layer, {}, rows, 3, checks);
}

// Packing gives the same integer panels at every level, and gates its outputs.
void check_panels(const KernelTable& kernels, const WeightFormat& format, Checks& checks) {
  for (const bool gated : {false, true}) {
    const PackedMatrix shape{format, 70, 101, gated};
    std::mt19937 first(11), second(11), more(12);
    const Layer here = layer_of_floats(kernels, shape, first);
    const Layer there = layer_of_floats(vivace::kernels(Isa::portable), shape, second);
    const std::size_t bytes = kernels.panel_bytes(format, shape.k) * num_panels(shape);
    const bool same = std::memcmp(here.panels.data(), there.panels.data(), bytes) == 0;
    checks.that(same || format.kind < WeightKind::int8, "%s: panels differ", name(format));
    const std::vector<float> rows = random_values(more, 9 * shape.k);
    check_values(kernels, here, {}, rows, 9, checks);
    if (gated) check_values(kernels, here, {1, nullptr, true, &kGatedSilu}, rows, 9, checks);
  }
}

std::vector<WeightFormat> formats() {
  std::vector<WeightFormat> all = {{WeightKind::float32, RowKind::float32},
                                   {WeightKind::bfloat16, RowKind::bfloat16},
                                   {WeightKind::int8, RowKind::int8}};
  for (const int group : {32, 64, 128}) {
    for (const bool zero_points : {false, true}) {
      all.push_back({WeightKind::int4, RowKind::int8, group, zero_points});
      all.push_back({WeightKind::int4, RowKind::bfloat16, group, zero_points});
    }
  }
  return all;
}

}  // namespace

void test_gemm(const KernelTable& kernels, Checks& checks) {
  std::mt19937 random(7);
  for (const WeightFormat& format : formats()) {
    for (const int k : {1, 2, 3, 31, 33, 100, 960}) {
      for (const int n : {1, 31, 32, 33, 100}) {
        if (k == 960 && n != 33) continue;
        test_shape(kernels, {format, n, k}, random, checks);
      }
    }
    check_parts(kernels, format, random, checks);
    check_panels(kernels, format, checks);
    check_extremes(kernels, format, random, checks);
    if (format.rows == RowKind::int8) check_saturation(kernels, format, random, checks);
  }
}

}  // namespace vivace::tests
