// All kernels of one level and their table: included once by each kernels_<level>.cpp.
#pragma once

#include "kernels.hpp"
#include "simd.hpp"

#include "gemm_impl.hpp"

#include "attention_impl.hpp"

#include "kv_pack_impl.hpp"

#include "elementwise_impl.hpp"

#include "sampling_impl.hpp"

namespace vivace::VIVACE_ISA {

// constexpr keeps the table free of initialisation code, which would run before detection.
extern constexpr KernelTable kTable = {
    .isa = Isa::VIVACE_ISA,
    .panel_bytes = panel_bytes,
    .pack_panels = pack_panels,
    .rows_bytes = rows_bytes,
    .pack_row = pack_row,
    .gemm = gemm,
    .attention_rows = attention_rows,
    .attention_scratch_bytes = attention_scratch_bytes,
    .attention = attention,
    .fold_attention = fold_attention,
    .pack_block = pack_block,
    .rows = kRowKernels,
    .sampling = kSamplingKernels,
};

}  // namespace vivace::VIVACE_ISA
