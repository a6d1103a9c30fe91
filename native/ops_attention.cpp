// Attention over pages.
#include "ops.hpp"

namespace vivace {
namespace {

class Attention final : public Op {
 public:
  Attention(const OpContext& context, Rows queries, const AttentionOp& op, Rows out)
      : queries_(queries),
        sink_queries_(sink_plane(context, queries)),
        op_(op),
        out_(out),
        layer_(layer_of(op)) {
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

  // Positions that an item's rows see, times rows, times heads.
  std::int64_t cost_of(const AttentionItem& item) const {
    const int recent = item.num_parts - item.sink_parts;
    const int begin = std::max(first_visible(item.sight, item.first_position),
                               item.first_part * kPartTokens);
    const int end = std::min(item.first_position + item.num_rows,
                             (item.first_part + recent) * kPartTokens);
    const int seen = std::max(end - begin, 0) + item.sink_parts * item.sight.sinks;
    return std::int64_t(seen) * item.num_rows * item.num_kv_heads;
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
    const int position = frame.batch.positions[begin], last = position + rows - 1;
    const Sight sight = sight_of(frame.batch.sight(sequence), op_.window);
    const int first_part = first_visible(sight, position) / kPartTokens;
    const int sink_parts = sight.sinks > 0 && evicts(sight, last) ? 1 : 0;
    return {.queries = queries_.row(begin),
            .sink_queries = sink_queries_.row(begin),
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
            .sight = sight,
            .first_part = first_part,
            .num_parts = last / kPartTokens + 1 - first_part + sink_parts,
            .sink_parts = sink_parts};
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
    for (int i = 0; i < item.num_parts; ++i) add_heads(plan, part_of(item, i, floats));
  }

  // One part of an item, whose states take so many floats.
  static AttentionItem part_of(const AttentionItem& item, int index, std::size_t floats) {
    AttentionItem part = item;
    part.num_parts = 1;
    part.sink_parts = index < item.sink_parts ? 1 : 0;
    part.first_part = item.first_part + std::max(index - item.sink_parts, 0);
    part.states = item.states + index * floats;
    return part;
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
  Rows sink_queries_;
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

OpPtr make_attention(const OpContext& context, Rows queries, const AttentionOp& op, Rows out) {
  return std::make_unique<Attention>(context, queries, op, out);
}

}  // namespace vivace
