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
    starts_ = layout_.take<std::int32_t>(context.max_rows + 1);
    keys_ = layout_.take<float>(stride() * context.runtime.pool.threads());
  }

  void run(const Frame& frame) const override {
    std::int32_t* const starts = starts_.in(frame.scratch);
    const int count = find_pages(frame, starts);
    frame.runtime.pool.parallel_for(count, [&](std::size_t page, unsigned thread) {
      for (int row = starts[page]; row < starts[page + 1]; ++row) write_row(frame, row, thread);
    });
  }

  void narrow(BatchBounds& bounds) const override {
    if (op_.rotary) bounds.positions = std::min(bounds.positions, op_.rotary->positions);
    bounds.group_pages[attention_.group] = attention_.cache->group_pages();
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

  void write_row(const Frame& frame, int row, unsigned thread) const {
    float* const keys = keys_.in(frame.scratch) + thread * stride();
    const float* const q = qkv_.row(row);
    const float* const k = q + out_.width;
    const int position = frame.batch.positions[row];
    place(frame, {q, op_.q_norm, out_.width}, position, out_.row(row));
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
  KVLayout kv_;
  int kv_width_;
  Scratch<std::int32_t> starts_;
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
    const unsigned threads = context.runtime.pool.threads();
    const std::size_t cut = kItemsPerThread * threads;
    items_ = layout_.take<Item>(context.max_rows + (cut + kStates) * layer_.kv.num_kv_heads);
    folds_ = layout_.take<AttentionItem>(cut);
    states_ = layout_.take<float>(state_floats());
    per_thread_ = layout_.take<char>(stride_ * threads);
  }

  void run(const Frame& frame) const override {
    const Plan plan = share_out(frame);
    const KernelTable& kernels = frame.runtime.kernels;
    char* const scratch = per_thread_.in(frame.scratch);
    // Threads that keep step take every so many items.
    const std::size_t threads = frame.runtime.pool.threads(), count = plan.num_items;
    frame.runtime.pool.parallel_for(count, [&](std::size_t i, unsigned thread) {
      AttentionItem item = plan.items[i].work;
      item.next = i + threads < count ? &plan.items[i + threads].work : nullptr;
      kernels.attention(layer_, item, scratch + thread * stride_);
    });
    const int heads = layer_.kv.num_kv_heads;
    frame.runtime.pool.parallel_for(plan.num_folds * heads, [&](std::size_t i, unsigned thread) {
      AttentionItem fold = plan.folds[i / heads];
      fold.first_kv_head = static_cast<int>(i % heads);
      fold.num_kv_heads = 1;
      kernels.fold_attention(layer_, fold, scratch + thread * stride_);
    });
  }

  void narrow(BatchBounds& bounds) const override {
    bounds.group_pages[op_.group] = op_.cache->group_pages();
    if (op_.far) bounds.group_pages[op_.far_group] = op_.far->group_pages();
  }

 private:
  // Items are cut until none holds up the others: to a share of a thread's work, if they can be.
  static constexpr int kItemsPerThread = 4;
  // Parts whose states there is room for, at an item's most rows; those of fewer rows take less.
  static constexpr int kStates = 32;

  struct Item {
    AttentionItem work;
    std::int64_t cost;  // positions times rows times KV heads
  };

  // The items of one step, and those whose parts must be folded afterwards.
  struct Plan {
    Item* items;
    AttentionItem* folds;
    float* states;
    std::size_t free_floats;
    int free_states;
    std::int64_t largest_cost;
    int num_items;
    int num_folds;
  };

  static AttentionLayer layer_of(const AttentionOp& op) {
    return {.kv = op.cache->layout,
            .num_heads = op.num_heads,
            .scale = op.scale,
            .window = op.window,
            .softcap = op.softcap,
            .sinks = op.sinks ? op.sinks->data() : nullptr,
            .pages = op.cache->layer(op.layer),
            .page_stride = static_cast<std::int64_t>(page_bytes(op.cache->layout)),
            .far = far_of(op)};
  }

  static PackedPages far_of(const AttentionOp& op) {
    if (!op.far) return {};
    return {.kv = op.far->layout,
            .pages = op.far->layer(op.layer),
            .page_stride = static_cast<std::int64_t>(page_bytes(op.far->layout))};
  }

  std::size_t state_floats() const {
    return kStates * attention_state_floats(layer_, rows_per_item_);
  }

  // Positions that an item's rows see.
  int first_position(const AttentionItem& item) const {
    return std::max(first_visible(layer_, item.first_position), item.first_part * kPartTokens);
  }
  std::int64_t cost_of(const AttentionItem& item) const {
    const int end = std::min(item.first_position + item.num_rows,
                             (item.first_part + item.num_parts) * kPartTokens);
    return std::int64_t(end - first_position(item)) * item.num_rows * item.num_kv_heads;
  }

  // Calls body(item) for consecutive rows of each sequence, whole in heads and parts.
  template <typename Body>
  void for_blocks(const Frame& frame, Body body) const {
    const Batch& batch = frame.batch;
    for (int sequence = 0; sequence < batch.sequences(); ++sequence) {
      const int end = batch.query_starts[sequence + 1];
      for (int begin = batch.query_starts[sequence], rows; begin < end; begin += rows) {
        rows = std::min(most_rows(batch.positions[begin]), end - begin);
        body(item_of(frame, sequence, begin, rows));
      }
    }
  }

  // Rows of an item that begins at a position: beside packed pages it ends with its block.
  int most_rows(int position) const {
    if (!op_.far) return rows_per_item_;
    return std::min(rows_per_item_, kPackedTokens - position % kPackedTokens);
  }

  AttentionItem item_of(const Frame& frame, int sequence, int begin, int rows) const {
    const int position = frame.batch.positions[begin];
    const int first_part = first_visible(layer_, position) / kPartTokens;
    return {.queries = queries_.row(begin),
            .query_stride = queries_.width,
            .out = out_.row(begin),
            .out_stride = out_.width,
            .block_table = frame.batch.block_tables[op_.group].row(sequence),
            .far_table =
                op_.far ? frame.batch.block_tables[op_.far_group].row(sequence) : nullptr,
            .first_kv_head = 0,
            .num_kv_heads = layer_.kv.num_kv_heads,
            .first_position = position,
            .num_rows = rows,
            .first_part = first_part,
            .num_parts = (position + rows - 1) / kPartTokens + 1 - first_part};
  }

  Plan share_out(const Frame& frame) const {
    std::int64_t total = 0;
    for_blocks(frame, [&](const AttentionItem& item) { total += cost_of(item); });
    Plan plan{.items = items_.in(frame.scratch),
              .folds = folds_.in(frame.scratch),
              .states = states_.in(frame.scratch),
              .free_floats = state_floats(),
              .free_states = kStates,
              .largest_cost = total / (kItemsPerThread * frame.runtime.pool.threads()),
              .num_items = 0,
              .num_folds = 0};
    for_blocks(frame, [&](const AttentionItem& item) { add(plan, item); });
    // The longest first.
    std::sort(plan.items, plan.items + plan.num_items,
              [](const Item& a, const Item& b) { return a.cost > b.cost; });
    return plan;
  }

  void add(Plan& plan, AttentionItem item) const {
    const std::size_t floats = attention_state_floats(layer_, item.num_rows);
    const bool whole = cost_of(item) <= plan.largest_cost || item.num_parts == 1 ||
                       item.num_parts > plan.free_states ||
                       item.num_parts * floats > plan.free_floats;
    if (whole) return add_heads(plan, item);
    item.states = plan.states;
    plan.folds[plan.num_folds++] = item;
    plan.states += item.num_parts * floats;
    plan.free_floats -= item.num_parts * floats;
    plan.free_states -= item.num_parts;
    AttentionItem part = item;
    part.num_parts = 1;
    for (; part.first_part < item.first_part + item.num_parts; ++part.first_part) {
      add_heads(plan, part);
      part.states += floats;
    }
  }

  // Many heads in one item read whole pages, which is faster.
  void add_heads(Plan& plan, AttentionItem item) const {
    const int heads = item.num_kv_heads;
    const std::int64_t cost = cost_of(item) / heads;
    const int fitting = static_cast<int>(plan.largest_cost / std::max<std::int64_t>(cost, 1));
    const int most = std::clamp(fitting, 1, heads);
    for (int head = 0; head < heads; head += most) {
      item.first_kv_head = head;
      item.num_kv_heads = std::min(most, heads - head);
      plan.items[plan.num_items++] = {item, cost * item.num_kv_heads};
    }
  }

  Rows queries_;
  AttentionOp op_;
  Rows out_;
  AttentionLayer layer_;
  int rows_per_item_ = 0;
  std::size_t stride_ = 0;
  Scratch<Item> items_;
  Scratch<AttentionItem> folds_;
  Scratch<float> states_;
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
