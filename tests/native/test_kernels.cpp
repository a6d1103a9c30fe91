// Tests every kernel at every level this machine has, against plain loops in double precision.
// Prints one line per level; exits with 1 if a check failed.
#include "support.hpp"

int main() {
  using namespace vivace;
  int failures = 0;
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512, Isa::amx}) {
    if (isa > best_isa()) break;
    tests::Checks checks;
    tests::test_gemm(kernels(isa), checks);
    tests::test_attention(kernels(isa), checks);
    const std::string_view level = isa_name(isa);
    std::printf("%.*s: %d checks, %d failed\n", int(level.size()), level.data(), checks.count(),
                checks.failures());
    failures += checks.failures();
  }
  return failures > 0;
}
