// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_QEMU_CHILD_PROCESS_H_
#define DMAMAP_TESTING_QEMU_CHILD_PROCESS_H_

// ChildProcess: a program that does not outlive its owner. The destructor kills
// it and waits; and the kernel kills it when the thread that started it ends in
// any other way (a crash, a time limit, SIGKILL). Linux.

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// A file descriptor that is closed in the end. -1: none.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor() { Close(); }

  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

// The full path of `program` on PATH; empty when it is not there.
inline std::string FindProgram(const std::string& program) {
  const char* const path = std::getenv("PATH");
  std::string folders = path == nullptr ? "/usr/bin:/bin" : path;
  for (folders += ':'; !folders.empty();) {
    const std::size_t end = folders.find(':');
    const std::string file = folders.substr(0, end) + "/" + program;
    if (end != 0 && access(file.c_str(), X_OK) == 0) return file;
    folders.erase(0, end + 1);
  }
  return "";
}

class ChildProcess {
 public:
  ChildProcess() = default;
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess() { Kill(); }

  // Runs arguments[0], a path, which inherits the descriptors of `inherited`
  // under their own numbers. kBusy while one runs; kNoMemory when no process
  // can be made.
  Result<void> Start(const std::vector<std::string>& arguments,
                     const std::vector<int>& inherited) {
    if (pid_ > 0) return Error::kBusy;
    std::vector<char*> argv;
    for (const std::string& a : arguments) {
      argv.push_back(const_cast<char*>(a.c_str()));
    }
    argv.push_back(nullptr);
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ < 0) return Error::kNoMemory;
    if (pid_ > 0) return Ok();
    // Only async-signal-safe calls from here on.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);  // it died before that
    for (const int fd : inherited) fcntl(fd, F_SETFD, 0);
    execv(argv[0], argv.data());
    _exit(127);
  }

  bool IsRunning() {
    if (pid_ <= 0) return false;
    const pid_t over = waitpid(pid_, &status_, WNOHANG);
    if (over == pid_) pid_ = -1;
    return pid_ > 0;
  }
  // Its status as waitpid tells it. REQUIRES: it ran, and does not.
  int status() const { return status_; }

  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    while (waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  int status_ = 0;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_QEMU_CHILD_PROCESS_H_
