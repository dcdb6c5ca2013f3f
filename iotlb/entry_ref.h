// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_ENTRY_REF_H_
#define DMAMAP_IOTLB_ENTRY_REF_H_

// BasicEntryRef: one mapping that the writer's walk found. Used as a pointer to
// an IotlbEntry, which it holds a copy of. A value of its owner.

#include <cstddef>

#include "dma/version.h"
#include "iotlb/mapping.h"

namespace dmamap::inline v0 {

template <class Record>
class BasicEntryRef {
 public:
  BasicEntryRef() = default;
  explicit BasicEntryRef(Record *record) : record_(record) {
    if (record != nullptr) entry_ = record->entry();
  }

  explicit operator bool() const { return record_ != nullptr; }
  const IotlbEntry &operator*() const { return entry_; }
  const IotlbEntry *operator->() const { return &entry_; }

  // The same mapping, not an equal one.
  friend bool operator==(const BasicEntryRef &a, const BasicEntryRef &b) {
    return a.record_ == b.record_;
  }
  friend bool operator==(const BasicEntryRef &a, std::nullptr_t) {
    return a.record_ == nullptr;
  }

  // For the IOTLB.
  Record *record() const { return record_; }

 private:
  Record *record_ = nullptr;
  IotlbEntry entry_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_ENTRY_REF_H_
