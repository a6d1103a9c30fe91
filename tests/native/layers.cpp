#include "layers.hpp"

namespace vivace::tests {
namespace {

struct HalfFloat {
  static std::uint16_t bits(float value) {
    const _Float16 half = static_cast<_Float16>(value);
    std::uint16_t bits;
    std::memcpy(&bits, &half, 2);
    return bits;
  }
  static float rounded(float value) { return static_cast<float>(static_cast<_Float16>(value)); }
};

int round_within(float x, int low, int high) {
  return std::clamp(static_cast<int>(std::nearbyint(x)), low, high);
}

float quotient(float x, float scale) { return scale > 0 ? x / scale : 0.0f; }

// Scale and zero point of `n` values, which become codes less the zero point.
void round_group(const WeightFormat& format, const float* values, int n, float& scale, int& zero,
                 int* codes) {
  float low = 0, high = 0;
  for (int i = 0; i < n; ++i) low = std::min(low, values[i]), high = std::max(high, values[i]);
  const float magnitude = std::max(-low, high);
  if (format.kind == WeightKind::int8) {
    scale = magnitude / 127.0f;
    zero = 0;
    for (int i = 0; i < n; ++i) codes[i] = round_within(quotient(values[i], scale), -127, 127);
  } else if (!format.zero_points) {
    scale = HalfFloat::rounded(magnitude / 7.5f);
    zero = 8;
    for (int i = 0; i < n; ++i) codes[i] = round_within(quotient(values[i], scale), -8, 7);
  } else {
    scale = HalfFloat::rounded((high - low) / 15.0f);
    zero = round_within(quotient(-low, scale), 0, 15);
    for (int i = 0; i < n; ++i) {
      const float code = std::nearbyint(quotient(values[i], scale)) + zero;
      codes[i] = round_within(code, 0, 15) - zero;
    }
  }
}

struct Sources {
  std::vector<float> wide;
  std::vector<std::uint16_t> narrow;
};

// Rounds values to their part's source type, in place.
void store_part(const WeightPart& part, int first, int k, std::int64_t stride,
                std::vector<float>& values, Sources& sources) {
  for (int row = first; row < first + part.num_rows; ++row) {
    for (int i = 0; i < k; ++i) {
      float& value = values[std::size_t(row) * k + i];
      const std::size_t at = row * stride + i;
      sources.wide[at] = value;
      if (part.type == SourceType::bfloat16) value = widen(sources.narrow[at] = narrow(value));
      if (part.type == SourceType::float16) {
        sources.narrow[at] = HalfFloat::bits(value);
        value = HalfFloat::rounded(value);
      }
    }
  }
}

Layer empty_layer(const KernelTable& kernels, const PackedMatrix& shape) {
  const int panels = num_panels(shape);
  Layer layer{{.k = shape.k, .group = shape.format.group},
              Buffer(kernels.panel_bytes(shape.format, shape.k) * panels),
              std::vector<float>(std::size_t(panels) * kPanelColumns),
              shape};
  layer.matrix.panels = layer.panels.data();
  return layer;
}

// In two calls, the later panels first.
void pack(const KernelTable& kernels, const WeightPart* parts, int num_parts, const Layer& layer) {
  const int panels = num_panels(layer.matrix);
  kernels.pack_panels(parts, num_parts, layer.matrix, panels / 2, panels);
  kernels.pack_panels(parts, num_parts, layer.matrix, 0, panels / 2);
}

}  // namespace

void round_weights(const WeightFormat& format, Numbers& numbers) {
  const int n = static_cast<int>(numbers.values.size()) / numbers.k, groups = numbers.groups();
  numbers.codes.resize(numbers.values.size());
  numbers.scales.resize(std::size_t(n) * groups);
  numbers.zero_points.resize(numbers.scales.size());
  for (int row = 0; row < n; ++row) {
    for (int g = 0; g < groups; ++g) {
      const std::size_t begin = std::size_t(row) * numbers.k + g * numbers.group;
      const int count = numbers.group_end(g) - g * numbers.group;
      const std::size_t at = std::size_t(row) * groups + g;
      round_group(format, numbers.values.data() + begin, count, numbers.scales[at],
                  numbers.zero_points[at], numbers.codes.data() + begin);
    }
  }
}

Layer layer_of_floats(const KernelTable& kernels, const PackedMatrix& shape,
                      std::mt19937& random) {
  const int n = shape.n, k = shape.k;
  const std::int64_t stride = k + 3;
  Layer layer = empty_layer(kernels, shape);
  layer.bias = random_values(random, layer.bias.size());
  layer.numbers.values = random_values(random, std::size_t(n) * k);
  Sources sources{std::vector<float>(n * stride), std::vector<std::uint16_t>(n * stride)};
  WeightPart parts[] = {{.type = SourceType::float32, .num_rows = n / 3},
                        {.type = SourceType::bfloat16, .num_rows = n / 3},
                        {.type = SourceType::float16, .num_rows = n - 2 * (n / 3)}};
  int first = 0;
  for (WeightPart& part : parts) {
    store_part(part, first, k, stride, layer.numbers.values, sources);
    part.row_stride = stride;
    part.rows = part.type == SourceType::float32
                    ? static_cast<const void*>(sources.wide.data() + first * stride)
                    : static_cast<const void*>(sources.narrow.data() + first * stride);
    first += part.num_rows;
  }
  pack(kernels, parts, 3, layer);
  if (shape.format.kind == WeightKind::bfloat16) {
    for (float& value : layer.numbers.values) value = widen(narrow(value));
  }
  if (shape.format.kind >= WeightKind::int8) round_weights(shape.format, layer.numbers);
  return layer;
}

Layer layer_of_codes(const KernelTable& kernels, const Layer& layer) {
  const Numbers& numbers = layer.numbers;
  const int n = layer.matrix.n, k = numbers.k, groups = numbers.groups();
  const bool whole = layer.matrix.format.kind == WeightKind::int8;
  const std::int64_t stride = whole ? k + 5 : (k + 1) / 2 + 5;
  std::vector<std::uint8_t> codes(n * stride), zeros(numbers.zero_points.size());
  std::vector<std::uint16_t> scales(numbers.scales.size());
  for (std::size_t i = 0; i < scales.size(); ++i) {
    scales[i] = HalfFloat::bits(numbers.scales[i]);
    zeros[i] = static_cast<std::uint8_t>(numbers.zero_points[i]);
  }
  for (int row = 0; row < n; ++row) {
    for (int i = 0; i < k; ++i) {
      int code = numbers.codes[std::size_t(row) * k + i];
      if (!whole) code += numbers.zero_points[std::size_t(row) * groups + i / numbers.group];
      std::uint8_t& byte = codes[row * stride + (whole ? i : i / 2)];
      byte = static_cast<std::uint8_t>(whole ? code : byte | code << (i % 2 * 4));
    }
  }
  Layer stored = empty_layer(kernels, layer.matrix);
  stored.numbers = numbers;
  WeightPart part{codes.data(), whole ? SourceType::int8 : SourceType::int4, n, stride};
  part.scales = whole ? static_cast<const void*>(numbers.scales.data()) : scales.data();
  if (layer.matrix.format.zero_points) part.zero_points = zeros.data();
  pack(kernels, &part, 1, stored);
  return stored;
}

std::vector<float> multiply(const KernelTable& kernels, const Layer& layer, const Ending& ending,
                            const float* rows, int m) {
  const int width = width_of(layer, ending);
  const WeightFormat& format = layer.matrix.format;
  PackedRows packed{format.rows, format.group, m, layer.matrix.k, nullptr};
  const Buffer data(kernels.rows_bytes(packed) + kAlignment);
  char* const guard = data.data() + kernels.rows_bytes(packed);
  const std::vector<char> untouched(guard, guard + kAlignment);
  packed.data = data.data();
  for (int r = 0; r < m; ++r) kernels.pack_row(rows + std::int64_t(r) * packed.k, packed, r);
  std::vector<float> out(std::size_t(m) * (width + 1), NAN);
  GemmTask task{layer.matrix, packed, out.data(),        width + 1,
                ending.residual, width,  ending.multiplier, ending.activation};
  if (ending.biased) task.weights.bias = layer.bias.data();
  const int panels = num_panels(layer.matrix);
  kernels.gemm(task, panels / 2, panels);
  kernels.gemm(task, 0, panels / 2);
  bool outside = std::memcmp(untouched.data(), guard, kAlignment) != 0;
  std::vector<float> tight;
  for (int r = 0; r < m; ++r) {
    const float* row = out.data() + std::size_t(r) * (width + 1);
    tight.insert(tight.end(), row, row + width);
    outside = outside || !std::isnan(row[width]);
  }
  if (outside) std::fill(tight.begin(), tight.end(), NAN);
  return tight;
}

}  // namespace vivace::tests
