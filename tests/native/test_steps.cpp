// Steps of a whole program, of every format: once it is built they allocate nothing. The linker
// puts the functions below in the place of the C library's, and `new` goes through them too.
#include <sys/mman.h>

#include <atomic>
#include <new>

#include "layers.hpp"
#include "program.hpp"

namespace {

std::atomic<int> allocations{0};

}  // namespace

extern "C" {
void* __real_malloc(std::size_t bytes);
void* __real_aligned_alloc(std::size_t alignment, std::size_t bytes);
void* __real_mmap(void* address, std::size_t bytes, int protection, int flags, int file, off_t at);

void* __wrap_malloc(std::size_t bytes) {
  ++allocations;
  return __real_malloc(bytes);
}

void* __wrap_aligned_alloc(std::size_t alignment, std::size_t bytes) {
  ++allocations;
  return __real_aligned_alloc(alignment, bytes);
}

void* __wrap_mmap(void* address, std::size_t bytes, int protection, int flags, int file,
                  off_t at) {
  ++allocations;
  return __real_mmap(address, bytes, protection, flags, file, at);
}
}

void* operator new(std::size_t bytes) {
  void* const data = std::malloc(bytes == 0 ? 1 : bytes);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

void* operator new(std::size_t bytes, std::align_val_t alignment) {
  const std::size_t unit = std::size_t(alignment);
  void* const data = std::aligned_alloc(unit, (bytes + unit) / unit * unit);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

void operator delete(void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t) noexcept { std::free(data); }
void operator delete(void* data, std::align_val_t) noexcept { std::free(data); }
void operator delete(void* data, std::size_t, std::align_val_t) noexcept { std::free(data); }

namespace vivace::tests {
namespace {

constexpr int kHidden = 72, kInner = 40, kVocab = 90, kHeads = 4, kPairs = 2, kHeadDim = 32;
constexpr int kQueries = kHeads * kHeadDim, kQkv = kQueries + 2 * kPairs * kHeadDim;
constexpr int kExperts = 5;
constexpr int kSlots = 2, kRank = 3;  // of adapters
constexpr int kBlocks = 160;  // of a sequence
constexpr ProgramLimits kLimits{.max_tokens = 48, .max_sequences = 4, .max_logit_rows = 4};

// The last rows[s] positions of each context.
struct Step {
  std::vector<std::int32_t> tokens, positions, starts{0}, contexts, pages, logit_rows, adapters,
      sights;

  Step(const std::vector<int>& lengths, const std::vector<int>& rows)
      : contexts(lengths.begin(), lengths.end()) {
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      for (int row = 0; row < rows[s]; ++row) positions.push_back(lengths[s] - rows[s] + row);
      starts.push_back(static_cast<int>(positions.size()));
      logit_rows.push_back(starts.back() - 1);
      sights.insert(sights.end(), {s % 2 == 0 ? 0 : 90, 20, 0});  // every other one evicts
      for (int block = 0; block < kBlocks; ++block) pages.push_back(int(s) * kBlocks + block);
    }
    for (const std::int32_t position : positions) {
      tokens.push_back(position * 7 % kVocab);
      adapters.push_back(position % (kSlots + 1));
    }
  }

  Batch batch() const {
    const BlockTable table{pages.data(), static_cast<int>(contexts.size()), kBlocks};
    return {tokens, positions, starts, contexts, {table}, logit_rows, adapters, sights, {}, {}};
  }
};

// A layer with experts beside a plain one, over weights of one format.
class Model {
 public:
  Model(Isa isa, const WeightFormat& format)
      : runtime_(std::make_shared<Runtime>(2, isa)),
        format_(format),
        dtype_(format.rows == RowKind::float32 ? DType::float32 : DType::bfloat16),
        cache_(std::make_shared<KVCache>(KVLayout{dtype_, kPairs, kHeadDim}, 1,
                                         kLimits.max_sequences * kBlocks)),
        program_(runtime_, dtype_, {cache_}, kLimits, sizes()) {
    const Rows x = program_.rows(0, kHidden), out = program_.rows(4, kHidden);
    program_.add(make_embed({table(), nullptr, 1.0f}, x));
    add_attention(x);
    add_mlp(x);
    program_.add(make_experts_residual(program_.context(), x, norm(kHidden), experts(), {x, {}},
                                       out));
    program_.add(make_norm(out, norm(kHidden), x));
    program_.add(make_logits(program_.context(), x, linear(kVocab, kHidden), 1.0f, 30.0f,
                             program_.logit_rows(5, kVocab)));
  }

  void run(const Batch& batch) { program_.run(batch); }

 private:
  static std::vector<std::size_t> sizes() {
    const int widths[] = {kHidden, kQkv, 2 * kQueries, kQueries, kHidden, kVocab, kInner};
    std::vector<std::size_t> sizes;
    for (const int width : widths) sizes.push_back(std::size_t(kLimits.max_tokens) * width);
    return sizes;
  }

  void add_attention(Rows x) {
    const OpContext context = program_.context();
    const Rows qkv = program_.rows(1, kQkv), queries = program_.queries(2, kQueries);
    const Rows attended = program_.rows(3, kQueries);
    const AttentionOp op{cache_, 0, 0, kHeads, 0.2f, 0, 0.0f, nullptr};
    program_.add(make_norm_linear(context, x, norm(kHidden), linear(kQkv, kHidden), {}, qkv));
    program_.add(make_rotary_write(context, qkv, op, {rotary(), norm(kHeadDim), {}}, queries));
    program_.add(make_attention(context, queries, op, attended));
    program_.add(make_linear_residual(context, attended, linear(kHidden, kQueries),
                                      {x, norm(kHidden)}, x));
  }

  void add_mlp(Rows x) {
    const OpContext context = program_.context();
    const Rows inner = program_.rows(6, kInner);
    program_.add(make_norm_linear(context, x, norm(kHidden),
                                  adapted(linear(2 * kInner, kHidden, true)), silu(), inner));
    program_.add(
        make_linear_residual(context, inner, adapted(linear(kHidden, kInner)), {x, {}}, x));
  }

  // With an adapter of all its outputs in each slot.
  std::shared_ptr<Linear> adapted(const std::shared_ptr<Linear>& to) {
    to->make_room(kSlots, kRank);
    const std::vector<float> a = random_values(random_, std::size_t(kRank) * to->k());
    const std::vector<float> b = random_values(random_, std::size_t(kRank) * to->n());
    const LowRankSource source{{a.data(), SourceType::float32, kRank, to->k()},
                               {b.data(), SourceType::float32, to->n(), kRank}, 0, 0.5f};
    for (int slot = 1; slot <= kSlots; ++slot) {
      to->set_adapter(slot, std::make_shared<LowRank>(*runtime_, dtype_, to->k(),
                                                      std::vector<LowRankSource>{source}));
    }
    return to;
  }

  ExpertsOp experts() {
    ExpertsOp op{linear(kExperts, kHidden), {}, {}, silu(), 2, true};
    for (int expert = 0; expert < kExperts; ++expert) {
      op.up.push_back(linear(2 * kInner, kHidden, true));
      op.down.push_back(linear(kHidden, kInner));
    }
    return op;
  }

  static ActivationTask silu() { return {ActivationKind::silu, true}; }

  static Norm norm(int width) {
    return {NormKind::rms, std::make_shared<Vector>(width, 1.0f), nullptr, 1e-5f};
  }

  static std::shared_ptr<RotaryTable> rotary() {
    const Vector ones(std::size_t(kBlocks) * kPageTokens * kHeadDim / 2, 1.0f);
    return std::make_shared<RotaryTable>(kBlocks * kPageTokens, kHeadDim / 2, ones, ones);
  }

  std::shared_ptr<Linear> linear(int n, int k, bool gated = false) {
    const PackedMatrix shape{.format = format_, .n = n, .k = k, .gated = gated};
    const auto made = std::make_shared<Linear>(*runtime_, shape, Vector());
    const std::vector<float> values = random_values(random_, std::size_t(n) * k);
    made->pack(*runtime_, {{values.data(), SourceType::float32, n, k}});
    return made;
  }

  std::shared_ptr<Embedding> table() {
    const auto made = std::make_shared<Embedding>(SourceType::bfloat16, kVocab, kHidden);
    const std::vector<float> values = random_values(random_, std::size_t(kVocab) * kHidden);
    made->pack(*runtime_, {values.data(), SourceType::float32, kVocab, kHidden});
    return made;
  }

  std::mt19937 random_{5};
  std::shared_ptr<Runtime> runtime_;
  WeightFormat format_;
  DType dtype_;
  std::shared_ptr<KVCache> cache_;
  Program program_;
};

// Prompts, decodes across page borders and at contexts whose parts are shared out, and both.
std::vector<Step> steps() {
  std::vector<Step> steps = {{{20, 9}, {20, 9}}};
  for (int i = 1; i < 20; ++i) steps.push_back({{20 + i, 9 + i, 1000 + i, 2500 + i}, {1, 1, 1, 1}});
  steps.push_back({{40, 30, 1020}, {1, 30, 1}});
  return steps;
}

void test_format(Isa isa, const WeightFormat& format, Checks& checks) {
  const int before = allocations;
  Model model(isa, format);
  checks.that(allocations > before, "building a program allocates, and is not seen to");
  int allocated = 0;
  for (const Step& step : steps()) {
    const Batch batch = step.batch();
    const int begin = allocations;
    model.run(batch);
    allocated += allocations - begin;
  }
  checks.that(allocated == 0, "%s: steps allocated %d times", name(format), allocated);
}

}  // namespace

void test_steps(Isa isa, Checks& checks) {
  const WeightFormat formats[] = {{WeightKind::float32, RowKind::float32},
                                  {WeightKind::bfloat16, RowKind::bfloat16},
                                  {WeightKind::int8, RowKind::int8},
                                  {WeightKind::int4, RowKind::int8, 32},
                                  {WeightKind::int4, RowKind::bfloat16, 64, true}};
  for (const WeightFormat& format : formats) test_format(isa, format, checks);
}

}  // namespace vivace::tests
