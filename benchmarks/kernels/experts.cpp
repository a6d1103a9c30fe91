// A layer of experts (hidden 2048, 64 of 768, the 8 likeliest), routed at random: only the weights
// of experts that were chosen must be read.
#include <cmath>
#include <random>

#include "bench.hpp"

namespace vivace::bench {
namespace {

constexpr int kHidden = 2048, kInner = 768, kExperts = 64, kChosen = 8;
constexpr int kInputs = 16;  // sets of rows, so that a run finds other experts than the one before
const std::vector<int> kRows = {1, 2, 4, 8, 16, 32, 128, 512};

std::vector<float> random_values(std::size_t count) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

LinearPtr router(Runtime& runtime) {
  const std::vector<float> values = random_values(std::size_t(kExperts) * kHidden);
  const PackedMatrix shape{float_format(DType::float32), kExperts, kHidden};
  const auto linear = std::make_shared<Linear>(runtime, shape, Vector());
  linear->pack(runtime, {{values.data(), SourceType::float32, kExperts, kHidden}});
  return linear;
}

// Experts one after another in the arena.
ExpertsOp experts(const Machine& machine, const WeightFormat& format) {
  ExpertsOp op{.router = router(machine.runtime),
               .up = {},
               .down = {},
               .activation = {ActivationKind::silu, true},
               .top_k = kChosen,
               .renormalize = true};
  std::size_t used = 0;
  const auto take = [&](const PackedMatrix& shape) {
    const auto linear = std::make_shared<Linear>(machine.runtime, shape, Vector());
    linear->matrix.panels = machine.arena.at(used);
    used += linear->bytes().size();
    return linear;
  };
  for (int i = 0; i < kExperts; ++i) {
    op.up.push_back(take({format, 2 * kInner, kHidden, true}));
    op.down.push_back(take({format, kHidden, kInner}));
  }
  return op;
}

// How many experts are chosen at least once, where each choice is as likely.
double expected_experts(int rows) {
  return kExperts * (1 - std::pow(1 - double(kChosen) / kExperts, rows));
}

void bench_format(const Machine& machine, const char* name, const WeightFormat& format,
                  std::vector<float>& inputs, Report& report) {
  const ExpertsOp op = experts(machine, format);
  std::vector<float> out(std::size_t(kRows.back()) * kHidden);
  Turns turns;
  for (int i = 0; i < kInputs; ++i) {
    const Rows x{inputs.data() + std::size_t(i) * kRows.back() * kHidden, kHidden};
    const Rows to{out.data(), kHidden};
    turns.add(make_experts_residual(machine.context(), x, std::nullopt, op, {x, std::nullopt}, to));
  }
  const double bytes = double(op.up[0]->bytes().size() + op.down[0]->bytes().size());
  const double products = double(kChosen) * 3 * kHidden * kInner;
  const double read = machine.read();
  const double peak =
      arithmetic_peak(machine.runtime.pool, machine.runtime.kernels.isa, format.rows);
  report.line(name);
  for (const int m : kRows) {
    report.add(m, turns.seconds(machine.runtime, Step(m)),
               {{'r', read, bytes * expected_experts(m)}, {'p', peak, 2 * m * products}});
  }
}

}  // namespace

void bench_experts(const Machine& machine, Report& report) {
  std::vector<float> inputs = random_values(std::size_t(kInputs) * kRows.back() * kHidden);
  report.table("experts, 8 of 64", "rows", kRows);
  bench_format(machine, "bfloat16", float_format(DType::bfloat16), inputs, report);
  bench_format(machine, "int8", {WeightKind::int8, RowKind::int8}, inputs, report);
  bench_format(machine, "int4-g128", {WeightKind::int4, RowKind::int8, 128}, inputs, report);
}

}  // namespace vivace::bench
