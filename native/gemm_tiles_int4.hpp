// Tile products with int4 panels: a group of weights has a sum of its own, which is scaled and
// added to the total.
//
// A slice's codes are unpacked once for all row blocks, less their zero points, to the columns that
// tiles take: int8 for int8 rows, bfloat16 for bfloat16 rows, both exact. Scaling the sums of a
// batch of groups takes about as long as multiplying the next batch (of 128 inputs and 32 rows a
// group: 128 cycles on tiles, and 64 vectors to convert, scale and add), and goes on meanwhile, a
// few rows at each step. Totals are loaded and stored once for a batch, since 64 stores for each
// group beside those of its tiles would take as long as the products.
#pragma once

#include "gemm_panels.hpp"
#include "gemm_tile_block.hpp"

namespace vivace::VIVACE_ISA {

// Four codes of sixteen columns, and what they are stored too high by.
struct NibbleZeros {
  __m512i low;
  __m512i high;
};

// A column's zero point in each of its four bytes; of symmetric weights, which store none, 8.
VIVACE_INLINE NibbleZeros nibble_zeros(const std::uint8_t* zeros) {
  if (zeros == nullptr) return {_mm512_set1_epi8(8), _mm512_set1_epi8(8)};
  const __m512i each = _mm512_set1_epi32(0x01010101);
  return {_mm512_mullo_epi32(load_bytes(zeros).v, each),
          _mm512_mullo_epi32(load_bytes(zeros + 16).v, each)};
}

struct Int8Codes {
  using Tiles = SignedTiles;
  static constexpr int kBytes = 1;

  VIVACE_INLINE V16 sums(const float* p) { return {_mm512_cvtepi32_ps(_mm512_load_si512(p))}; }

  // Puts four codes of each column: a word of depth.
  VIVACE_INLINE void put(Codes low, Codes high, const NibbleZeros& zeros, char* to) {
    _mm512_store_si512(to, _mm512_sub_epi8(low.v, zeros.low));
    _mm512_store_si512(to + 64, _mm512_sub_epi8(high.v, zeros.high));
  }
};

// The whole numbers 0 to 15, then -16 to -1: by the five low bits of a code.
struct WholeNumbers {
  alignas(kAlignment) std::uint16_t bfloat16[32];

  constexpr WholeNumbers() : bfloat16() {
    for (int i = 0; i < 32; ++i) {
      const float value = static_cast<float>(i < 16 ? i : i - 32);
      bfloat16[i] = static_cast<std::uint16_t>(__builtin_bit_cast(unsigned, value) >> 16);
    }
  }
};
constexpr WholeNumbers kWholeNumbers;

struct BFloat16Codes {
  using Tiles = BFloat16Tiles;
  static constexpr int kBytes = 2;

  VIVACE_INLINE V16 sums(const float* p) { return load(p); }

  // Two words of depth.
  VIVACE_INLINE void put(Codes low, Codes high, const NibbleZeros& zeros, char* to) {
    const __m512i left = _mm512_sub_epi8(low.v, zeros.low);
    const __m512i right = _mm512_sub_epi8(high.v, zeros.high);
    const __m512i first = pairs(0x80018000), second = pairs(0x80038002);
    _mm512_store_si512(to, widen(left, first));
    _mm512_store_si512(to + 64, widen(right, first));
    _mm512_store_si512(to + 128, widen(left, second));
    _mm512_store_si512(to + 192, widen(right, second));
  }

 private:
  // Picks the same two bytes of every word of four.
  VIVACE_INLINE __m512i pairs(unsigned bytes) {
    const __m128i words = _mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c);
    return _mm512_add_epi8(_mm512_set1_epi32(int(bytes)), _mm512_broadcast_i32x4(words));
  }

  // Codes from -15 to 15 by a table of 32 words, of whose index five bits count.
  VIVACE_INLINE __m512i widen(__m512i codes, __m512i pairs) {
    const __m512i table = _mm512_load_si512(kWholeNumbers.bfloat16);
    return _mm512_permutexvar_epi16(_mm512_shuffle_epi8(codes, pairs), table);
  }
};

// Unpacks `depth` codes of each column.
template <class Code>
VIVACE_INLINE void unpack(const char* codes, int depth, const NibbleZeros& zeros, char* to) {
  for (int k = 0; k < depth; k += 4, codes += kNibbleStep) {
    Codes low, high;
    load_nibbles(codes, low, high);
    Code::put(low, high, zeros, to);
    to += 4 * Code::kBytes * kPanelColumns;
  }
}

VIVACE_INLINE void clear(TileSums& totals, int rows) {
  for (int r = 0; r < rows; ++r) {
    store(totals[r], zero());
    store(totals[r] + 16, zero());
  }
}

template <class Code>
struct GroupTiles {
  static constexpr int kBatch = 2;          // groups
  static constexpr int kSliceBytes = 512; // depth of a slice: 16 KiB of columns
  static constexpr int kMostGroups = kSliceBytes / 32;

  // A batch's sums on their way to the totals of a block.
  struct Pending {
    const TileSums* sums = nullptr;
    const float (*scales)[kPanelColumns] = nullptr;
    int groups = 0;
    int rows = 0;
    float (*totals)[kPanelColumns] = nullptr;
  };

  // Groups [begin, end) of a panel.
  struct Slice {
    alignas(kAlignment) char columns[kSliceBytes * kPanelColumns];
    alignas(kAlignment) float scales[kMostGroups][kPanelColumns];
    alignas(kAlignment) TileSums sums[2][kBatch];
    int begin;
    int end;
    int turn = 0;
    Pending pending;
  };

  static TileShape shape(const GemmTask& task) {
    const WeightFormat& format = task.weights.format;
    const NibblePanel panel = nibble_panel(format, task.weights.k);
    const int depth = format.group * Code::kBytes;
    const int step = depth < kTileRowBytes ? depth : kTileRowBytes;
    return {.units = panel.groups,
            .unit_bytes = panel.group_bytes,
            .unit_steps = depth / step,
            .slice = kSliceBytes / depth,
            .depth_bytes = step};
  }

  static void open(const PackedMatrix& weights, const char* data, int begin, int end,
                   Slice& slice) {
    const NibblePanel panel = nibble_panel(weights.format, weights.k);
    slice.begin = begin;
    slice.end = end;
    char* to = slice.columns;
    for (int g = begin; g < end; ++g) {
      const int depth = weights.format.group;
      const char* const codes = data + g * panel.group_bytes;
      unpack<Code>(codes, depth, nibble_zeros(panel.zeros(data, g)), to);
      to += depth * Code::kBytes * kPanelColumns;
      const std::uint16_t* const scales = (const std::uint16_t*)(codes + depth / 4 * kNibbleStep);
      store(slice.scales[g - begin], load_f16(scales));
      store(slice.scales[g - begin] + 16, load_f16(scales + 16));
    }
    tile_fence();
  }

  template <bool Two>
  static void multiply(const TileShape& shape, const TileRows& rows, Slice& slice,
                       TileAhead& ahead, TileSums& totals) {
    if (slice.begin == 0) clear(totals, rows.count);
    for (int g = slice.begin; g < slice.end; g += kBatch) {
      const int groups = slice.end - g < kBatch ? slice.end - g : kBatch;
      multiply_batch<Two>(shape, rows, slice, g, groups, ahead);
      slice.pending = {slice.sums[slice.turn], slice.scales + (g - slice.begin), groups,
                       rows.count, totals};
      slice.turn = 1 - slice.turn;
    }
  }

  VIVACE_INLINE void close(Slice& slice) {
    add(slice.pending, 0, slice.pending.rows);
    slice.pending = {};
  }

  VIVACE_INLINE void finish(const GemmTask&, const char*, int, int, TileSums&) {}

 private:
  // Sums of groups [first, first + groups), while those of the batch before are added.
  template <bool Two>
  VIVACE_INLINE void multiply_batch(const TileShape& shape, const TileRows& rows, Slice& slice,
                                    int first, int groups, TileAhead& ahead) {
    using Block = TileBlock<typename Code::Tiles, Two, true>;
    const Pending pending = slice.pending;
    const int steps = groups * shape.unit_steps;
    const int share = (pending.rows + steps - 1) / steps;
    const int unit = shape.unit_steps * shape.depth_bytes;
    int depth = first * unit;
    const char* columns = slice.columns + (first - slice.begin) * unit * kPanelColumns;
    for (int g = 0, added = 0; g < groups; ++g) {
      Block::clear();
      for (int s = 0; s < shape.unit_steps; ++s, added += share) {
        Block::step(rows.at(depth), columns);
        depth += shape.depth_bytes;
        columns += shape.depth_bytes * kPanelColumns;
        const int end = added + share < pending.rows ? added + share : pending.rows;
        add(pending, added, end);
        ahead.issue();
      }
      Block::store(slice.sums[slice.turn][g]);
    }
  }

  template <int Groups>
  VIVACE_INLINE void add_groups(const Pending& pending, int begin, int end) {
    for (int column = 0; column < kPanelColumns; column += 16) {
      V16 scales[Groups];
      for (int g = 0; g < Groups; ++g) scales[g] = load(pending.scales[g] + column);
      for (int r = begin; r < end; ++r) {
        V16 total = load(pending.totals[r] + column);
        for (int g = 0; g < Groups; ++g) {
          total = fma(Code::sums(pending.sums[g][r] + column), scales[g], total);
        }
        store(pending.totals[r] + column, total);
      }
    }
  }

  VIVACE_INLINE void add(const Pending& pending, int begin, int end) {
    if (pending.groups == kBatch) return add_groups<kBatch>(pending, begin, end);
    if (pending.groups == 1) add_groups<1>(pending, begin, end);
  }
};

}  // namespace vivace::VIVACE_ISA
