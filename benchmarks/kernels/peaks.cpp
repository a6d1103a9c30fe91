#include "peaks.hpp"

#include <immintrin.h>

#include <algorithm>
#include <chrono>

namespace vivace::bench {
namespace {

// Half a millisecond of vector instructions: to start the threads takes microseconds.
constexpr int kRounds = 200000;

#define LEVEL(features) __attribute__((target(features)))

LEVEL("avx512f") float fma512() {
  __m512 sums[16];
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  __m512 a = _mm512_set1_ps(1e-3f);
  for (int i = 0; i < kRounds; ++i) {
    __asm__ volatile("" : "+v"(a));
#pragma GCC unroll 16
    for (auto& sum : sums) sum = _mm512_fmadd_ps(a, a, sum);
  }
  for (int i = 1; i < 16; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  return _mm512_cvtss_f32(sums[0]);
}

LEVEL("avx512f,avx512bf16") float dot512() {
  __m512 sums[16];
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  __m512i a = _mm512_set1_epi32(0x3c003c00);
  for (int i = 0; i < kRounds; ++i) {
    __asm__ volatile("" : "+v"(a));
#pragma GCC unroll 16
    for (auto& sum : sums) sum = _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)a);
  }
  for (int i = 1; i < 16; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  return _mm512_cvtss_f32(sums[0]);
}

LEVEL("avx512f,avx512vnni") float vnni512() {
  __m512i sums[16];
  for (auto& sum : sums) sum = _mm512_setzero_si512();
  __m512i a = _mm512_set1_epi32(0x3c013c01);
  for (int i = 0; i < kRounds; ++i) {
    __asm__ volatile("" : "+v"(a));
#pragma GCC unroll 16
    for (auto& sum : sums) sum = _mm512_dpbusd_epi32(sum, a, a);
  }
  for (int i = 1; i < 16; ++i) sums[0] = _mm512_add_epi32(sums[0], sums[i]);
  return static_cast<float>(_mm512_reduce_add_epi32(sums[0]));
}

LEVEL("avx2,fma") float fma256() {
  __m256 sums[12];
  for (auto& sum : sums) sum = _mm256_setzero_ps();
  __m256 a = _mm256_set1_ps(1e-3f);
  for (int i = 0; i < kRounds; ++i) {
    __asm__ volatile("" : "+x"(a));
#pragma GCC unroll 12
    for (auto& sum : sums) sum = _mm256_fmadd_ps(a, a, sum);
  }
  for (int i = 1; i < 12; ++i) sums[0] = _mm256_add_ps(sums[0], sums[i]);
  return _mm256_cvtss_f32(sums[0]);
}

// Products of 16-bit integers, as bytes cannot be multiplied without saturation.
LEVEL("avx2") float madd256() {
  __m256i sums[12];
  for (auto& sum : sums) sum = _mm256_setzero_si256();
  __m256i a = _mm256_set1_epi32(0x003c0001);
  for (int i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (auto& sum : sums) {
      __asm__ volatile("" : "+x"(a));
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, a));
    }
  }
  for (int i = 1; i < 12; ++i) sums[0] = _mm256_add_epi32(sums[0], sums[i]);
  return static_cast<float>(_mm256_extract_epi32(sums[0], 0));
}

float mul_add128() {
  __m128 sums[12];
  for (auto& sum : sums) sum = _mm_setzero_ps();
  __m128 a = _mm_set1_ps(1e-3f);
  for (int i = 0; i < kRounds; ++i) {
    __asm__ volatile("" : "+x"(a));
    const __m128 product = _mm_mul_ps(a, a);
#pragma GCC unroll 12
    for (auto& sum : sums) sum = _mm_add_ps(sum, product);
  }
  for (int i = 1; i < 12; ++i) sums[0] = _mm_add_ps(sums[0], sums[i]);
  return _mm_cvtss_f32(sums[0]);
}

// Tiles 4 and 6 with values that are not zero: multiplying zeros takes less power.
LEVEL("amx-tile") void load_tiles() {
  alignas(64) unsigned char config[64] = {1};
  for (int tile = 0; tile < 8; ++tile) config[16 + 2 * tile] = 64, config[48 + tile] = 16;
  __asm__ volatile("" ::"r"(config) : "memory");
  _tile_loadconfig(config);
  std::uint16_t values[16 * 32];
  for (int i = 0; i < 16 * 32; ++i) {
    values[i] = static_cast<std::uint16_t>(0x3c00 + i * 40503 % 509);
  }
  __asm__ volatile("" ::"r"(values) : "memory");
  _tile_loadd(4, values, 64);
  _tile_loadd(6, values, 64);
}

// A macro, as tiles are named by literals.
#define MULTIPLY_TILES(product) \
  load_tiles();                 \
  for (int i = 0; i < kRounds; ++i) { \
    product(0, 4, 6);           \
    product(1, 4, 6);           \
    product(2, 4, 6);           \
    product(3, 4, 6);           \
  }                             \
  _tile_release();              \
  return 0

LEVEL("amx-tile,amx-bf16") float bf16_tiles() { MULTIPLY_TILES(_tile_dpbf16ps); }
LEVEL("amx-tile,amx-int8") float int8_tiles() { MULTIPLY_TILES(_tile_dpbsud); }

struct Loop {
  float (*run)();
  double operations;  // per round
};

Loop loop_of(Isa isa, RowKind rows) {
  constexpr double kTiles = 4.0 * 2 * 16 * 16;  // per unit of depth
  if (isa == Isa::amx && rows == RowKind::bfloat16) return {bf16_tiles, kTiles * 32};
  if (isa == Isa::amx && rows == RowKind::int8) return {int8_tiles, kTiles * 64};
  if (isa >= Isa::avx512) {
    if (rows == RowKind::int8) return {vnni512, 16.0 * 128};
    const bool dots = rows == RowKind::bfloat16 && isa >= Isa::avx512bf16;
    return dots ? Loop{dot512, 16.0 * 64} : Loop{fma512, 16.0 * 32};
  }
  if (isa == Isa::avx2 && rows == RowKind::int8) return {madd256, 12.0 * 32};
  if (isa == Isa::avx2) return {fma256, 12.0 * 16};
  return {mul_add128, 12.0 * 4};
}

LEVEL("avx2") long read_all(const char* data, std::size_t bytes) {
  __m256i sums[4] = {};
  for (std::size_t i = 0; i < bytes; i += 128) {
    _mm_prefetch(data + i + 2048, _MM_HINT_T0);
    _mm_prefetch(data + i + 2112, _MM_HINT_T0);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      sums[j] = _mm256_xor_si256(sums[j], _mm256_load_si256((const __m256i*)(data + i) + j));
    }
  }
  const __m256i sum = _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]),
                                       _mm256_xor_si256(sums[2], sums[3]));
  return _mm256_extract_epi64(sum, 0);
}

// Results are used, so that no loop can be left out.
constexpr int kSinks = 64;
volatile long sinks[kSinks];

template <class Work>
double fastest(const ThreadPool& pool, int repetitions, Work work) {
  double best = 1e30;
  for (int i = 0; i < repetitions; ++i) {
    pool.settle();
    const double start = now();
    work();
    best = std::min(best, now() - start);
  }
  return best;
}

}  // namespace

double now() {
  const auto time = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(time).count();
}

double read_bandwidth(ThreadPool& pool, const char* data, std::size_t bytes) {
  constexpr std::size_t kChunk = std::size_t(1) << 20;
  const std::size_t chunks = bytes / kChunk;
  return chunks * kChunk / fastest(pool, 3, [&] {
    pool.parallel_for(chunks, [&](std::size_t chunk, unsigned thread) {
      sinks[thread % kSinks] = read_all(data + chunk * kChunk, kChunk);
    });
  });
}

double cached_read(const ThreadPool& pool, const void* data, std::size_t bytes) {
  constexpr int kTimes = 100;
  return kTimes * bytes / fastest(pool, 5, [&] {
    for (int i = 0; i < kTimes; ++i) sinks[0] = read_all(static_cast<const char*>(data), bytes);
  });
}

double arithmetic_peak(ThreadPool& pool, Isa isa, RowKind rows) {
  const Loop loop = loop_of(isa, rows);
  const double seconds = fastest(pool, 20, [&] {
    pool.parallel_for(pool.threads(), [&](std::size_t, unsigned thread) {
      sinks[thread % kSinks] = static_cast<long>(loop.run());
    });
  });
  return loop.operations * kRounds * pool.threads() / seconds;
}

}  // namespace vivace::bench
