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

namespace vivace {

// Each level includes the ones before it. avx2 means AVX2, FMA and F16C; avx512 means F, BW, VL,
// DQ and BF16; amx adds AMX-TILE and AMX-BF16.
enum class Isa { portable, avx2, avx512, amx };

// A panel is 32 output columns over the whole depth k, one sequential stream of bytes.
constexpr int kPanelColumns = 32;

// Every packed buffer is aligned to this and may be read this far past its end by prefetches
// (never by loads).
constexpr std::size_t kAlignment = 64;

// Weights of a linear layer [n, k], packed in panels. bfloat16 panels are [k/2][32][2], float32
// panels are [k][32]; columns beyond n and depth beyond k are zero.
//   panels: KernelTable::panel_bytes(dtype, k) * num_panels(n) bytes.
//   bias: float32, num_panels(n) * 32 values, or null.
struct PackedMatrix {
  DType dtype = DType::float32;
  int n = 0;
  int k = 0;
  void* panels = nullptr;
  const float* bias = nullptr;
};

static constexpr int num_panels(int n) { return (n + kPanelColumns - 1) / kPanelColumns; }

// Row-major [num_rows, k] weights of one part of a stacked linear layer.
//   row_stride: elements from row to row.
struct WeightPart {
  const void* rows = nullptr;
  SourceType type = SourceType::float32;
  int num_rows = 0;
  std::int64_t row_stride = 0;
};

// Activations [m, k] in the layout of the level's matmul.
//   data: KernelTable::rows_bytes(dtype, m, k) bytes.
struct PackedRows {
  DType dtype = DType::float32;
  int m = 0;
  int k = 0;
  void* data = nullptr;
};

// out[m, n] = residual + multiplier * (rows . weights^T + bias). Strides count floats; residual
// may be null, or out itself.
struct GemmTask {
  PackedMatrix weights;
  PackedRows rows;
  float* out = nullptr;
  std::int64_t out_stride = 0;
  const float* residual = nullptr;
  std::int64_t residual_stride = 0;
  float multiplier = 1.0f;
};

// One layer's attention, the same for all its work items. A row at position p sees positions
// p - window + 1 to p. Queries and out are float32 [rows][heads][head_dim].
//   window, softcap: 0 is none.
//   sinks: one extra logit per head, or null.
//   pages: page 0 of this layer; page i starts page_stride * i bytes later (kv_layout.hpp).
struct AttentionLayer {
  KVLayout kv;
  int num_heads = 0;
  float scale = 1.0f;
  int window = 0;
  float softcap = 0.0f;
  const float* sinks = nullptr;
  const void* pages = nullptr;
  std::int64_t page_stride = 0;
};

// Consecutive rows of one sequence under one KV head: the unit of parallel work. All keys and
// values up to the last row's position stand in the pages.
//   queries, out: head 0 of the first row; strides count floats from row to row.
//   block_table: page ids by block of 16 positions; those before the first row's window are unread.
struct AttentionItem {
  const float* queries = nullptr;
  std::int64_t query_stride = 0;
  float* out = nullptr;
  std::int64_t out_stride = 0;
  const std::int32_t* block_table = nullptr;
  int kv_head = 0;
  int first_position = 0;
  int num_rows = 0;
};

// A row's result is bit-identical whatever other rows it is computed with, for one level and dtype.
struct KernelTable {
  Isa isa;

  // --- matmul ---
  std::size_t (*panel_bytes)(DType dtype, int k);
  // Packs panels [begin, end) of parts stacked along the outputs. Panels are independent.
  void (*pack_panels)(const WeightPart* parts, int num_parts, const PackedMatrix& matrix, int begin,
                      int end);
  std::size_t (*rows_bytes)(DType dtype, int m, int k);
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

  // --- single rows ---
  RowKernels rows;
};

std::string_view isa_name(Isa isa);

// The highest level that this machine, its system and this build support.
Isa best_isa();

// The level named, or the best where the name is empty. Throws std::invalid_argument, a sentence
// for the user where the name is unknown or the level is not available.
Isa choose_isa(std::string_view name);

// The kernels of a level that is at most best_isa().
const KernelTable& kernels(Isa isa);

}  // namespace vivace
