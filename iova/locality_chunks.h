// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_LOCALITY_CHUNKS_H_
#define DMAMAP_IOVA_LOCALITY_CHUNKS_H_

// LocalityChunks: the chunks of a pool: their words, how many pages of each are
// free, the lists they are in, and which of them other threads have freed
// something in.
//
// A chunk is in one list of the owner, or in none: it is the current one or
// has no free page. Independently it is in the list of pending ones, which any
// thread adds to and the owner takes as a whole.
//
// Synchronisation edge
//   N1 -> N2  a thread that adds a chunk, or finds it added already, has set
//             its bit before; the owner takes the mark off before it looks for
//             bits. So a bit is either seen or leads to a new entry.
//
// NotePending is lock-free and may be called by any thread, the rest by the
// owner only.

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "dma/assert.h"
#include "dma/result.h"
#include "dma/version.h"
#include "iova/locality_word.h"

namespace dmamap::inline v0 {

template <template <class> class Atom = std::atomic>
class LocalityChunks {
  using Word = LocalityWord<Atom>;
  static constexpr auto kPagesOrder =
      static_cast<unsigned>(std::countr_zero(Word::kPages));

 public:
  using Index = std::uint32_t;
  static constexpr Index kNone = ~Index{0};

  enum List : unsigned {
    kReady,   // has a run of free pages
    kShort,   // has some free pages
    kIdle,    // has no other pages
    kUnused,  // is no chunk now
    kLists,
    kNoList = kLists,
  };

  // kNoMemory; then it may be tried again. REQUIRES: 64 to 512 pages, a power
  // of two.
  Result<void> Init(std::uint32_t chunk_pages, std::uint32_t capacity) {
    order_ = static_cast<unsigned>(std::countr_zero(chunk_pages));
    word_order_ = order_ - kPagesOrder;
    chunk_.reset(new (std::nothrow) Chunk[capacity]);
    words_.reset(new (std::nothrow)
                     Word[std::size_t{capacity} * words_per_chunk()]);
    if (chunk_ == nullptr || words_ == nullptr) return Error::kNoMemory;
    capacity_ = capacity;
    head_.fill(kNone);  // an attempt before this one may have got so far
    size_.fill(0);
    for (Index c = capacity; c-- > 0;) PushFront(kUnused, c);
    return Ok();
  }

  Index capacity() const { return capacity_; }
  std::uint32_t chunk_pages() const { return std::uint32_t{1} << order_; }
  std::uint32_t words_per_chunk() const {
    return std::uint32_t{1} << word_order_;
  }
  std::uint64_t NumberOf(std::uint64_t page) const { return page >> order_; }
  Word& WordOf(Index chunk, std::uint64_t page) const {
    return words_[(std::size_t{chunk} << word_order_) |
                  ((page / Word::kPages) & (words_per_chunk() - 1))];
  }
  std::uint64_t base(Index chunk) const { return chunk_[chunk].base; }
  std::uint32_t free_pages(Index chunk) const { return chunk_[chunk].free; }
  bool AllFree(Index chunk) const { return free_pages(chunk) == chunk_pages(); }
  bool InUse(Index chunk) const { return chunk_[chunk].list != kUnused; }
  // The number of free pages, for the owner to lower as it takes pages.
  std::uint32_t& free_count(Index chunk) { return chunk_[chunk].free; }
  const std::uint32_t& free_count(Index chunk) const {
    return chunk_[chunk].free;
  }
  // Pages have become free: true when that makes `file_at` of them or more.
  bool AddFree(Index chunk, std::uint32_t pages) {
    Chunk& c = chunk_[chunk];
    c.free += pages;
    return c.free >= c.file_at;
  }
  void set_file_at(Index chunk, std::uint32_t pages) {
    chunk_[chunk].file_at = pages;
  }
  std::uint32_t file_at(Index chunk) const { return chunk_[chunk].file_at; }

  // Makes an unused one the chunk of these pages, all free, in no list.
  // REQUIRES: size(kUnused) != 0.
  Index Start(std::uint64_t base) {
    const Index c = front(kUnused);
    Remove(c);
    chunk_[c].base = base;
    chunk_[c].free = chunk_pages();
    for (std::uint32_t w = 0; w < words_per_chunk(); ++w) {
      words_[std::size_t{c} * words_per_chunk() + w].Reset();
    }
    return c;
  }

  Index front(List list) const { return head_[list]; }
  Index next(Index chunk) const { return chunk_[chunk].next; }
  List list(Index chunk) const { return chunk_[chunk].list; }
  std::uint32_t size(List list) const { return size_[list]; }
  // REQUIRES: in no list.
  void PushFront(List list, Index c) {
    DMAMAP_ASSERT(chunk_[c].list == kNoList);
    chunk_[c].list = list;
    chunk_[c].previous = kNone;
    chunk_[c].next = head_[list];
    if (head_[list] != kNone) chunk_[head_[list]].previous = c;
    head_[list] = c;
    ++size_[list];
  }
  // From the list it is in, if any.
  void Remove(Index c) {
    Chunk& chunk = chunk_[c];
    if (chunk.list == kNoList) return;
    if (chunk.next != kNone) chunk_[chunk.next].previous = chunk.previous;
    if (chunk.previous != kNone) {
      chunk_[chunk.previous].next = chunk.next;
    } else {
      head_[chunk.list] = chunk.next;
    }
    --size_[chunk.list];
    chunk.list = kNoList;
  }

  // By any thread that has set a bit of the chunk's.
  void NotePending(Index c) {
    // N1 (release) and, for the next thread to find it set, N2 (acquire) of
    // the owner's exchange below: the modification order of `pending` decides.
    if (chunk_[c].pending.exchange(1, std::memory_order_acq_rel) != 0) return;
    // relaxed: a guess.
    Index top = pending_.load(std::memory_order_relaxed);
    do {
      // relaxed: published by the exchange. Nobody takes a single entry off,
      // so there is no ABA.
      chunk_[c].next_pending.store(top, std::memory_order_relaxed);
    } while (!pending_.compare_exchange_weak(
        top, c + 1, std::memory_order_release, std::memory_order_relaxed));
  }

  // By the owner: calls fn(chunk) for each that was noted.
  template <class Fn>
  void TakePending(Fn&& fn) {
    // relaxed: only whether to look.
    if (pending_.load(std::memory_order_relaxed) == 0) return;
    Index top = TakeAll();
    while (top != 0) {
      const Index c = top - 1;
      // Before the mark is taken off, after which it may be noted again.
      top = chunk_[c].next_pending.load(std::memory_order_relaxed);
      TakeMarkOff(c);
      fn(c);
    }
  }

  // See LocalityWord::Collect; all words of the chunk.
  unsigned CollectWords(Index c, std::uint64_t& late) {
    unsigned pages = 0;
    for (std::uint32_t w = 0; w < words_per_chunk(); ++w) {
      pages += words_[std::size_t{c} * words_per_chunk() + w].Collect(late);
    }
    return pages;
  }

  std::uint64_t bytes() const {
    return capacity_ * (sizeof(Chunk) + words_per_chunk() * sizeof(Word));
  }

  // REQUIRES: nobody else uses them.
  bool CheckInvariants() const {
    for (unsigned l = 0; l < kLists; ++l) {
      std::uint32_t found = 0;
      for (Index c = head_[l]; c != kNone; c = chunk_[c].next) {
        if (chunk_[c].list != l || ++found > capacity_) return false;
      }
      if (found != size_[l]) return false;
    }
    for (Index c = 0; c < capacity_; ++c) {
      if (!InUse(c)) continue;
      std::uint32_t free = 0;
      for (std::uint32_t w = 0; w < words_per_chunk(); ++w) {
        const Word& word = words_[std::size_t{c} * words_per_chunk() + w];
        if (!word.CheckInvariants()) return false;
        free += static_cast<std::uint32_t>(std::popcount(word.free()));
      }
      if (free != chunk_[c].free) return false;
    }
    return true;
  }

 private:
  struct Chunk {
    std::uint64_t base = 0;  // page
    std::uint32_t free = 0;  // pages
    // With so many it belongs in another list.
    std::uint32_t file_at = 0;
    Index next = kNone;
    Index previous = kNone;
    List list = kNoList;
    Atom<std::uint32_t> pending{0};
    Atom<std::uint32_t> next_pending{0};  // index + 1, or 0
  };

  Index TakeAll() {
    // acquire: pairs with the release in NotePending, for next_pending.
    return pending_.exchange(0, std::memory_order_acquire);
  }
  void TakeMarkOff(Index c) {
    // N2, acquire: pairs with N1. release: next_pending has been read before
    // another thread writes it.
    (void)chunk_[c].pending.exchange(0, std::memory_order_acq_rel);
  }

  std::unique_ptr<Chunk[]> chunk_;
  std::unique_ptr<Word[]> words_;
  Index capacity_ = 0;
  unsigned order_ = 6;
  unsigned word_order_ = 0;  // of the number of words of a chunk
  std::array<Index, kLists> head_ = {kNone, kNone, kNone, kNone};
  std::array<std::uint32_t, kLists> size_ = {};
  Atom<std::uint32_t> pending_{0};  // index + 1, or 0
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_LOCALITY_CHUNKS_H_
