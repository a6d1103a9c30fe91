#include "memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

namespace vivace {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kRegion = 32 * kHugePage;

char* map(std::size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw std::bad_alloc();
  return static_cast<char*>(data);
}

// `bytes` that begin at a multiple of a huge page; what the mapping has too much is given back.
char* map_huge(std::size_t bytes) {
  char* const mapped = map(bytes + kHugePage);
  const std::size_t before = -reinterpret_cast<std::uintptr_t>(mapped) % kHugePage;
  char* const data = mapped + before;
  if (before != 0) munmap(mapped, before);
  munmap(data + bytes, kHugePage - before);
  return data;
}

void want_huge_pages(char* data, std::size_t bytes) {
#if defined(MADV_HUGEPAGE)
  madvise(data, bytes, MADV_HUGEPAGE);  // advice only
#endif
}

std::size_t whole_pages(std::size_t bytes) { return (bytes + kPage) / kPage * kPage; }

}  // namespace

// A small block would waste most of a huge page.
Memory::Memory(std::size_t bytes) : bytes_(whole_pages(bytes)) {
  const bool huge = bytes >= 2 * kHugePage;
  char* const data = huge ? map_huge(bytes_) : map(bytes_);
  if (huge) want_huge_pages(data, bytes_);
  data_ = data;
}

Memory Memory::of_file(int file, std::size_t bytes) {
  Memory memory;
  memory.bytes_ = whole_pages(bytes);
  char* const data = map_huge(memory.bytes_);
  memory.data_ = data;
  if (mmap(data, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED) {
    throw std::bad_alloc();
  }
  want_huge_pages(data, bytes);
  return memory;
}

void Memory::release(std::size_t byte_offset, std::size_t bytes) const {
  const std::size_t page = sysconf(_SC_PAGESIZE);
  const std::size_t first = (byte_offset + page - 1) / page * page;
  const std::size_t end = (byte_offset + bytes) / page * page;
  if (first < end) madvise(at(first), end - first, MADV_DONTNEED);  // data_ is aligned
}

Memory::~Memory() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

std::shared_ptr<char> Arena::take(std::size_t bytes) {
  if (!region_ || used_ + bytes > region_->bytes()) {
    region_ = std::make_shared<Memory>(bytes > kRegion ? bytes : kRegion);
    used_ = 0;
  }
  char* const data = region_->at(used_);
  used_ += aligned(bytes);
  return {region_, data};
}

}  // namespace vivace
