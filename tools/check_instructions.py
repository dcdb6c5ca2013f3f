#!/usr/bin/env python3
# Copyright 2026 The dmamap Authors
# SPDX-License-Identifier: Apache-2.0
"""Proves that the fast paths have not grown: instructions a step, by callgrind.

Usage: check_instructions.py [--record] [--compiler=COMMAND] [ROOT]

Compiles benchmarks/instructions/iova_fast_path.cc with the flags below, lets
callgrind count the instructions of each workload at two numbers of steps, and
takes the difference, so that what happens once cancels. The counts do not
depend on the machine's speed or load. One result for each workload: it fails
when its count is more than 10 % above the recorded one. One result more for a
workload that is longer on purpose and has to fail.

Counts of two compilers cannot be compared. For a compiler, or a version of it,
of which none are recorded, this is said, and no comparison passes or fails.

  --record    writes what was counted for this compiler in place of what was
              recorded, for the commit that changes the fast path on purpose
  --compiler  g++ unless said; clang++ works too
"""

import argparse
import pathlib
import platform
import re
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent / "lib"))
import repository  # pylint: disable=wrong-import-position

PROGRAM = pathlib.Path("benchmarks/instructions/iova_fast_path.cc")
RECORD = pathlib.Path("benchmarks/instructions/recorded.txt")
WORKLOADS = ["pair_1t", "ring1024"]
# The control, and the workload of whose record it must be found too long.
LONGER, SHORTER = "longer", "pair_1t"
STEPS = 100_000
LIMIT = 1.10  # times the recorded count

FLAGS = ["-std=c++20", "-O2", "-fno-stack-protector", "-I."]
# What a distribution may have changed is set to what every machine can run.
MACHINE_FLAGS = {
    "x86_64": ["-march=x86-64", "-mtune=generic", "-fcf-protection=none"],
    "aarch64": ["-march=armv8-a", "-mtune=generic", "-mbranch-protection=none"],
}

_TITLE = """\
# Instructions of one step of each workload of iova_fast_path.cc, as callgrind
# counts them. Written by tools/check_instructions.py --record, compared by
# tools/check_instructions.py.
"""


class Trouble(Exception):
  """Something beside the counts is wrong; the text says what."""


def run(command, cwd):
  """The output of a command that has to succeed."""
  try:
    status, output = repository.run(command, cwd=cwd)
  except OSError as error:
    raise Trouble("%s: %s" % (command[0], error.strerror)) from error
  if status != 0:
    print(output, file=sys.stderr, flush=True)
    raise Trouble("%s: exit status %d" % (" ".join(command[:2]), status))
  return output


def compiler_name(macros, machine):
  """`g++ 12.2.0 x86_64`, from what a compiler predefines."""
  version = re.search(r'#define __VERSION__ "[^"\n]*?(\d+(?:\.\d+)+)', macros)
  if not version:
    raise Trouble("the compiler does not tell its version")
  kind = "clang++" if "#define __clang__ " in macros else "g++"
  return "%s %s %s" % (kind, version.group(1), machine)


def total(text):
  """The instructions in what callgrind wrote."""
  found = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
  if not found:
    raise Trouble("callgrind wrote no total")
  return int(found.group(1))


def count(program, workload, folder):
  """Instructions a step."""
  totals = []
  for steps in (STEPS, 2 * STEPS):
    counts = folder / ("%s.%d" % (workload, steps))
    run([
        "valgrind", "--quiet", "--tool=callgrind",
        "--callgrind-out-file=%s" % counts,
        str(program), workload,
        str(steps)
    ], folder)
    totals.append(total(counts.read_text(encoding="utf-8")))
  if totals[1] - totals[0] < STEPS:
    raise Trouble("%s: callgrind did not count the steps" % workload)
  return (totals[1] - totals[0]) / STEPS


def read_record(path):
  """{compiler: {workload: instructions a step}} of a file, {} without one."""
  record = {}
  if not path.exists():
    return record
  lines = path.read_text(encoding="utf-8").splitlines()
  for number, line in enumerate(lines, 1):
    if not line or line.startswith("#"):
      continue
    fields = line.split("\t")
    if len(fields) != 3 or not re.fullmatch(r"\d+\.\d\d", fields[2]):
      raise Trouble("%s:%d: not compiler, workload and count" % (path, number))
    record.setdefault(fields[0], {})[fields[1]] = float(fields[2])
  return record


def write_record(path, record):
  rows = [
      "%s\t%s\t%.2f\n" % (compiler, workload, instructions)
      for compiler, counts in sorted(record.items())
      for workload, instructions in sorted(counts.items())
  ]
  path.write_text(_TITLE + "".join(rows), encoding="utf-8")


def problems(counted, recorded):
  """What is wrong with a count; `recorded` is None where there is none."""
  again = ("if that is meant, run tools/check_instructions.py --record and say "
           "why in the commit")
  if recorded is None:
    return ["%.2f instructions a step, not recorded; %s" % (counted, again)]
  if counted > LIMIT * recorded:
    return [
        "%.2f instructions a step, recorded %.2f: %+.1f %%, at most %+.0f %%; "
        "%s" % (counted, recorded, 100 * (counted / recorded - 1), 100 *
                (LIMIT - 1), again)
    ]
  return []


def compare(counts, recorded, compiler):
  """Reports each workload; False if one failed. `recorded` of one compiler."""
  good = True
  for workload in WORKLOADS:
    known = recorded.get(workload)
    good &= repository.report("%s (%s)" % (workload, compiler),
                              problems(counts[workload], known))
    if known and counts[workload] * LIMIT < known:
      print(
          "%s: %.2f instructions a step, recorded %.2f; --record keeps the gain"
          % (workload, counts[workload], known),
          file=sys.stderr,
          flush=True)
  return good


def check(root, command, record):
  machine = platform.machine()
  compiler = compiler_name(
      run([command, "-dM", "-E", "-x", "c++", "/dev/null"], root), machine)
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    program = folder / "iova_fast_path"
    run([command] + FLAGS + MACHINE_FLAGS.get(machine, []) +
        [str(PROGRAM), "-o", str(program)], root)
    counts = {w: count(program, w, folder) for w in WORKLOADS + [LONGER]}
  for workload in WORKLOADS:
    print(
        "%s: %.2f instructions a step (%s)" %
        (workload, counts[workload], compiler),
        file=sys.stderr,
        flush=True)

  found = problems(counts[LONGER], counts[SHORTER])
  good = repository.report(
      "a longer step is found",
      [] if found else ["%.2f instructions pass for %.2f" %
                        (counts[LONGER], counts[SHORTER])])
  path = root / RECORD
  known = read_record(path)
  if record:
    known[compiler] = {w: round(counts[w], 2) for w in WORKLOADS}
    write_record(path, known)
  if compiler in known:
    good &= compare(counts, known[compiler], compiler)
  else:
    print(
        "not compared: no counts of %s are recorded, only of %s; --record adds "
        "them" % (compiler, ", ".join(sorted(known)) or "no compiler"),
        file=sys.stderr,
        flush=True)
  return good


def main(argv):
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument("--record", action="store_true")
  parser.add_argument("--compiler", default="g++")
  parser.add_argument("root", nargs="?", default=".")
  options = parser.parse_args(argv[1:])
  try:
    good = check(
        pathlib.Path(options.root).resolve(), options.compiler, options.record)
  except Trouble as trouble:
    good = repository.report("instructions", [str(trouble)])
  return 0 if good else 1


if __name__ == "__main__":
  sys.exit(main(sys.argv))
