// Queries, keys and values into place, and attention over pages.
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
        kv_(attention.cache->layout),
        kv_width_(kv_.num_kv_heads * kv_.head_dim) {
    require_shape(out.width == attention.num_heads * kv_.head_dim, "queries and their heads");
    require_shape(qkv.width == out.width + 2 * kv_width_, "queries, keys and values");
    require_shape(fits(op.q_norm, out.width) && fits(op.k_norm, kv_width_), "a q or k norm");
    require_shape(!op.rotary || 2 * op.rotary->half <= kv_.head_dim, "a rotary table and a head");
    keys_ = layout_.take<float>(stride() * context.runtime.pool.threads());
  }

  void run(const Frame& frame) const override {
    for_rows(frame.runtime, frame.batch.rows(), qkv_.width, [&](int row, unsigned thread) {
      float* const keys = keys_.in(frame.scratch) + thread * stride();
      const float* const q = qkv_.row(row);
      const float* const k = q + out_.width;
      const int position = frame.batch.positions[row];
      place(frame, {q, op_.q_norm, out_.width}, position, out_.row(row));
      place(frame, {k, op_.k_norm, kv_width_}, position, keys);
      write(frame, row, keys, k + kv_width_);
    });
  }

  void narrow(BatchBounds& bounds) const override {
    if (op_.rotary) bounds.positions = std::min(bounds.positions, op_.rotary->positions);
    bounds.group_pages[attention_.group] = static_cast<int>(attention_.cache->num_pages);
  }

 private:
  struct Heads {
    const float* values;
    const std::optional<Norm>& norm;
    int width;
  };

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
  KVLayout kv_;
  int kv_width_;
  Scratch<float> keys_;  // a row per thread
};

class Attention final : public Op {
 public:
  Attention(const OpContext& context, Rows queries, const AttentionOp& op, Rows out)
      : queries_(queries), op_(op), out_(out), layer_(layer_of(op)) {
    const KernelTable& kernels = context.runtime.kernels;
    require_shape(queries.width == op.num_heads * layer_.kv.head_dim, "queries and their heads");
    require_shape(out.width == queries.width, "attention's queries and outputs");
    require_shape(op.num_heads % layer_.kv.num_kv_heads == 0, "heads and KV heads");
    require_shape(!op.sinks || int(op.sinks->size()) == op.num_heads, "sinks and heads");
    rows_per_item_ = kernels.attention_rows(layer_);
    stride_ = aligned(kernels.attention_scratch_bytes(layer_, rows_per_item_));
    blocks_ = layout_.take<Block>(context.max_rows);
    per_thread_ = layout_.take<char>(stride_ * context.runtime.pool.threads());
  }

  void run(const Frame& frame) const override {
    Block* const blocks = blocks_.in(frame.scratch);
    const int count = split(frame.batch, blocks);
    const int heads = layer_.kv.num_kv_heads;
    frame.runtime.pool.parallel_for(count * heads, [&](std::size_t item, unsigned thread) {
      const int index = static_cast<int>(item);
      // Later rows of a sequence see more: the longest items go first.
      const Block& block = blocks[count - 1 - index / heads];
      char* const scratch = per_thread_.in(frame.scratch) + thread * stride_;
      frame.runtime.kernels.attention(layer_, item_of(frame, block, index % heads), scratch);
    });
  }

  void narrow(BatchBounds& bounds) const override {
    bounds.group_pages[op_.group] = static_cast<int>(op_.cache->num_pages);
  }

 private:
  // Consecutive rows of one sequence.
  struct Block {
    int sequence;
    int begin;
    int rows;
  };

  static AttentionLayer layer_of(const AttentionOp& op) {
    return {.kv = op.cache->layout,
            .num_heads = op.num_heads,
            .scale = op.scale,
            .window = op.window,
            .softcap = op.softcap,
            .sinks = op.sinks ? op.sinks->data() : nullptr,
            .pages = op.cache->layer(op.layer),
            .page_stride = static_cast<std::int64_t>(page_bytes(op.cache->layout))};
  }

  int split(const Batch& batch, Block* blocks) const {
    int count = 0;
    for (int sequence = 0; sequence < batch.sequences(); ++sequence) {
      const int end = batch.query_starts[sequence + 1];
      for (int begin = batch.query_starts[sequence]; begin < end; begin += rows_per_item_) {
        blocks[count++] = {sequence, begin, std::min(rows_per_item_, end - begin)};
      }
    }
    return count;
  }

  AttentionItem item_of(const Frame& frame, const Block& block, int head) const {
    return {.queries = queries_.row(block.begin),
            .query_stride = queries_.width,
            .out = out_.row(block.begin),
            .out_stride = out_.width,
            .block_table = frame.batch.block_tables[op_.group].row(block.sequence),
            .kv_head = head,
            .first_position = frame.batch.positions[block.begin],
            .num_rows = block.rows};
  }

  Rows queries_;
  AttentionOp op_;
  Rows out_;
  AttentionLayer layer_;
  int rows_per_item_ = 0;
  std::size_t stride_ = 0;
  Scratch<Block> blocks_;
  Scratch<char> per_thread_;
};

}  // namespace

OpPtr make_rotary_write(const OpContext& context, Rows qkv, const AttentionOp& attention,
                        const RotaryWriteOp& op, Rows out) {
  return std::make_unique<RotaryWrite>(context, qkv, attention, op, out);
}

OpPtr make_attention(const OpContext& context, Rows queries, const AttentionOp& op, Rows out) {
  return std::make_unique<Attention>(context, queries, op, out);
}

}  // namespace vivace
