// What the native tests share: checks that count, seeded random values, scalar conversions.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "kernels.hpp"

namespace vivace::tests {

// Counts failures and prints the first few of them.
class Checks {
 public:
  template <class... Values>
  void that(bool holds, const char* format, Values... values) {
    ++count_;
    if (holds) return;
    if (++failures_ > 20) return;
    std::printf("FAILED: ");
    std::printf(format, values...);
    std::printf("\n");
  }

  int count() const { return count_; }
  int failures() const { return failures_; }

 private:
  int count_ = 0;
  int failures_ = 0;
};

// Aligned memory, filled with a byte that makes unwritten floats NaN.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes, int fill = 0xff)
      : size_((bytes + 2 * kAlignment) / kAlignment * kAlignment),
        data_(static_cast<char*>(std::aligned_alloc(kAlignment, size_)), &std::free) {
    std::memset(data_.get(), fill, size_);
  }
  char* data() const { return data_.get(); }
  float* floats() const { return reinterpret_cast<float*>(data_.get()); }

 private:
  std::size_t size_;
  std::unique_ptr<char, decltype(&std::free)> data_;
};

inline float widen(std::uint16_t half) {
  const std::uint32_t bits = std::uint32_t(half) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// Round to nearest even, for finite values.
inline std::uint16_t narrow(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float stored(DType dtype, float value) {
  return dtype == DType::bfloat16 ? widen(narrow(value)) : value;
}

inline std::vector<float> random_values(std::mt19937& random, std::size_t count, float scale = 1) {
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

inline const char* name(DType dtype) { return dtype == DType::bfloat16 ? "bfloat16" : "float32"; }

void test_gemm(const KernelTable& kernels, Checks& checks);
void test_attention(const KernelTable& kernels, Checks& checks);
void test_packed_pages(const KernelTable& kernels, Checks& checks);
void test_pool(Checks& checks);
void test_reads(Isa isa, Checks& checks);
void test_steps(Isa isa, Checks& checks);

}  // namespace vivace::tests
