// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/trace_reader.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "benchmarks/options.h"
#include "benchmarks/test_files.h"

namespace dmamap::bench {
namespace {

const std::string kIova = std::string(IovaTrace::kHeader) + "\n";
const std::string kDma = std::string(DmaTrace::kHeader) + "\n";
const std::string kIotlb = std::string(IotlbTrace::kHeader) + "\n";

// The error of reading `content`, without its path; empty when there is none.
std::string ErrorOf(const std::string& content) {
  const std::string path = WriteTestFile("t.csv", content);
  const absl::StatusOr<Trace> trace = ReadTrace(path);
  if (trace.ok()) return "";
  const std::string message(trace.status().message());
  EXPECT_EQ(message.rfind(path, 0), 0u) << message;
  return message.substr(path.size());
}

template <class Content>
Content Read(const std::string& content) {
  const absl::StatusOr<Trace> trace =
      ReadTrace(WriteTestFile("some.run.csv.zst", Compress(content)));
  EXPECT_TRUE(trace.ok()) << trace.status();
  if (!trace.ok()) return Content();
  EXPECT_EQ(trace->name, "some");
  return std::get<Content>(trace->content);
}

// --- Files.

TEST(TraceReader, BadHeader) {
  EXPECT_EQ(ErrorOf(""), ":1: empty file");
  EXPECT_EQ(ErrorOf("us,cpu,op\n"),
            ":1: bad header: expected 'us,cpu,op,dom,pfn,pages,limit_pfn', "
            "'us,cpu,op,addr,size,dir,off' or 'us,op,sid_or_dom,iova,"
            "slpte_or_am'");
  EXPECT_NE(ErrorOf("us,cpu,op,dom,pfn,pages,limit_pfn\r\n"), "");
}

TEST(TraceReader, NoEvents) {
  for (const std::string& header : {kIova, kDma, kIotlb}) {
    EXPECT_EQ(ErrorOf(header), ":1: no events behind the header");
  }
}

TEST(TraceReader, ShortAndLongLines) {
  EXPECT_EQ(ErrorOf(kIova + "0,0,a,0,1,1\n"),
            ":2: short line: 6 fields, expected 7");
  EXPECT_EQ(ErrorOf(kIova + "\n"), ":2: short line: 1 fields, expected 7");
  EXPECT_EQ(ErrorOf(kDma + "0,0,M,1000,10,1,0,0\n"),
            ":2: long line: 8 fields, expected 7");
  EXPECT_EQ(ErrorOf(kIotlb + "0,g,,,\n1,g,,\n"),
            ":3: short line: 4 fields, expected 5");
}

TEST(TraceReader, BadNumbers) {
  EXPECT_EQ(ErrorOf(kIova + "x,0,a,0,1,1,f\n"),
            ":2: field 'us' is not a decimal 64-bit number: 'x'");
  EXPECT_EQ(ErrorOf(kIova + "-1,0,a,0,1,1,f\n"),
            ":2: field 'us' is not a decimal 64-bit number: '-1'");
  EXPECT_EQ(ErrorOf(kIova + "0,0,a,0,0x1,1,f\n"),
            ":2: field 'pfn' is not a hexadecimal 64-bit number: '0x1'");
  EXPECT_EQ(ErrorOf(kIova + "0,0,a,0,1, 1,f\n"),
            ":2: field 'pages' is not a decimal 64-bit number: ' 1'");
  EXPECT_EQ(ErrorOf(kIova + "0,1024,a,0,1,1,f\n"),
            ":2: field 'cpu' is above 1023: '1024'");
  EXPECT_EQ(ErrorOf(kDma + "0,0,M,10000000000000000,10,1,0\n"),
            ":2: field 'addr' is not a hexadecimal 64-bit number: "
            "'10000000000000000'");
  EXPECT_EQ(ErrorOf(kIotlb + "0,h,20,,1003\n"),
            ":2: field 'iova' is not a hexadecimal 64-bit number: ''");
}

TEST(TraceReader, UnknownOperation) {
  EXPECT_EQ(ErrorOf(kIova + "0,0,M,0,1,1,f\n"),
            ":2: field 'op' is none of the letters af: 'M'");
  EXPECT_EQ(ErrorOf(kDma + "0,0,MU,1000,10,1,0\n"),
            ":2: field 'op' is none of the letters MUCDGgAF: 'MU'");
  EXPECT_EQ(ErrorOf(kIotlb + "0,,20,1000,1003\n"),
            ":2: field 'op' is none of the letters hupdgR: ''");
}

TEST(TraceReader, TimeRunsBackwards) {
  EXPECT_EQ(ErrorOf(kIova + "5,0,a,0,1,1,f\n4,0,f,0,1,1,\n"),
            ":3: time runs backwards");
  EXPECT_EQ(ErrorOf(kDma + "5,0,A,,16,,\n4,0,A,,16,,\n"),
            ":3: time runs backwards");
  EXPECT_EQ(ErrorOf(kIotlb + "5,g,,,\n4,g,,,\n"), ":3: time runs backwards");
}

// --- .iova

TEST(IovaTrace, AllocateAndFree) {
  const IovaTrace trace = Read<IovaTrace>(kIova +
                                          "0,3,a,0,fffff,1,fffff\n"
                                          "0,3,a,0,1fe,2,fffff\n"
                                          "1,0,f,0,fffff,1,\n"
                                          "2,0,a,7,fffff,4,ffffffffff\n");
  ASSERT_EQ(trace.events.size(), 4u);
  EXPECT_EQ(trace.cpus, (std::vector<std::uint64_t>{3, 0}));
  EXPECT_EQ(trace.domains, 2u);
  EXPECT_EQ(trace.slots, 2u);
  EXPECT_EQ(trace.max_limit_pfn, 0xffffffffffu);
  EXPECT_EQ(trace.live_at_end, 2u);
  // Pages fffff, 1fe-1ff in domain 0; fffff and 100000-100002 in domain 7.
  EXPECT_EQ(trace.recorded_regions, 4u);
  EXPECT_EQ(trace.events[0].limit_pfn, 0xfffffu);
  EXPECT_EQ(trace.events[1].pages, 2u);
  EXPECT_EQ(trace.events[2].op, IovaEvent::Op::kFree);
  EXPECT_EQ(trace.events[2].slot, trace.events[0].slot);
  EXPECT_EQ(trace.events[2].lane, 1u);
  EXPECT_EQ(trace.events[3].domain, 1u);
  EXPECT_TRUE(trace.gaps.empty());
}

TEST(IovaTrace, RecordedFailureIsAGap) {
  const IovaTrace trace = Read<IovaTrace>(kIova +
                                          "0,0,a,0,0,1,fffff\n"
                                          "1,0,a,0,1,1,fffff\n");
  EXPECT_EQ(trace.events.size(), 1u);
  ASSERT_EQ(trace.gaps.size(), 1u);
  EXPECT_EQ(trace.gaps[0].count, 1u);
}

TEST(IovaTrace, ImpossibleEvents) {
  const std::string allocated = kIova + "0,0,a,0,10,4,ff\n";
  EXPECT_EQ(ErrorOf(allocated + "1,0,a,0,13,1,ff\n"),
            ":3: impossible: page 13 is handed out, but live since line 2");
  EXPECT_EQ(ErrorOf(allocated + "1,0,a,0,e,8,ff\n"),
            ":3: impossible: page 10 is handed out, but live since line 2");
  EXPECT_EQ(ErrorOf(allocated + "1,0,f,0,11,1,\n"),
            ":3: impossible: free at page 11, where no live allocation begins");
  EXPECT_EQ(ErrorOf(allocated + "1,0,f,1,10,4,\n"),
            ":3: impossible: free at page 10, where no live allocation begins");
  EXPECT_EQ(ErrorOf(allocated + "1,0,f,0,10,3,\n"),
            ":3: impossible: free of 3 pages at 10, allocated as 4 on line 2");
  EXPECT_EQ(ErrorOf(allocated + "1,0,f,0,10,4,\n2,0,f,0,10,4,\n"),
            ":4: impossible: free at page 10, where no live allocation begins");
  EXPECT_EQ(ErrorOf(kIova + "0,0,a,0,fe,3,ff\n"),
            ":2: impossible: page fe and 3 pages reach above the limit ff");
  EXPECT_EQ(ErrorOf(kIova + "0,0,a,0,10,0,ff\n"), ":2: impossible: 0 pages");
  EXPECT_EQ(ErrorOf(kIova + "0,0,a,0,10,1,\n"),
            ":2: field 'limit_pfn' is not a hexadecimal 64-bit number: ''");
  EXPECT_EQ(ErrorOf(allocated + "1,0,f,0,10,4,ff\n"),
            ":3: field 'limit_pfn' must be empty in this row: 'ff'");
}

TEST(IovaTrace, TooManyDomains) {
  std::string rows;
  for (int i = 0; i <= 256; ++i) {
    rows += "0,0,a," + std::to_string(i) + ",1,1,ff\n";
  }
  EXPECT_EQ(ErrorOf(kIova + rows), ":258: more than 256 domains");
}

// --- .dma

TEST(DmaTrace, EveryOperation) {
  const DmaTrace trace = Read<DmaTrace>(kDma +
                                        "0,1,M,ffffe880,1538,0,880\n"
                                        "1,1,C,ffffe890,16,2,\n"
                                        "2,0,D,ffffe880,16,0,\n"
                                        "3,0,G,,4,1,\n"
                                        "3,0,A,,147456,,\n"
                                        "4,0,g,,4,1,\n"
                                        "5,0,F,,147456,,\n"
                                        "6,1,U,ffffe880,1538,0,\n"
                                        "6,1,M,ffffe000,8,2,0\n");
  using Op = DmaEvent::Op;
  const Op ops[] = {Op::kMap,     Op::kSyncForCpu, Op::kSyncForDevice,
                    Op::kMapList, Op::kAllocate,   Op::kUnmapList,
                    Op::kFree,    Op::kUnmap,      Op::kMap};
  ASSERT_EQ(trace.events.size(), std::size(ops));
  for (std::size_t i = 0; i < std::size(ops); ++i) {
    EXPECT_EQ(trace.events[i].op, ops[i]) << i;
    EXPECT_FALSE(trace.events[i].implied);
  }
  EXPECT_EQ(trace.events[0].offset, 0x880u);
  EXPECT_EQ(trace.events[1].offset, 0x10u);
  // A sync goes by the direction of its mapping.
  EXPECT_EQ(trace.events[1].direction, Direction::kBidirectional);
  EXPECT_EQ(trace.events[3].direction, Direction::kToDevice);
  EXPECT_EQ(trace.events[7].size, 1538u);
  EXPECT_EQ(trace.mapping_slots, 1u);
  EXPECT_EQ(trace.list_slots, 1u);
  EXPECT_EQ(trace.block_slots, 1u);
  EXPECT_EQ(trace.peak_stream_bytes, 5 * kTracePage);
  EXPECT_EQ(trace.peak_coherent_bytes, 147456u);
  EXPECT_EQ(trace.live_at_end, 1u);
  EXPECT_TRUE(trace.gaps.empty());
}

TEST(DmaTrace, MissingUnmapIsPutIn) {
  // The second map takes both pages of the first two mappings.
  const DmaTrace trace = Read<DmaTrace>(kDma +
                                        "0,0,M,1040,16,1,40\n"
                                        "0,0,M,2000,16,2,0\n"
                                        "1,0,M,1ff0,32,2,ff0\n"
                                        "2,0,U,1ff0,32,2,\n");
  ASSERT_EQ(trace.events.size(), 6u);
  for (std::size_t i : {2u, 3u}) {
    EXPECT_EQ(trace.events[i].op, DmaEvent::Op::kUnmap);
    EXPECT_TRUE(trace.events[i].implied);
    EXPECT_EQ(trace.events[i].size, 16u);
  }
  EXPECT_EQ(trace.events[2].slot, trace.events[0].slot);
  EXPECT_EQ(trace.events[2].direction, Direction::kToDevice);
  EXPECT_EQ(trace.events[4].op, DmaEvent::Op::kMap);
  ASSERT_EQ(trace.gaps.size(), 1u);
  EXPECT_EQ(trace.gaps[0].count, 2u);
  EXPECT_EQ(trace.live_at_end, 0u);
}

TEST(DmaTrace, ImpossibleUnmapsAndSyncs) {
  const std::string mapped = kDma + "0,0,M,1040,100,1,40\n";
  EXPECT_EQ(ErrorOf(mapped + "1,0,U,1000,100,1,\n"),
            ":3: impossible: unmap of 1000, where no live mapping begins");
  EXPECT_EQ(ErrorOf(mapped + "1,0,U,2040,100,1,\n"),
            ":3: impossible: unmap of 2040, where no live mapping begins");
  EXPECT_EQ(ErrorOf(mapped + "1,0,U,1040,100,1,\n2,0,U,1040,100,1,\n"),
            ":4: impossible: unmap of 1040, where no live mapping begins");
  EXPECT_EQ(ErrorOf(mapped + "1,0,U,1040,99,1,\n"),
            ":3: impossible: unmap of 99 bytes, direction 1, mapped as 100 "
            "bytes, direction 1, on line 2");
  EXPECT_EQ(ErrorOf(mapped + "1,0,U,1040,100,2,\n"),
            ":3: impossible: unmap of 100 bytes, direction 2, mapped as 100 "
            "bytes, direction 1, on line 2");
  EXPECT_EQ(ErrorOf(mapped + "1,0,C,2040,1,1,\n"),
            ":3: impossible: sync at 2040, which is not mapped");
  EXPECT_EQ(ErrorOf(mapped + "1,0,C,1000,1,1,\n"),
            ":3: impossible: sync at 1000, which is not mapped");
  EXPECT_EQ(ErrorOf(mapped + "1,0,D,1041,100,1,\n"),
            ":3: impossible: sync of 100 bytes at offset 1 leaves the 100 "
            "bytes mapped on line 2");
  EXPECT_EQ(ErrorOf(mapped + "1,0,C,1040,1,2,\n"),
            ":3: impossible: sync for direction 2 of a mapping made for "
            "direction 1 on line 2");
}

TEST(DmaTrace, ImpossibleListsAndBlocks) {
  EXPECT_EQ(ErrorOf(kDma + "0,0,G,,4,1,\n1,0,g,,4,2,\n"),
            ":3: impossible: no live map_sg of size 4 matches");
  EXPECT_EQ(ErrorOf(kDma + "0,0,G,,4,1,\n1,0,g,,3,1,\n"),
            ":3: impossible: no live map_sg of size 3 matches");
  EXPECT_EQ(ErrorOf(kDma + "0,0,F,,4096,,\n"),
            ":2: impossible: no live coherent allocation of size 4096 matches");
  // Where both rows have an address it must match; otherwise the size does.
  EXPECT_EQ(ErrorOf(kDma + "0,0,A,1000,4096,,\n1,0,F,2000,4096,,\n"),
            ":3: impossible: no live coherent allocation of size 4096 matches");
  EXPECT_EQ(ErrorOf(kDma + "0,0,A,1000,4096,,\n1,0,F,,4096,,\n"), "");
}

TEST(DmaTrace, ImpossibleFields) {
  EXPECT_EQ(ErrorOf(kDma + "0,0,M,1040,100,3,40\n"),
            ":2: field 'dir' is above 2: '3'");
  EXPECT_EQ(ErrorOf(kDma + "0,0,M,1040,100,1,41\n"),
            ":2: impossible: offset 41 in the page of address 1040");
  EXPECT_EQ(ErrorOf(kDma + "0,0,M,1040,100,1,1040\n"),
            ":2: field 'off' is above 4095: '1040'");
  EXPECT_EQ(ErrorOf(kDma + "0,0,M,1040,0,1,40\n"), ":2: impossible: size 0");
  EXPECT_EQ(ErrorOf(kDma + "0,0,M,,100,1,0\n"),
            ":2: field 'addr' is not a hexadecimal 64-bit number: ''");
  EXPECT_EQ(ErrorOf(kDma + "0,0,A,,16,1,\n"),
            ":2: field 'dir' must be empty in this row: '1'");
  EXPECT_EQ(ErrorOf(kDma + "0,0,U,1040,16,1,40\n"),
            ":2: field 'off' must be empty in this row: '40'");
  EXPECT_EQ(ErrorOf(kDma + "0,0,M,fffffffffffffff0,17,1,ff0\n"),
            ":2: impossible: the range passes the end of 64 bits");
  EXPECT_EQ(ErrorOf(kDma + "0,0,M,fffffffffffffff0,16,1,ff0\n"), "");
  EXPECT_EQ(ErrorOf(kDma + "0,0,M,0,268435456,1,0\n1,0,A,,4096,,\n"), "");
  EXPECT_EQ(ErrorOf(kDma + "0,0,M,0,268435456,1,0\n1,0,G,,1,1,\n"),
            ":3: more than 256 MiB is mapped at once");
}

TEST(DmaTrace, ListEntriesFillTheNextPowerOfTwo) {
  for (std::uint64_t entries = 1; entries <= 64; ++entries) {
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < entries; ++i) {
      sum += ListEntryBytes(entries, i);
      EXPECT_EQ(ListEntryBytes(entries, i) % kTracePage, 0u);
    }
    EXPECT_EQ(sum, ListBytes(entries)) << entries;
  }
  EXPECT_EQ(ListBytes(3), 4 * kTracePage);
  EXPECT_EQ(ListEntryBytes(3, 0), 2 * kTracePage);
  EXPECT_EQ(ListEntryBytes(3, 2), kTracePage);
}

// --- .iotlb

using Expect = IotlbEvent::Expect;

TEST(IotlbTrace, FillHitInvalidate) {
  const IotlbTrace trace = Read<IotlbTrace>(kIotlb +
                                            "0,g,,,\n"
                                            "1,u,20,fffff008,108e8003\n"
                                            "2,h,20,fffff00a,108e8003\n"
                                            "3,p,3,fffff000,0\n"
                                            "4,u,20,fffff000,108e9001\n"
                                            "5,d,3,,\n");
  ASSERT_EQ(trace.events.size(), 8u);
  EXPECT_EQ(trace.recorded_hits, 1u);
  EXPECT_EQ(trace.recorded_misses, 2u);
  EXPECT_EQ(trace.events[1].expect, Expect::kMiss);
  EXPECT_EQ(trace.events[2].op, IotlbEvent::Op::kFill);
  EXPECT_EQ(trace.events[2].iova, Iova(0xfffff000));
  EXPECT_EQ(trace.events[3].expect, Expect::kHit);
  EXPECT_EQ(trace.events[3].address, PhysAddr(0x108e800a));
  EXPECT_EQ(trace.events[3].permission, Permission::kReadWrite);
  EXPECT_EQ(trace.events[4].op, IotlbEvent::Op::kInvalidate);
  EXPECT_EQ(trace.events[4].pages, 1u);
  EXPECT_EQ(trace.events[5].expect, Expect::kMiss);
  EXPECT_EQ(trace.events[6].permission, Permission::kRead);
  EXPECT_EQ(trace.events[7].op, IotlbEvent::Op::kInvalidateAll);
  EXPECT_TRUE(trace.gaps.empty());
}

TEST(IotlbTrace, InvalidationOfSeveralPagesIsAligned) {
  const IotlbTrace trace = Read<IotlbTrace>(kIotlb +
                                            "1,u,20,4000,1003\n"
                                            "1,u,20,7000,2003\n"
                                            "1,u,20,8000,3003\n"
                                            "2,p,3,6000,2\n"
                                            "3,u,20,4000,1003\n"
                                            "3,u,20,7000,2003\n"
                                            "3,h,20,8000,3003\n");
  EXPECT_EQ(trace.events[6].iova, Iova(0x4000));
  EXPECT_EQ(trace.events[6].pages, 4u);
  EXPECT_TRUE(trace.gaps.empty());
}

TEST(IotlbTrace, AnOverflowKeepsTheFillBeforeIt) {
  const IotlbTrace trace = Read<IotlbTrace>(kIotlb +
                                            "1,u,20,1000,1003\n"
                                            "2,u,20,2000,2003\n"
                                            "3,R,,,\n"
                                            "4,h,20,2000,2003\n"
                                            "5,u,20,1000,1003\n");
  EXPECT_TRUE(trace.gaps.empty());
  EXPECT_EQ(trace.events[4].op, IotlbEvent::Op::kInvalidateAll);
  EXPECT_EQ(trace.events[5].op, IotlbEvent::Op::kFill);
  EXPECT_EQ(trace.events[6].expect, Expect::kHit);
}

TEST(IotlbTrace, Gaps) {
  const IotlbTrace trace = Read<IotlbTrace>(kIotlb +
                                            "1,h,20,1000,1003\n"  // no fill
                                            "2,h,20,1000,2003\n"  // another
                                            "3,u,20,1000,3003\n"  // present
                                            "4,h,20,1000,3003\n"
                                            "5,h,28,1000,9003\n");  // no fill
  ASSERT_EQ(trace.gaps.size(), 3u);
  EXPECT_EQ(trace.gaps[0].count, 2u);
  EXPECT_EQ(trace.gaps[1].count, 1u);
  EXPECT_EQ(trace.gaps[2].count, 1u);
  EXPECT_EQ(trace.sources, 2u);
}

TEST(IotlbTrace, ImpossibleEvents) {
  EXPECT_EQ(ErrorOf(kIotlb + "0,u,20,1000,5000\n"),
            ":2: impossible: a translation that allows no access");
  EXPECT_EQ(ErrorOf(kIotlb + "0,R,,,\n"),
            ":2: impossible: an overflow without a fill before it");
  EXPECT_EQ(ErrorOf(kIotlb + "0,u,20,1000,5003\n1,g,,,\n2,R,,,\n"),
            ":4: impossible: an overflow without a fill before it");
  EXPECT_EQ(ErrorOf(kIotlb + "0,p,3,1000,35\n"),
            ":2: field 'slpte_or_am' is above 52: '35'");
  EXPECT_EQ(ErrorOf(kIotlb + "0,p,3,0,34\n"), "");
  EXPECT_EQ(ErrorOf(kIotlb + "0,g,3,,\n"),
            ":2: field 'sid_or_dom' must be empty in this row: '3'");
  EXPECT_EQ(ErrorOf(kIotlb + "0,d,3,1000,\n"),
            ":2: field 'iova' must be empty in this row: '1000'");
  EXPECT_EQ(ErrorOf(kIotlb + "0,h,10000,1000,1003\n"),
            ":2: field 'sid_or_dom' is above 65535: '10000'");
}

// --- Damage. Each byte of a good trace is changed: the reader takes it or
// names the line; it never crashes (the sanitizers watch).

std::string Sample(const std::string& header) {
  if (header == kIova) {
    return header +
           "0,1,a,0,fffff,1,fffff\n1,1,a,0,ffffc,2,fffff\n"
           "2,0,f,0,fffff,1,\n9,0,f,0,ffffc,2,\n";
  }
  if (header == kDma) {
    return header +
           "0,1,A,,4096,,\n1,1,M,ffffe880,1538,0,880\n2,1,D,ffffe880,16,0,\n"
           "3,0,G,,4,1,\n4,0,g,,4,1,\n5,1,C,ffffe880,16,2,\n"
           "6,1,U,ffffe880,1538,0,\n7,1,F,,4096,,\n";
  }
  return header +
         "0,g,,,\n1,u,20,fffff008,108e8003\n1,R,,,\n2,h,20,fffff00a,108e8003\n"
         "3,p,3,fffff000,1\n5,d,3,,\n";
}

TEST(TraceReader, DamagedBytes) {
  // With the zero at its end.
  static constexpr char kBytes[] = "0123456789abcdf,,\nMUCDGgAFhupdR\xff";
  std::mt19937 random(3);
  for (const std::string& header : {kIova, kDma, kIotlb}) {
    const std::string good = Sample(header);
    ASSERT_EQ(ErrorOf(good), "");
    int refused = 0;
    for (int i = 0; i < 2000; ++i) {
      std::string bad = good;
      for (int n = 1 + static_cast<int>(random() % 3); n != 0; --n) {
        bad[random() % bad.size()] = kBytes[random() % sizeof kBytes];
      }
      const std::string error = ErrorOf(bad);  // checks the path in it
      refused += error.empty() ? 0 : 1;
      if (!error.empty()) {
        EXPECT_EQ(error[0], ':') << error;
        EXPECT_TRUE(error[1] >= '1' && error[1] <= '9') << error;
      }
    }
    EXPECT_GT(refused, 500);
  }
}

TEST(TraceReader, CutAnywhere) {
  for (const std::string& header : {kIova, kDma, kIotlb}) {
    const std::string good = Sample(header);
    for (std::size_t n = 0; n < good.size(); ++n) {
      // A whole number of rows is a good trace; all else is refused.
      const bool whole = n > header.size() && good[n - 1] == '\n';
      EXPECT_EQ(ErrorOf(good.substr(0, n)).empty(), whole) << n;
    }
  }
}

// --- The recorded traces.

TEST(RecordedTraces, AreReadWithoutError) {
  const absl::StatusOr<std::string> folder = FindTraceFolder("benchmarks");
  ASSERT_TRUE(folder.ok()) << folder.status();
  const auto files = FindTraces(*folder);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->size(), 12u);
  std::uint64_t missing_unmaps = 0;
  for (const std::string& file : *files) {
    const absl::StatusOr<Trace> trace = ReadTrace(file);
    ASSERT_TRUE(trace.ok()) << trace.status();
    if (const auto* dma = std::get_if<DmaTrace>(&trace->content)) {
      for (const Gap& gap : dma->gaps) missing_unmaps += gap.count;
    }
  }
  // What traces/README.md says of them.
  EXPECT_EQ(missing_unmaps, 0u);
}

TEST(FindTraces, NamesWhatItCannotUse) {
  EXPECT_EQ(FindTraces("/nowhere").status().message(),
            "/nowhere: No such file or directory");
  const std::string file = WriteTestFile("readme.md", "");
  const std::string folder = file.substr(0, file.rfind('/'));
  EXPECT_EQ(FindTraces(folder).status().message(),
            folder + ": no traces in it");
}

}  // namespace
}  // namespace dmamap::bench
