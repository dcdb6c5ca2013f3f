// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_LOCALITY_SLOW_H_
#define DMAMAP_IOVA_LOCALITY_SLOW_H_

// The slow paths of LocalityPool: the current word or chunk is used up, or a
// chunk changes its list. Included by iova/locality.h alone.

#include "iova/locality.h"

namespace dmamap::inline v0 {

// The word is used up, which happens often in an old chunk: the next one of the
// same chunk with a free page.
template <class A, template <class> class Atom>
Result<Iova> LocalityPool<A, Atom>::AllocateFromNextWord() {
  if (current_ != kNone && *current_free_ != 0) {
    const std::uint64_t base = chunks_.base(current_);
    const std::uint64_t offsets = chunks_.chunk_pages() - 1;
    for (std::uint32_t tries = chunks_.words_per_chunk(); tries != 0; --tries) {
      word_page_ = base + ((word_page_ - base + Word::kPages) & offsets);
      word_ = &chunks_.WordOf(current_, word_page_);
      const unsigned at = word_->TakeOne();
      if (at == Word::kPages) continue;
      --*current_free_;
      return AddressOf(word_page_ + at);
    }
  }
  return AllocateSlow(1);
}

template <class A, template <class> class Atom>
Result<Iova> LocalityPool<A, Atom>::AllocateSlow(std::uint64_t pages) {
  if (!ready_) return Error::kShutDown;
  if (pages == 0 || pages > kMaxPages) return Error::kInvalidArgument;
  const auto count = static_cast<unsigned>(pages);
  if (current_ != kNone) {
    const Result<Iova> first = TakeFrom(current_, count);
    if (first.ok()) return first;
  }
  Collect();
  // A longer range may find the free pages of a chunk scattered: look at a few.
  Result<Iova> first = TakeFromList(Chunks::kReady, count, 8);
  if (!first.ok()) first = TakeFromList(Chunks::kIdle, count, 1);
  if (first.ok()) return first;
  const Result<Index> made = NewChunk();
  if (made.ok()) return TakeFrom(*made, count);
  // The current one may have got pages back by Collect.
  if (current_ != kNone) first = TakeFrom(current_, count);
  for (const unsigned list : {Chunks::kReady, Chunks::kShort}) {
    if (!first.ok()) {
      first = TakeFromList(list, count, chunks_.capacity());
      if (first.ok()) ++stats_.short_runs;
    }
  }
  return first.ok() ? first : made.error();
}

// From the first of a list that has the pages, of `tries`.
template <class A, template <class> class Atom>
Result<Iova> LocalityPool<A, Atom>::TakeFromList(unsigned list, unsigned pages,
                                                 unsigned tries) {
  Index chunk = chunks_.front(static_cast<typename Chunks::List>(list));
  for (; chunk != kNone && tries != 0; --tries) {
    const Result<Iova> first = TakeFrom(chunk, pages);
    if (first.ok()) return first;
    chunk = chunks_.next(chunk);
  }
  return Error::kNoSpace;
}

// Takes the pages from this chunk and makes it the current one; kNoSpace:
// nothing has changed.
template <class A, template <class> class Atom>
Result<Iova> LocalityPool<A, Atom>::TakeFrom(Index chunk, unsigned pages) {
  const std::uint64_t base = chunks_.base(chunk);
  for (std::uint64_t page = base; page < base + chunks_.chunk_pages();
       page += Word::kPages) {
    const unsigned at = chunks_.WordOf(chunk, page).Take(pages);
    if (at == Word::kPages) continue;
    chunks_.free_count(chunk) -= pages;
    MakeCurrent(chunk, page);
    return AddressOf(page + at);
  }
  return Error::kNoSpace;
}

template <class A, template <class> class Atom>
void LocalityPool<A, Atom>::MakeCurrent(Index chunk, std::uint64_t page) {
  word_ = &chunks_.WordOf(chunk, page);
  word_page_ = page;
  if (chunk == current_) return;
  chunks_.Remove(chunk);
  chunks_.set_file_at(chunk, kNever);
  const Index old = current_;
  current_ = chunk;
  current_free_ = &chunks_.free_count(chunk);
  if (old != kNone) File(old);
}

// Puts a chunk that is not the current one where its free pages belong.
template <class A, template <class> class Atom>
void LocalityPool<A, Atom>::File(Index chunk) {
  chunks_.Remove(chunk);
  const std::uint32_t free = chunks_.free_pages(chunk);
  const std::uint32_t whole = chunks_.chunk_pages();
  if (free == 0) return chunks_.set_file_at(chunk, 1);
  if (free == whole) {
    if (chunks_.size(Chunks::kIdle) >= options_.max_idle) {
      return GiveBack(chunk);
    }
    return chunks_.PushFront(Chunks::kIdle, chunk);
  }
  const bool ready = free >= options_.run_pages;
  chunks_.set_file_at(chunk, ready ? whole : options_.run_pages);
  chunks_.PushFront(ready ? Chunks::kReady : Chunks::kShort, chunk);
}

template <class A, template <class> class Atom>
auto LocalityPool<A, Atom>::NewChunk() -> Result<Index> {
  if (chunks_.size(Chunks::kUnused) == 0) return Error::kLimit;
  const Result<Iova> first = allocator_.Allocate(
      chunks_.chunk_pages(),
      {.limit = options_.limit, .align_to = AlignTo::kSize});
  if (!first.ok()) return first.error();
  const std::uint64_t base = first->value() >> shift_;
  const Index chunk = chunks_.Start(base);
  table_.Insert(chunks_.NumberOf(base), chunk);
  ++stats_.taken;
  return chunk;
}

// REQUIRES: all free, not the current one, in no list.
template <class A, template <class> class Atom>
void LocalityPool<A, Atom>::GiveBack(Index chunk) {
  table_.Erase(chunks_.NumberOf(chunks_.base(chunk)));
  // It can only fail if somebody else has freed the pool's chunk.
  (void)allocator_.Free(AddressOf(chunks_.base(chunk)), chunks_.chunk_pages());
  chunks_.PushFront(Chunks::kUnused, chunk);
  ++stats_.given_back;
}

template <class A, template <class> class Atom>
void LocalityPool<A, Atom>::Trim() {
  if (!ready_) return;
  Collect();
  if (current_ != kNone && chunks_.AllFree(current_)) {
    const Index chunk = current_;
    current_ = kNone;
    word_ = &no_word_;
    GiveBack(chunk);
  }
  while (chunks_.size(Chunks::kIdle) != 0) {
    const Index chunk = chunks_.front(Chunks::kIdle);
    chunks_.Remove(chunk);
    GiveBack(chunk);
  }
}

template <class A, template <class> class Atom>
LocalityStats LocalityPool<A, Atom>::stats() const {
  LocalityStats s = stats_;
  s.chunks = s.taken - s.given_back;
  s.idle = chunks_.size(Chunks::kIdle);
  s.bytes = chunks_.bytes() + table_.bytes() + sizeof(*this);
  for (Index c = 0; c < chunks_.capacity(); ++c) {
    if (chunks_.InUse(c)) {
      s.live_pages += chunks_.chunk_pages() - chunks_.free_pages(c);
    }
  }
  return s;
}

template <class A, template <class> class Atom>
bool LocalityPool<A, Atom>::CheckInvariants() const {
  if (!ready_) return true;
  if (!chunks_.CheckInvariants()) return false;
  const std::uint32_t whole = chunks_.chunk_pages();
  for (Index c = 0; c < chunks_.capacity(); ++c) {
    const auto list = chunks_.list(c);
    if (list == Chunks::kUnused) continue;
    const std::uint32_t free = chunks_.free_pages(c);
    auto right = Chunks::kNoList;
    if (c != current_ && free != 0) {
      right = free == whole                ? Chunks::kIdle
              : free >= options_.run_pages ? Chunks::kReady
                                           : Chunks::kShort;
    }
    if (list != right) return false;
    // The next free that changes the list is noticed.
    const std::uint32_t at = chunks_.file_at(c);
    if (c == current_) {
      if (at != kNever || current_free_ != &chunks_.free_count(c)) return false;
    } else if (list != Chunks::kIdle &&
               at != (free == 0                    ? 1u
                      : free >= options_.run_pages ? whole
                                                   : options_.run_pages)) {
      return false;
    }
    if (table_.Find(chunks_.NumberOf(chunks_.base(c))) != c) return false;
  }
  return chunks_.size(Chunks::kIdle) <= options_.max_idle;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_LOCALITY_SLOW_H_
