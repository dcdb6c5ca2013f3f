# Copyright 2026 The dmamap Authors
# SPDX-License-Identifier: Apache-2.0
"""What the checks share: the folders, the files in them, the result lines.

A check prints one line for each thing it looked at, `pass<TAB>name` or
`fail<TAB>name<TAB>why` (see results.sh), and all it has to say beyond that on
standard error.
"""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

# A folder may include the folders named for it, and itself; nothing points
# back up. The four parts on the second floor do not know each other.
_PARTS = {"iova", "iotlb", "bounce", "nicring"}
FLOORS = {
    "dma": set(),
    "iova": {"dma"},
    "iotlb": {"dma"},
    "bounce": {"dma"},
    "nicring": {"dma"},
    "domain": {"dma"} | _PARTS,
    "iommu": {"dma", "domain"} | _PARTS,
    "testing": {"dma", "domain", "iommu"} | _PARTS,
}
# Programs: they include what they like, and nobody includes them.
PROGRAMS = {"benchmarks", "examples", "tools"}
# Headers of these folders need the standard library and nothing else.
PUBLIC = [folder for folder in FLOORS if folder != "testing"]

_SKIPPED = {".git", ".cache", "build", "node_modules"}


def files(root, suffixes, names=()):
  """Files below root with one of the suffixes or names, as sorted paths."""
  found = []
  for folder, folders, entries in os.walk(root):
    folders[:] = [
        f for f in folders if f not in _SKIPPED and
        not f.startswith(("bazel-", "build-", "cmake-build-"))
    ]
    for entry in entries:
      if entry in names or entry.endswith(tuple(suffixes)):
        found.append(pathlib.Path(folder, entry).relative_to(root))
  return sorted(found)


def is_test(path):
  """True for x_test.cc and for what several tests share, x_for_test.h."""
  return re.search(r"_test(_\w+)?\.(h|cc)$", path.name) is not None


def headers(root):
  """The headers that dmamap ships: every .h of every floor but the tests'."""
  return [
      path for path in files(root, [".h"])
      if path.parts[0] in FLOORS and not is_test(path)
  ]


def report(name, problems):
  """Prints the result line of `name`: it passed if there are no problems."""
  if problems:
    why = "; ".join(problems).replace("\t", " ").replace("\n", " ")
    print("fail\t%s\t%s" % (name, why), flush=True)
  else:
    print("pass\t%s" % name, flush=True)
  return not problems


def run(command, text=None, cwd=None):
  """Runs a command; gives (exit status, all of its output)."""
  done = subprocess.run(
      command,
      input=text,
      cwd=cwd,
      stdin=None if text is not None else subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      check=False)
  return done.returncode, done.stdout


def run_all(jobs, cwd):
  """Runs (name, command, standard input) jobs, one a core, and reports each.

  Returns the exit status for the whole check: 0 if every job exited with 0.
  """

  def one(job):
    name, command, text = job
    status, output = run(command, text, cwd)
    return name, status, output

  good = True
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for name, status, output in pool.map(one, jobs):
      if status != 0:
        print("%s:\n%s" % (name, output), file=sys.stderr, flush=True)
      problems = ["exit status %d" % status] if status != 0 else []
      good &= report(name, problems)
  return 0 if good else 1
