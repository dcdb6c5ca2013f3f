// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The example does what its text says; where there is no QEMU it cannot, says
// so, and this is skipped.

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <string>

#include "testing/qemu/machine.h"

namespace dmamap {
namespace {

int RunExample(const char* environment) {
  const std::string command = std::string(environment) + " examples/e100_qemu";
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(E100Qemu, ReceivesEveryFrameAsItWasSent) {
  if (QemuMachine::Program().empty()) {
    GTEST_SKIP() << QemuMachine::MissingText();
  }
  EXPECT_EQ(RunExample(""), 0);
}

// Not a success.
TEST(E100Qemu, SaysWhenThereIsNoQemu) {
  EXPECT_EQ(RunExample("DMAMAP_QEMU=/nonexistent"), 1);
  EXPECT_EQ(RunExample("DMAMAP_QEMU="), 1);
}

}  // namespace
}  // namespace dmamap
