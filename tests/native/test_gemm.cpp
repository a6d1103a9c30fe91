// Matmul: values, tails, epilogue, stacked parts of every source type, and batch invariance.
#include "support.hpp"

namespace vivace::tests {
namespace {

struct Weights {
  std::vector<float> values;  // [n][k], as stored in the panels' type
  Buffer panels;
  std::vector<float> bias;
  PackedMatrix matrix;
};

std::uint16_t to_half(float value) {
  const _Float16 half = static_cast<_Float16>(value);
  std::uint16_t bits;
  std::memcpy(&bits, &half, 2);
  return bits;
}

// Three parts of different source types, stacked; rows are further apart than they are long.
Weights make_weights(const KernelTable& kernels, DType dtype, int n, int k, std::mt19937& random) {
  const int rows[] = {n / 3, n / 3, n - 2 * (n / 3)};
  const SourceType types[] = {SourceType::float32, SourceType::bfloat16, SourceType::float16};
  const std::int64_t stride = k + 3;
  std::vector<float> values = random_values(random, std::size_t(n) * k);
  std::vector<float> wide(n * stride);
  std::vector<std::uint16_t> narrowed(n * stride);
  for (int row = 0, part = 0; row < n; ++row) {
    while (row >= (part > 0 ? rows[0] : 0) + (part > 1 ? rows[1] : 0) + rows[part]) ++part;
    for (int i = 0; i < k; ++i) {
      float& value = values[std::size_t(row) * k + i];
      const std::size_t at = row * stride + i;
      wide[at] = value;
      if (types[part] == SourceType::bfloat16) value = widen(narrowed[at] = narrow(value));
      if (types[part] == SourceType::float16) {
        narrowed[at] = to_half(value);
        value = static_cast<float>(static_cast<_Float16>(value));
      }
      value = stored(dtype, value);
    }
  }
  WeightPart parts[3];
  for (int part = 0, row = 0; part < 3; row += rows[part++]) {
    const void* data = types[part] == SourceType::float32
                           ? static_cast<const void*>(wide.data() + row * stride)
                           : static_cast<const void*>(narrowed.data() + row * stride);
    parts[part] = {data, types[part], rows[part], stride};
  }
  Weights weights{values, Buffer(kernels.panel_bytes(dtype, k) * num_panels(n)),
                  random_values(random, num_panels(n) * kPanelColumns), {}};
  weights.matrix = {dtype, n, k, weights.panels.data(), nullptr};
  const int middle = num_panels(n) / 2;
  kernels.pack_panels(parts, 3, weights.matrix, middle, num_panels(n));
  kernels.pack_panels(parts, 3, weights.matrix, 0, middle);
  return weights;
}

struct Multiplier {
  const KernelTable& kernels;
  const Weights& weights;
  float multiplier = 1.0f;
  const float* residual = nullptr;
  bool biased = false;

  // [m][n], from rows [m][k].
  std::vector<float> operator()(const float* rows, int m) const {
    PackedMatrix matrix = weights.matrix;
    if (biased) matrix.bias = weights.bias.data();
    const Buffer packed(kernels.rows_bytes(matrix.dtype, m, matrix.k));
    const PackedRows packed_rows{matrix.dtype, m, matrix.k, packed.data()};
    for (int r = 0; r < m; ++r) kernels.pack_row(rows + std::int64_t(r) * matrix.k, packed_rows, r);
    std::vector<float> out(std::size_t(m) * (matrix.n + 1), NAN);
    GemmTask task{matrix, packed_rows, out.data(), matrix.n + 1, residual, matrix.n, multiplier};
    const int panels = num_panels(matrix.n);
    kernels.gemm(task, panels / 2, panels);
    kernels.gemm(task, 0, panels / 2);
    std::vector<float> tight;
    for (int r = 0; r < m; ++r) {
      const float* row = out.data() + std::size_t(r) * (matrix.n + 1);
      tight.insert(tight.end(), row, row + matrix.n);
      if (!std::isnan(row[matrix.n])) tight.assign(1, NAN);  // wrote past its columns
    }
    return tight;
  }
};

void check_values(const Multiplier& multiply, const std::vector<float>& rows, int m,
                  Checks& checks) {
  const PackedMatrix& matrix = multiply.weights.matrix;
  const std::vector<float> out = multiply(rows.data(), m);
  double worst = 0;
  for (int r = 0; r < m; ++r) {
    for (int c = 0; c < matrix.n; ++c) {
      double sum = multiply.biased ? multiply.weights.bias[c] : 0, size = 1e-30;
      for (int i = 0; i < matrix.k; ++i) {
        const double term = double(stored(matrix.dtype, rows[std::size_t(r) * matrix.k + i])) *
                            multiply.weights.values[std::size_t(c) * matrix.k + i];
        sum += term;
        size += std::fabs(term);
      }
      const std::size_t at = std::size_t(r) * matrix.n + c;
      const double residual = multiply.residual ? multiply.residual[at] : 0;
      const double expected = residual + multiply.multiplier * sum;
      const double scale = size + std::fabs(residual) + (multiply.biased ? 1 : 0);
      const double error = std::fabs(out[at] - expected) / scale;
      worst = error <= worst ? worst : error;  // a NaN is kept
    }
  }
  checks.that(worst < 1e-6, "%s gemm m=%d n=%d k=%d: error %g", name(matrix.dtype), m, matrix.n,
              matrix.k, worst);
}

void check_invariance(const Multiplier& multiply, const std::vector<float>& rows, int max_m,
                      Checks& checks) {
  const PackedMatrix& matrix = multiply.weights.matrix;
  std::vector<float> alone;
  for (int r = 0; r < max_m; ++r) {
    const std::vector<float> one = multiply(rows.data() + std::size_t(r) * matrix.k, 1);
    alone.insert(alone.end(), one.begin(), one.end());
  }
  for (int m = 2; m <= max_m; m = m < 42 ? m + 1 : m + 29) {
    const int first = max_m - m;
    const std::vector<float> out = multiply(rows.data() + std::size_t(first) * matrix.k, m);
    const bool same = std::memcmp(out.data(), alone.data() + std::size_t(first) * matrix.n,
                                  out.size() * sizeof(float)) == 0;
    checks.that(same, "%s gemm k=%d: rows differ at m=%d from alone", name(matrix.dtype), matrix.k,
                m);
  }
}

void check_extremes(const KernelTable& kernels, DType dtype, std::mt19937& random, Checks& checks) {
  constexpr int kDepth = 67;
  const Weights weights = make_weights(kernels, dtype, 40, kDepth, random);
  const Multiplier multiply{kernels, weights};
  std::vector<float> rows(4 * kDepth, 0.0f);
  for (int i = 0; i < kDepth; ++i) rows[kDepth + i] = 1e37f, rows[3 * kDepth + i] = 1.0f;
  rows[2 * kDepth + 5] = NAN;
  const std::vector<float> out = multiply(rows.data(), 4);
  for (int c = 0; c < 40; ++c) {
    checks.that(out[c] == 0.0f, "%s: zero row gives %g", name(dtype), out[c]);
    checks.that(std::isfinite(out[40 + c]), "%s: 1e37 gives %g", name(dtype), out[40 + c]);
    checks.that(std::isnan(out[80 + c]), "%s: NaN row gives %g", name(dtype), out[80 + c]);
    checks.that(std::isfinite(out[120 + c]), "%s: NaN spread to a neighbour", name(dtype));
  }
}

}  // namespace

void test_gemm(const KernelTable& kernels, Checks& checks) {
  std::mt19937 random(7);
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    for (const int k : {1, 2, 3, 31, 33, 960}) {
      for (const int n : {1, 31, 32, 33, 100}) {
        const Weights weights = make_weights(kernels, dtype, n, k, random);
        const std::vector<float> rows = random_values(random, std::size_t(100) * k);
        const std::vector<float> residual = random_values(random, std::size_t(100) * n);
        const Multiplier plain{kernels, weights};
        const Multiplier finished{kernels, weights, 0.37f, residual.data(), true};
        for (int m = 1; m <= 100; m = m < 40 ? m + 1 : m + 60) {
          if (k == 960 && m % 5 != 1) continue;
          check_values(m % 2 ? plain : finished, rows, m, checks);
        }
        if (n == 33) check_invariance(finished, rows, 1, checks);
        if (n == 100) check_invariance(plain, rows, 100, checks);
      }
    }
    check_extremes(kernels, dtype, random, checks);
  }
}

}  // namespace vivace::tests
