// Queries, keys and values into place.
#include "ops.hpp"

namespace vivace {
namespace {

class RotaryWrite final : public Op {
 public:
  RotaryWrite(const OpContext& context, Rows qkv, const AttentionOp& attention,
              const RotaryWriteOp& op, Rows out)
      : qkv_(qkv),
        attention_(attention),
        op_(op),
        out_(out),
        sink_out_(sink_plane(context, out)),
        kv_(attention.cache->layout),
        kv_width_(kv_.num_kv_heads * kv_.head_dim) {
    require_shape(out.width == attention.num_heads * kv_.head_dim, "queries and their heads");
    require_shape(qkv.width == out.width + 2 * kv_width_, "queries, keys and values");
    require_shape(fits(op.q_norm, out.width) && fits(op.k_norm, kv_width_), "a q or k norm");
    require_shape(!op.rotary || 2 * op.rotary->half <= kv_.head_dim, "a rotary table and a head");
    starts_ = layout_.take<std::int32_t>(context.max_rows + 1);
    keys_ = layout_.take<float>(stride() * context.runtime.pool.threads());
  }

  void run(const Frame& frame) const override {
    std::int32_t* const starts = starts_.in(frame.scratch);
    const int count = find_pages(frame, starts);
    frame.runtime.pool.parallel_for(count, [&](std::size_t page, unsigned thread) {
      for (int row = starts[page]; row < starts[page + 1]; ++row) write_row(frame, row, thread);
    });
    if (!frame.batch.observed_rows.empty()) show_queries(frame.batch);
  }

  void narrow(BatchBounds& bounds) const override {
    if (op_.rotary) bounds.positions = std::min(bounds.positions, op_.rotary->positions);
    bounds.group_pages[attention_.group] = attention_.cache->group_pages();
    bounds.group_queries[attention_.group] =
        GroupQueries{attention_.cache->num_layers, out_.width};
  }

 private:
  struct Heads {
    const float* values;
    const std::optional<Norm>& norm;
    int width;
  };

  // The first rows of runs that each write one page, and the end of the last: threads that wrote
  // one page together would wait for each other's cache lines. Returns the number of runs.
  int find_pages(const Frame& frame, std::int32_t* starts) const {
    const Batch& batch = frame.batch;
    int count = 0;
    for (int row = 0; row < batch.rows(); ++row) {
      const bool same = row > 0 && frame.sequence_of[row] == frame.sequence_of[row - 1] &&
                        batch.positions[row] % kPageTokens != 0;
      if (!same) starts[count++] = row;
    }
    starts[count] = batch.rows();
    return count;
  }

  void show_queries(const Batch& batch) const {
    const std::size_t rows = batch.observed_rows.size(), width = out_.width;
    float* to = batch.observed[attention_.group].data + attention_.layer * rows * width;
    for (const std::int32_t row : batch.observed_rows) {
      to = std::copy_n(out_.row(row), width, to);
    }
  }

  void write_row(const Frame& frame, int row, unsigned thread) const {
    float* const keys = keys_.in(frame.scratch) + thread * stride();
    const float* const q = qkv_.row(row);
    const float* const k = q + out_.width;
    const int position = frame.batch.positions[row];
    const Heads queries{q, op_.q_norm, out_.width};
    const Sight sight = sight_of(frame.batch.sight(frame.sequence_of[row]), attention_.window);
    place(frame, queries, position, out_.row(row));
    if (sight.sinks > 0 && evicts(sight, position)) {
      place(frame, queries, cached_position(sight, position), sink_out_.row(row));
    }
    place(frame, {k, op_.k_norm, kv_width_}, position, keys);
    write(frame, row, keys, k + kv_width_);
  }

  bool fits(const std::optional<Norm>& norm, int width) const {
    return !norm || norm->width() == kv_.head_dim || norm->width() == width;
  }

  std::size_t stride() const { return aligned(kv_width_ * 4) / 4; }

  // Normed and turned heads. A norm as long as a head works per head.
  void place(const Frame& frame, const Heads& heads, int position, float* out) const {
    const RowKernels& kernels = frame.runtime.kernels.rows;
    if (!heads.norm) std::copy_n(heads.values, heads.width, out);
    const int norm_width = heads.norm ? heads.norm->width() : heads.width;
    for (int i = 0; heads.norm && i < heads.width; i += norm_width) {
      kernels.normalize(heads.values + i, heads.norm->task(), out + i);
    }
    if (!op_.rotary) return;
    const int half = op_.rotary->half;
    const float* const cos = op_.rotary->cos.data() + std::size_t(position) * half;
    const float* const sin = op_.rotary->sin.data() + std::size_t(position) * half;
    for (int i = 0; i < heads.width; i += kv_.head_dim) kernels.turn(out + i, cos, sin, half);
  }

  void write(const Frame& frame, int row, const float* keys, const float* values) const {
    const RowKernels& kernels = frame.runtime.kernels.rows;
    const Batch& batch = frame.batch;
    const int sequence = frame.sequence_of[row], position = batch.positions[row];
    const int id = batch.block_tables[attention_.group].row(sequence)[position / kPageTokens];
    char* const page = attention_.cache->layer(attention_.layer) + id * page_bytes(kv_);
    for (int head = 0; head < kv_.num_kv_heads; ++head) {
      const PageSlot at{kv_, page, head, position % kPageTokens};
      kernels.write_key(keys + head * kv_.head_dim, at);
      kernels.write_value(values + head * kv_.head_dim, at);
    }
  }

  Rows qkv_;
  AttentionOp attention_;
  RotaryWriteOp op_;
  Rows out_;
  Rows sink_out_;
  KVLayout kv_;
  int kv_width_;
  Scratch<std::int32_t> starts_;
  Scratch<float> keys_;  // a row per thread
};

}  // namespace

OpPtr make_rotary_write(const OpContext& context, Rows qkv, const AttentionOp& attention,
                        const RotaryWriteOp& op, Rows out) {
  return std::make_unique<RotaryWrite>(context, qkv, attention, op, out);
}

}  // namespace vivace
