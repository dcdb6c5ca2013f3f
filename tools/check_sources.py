#!/usr/bin/env python3
# Copyright 2026 The dmamap Authors
# SPDX-License-Identifier: Apache-2.0
"""Proves that sources keep to the plan of the house.

Usage: check_sources.py [ROOT]

For each .h and .cc file:
  * it starts with the licence header;
  * a header has the include guard of its path;
  * it includes only folders on lower floors (lib/repository.py), by paths from
    the root that exist; tests (`x_test.cc`, `x_for_test.h`) also testing/;
  * a public header includes the C++20 standard library and nothing else, except
    dma/absl.h (Abseil) and those of _SYSTEM_HEADERS.
"""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "lib"))
import repository  # pylint: disable=wrong-import-position

_LICENCE = re.compile(
    r"\A// Copyright \d{4} The dmamap Authors\n"
    r"// SPDX-License-Identifier: Apache-2\.0\n")
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include\b[ \t]*(.*)$", re.MULTILINE)

_STANDARD_LIBRARY = set("""
    algorithm any array atomic barrier bit bitset cassert ccomplex cctype cerrno
    cfenv cfloat charconv chrono cinttypes climits clocale cmath codecvt compare
    complex concepts condition_variable coroutine csetjmp csignal cstdarg
    cstddef cstdint cstdio cstdlib cstring ctime cuchar cwchar cwctype deque
    exception execution filesystem format forward_list fstream functional future
    initializer_list iomanip ios iosfwd iostream istream iterator latch limits
    list locale map memory memory_resource mutex new numbers numeric optional
    ostream queue random ranges ratio regex scoped_allocator semaphore set
    shared_mutex source_location span sstream stack stdexcept stop_token
    streambuf string string_view strstream syncstream system_error thread tuple
    type_traits typeindex typeinfo unordered_map unordered_set utility valarray
    variant vector version
""".split())

# Public headers for one operating system, as patterns, and what they may name.
_SYSTEM_HEADERS = {
    "bounce/linux_pages.h": {"fcntl.h", "sys/mman.h", "unistd.h"},
    "iotlb/heap_memory.h": {"sys/mman.h"},
    "dma/membarrier.h": {"sys/syscall.h", "unistd.h"},
    "dma/rseq*.h": {
        "sched.h", "sys/auxv.h", "sys/rseq.h", "sys/syscall.h", "unistd.h"
    },
}


def guard(path):
  """DMAMAP_DMA_ADDRESS_H_ for dma/address.h."""
  return "DMAMAP_%s_" % re.sub(r"[^A-Z0-9]", "_", str(path).upper())


def allowed_folders(path):
  """The folders of this repository that the file may include."""
  folder = path.parts[0]
  if folder in repository.PROGRAMS:
    return set(repository.FLOORS) | repository.PROGRAMS
  allowed = repository.FLOORS[folder] | {folder}
  if repository.is_test(path):
    allowed = allowed | {"testing"}
  return allowed


def include_problem(root, path, operand):
  """What is wrong with `#include operand` in the file, or None."""
  match = re.match(r'"([^"]+)"|<([^>]+)>', operand)
  if not match:
    return "include of %s, which is not a plain name" % operand
  quoted = match.group(1) is not None
  target = match.group(1) or match.group(2)
  folder = target.split("/")[0]
  if folder in repository.FLOORS or folder in repository.PROGRAMS:
    if not quoted:
      return "<%s> must be written with quotes" % target
    if folder not in allowed_folders(path):
      return "%s/ may not include %s" % (path.parts[0], target)
    if not (root / target).is_file():
      return "%s does not exist" % target
    return None
  if quoted and "/" not in target:
    return '"%s" is not written from the root' % target
  public = path.suffix == ".h" and path.parts[0] in repository.PUBLIC
  if not public or repository.is_test(path):
    return None
  if target in _STANDARD_LIBRARY and not quoted:
    return None
  if str(path) == "dma/absl.h" and folder == "absl":
    return None
  for pattern, allowed in _SYSTEM_HEADERS.items():
    if path.match(pattern) and target in allowed:
      return None
  return "%s is not of the C++20 standard library" % target


def problems(root, path):
  """All that is wrong with one file."""
  text = (root / path).read_text(encoding="utf-8")
  found = []
  if not _LICENCE.match(text):
    found.append("does not start with the licence header")
  if path.suffix == ".h":
    lines = "#ifndef {0}\n#define {0}\n".format(guard(path))
    if lines not in text:
      found.append("lacks the include guard " + guard(path))
  for match in _INCLUDE.finditer(text):
    problem = include_problem(root, path, match.group(1))
    if problem:
      line = text.count("\n", 0, match.start()) + 1
      found.append("line %d: %s" % (line, problem))
  return found


def main(argv):
  root = pathlib.Path(argv[1] if len(argv) > 1 else ".").resolve()
  known = set(repository.FLOORS) | repository.PROGRAMS
  good = True
  found = repository.files(root, [".h", ".cc"])
  if not found:
    return 0 if repository.report("sources", ["none below %s" % root]) else 1
  for path in found:
    if path.parts[0] in known:
      good &= repository.report("source %s" % path, problems(root, path))
    else:
      good &= repository.report(
          "source %s" % path, ["its folder has no place in lib/repository.py"])
  return 0 if good else 1


if __name__ == "__main__":
  sys.exit(main(sys.argv))
