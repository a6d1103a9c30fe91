// Tests every kernel at every level this machine has, against plain loops in double precision, and
// whole steps for what they allocate; and the loops of the thread pool.
// Prints one line per level; exits with 1 if a check failed.
#include "support.hpp"

namespace vivace {

namespace portable {
void test_simd(tests::Checks& checks);
}
namespace avx2 {
void test_simd(tests::Checks& checks);
}
namespace avx512 {
void test_simd(tests::Checks& checks);
}
namespace avx512bf16 {
void test_simd(tests::Checks& checks);
}
namespace neon {
void test_simd(tests::Checks& checks);
}

namespace tests {
namespace {

void test_simd(Isa isa, Checks& checks) {
  if (isa == Isa::portable) portable::test_simd(checks);
#if defined(VIVACE_HAVE_AVX2)
  if (isa == Isa::avx2) avx2::test_simd(checks);
#endif
#if defined(VIVACE_HAVE_AVX512)
  if (isa == Isa::avx512) avx512::test_simd(checks);
#endif
#if defined(VIVACE_HAVE_AVX512BF16)
  if (isa == Isa::avx512bf16) avx512bf16::test_simd(checks);
#endif
#if defined(VIVACE_HAVE_NEON)
  if (isa == Isa::neon) neon::test_simd(checks);
#endif
}

int test_loops() {
  Checks checks;
  test_pool(checks);
  std::printf("loops: %d checks, %d failed\n", checks.count(), checks.failures());
  return checks.failures();
}

int test_level(Isa isa) {
  Checks checks;
  test_simd(isa, checks);
  test_gemm(kernels(isa), checks);
  test_attention(kernels(isa), checks);
  test_packed_pages(kernels(isa), checks);
  test_reads(isa, checks);
#if defined(__linux__)
  test_steps(isa, checks);
#endif
  std::printf("%s: %d checks, %d failed\n", isa_name(isa).data(), checks.count(),
              checks.failures());
  return checks.failures();
}

}  // namespace
}  // namespace tests
}  // namespace vivace

int main() {
  using namespace vivace;
  int failures = tests::test_loops();
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512bf16, Isa::amx, Isa::neon}) {
    if (has_isa(isa)) failures += tests::test_level(isa);
  }
  return failures > 0;
}
