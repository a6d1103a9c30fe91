// Large memory that costs nothing until it is touched: zeroed, or the bytes of a file.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

namespace vivace {

// What the system maps at once where it can.
constexpr std::size_t kHugePage = std::size_t{2} << 20;

// An aligned, zeroed block. Memory is taken as it is first touched, in huge pages where the system
// has them, and may be read a little past its end (prefetches). Movable, not copyable.
class Memory {
 public:
  Memory() = default;
  // Throws std::bad_alloc.
  explicit Memory(std::size_t bytes);
  // The first bytes of a file, read only; the file may be removed, never cut. Huge pages where the
  // file's cache has them. Throws std::bad_alloc.
  static Memory of_file(int file, std::size_t bytes);
  ~Memory();
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::size_t bytes() const { return bytes_; }
  // Gives the system's pages that lie wholly in there back; they are zero when read again. Not of a
  // file's.
  void release(std::size_t byte_offset, std::size_t bytes) const;

  template <typename T = char>
  T* at(std::size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(static_cast<char*>(data_) + byte_offset);
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// Hands out blocks of large regions, one after another, so that weights of every size lie in huge
// pages: a matrix of its own small mapping would not, and its reads would wait for address
// translation. A region goes when the last of its blocks goes.
class Arena {
 public:
  // An aligned, zeroed block. Throws std::bad_alloc.
  std::shared_ptr<char> take(std::size_t bytes);

 private:
  std::shared_ptr<Memory> region_;
  std::size_t used_ = 0;
};

// `bytes` rounded up so that what follows is aligned for every kernel.
constexpr std::size_t aligned(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace vivace
