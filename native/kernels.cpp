// The choice of kernels at run time. VIVACE_HAVE_<LEVEL> says which levels this build contains.
#include "kernels.hpp"

#include <stdexcept>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(VIVACE_HAVE_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(VIVACE_HAVE_NEON)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace vivace {

namespace portable {
extern const KernelTable kTable;
}
#if defined(VIVACE_HAVE_AVX2)
namespace avx2 {
extern const KernelTable kTable;
}
#endif
#if defined(VIVACE_HAVE_AVX512)
namespace avx512 {
extern const KernelTable kTable;
}
#endif
#if defined(VIVACE_HAVE_AVX512BF16)
namespace avx512bf16 {
extern const KernelTable kTable;
}
#endif
#if defined(VIVACE_HAVE_AMX)
namespace amx {
extern const KernelTable kTable;
}
#endif
#if defined(VIVACE_HAVE_NEON)
namespace neon {
extern const KernelTable kTable;
}
#endif

namespace {

constexpr Isa kLevels[] = {Isa::portable,   Isa::avx2, Isa::avx512,
                           Isa::avx512bf16, Isa::amx,  Isa::neon};

#if defined(__x86_64__)

struct CpuId {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

CpuId cpuid(unsigned leaf, unsigned subleaf) {
  CpuId id;
  __get_cpuid_count(leaf, subleaf, &id.eax, &id.ebx, &id.ecx, &id.edx);
  return id;
}

bool bit(unsigned word, int index) { return (word >> index & 1u) != 0; }

// Whether the system saves these register states (bits of XCR0) across context switches.
bool system_saves(unsigned states) {
  if (!bit(cpuid(1, 0).ecx, 27)) return false;
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & states) == states;
}

bool has_avx2() {
  const unsigned basic = cpuid(1, 0).ecx;
  const bool fma_f16c = bit(basic, 12) && bit(basic, 29);
  return fma_f16c && bit(cpuid(7, 0).ebx, 5) && system_saves(0x6);
}

bool has_avx512() {
  const CpuId features = cpuid(7, 0);
  const unsigned ebx = features.ebx;
  const bool f_dq_bw_vl = bit(ebx, 16) && bit(ebx, 17) && bit(ebx, 30) && bit(ebx, 31);
  return has_avx2() && f_dq_bw_vl && bit(features.ecx, 11) && system_saves(0xe6);
}

bool has_avx512bf16() { return has_avx512() && bit(cpuid(7, 1).eax, 5); }

bool is_intel() {
  const CpuId vendor = cpuid(0, 0);
  return vendor.ebx == 0x756e6547 && vendor.edx == 0x49656e69 && vendor.ecx == 0x6c65746e;
}

#if defined(VIVACE_HAVE_AMX)
// Linux gives tile registers to a process that asks for them (arch_prctl ARCH_REQ_XCOMP_PERM).
bool request_tiles() {
  constexpr long kRequestPermission = 0x1023;
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool has_amx() {
  const unsigned edx = cpuid(7, 0).edx;
  const bool bf16_tile_int8 = bit(edx, 22) && bit(edx, 24) && bit(edx, 25);
  return has_avx512bf16() && bf16_tile_int8 && system_saves(0x60000) && request_tiles();
}
#endif

#endif

Isa detect_highest() {
#if defined(VIVACE_HAVE_AMX)
  if (has_amx()) return Isa::amx;
#endif
#if defined(VIVACE_HAVE_AVX512BF16)
  if (has_avx512bf16()) return Isa::avx512bf16;
#endif
#if defined(VIVACE_HAVE_AVX512)
  if (has_avx512()) return Isa::avx512;
#endif
#if defined(VIVACE_HAVE_AVX2)
  if (has_avx2()) return Isa::avx2;
#endif
#if defined(VIVACE_HAVE_NEON)
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) return Isa::neon;
#endif
  return Isa::portable;
}

Isa highest_isa() {
  static const Isa highest = detect_highest();
  return highest;
}

}  // namespace

std::string_view isa_name(Isa isa) {
  constexpr std::string_view names[] = {"portable",   "avx2", "avx512",
                                        "avx512bf16", "amx",  "neon"};
  return names[static_cast<int>(isa)];
}

Isa best_isa() {
#if defined(VIVACE_HAVE_AVX512)
  // Intel's cores multiply-add floats at twice the rate of bfloat16 dot products.
  if (highest_isa() == Isa::avx512bf16 && is_intel()) return Isa::avx512;
#endif
  return highest_isa();
}

bool has_isa(Isa isa) {
  const bool same_machine = (isa == Isa::neon) == (highest_isa() == Isa::neon);
  return isa == Isa::portable || (same_machine && isa <= highest_isa());
}

Isa choose_isa(std::string_view name) {
  if (name.empty()) return best_isa();
  for (const Isa isa : kLevels) {
    if (isa_name(isa) != name) continue;
    if (has_isa(isa)) return isa;
    throw std::invalid_argument("The ISA level " + std::string(name) +
                                " is not available here; the highest is " +
                                std::string(isa_name(highest_isa())) + ".");
  }
  throw std::invalid_argument("The ISA level must be portable, avx2, avx512, avx512bf16, amx or "
                              "neon, not '" + std::string(name) + "'.");
}

const KernelTable& kernels(Isa isa) {
#if defined(VIVACE_HAVE_AMX)
  if (isa == Isa::amx) return amx::kTable;
#endif
#if defined(VIVACE_HAVE_AVX512BF16)
  if (isa == Isa::avx512bf16) return avx512bf16::kTable;
#endif
#if defined(VIVACE_HAVE_AVX512)
  if (isa == Isa::avx512) return avx512::kTable;
#endif
#if defined(VIVACE_HAVE_AVX2)
  if (isa == Isa::avx2) return avx2::kTable;
#endif
#if defined(VIVACE_HAVE_NEON)
  if (isa == Isa::neon) return neon::kTable;
#endif
  (void)isa;
  return portable::kTable;
}

}  // namespace vivace
