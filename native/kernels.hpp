// The kernels of one machine: a visible table per ISA level, and the choice among them.
//
// Everything here is plain data and function pointers, so that it means the same in translation
// units compiled for different instruction sets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "elementwise.hpp"
#include "kv_layout.hpp"
#include "sampling.hpp"
#include "sight.hpp"

namespace vivace {

// Levels of x86, each of which includes the ones before it, and of AArch64. avx2 means AVX2, FMA
// and F16C; avx512 means F, BW, VL, DQ and VNNI; avx512bf16 adds BF16, and amx AMX-TILE, AMX-BF16
// and AMX-INT8. neon means the dot-product instructions.
enum class Isa { portable, avx2, avx512, avx512bf16, amx, neon };

// A panel is 32 output columns over the whole depth k, one sequential stream of bytes.
constexpr int kPanelColumns = 32;

// Every packed buffer is aligned to this and may be read this far past its end by prefetches
// (never by loads).
constexpr std::size_t kAlignment = 64;

enum class WeightKind { float32, bfloat16, int8, int4 };
enum class RowKind { float32, bfloat16, int8 };

// How a matmul's weights are kept, and in what numbers it multiplies.
//   group: int4: inputs that share a scale, 32, 64 or 128; 0 otherwise.
//   rows: float32 with float32 weights, bfloat16 with bfloat16, int8 with int8, int8 or bfloat16
//     with int4.
struct WeightFormat {
  WeightKind kind = WeightKind::float32;
  RowKind rows = RowKind::float32;
  int group = 0;
  bool zero_points = false;

  bool operator==(const WeightFormat&) const = default;
};

// What a program of `dtype` keeps float weights in.
static constexpr WeightFormat float_format(DType dtype) {
  if (dtype == DType::float32) return {WeightKind::float32, RowKind::float32};
  return {WeightKind::bfloat16, RowKind::bfloat16};
}

static constexpr RowKind row_kind(DType dtype) { return float_format(dtype).rows; }

// Weights of a linear layer [n, k], packed in panels. Columns beyond n and depth beyond k are zero.
//   float32:  [k][32].
//   bfloat16: [k/2][32][2].
//   int8:     codes + 128 as [k64/4][32][4] bytes, k64 being k padded to 64; then 32 float32
//             scales.
//   int4:     per group [group/4][16][4] bytes, column c in the low nibble and c + 16 in the high
//             one, 0 to 15 (code + 8 where symmetric); then 32 float16 scales. Behind the last
//             group, where there are zero points, [groups][32] bytes, padded to 64. The last group
//             is whole.
// The integer layouts are those of every level. w = scale * (stored - zero point), the zero point
// being 128 (int8) or 8 (symmetric int4).
//   planes: of k / planes inputs each, which every row is multiplied by: kernels know nothing of
//     it, they are given rows that are repeated.
//   gated: the n outputs are [gate | up]; panel p holds gates 16 p to 16 p + 15 in its first
//     sixteen columns and the same of up in its last.
//   panels: KernelTable::panel_bytes(format, k) * num_panels(matrix) bytes.
//   bias: float32 in the order of the packed columns, num_panels(matrix) * 32 values, or null.
struct PackedMatrix {
  WeightFormat format;
  int n = 0;
  int k = 0;
  bool gated = false;
  void* panels = nullptr;
  const float* bias = nullptr;
  int planes = 1;
};

static constexpr int num_panels(const PackedMatrix& matrix) {
  if (matrix.gated) return (matrix.n / 2 + 15) / 16;
  return (matrix.n + kPanelColumns - 1) / kPanelColumns;
}

// The output that stands in a packed column; n where it is padding.
static constexpr int output_of(const PackedMatrix& matrix, int column) {
  if (!matrix.gated) return column < matrix.n ? column : matrix.n;
  const int half = matrix.n / 2;
  const int index = column / kPanelColumns * 16 + column % 16;
  if (index >= half) return matrix.n;
  return column % kPanelColumns < 16 ? index : half + index;
}

// Rows of one part of a stacked linear layer: [num_rows, k] values, or codes with their scales.
//   type: floats are rounded to the matrix's format to nearest, as formats/rounding.py does; int8
//     and int4 (formats/qtensor.py) must be of the matrix's own format.
//   row_stride: elements from row to row (int4: bytes).
//   scales: int8: float32 [num_rows]; int4: float16 [num_rows][groups]. zero_points: int4: bytes
//     [num_rows][groups], or null.
struct WeightPart {
  const void* rows = nullptr;
  SourceType type = SourceType::float32;
  int num_rows = 0;
  std::int64_t row_stride = 0;
  const void* scales = nullptr;
  const std::uint8_t* zero_points = nullptr;
};

// Below it the absmax of values that share a scale is taken as zero.
constexpr float kSilent = 1e-30f;

// Activations [m, k] in the layout of the level's matmul. int8 rows are quantized as they are
// packed: scale = absmax / 127, code = round_half_even(x * (127 / absmax)); a row whose absmax is
// below kSilent is all zero. Their scales and sums of codes stand in `data` too.
//   group: what the sums are taken over, the weights' group; 0 is the whole row.
//   data: KernelTable::rows_bytes(rows) bytes.
struct PackedRows {
  RowKind kind = RowKind::float32;
  int group = 0;
  int m = 0;
  int k = 0;
  void* data = nullptr;
};

// out[m, n] = residual + multiplier * activation(rows . weights^T + bias). Strides count floats;
// residual may be null, or out itself.
//   activation: null is none. A gated one needs gated weights, and gives n / 2 columns. With an
//     activation there is no residual and the multiplier is 1.
//   int8 rows: a row times a group of weights is summed exactly; groups are added in ascending
//     order as fma(float(sum), scale, total); the row's scale comes last. So a result is the same
//     whichever kernel makes it.
struct GemmTask {
  PackedMatrix weights;
  PackedRows rows;
  float* out = nullptr;
  std::int64_t out_stride = 0;
  const float* residual = nullptr;
  std::int64_t residual_stride = 0;
  float multiplier = 1.0f;
  const ActivationTask* activation = nullptr;
};

// Pages of packed keys and values: page i starts page_stride * i bytes behind `pages`.
struct PackedPages {
  KVLayout kv;
  const void* pages = nullptr;
  std::int64_t page_stride = 0;
};

// One layer's attention, the same for all its work items; what a row sees is its item's. Queries
// and out are float32 [rows][heads][head_dim].
//   softcap: 0 is none.
//   sinks: one extra logit per head, or null.
//   pages: page 0 of this layer; page i starts page_stride * i bytes later (kv_layout.hpp).
//   far: in which a row sees all that is before its own block of kPackedTokens; its `pages` is null
//     where it sees everything in the layer's own.
struct AttentionLayer {
  KVLayout kv;
  int num_heads = 0;
  float scale = 1.0f;
  float softcap = 0.0f;
  const float* sinks = nullptr;
  const void* pages = nullptr;
  std::int64_t page_stride = 0;
  PackedPages far{};
};

static constexpr int group_of(const AttentionLayer& layer) {
  return layer.num_heads / layer.kv.num_kv_heads;
}

// Attention is summed in parts of this many positions, aligned to absolute positions; parts are
// folded in ascending order, the sinks first. So a row is computed alike whether or not its parts
// are shared out.
constexpr int kPartTokens = 512;

// Consecutive rows of one sequence under some KV heads: the unit of parallel work. All keys and
// values up to the last row's position stand in the pages.
//   queries, out: head 0 of the first row; strides count floats from row to row.
//   sink_queries: the same queries as they meet the sinks; of rows that evict alone.
//   block_table: page ids by block of 16 positions; those that no row sees are unread.
//   far_table: those of the layer's packed pages, by block of 32. With them all rows stand in one
//     such block, and only its pages are read of the layer's own.
//   sight: what the rows see.
//   first_part, num_parts: all parts that any of the rows sees, or some of them.
//   sink_parts: 1 where the first of them is the sinks, as rows see them that evict; or 0.
//   states: null where the parts are folded and `out` is written; otherwise the states of the
//     item's parts, attention_state_floats each, which fold_attention takes and overwrites.
//   next: what this thread will work on next, as far as one knows, or null: brought into cache.
struct AttentionItem {
  const float* queries = nullptr;
  const float* sink_queries = nullptr;
  std::int64_t query_stride = 0;
  float* out = nullptr;
  std::int64_t out_stride = 0;
  const std::int32_t* block_table = nullptr;
  const std::int32_t* far_table = nullptr;
  int first_kv_head = 0;
  int num_kv_heads = 0;
  int first_position = 0;
  int num_rows = 0;
  Sight sight;
  int first_part = 0;
  int num_parts = 0;
  int sink_parts = 0;
  float* states = nullptr;
  const AttentionItem* next = nullptr;
};

// A part's state: per KV head the largest score of each query, then [queries][state_width] sums.
static constexpr int state_width(const KVLayout& kv) { return value_width(kv) + 16; }

static constexpr int padded_queries(int queries) { return (queries + 15) / 16 * 16; }

static constexpr std::size_t head_state_floats(const AttentionLayer& layer, int num_rows) {
  const int queries = num_rows * group_of(layer);
  return padded_queries(queries) + std::size_t(queries) * state_width(layer.kv);
}

static constexpr std::size_t attention_state_floats(const AttentionLayer& layer, int num_rows) {
  return layer.kv.num_kv_heads * head_state_floats(layer, num_rows);
}

// One head's full block, from two pages of `near` into a packed one of `far`.
struct PackTask {
  KVLayout near;
  KVLayout far;
  const char* near_pages[2];
  char* far_page;
  int head;
};

// A row's result is bit-identical whatever other rows it is computed with, for one level and dtype.
struct KernelTable {
  Isa isa;

  // --- matmul ---
  std::size_t (*panel_bytes)(const WeightFormat& format, int k);
  // Packs panels [begin, end) of parts stacked along the outputs. Panels are independent.
  void (*pack_panels)(const WeightPart* parts, int num_parts, const PackedMatrix& matrix, int begin,
                      int end);
  // Bytes of `rows.data`, which is not read.
  std::size_t (*rows_bytes)(const PackedRows& rows);
  // Packs one row of k float32 values. Rows are independent.
  void (*pack_row)(const float* values, const PackedRows& rows, int row);
  // Columns of panels [begin, end), for all rows. Panels are independent.
  void (*gemm)(const GemmTask& task, int begin, int end);

  // --- attention ---
  // How many rows an item should have at most; more are correct, and worse balanced.
  int (*attention_rows)(const AttentionLayer& layer);
  // Scratch of one thread for items of up to `num_rows` rows, aligned to kAlignment.
  std::size_t (*attention_scratch_bytes)(const AttentionLayer& layer, int num_rows);
  void (*attention)(const AttentionLayer& layer, const AttentionItem& item, void* scratch);
  // Writes `out` from the states of all the parts that the item's rows see.
  void (*fold_attention)(const AttentionLayer& layer, const AttentionItem& item, void* scratch);

  // Packs as formats/kv_rounding.py does, to the bit.
  void (*pack_block)(const PackTask& task);

  // --- single rows ---
  RowKernels rows;

  // --- decoding ---
  SamplingKernels sampling;
};

std::string_view isa_name(Isa isa);

// The fastest level that this machine, its system and this build support.
Isa best_isa();

// Whether this machine, its system and this build support a level.
bool has_isa(Isa isa);

// The level named, or the best where the name is empty. Throws std::invalid_argument, a sentence
// for the user where the name is unknown or the level is not available.
Isa choose_isa(std::string_view name);

// The kernels of a level that is supported here.
const KernelTable& kernels(Isa isa);

}  // namespace vivace
