// What threads bring into their caches while they wait for each other.
#pragma once

#include <algorithm>
#include <cstddef>

namespace vivace {

// Part of a loop's items.
struct Share {
  std::size_t begin;
  std::size_t end;
};

// The part that a thread begins with.
constexpr Share share_of(std::size_t items, unsigned thread, unsigned threads) {
  return {thread * items / threads, (thread + 1) * items / threads};
}

// What the items of a loop read, one after another. No items: nothing is known of it.
struct Reads {
  const char* data = nullptr;
  std::size_t item_bytes = 0;
  std::size_t items = 0;
};

struct Bytes {
  const char* begin = nullptr;
  const char* end = nullptr;
};

// Small beside any second-level cache, and read in about the time that an op without weights takes.
constexpr std::size_t kReadAhead = 128 * 1024;

// What a thread reads first of its share.
constexpr Bytes first_reads(const Reads& reads, unsigned thread, unsigned threads) {
  const Share share = share_of(reads.items, thread, threads);
  const char* const begin = reads.data + share.begin * reads.item_bytes;
  return {begin, begin + std::min(kReadAhead, (share.end - share.begin) * reads.item_bytes)};
}

// One thread's progress with what it reads first.
class ReadAhead {
 public:
  // Begins anew, unless these bytes are already being fetched.
  void aim(const Bytes& bytes) {
    if (bytes.begin == begin_) return;
    begin_ = at_ = bytes.begin;
    end_ = bytes.end;
  }

  // Asks for some lines, into the second-level cache; false where none is left.
  bool fetch() {
    if (at_ >= end_) return false;
    const char* const end = std::min(end_, at_ + kLines * kLine);
    for (; at_ < end; at_ += kLine) __builtin_prefetch(at_, 0, 2);
    return true;
  }

 private:
  static constexpr std::size_t kLine = 64;
  static constexpr std::size_t kLines = 4;  // fewer than a core can wait for

  const char* begin_ = nullptr;
  const char* at_ = nullptr;
  const char* end_ = nullptr;
};

}  // namespace vivace
