#!/usr/bin/env python3
# Copyright 2026 The dmamap Authors
# SPDX-License-Identifier: Apache-2.0
"""Proves that each shipped header compiles by itself.

Usage: check_headers.py [ROOT]

Each header is the only thing in a translation unit, included twice, as an
embedder without exceptions and RTTI would compile it. One result for each
header and compiler: g++ 12 or newer, clang++ 14 or newer. The library's
assertions are off here; the tests of Bazel compile with them on.
"""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "lib"))
import repository  # pylint: disable=wrong-import-position

FLAGS = [
    "-std=c++20", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror",
    "-fno-exceptions", "-fno-rtti", "-fsyntax-only"
]
# (command, macro that holds its major version, oldest major version)
COMPILERS = [("g++", "__GNUC__", 12), ("clang++", "__clang_major__", 14)]


def major_version(compiler, macro):
  """The compiler's major version, or 0 if it cannot be asked."""
  try:
    status, output = repository.run([compiler, "-dM", "-E", "-x", "c++", "-"],
                                    "")
  except OSError:
    return 0
  found = re.search(r"#define %s (\d+)" % macro, output)
  return int(found.group(1)) if status == 0 and found else 0


def jobs(root):
  """One compilation for each header and compiler."""
  for header in repository.headers(root):
    text = '#include "{0}"\n#include "{0}"\n'.format(header)
    for compiler, _, _ in COMPILERS:
      command = [compiler] + FLAGS + ["-I.", "-x", "c++", "-"]
      yield "%s %s" % (header, compiler), command, text


def main(argv):
  root = pathlib.Path(argv[1] if len(argv) > 1 else ".").resolve()
  good = True
  for compiler, macro, oldest in COMPILERS:
    version = major_version(compiler, macro)
    problems = []
    if version < oldest:
      problems = ["version %d, must be %d or newer" % (version, oldest)]
    good &= repository.report("%s %d or newer" % (compiler, oldest), problems)
  if not good:
    return 1
  found = list(jobs(root))
  if not found:
    repository.report("headers", ["none found below %s" % root])
    return 1
  return repository.run_all(found, root)


if __name__ == "__main__":
  sys.exit(main(sys.argv))
