// Full blocks of keys and values into packed pages.
#include "ops.hpp"

namespace vivace {
namespace {

class PackBlocks final : public Op {
 public:
  PackBlocks(const OpContext& context, const AttentionOp& attention) : attention_(attention) {
    rows_ = layout_.take<std::int32_t>(context.max_rows);
  }

  void run(const Frame& frame) const override {
    std::int32_t* const rows = rows_.in(frame.scratch);
    const int heads = near().num_kv_heads, count = find_last_rows(frame.batch, rows);
    frame.runtime.pool.parallel_for(std::size_t(count) * heads, [&](std::size_t i, unsigned) {
      pack(frame, rows[i / heads], static_cast<int>(i % heads));
    });
  }

  void narrow(BatchBounds& bounds) const override {
    bounds.group_pages[attention_.group] = attention_.cache->group_pages();
    bounds.group_pages[attention_.far_group] = attention_.far->group_pages();
  }

 private:
  const KVLayout& near() const { return attention_.cache->layout; }

  // The rows that fill their blocks; returns how many.
  static int find_last_rows(const Batch& batch, std::int32_t* rows) {
    int count = 0;
    for (int row = 0; row < batch.rows(); ++row) {
      if ((batch.positions[row] + 1) % kPackedTokens == 0) rows[count++] = row;
    }
    return count;
  }

  void pack(const Frame& frame, int row, int head) const {
    const int sequence = frame.sequence_of[row];
    const int block = frame.batch.positions[row] / kPackedTokens;
    const std::int32_t* const pages =
        frame.batch.block_tables[attention_.group].row(sequence) + block * kPackedPages;
    const std::int32_t page = frame.batch.block_tables[attention_.far_group].row(sequence)[block];
    const KVCache& far = *attention_.far;
    frame.runtime.kernels.pack_block(
        {.near = near(),
         .far = far.layout,
         .near_pages = {near_page(pages[0]), near_page(pages[1])},
         .far_page = far.layer(attention_.layer) + page * far.bytes_per_page(),
         .head = head});
  }

  const char* near_page(std::int32_t id) const {
    return attention_.cache->layer(attention_.layer) + id * attention_.cache->bytes_per_page();
  }

  static constexpr int kPackedPages = kPackedTokens / kPageTokens;

  AttentionOp attention_;
  Scratch<std::int32_t> rows_;
};

}  // namespace

OpPtr make_pack_blocks(const OpContext& context, const AttentionOp& op) {
  return std::make_unique<PackBlocks>(context, op);
}

}  // namespace vivace
