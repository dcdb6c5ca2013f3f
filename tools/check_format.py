#!/usr/bin/env python3
# Copyright 2026 The dmamap Authors
# SPDX-License-Identifier: Apache-2.0
"""Proves that sources are formatted: C++ by clang-format, Bazel by buildifier.

Usage: check_format.py clang-format | buildifier PATH_OF_BUILDIFIER [ROOT]

One result for each file.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "lib"))
import repository  # pylint: disable=wrong-import-position

_DIFF = 'set -o pipefail; "$0" "$1" | diff -u "$1" -'

_BAZEL_FILES = {
    "BUILD", "BUILD.bazel", "WORKSPACE", "WORKSPACE.bzlmod", "MODULE.bazel"
}


def jobs(root, tool, command):
  """One run of the formatter for each file that it is for."""
  if tool == "clang-format":
    files = repository.files(root, [".h", ".cc"])
    # Not --dry-run: clang-format 14 then complains of the closing comment of
    # `namespace a::inline b`, which it does not change.
    command = ["bash", "-c", _DIFF, command]
  else:
    files = repository.files(root, [".bzl", ".bazel"], _BAZEL_FILES)
    command = [command, "-mode=check", "-lint=warn"]
  for path in files:
    yield "%s %s" % (tool, path), command + [str(path)], None


def main(argv):
  tool = argv[1]
  argv = argv[2:]
  command = argv.pop(0) if tool == "buildifier" else tool
  root = pathlib.Path(argv[0] if argv else ".").resolve()
  found = list(jobs(root, tool, command))
  if not found:
    repository.report(tool, ["no file found below %s" % root])
    return 1
  return repository.run_all(found, root)


if __name__ == "__main__":
  sys.exit(main(sys.argv))
