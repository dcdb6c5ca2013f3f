// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_LOCALITY_H_
#define DMAMAP_IOVA_LOCALITY_H_

// LocalityPool: the addresses of one ring or queue, side by side.
//
// An allocator that caches freed addresses one by one hands out more and more
// scattered ones as it ages; each 2 MiB region that a descriptor's pages touch
// may cost the IOMMU a miss in its page-table cache (Fast & Safe IO Memory
// Protection, SOSP 2024). A pool takes chunks of 64 to 512 pages, aligned to
// their size, and draws from one chunk until that is used up. The next one is
//
//   1. a chunk that has at least `run_pages` pages free again,
//   2. a chunk that is all free, else a new one from the allocator,
//   3. when there is none to be had (max_chunks, kNoSpace): any with room.
//
// So between two changes of chunk lie run_pages pages: single pages drawn one
// after the other, run_pages of them, come from at most two chunks, each inside
// one 2 MiB region, however the pool has aged; rule 3 counts its exceptions
// (short_runs). With run_pages equal to the chunk a chunk is used again only
// when all of it is free; smaller runs in larger chunks waste fewer addresses.
//
// Ranges of up to 64 pages that do not cross a multiple of 64 pages. As with
// IovaAllocator::Free, whoever frees has invalidated what the device knew.
//
// Threads: one owner (a ring's thread, or whoever holds its lock) calls
// everything but FreeRemotely, which any thread may call at any time. The owner
// collects what others freed when its chunk is used up, or by Collect. Frees
// are checked: kDoubleFree, kForeign (no range of this pool begins there, or
// its chunk went back), kMismatch. Two frees of one range at the same instant,
// one of them remote: both may get Ok; late_frees counts it when it is found.
//
// Progress: wait-free for the owner while the chunk lasts, lock-free for
// FreeRemotely. Memory comes in Init: max_chunks times 56 to 72 bytes and 32
// for each 64 pages of a chunk.
//
//   LocalityPool<StandardAllocator> pool(iova);
//   if (Result<void> r = pool.Init({}); !r.ok()) ...
//   Result<Iova> a = pool.Allocate();
//   Result<void> f = pool.Free(*a);

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iova/constraints.h"
#include "iova/locality_chunks.h"
#include "iova/locality_table.h"
#include "iova/locality_word.h"
#include "iova/range_store.h"

namespace dmamap::inline v0 {

struct LocalityOptions {
  // 64, 128, 256 or 512 (2 MiB of 4 KiB pages: one leaf page table).
  std::uint32_t chunk_pages = 512;
  // 1 to chunk_pages. A ring of 16,384 pages that are freed in random order
  // keeps 1.12 times as many in chunks of 512 with runs of 64, and 4.9 times as
  // many in chunks of 64 that must be all free (locality_test.cc measures it).
  std::uint32_t run_pages = 64;
  std::uint32_t max_chunks = 256;  // at a time, 1 to 2^16
  std::uint32_t max_idle = 1;      // chunks that are all free and kept
  Iova limit = Iova::Max();        // the last usable byte, inclusive
};

struct LocalityStats {
  std::uint64_t live_pages = 0;  // what others freed counts until collected
  std::uint64_t chunks = 0;      // now, idle ones included
  std::uint64_t idle = 0;
  std::uint64_t taken = 0;       // chunks from the allocator, since Init
  std::uint64_t given_back = 0;  // chunks to it
  std::uint64_t short_runs = 0;  // chunks drawn from by rule 3
  std::uint64_t late_frees = 0;
  std::uint64_t bytes = 0;  // of bookkeeping
};

template <class Allocator, template <class> class Atom = std::atomic>
class LocalityPool {
  using Chunks = LocalityChunks<Atom>;
  using Word = LocalityWord<Atom>;
  using Index = std::uint32_t;
  static constexpr Index kNone = Chunks::kNone;
  static constexpr std::uint32_t kNever = ~std::uint32_t{0};  // free pages

 public:
  static constexpr unsigned kMaxPages = Word::kPages;  // of one range

  // The allocator must outlive the pool.
  explicit LocalityPool(Allocator& allocator) : allocator_(allocator) {}
  LocalityPool(const LocalityPool&) = delete;
  LocalityPool& operator=(const LocalityPool&) = delete;
  // Gives back the chunks that are all free. Others stay live in the
  // allocator: what somebody may still use is not handed out again.
  ~LocalityPool() {
    if (!ready_) return;
    Collect();
    for (Index c = 0; c < chunks_.capacity(); ++c) {
      if (chunks_.InUse(c) && chunks_.AllFree(c)) {
        (void)allocator_.Free(AddressOf(chunks_.base(c)),
                              chunks_.chunk_pages());
      }
    }
  }

  // Once, after the allocator's: then kBusy. kInvalidArgument, kNoMemory, after
  // which it may be tried again.
  Result<void> Init(const LocalityOptions& options) {
    if (ready_) return Error::kBusy;
    if (!IsPowerOfTwo(options.chunk_pages) || options.chunk_pages < 64 ||
        options.chunk_pages > 512 || options.run_pages == 0 ||
        options.run_pages > options.chunk_pages || options.max_chunks == 0 ||
        options.max_chunks > LocalityTable<Atom>::kMaxEntries) {
      return Error::kInvalidArgument;
    }
    Result<void> made = chunks_.Init(options.chunk_pages, options.max_chunks);
    if (made.ok()) made = table_.Init(options.max_chunks);
    if (!made.ok()) return made;
    shift_ = allocator_.page_size().shift();
    not_a_page_ = allocator_.page_size().mask() |
                  (kMaxPageBits + shift_ < 64
                       ? ~std::uint64_t{0} << (kMaxPageBits + shift_)
                       : 0);
    options_ = options;
    ready_ = true;
    return Ok();
  }

  // `pages` pages; the first byte. Errors: kInvalidArgument (0 or more than
  // 64), kLimit (max_chunks, nothing fits), the allocator's, kShutDown before
  // Init.
  Result<Iova> Allocate() {
    const unsigned at = word_->TakeOne();
    if (at == Word::kPages) [[unlikely]]
      return AllocateFromNextWord();
    --*current_free_;
    return AddressOf(word_page_ + at);
  }
  Result<Iova> Allocate(std::uint64_t pages) {
    if (pages == 1) return Allocate();
    return AllocateSlow(pages);
  }

  // By the owner. Ends the range that Allocate(pages) returned as `first`.
  Result<void> Free(Iova first, std::uint64_t pages = 1) {
    const Place place = Find(first, pages);
    if (!place.result.ok()) [[unlikely]]
      return place.result;
    const Result<void> freed = place.word->Free(place.at, pages);
    if (!freed.ok()) [[unlikely]]
      return freed;
    Freed(place.chunk, static_cast<std::uint32_t>(pages));
    return Ok();
  }

  // The same by any thread; the pages can be allocated when the owner has
  // collected them.
  Result<void> FreeRemotely(Iova first, std::uint64_t pages = 1) {
    const Place place = Find(first, pages);
    if (!place.result.ok()) return place.result;
    const Result<void> right = place.word->Check(place.at, pages);
    if (!right.ok()) return right;
    if (!place.word->FreeRemotely(place.at)) return Error::kDoubleFree;
    chunks_.NotePending(place.chunk);
    return Ok();
  }

  // Takes back what other threads have freed.
  void Collect() {
    if (!ready_) return;
    chunks_.TakePending([&](Index chunk) {
      const unsigned pages = chunks_.CollectWords(chunk, stats_.late_frees);
      if (pages != 0) Freed(chunk, pages);
    });
  }

  // Collects, and gives all chunks that are all free back to the allocator.
  void Trim();

  LocalityStats stats() const;
  // stats().chunks alone, which costs nothing.
  std::uint64_t chunks() const { return stats_.taken - stats_.given_back; }

  // REQUIRES: nobody else uses the pool.
  bool CheckInvariants() const;

 private:
  struct Place {
    Result<void> result = Ok();
    Word* word = nullptr;
    Index chunk = kNone;
    unsigned at = 0;
  };

  Iova AddressOf(std::uint64_t page) const { return Iova(page << shift_); }

  // Where the range would lie, or why it lies in no chunk. Any thread.
  Place Find(Iova first, std::uint64_t pages) const {
    if (!ready_) [[unlikely]]
      return {.result = Error::kShutDown};
    if (pages == 0) [[unlikely]]
      return {.result = Error::kInvalidArgument};
    if ((first.value() & not_a_page_) != 0) [[unlikely]]
      return {.result = Error::kForeign};
    const std::uint64_t page = first.value() >> shift_;
    const Index chunk = table_.Find(chunks_.NumberOf(page));
    if (chunk == kNone) [[unlikely]]
      return {.result = Error::kForeign};
    Place place;
    place.word = &chunks_.WordOf(chunk, page);
    place.chunk = chunk;
    place.at = static_cast<unsigned>(page % Word::kPages);
    return place;
  }

  // Pages of the chunk have become free.
  void Freed(Index chunk, std::uint32_t pages) {
    if (chunks_.AddFree(chunk, pages)) [[unlikely]]
      File(chunk);
  }

  [[gnu::noinline]] Result<Iova> AllocateFromNextWord();
  [[gnu::noinline]] Result<Iova> AllocateSlow(std::uint64_t pages);
  Result<Iova> TakeFrom(Index chunk, unsigned pages);
  Result<Iova> TakeFromList(unsigned list, unsigned pages, unsigned tries);
  void MakeCurrent(Index chunk, std::uint64_t page);
  [[gnu::noinline]] void File(Index chunk);
  Result<Index> NewChunk();
  void GiveBack(Index chunk);

  Allocator& allocator_;
  // Of the current chunk: the word that is drawn from, its first page, and the
  // chunk's number of free pages. Without one: a word with no free page.
  Word no_word_;
  Word* word_ = &no_word_;
  std::uint64_t word_page_ = 0;
  std::uint32_t* current_free_ = nullptr;
  Index current_ = kNone;
  unsigned shift_ = 12;
  bool ready_ = false;
  std::uint64_t not_a_page_ = 0;  // bits that no address of a page has
  LocalityTable<Atom> table_;
  Chunks chunks_;
  LocalityOptions options_;
  LocalityStats stats_;  // taken, given_back, short_runs, late_frees
};

}  // namespace dmamap::inline v0

#include "iova/locality_slow.h"  // IWYU pragma: export

#endif  // DMAMAP_IOVA_LOCALITY_H_
