// Linear layers of every format, with the norm, activation or residual that they have in a model.
#include "bench.hpp"

namespace vivace::bench {
namespace {

enum class Part { qkv, out, up, down, head };

struct Shape {
  const char* name;
  Part part;
  int n, k;
};

struct NamedFormat {
  const char* name;
  WeightFormat format;
};

constexpr Shape kShapes[] = {{"qkv", Part::qkv, 2560, 2048},
                             {"out", Part::out, 2048, 2048},
                             {"up", Part::up, 11264, 2048},
                             {"down", Part::down, 2048, 5632},
                             {"head", Part::head, 32000, 2048}};
const std::vector<int> kRows = {1, 2, 4, 8, 16, 32, 128, 512};
constexpr int kFewRows = 32;  // at which weights are what is read
constexpr NamedFormat kFormats[] = {
    {"float32", {WeightKind::float32, RowKind::float32}},
    {"bfloat16", {WeightKind::bfloat16, RowKind::bfloat16}},
    {"int8", {WeightKind::int8, RowKind::int8}},
    {"int4-g32", {WeightKind::int4, RowKind::int8, 32}},
    {"int4-g64", {WeightKind::int4, RowKind::int8, 64}},
    {"int4-g128", {WeightKind::int4, RowKind::int8, 128}},
    {"int4-g128-zp", {WeightKind::int4, RowKind::int8, 128, true}},
    {"int4-g32-a16", {WeightKind::int4, RowKind::bfloat16, 32}},
    {"int4-g128-a16", {WeightKind::int4, RowKind::bfloat16, 128}},
    {"int4-g128-zp-a16", {WeightKind::int4, RowKind::bfloat16, 128, true}},
};

// The op of one layer; its weights stand at `panels`.
class Layers {
 public:
  Layers(const Machine& machine, const Shape& shape, const WeightFormat& format)
      : machine_(machine),
        shape_(shape),
        matrix_{format, shape.n, shape.k, shape.part == Part::up},
        gain_(std::make_shared<Vector>(shape.k, 1.0f)),
        values_(std::size_t(kRows.back()) * shape.k),
        out_(std::size_t(kRows.back()) * shape.n) {
    for (std::size_t i = 0; i < values_.size(); ++i) values_[i] = float(i * 40503 % 509) - 254;
  }

  std::size_t bytes() const {
    return machine_.runtime.kernels.panel_bytes(matrix_.format, matrix_.k) * num_panels(matrix_);
  }

  // As many layers as the arena has room for, one or all.
  Turns turns(bool all) {
    Turns turns;
    const std::size_t copies = all ? std::max<std::size_t>(1, machine_.arena.bytes() / bytes()) : 1;
    for (std::size_t i = 0; i < copies; ++i) turns.add(layer(machine_.arena.at(i * bytes())));
    return turns;
  }

 private:
  OpPtr layer(char* panels) {
    const auto linear = std::make_shared<Linear>(machine_.runtime, matrix_, Vector());
    linear->matrix.panels = panels;
    const OpContext context = machine_.context();
    const Rows x{values_.data(), shape_.k}, out{out_.data(), shape_.n};
    const Norm norm{NormKind::rms, gain_, nullptr, 1e-5f};
    switch (shape_.part) {
      case Part::qkv:
        return make_norm_linear(context, x, norm, linear, std::nullopt, out);
      case Part::up:
        return make_norm_linear(context, x, norm, linear,
                                ActivationTask{ActivationKind::silu, true},
                                {out_.data(), shape_.n / 2});
      case Part::head:
        return make_logits(context, x, linear, 1.0f, 0.0f, out);
      default:
        return make_linear_residual(context, x, linear, {out, std::nullopt}, out);
    }
  }

  const Machine& machine_;
  Shape shape_;
  PackedMatrix matrix_;
  std::shared_ptr<const Vector> gain_;
  std::vector<float> values_, out_;
};

void bench_format(const Machine& machine, const NamedFormat& one, Report& report) {
  const double peak =
      arithmetic_peak(machine.runtime.pool, machine.runtime.kernels.isa, one.format.rows);
  report.table("linear " + std::string(one.name), "rows", kRows);
  for (const Shape& shape : kShapes) {
    Layers layers(machine, shape, one.format);
    const Turns one_layer = layers.turns(false), all = layers.turns(true);
    const double read = machine.read();
    report.line(std::string(shape.name) + " " + std::to_string(shape.n) + "x" +
                std::to_string(shape.k));
    for (const int m : kRows) {
      const Turns& turns = m <= kFewRows ? all : one_layer;
      report.add(m, turns.seconds(machine.runtime, Step(m)),
                 {{'r', read, double(layers.bytes())},
                  {'p', peak, 2.0 * m * shape.n * shape.k}});
    }
  }
}

}  // namespace

void bench_linears(const Machine& machine, const std::string& format, Report& report) {
  for (const NamedFormat& one : kFormats) {
    if (format.empty() || format == one.name) bench_format(machine, one, report);
  }
}

}  // namespace vivace::bench
