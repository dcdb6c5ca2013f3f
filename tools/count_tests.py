#!/usr/bin/env python3
# Copyright 2026 The dmamap Authors
# SPDX-License-Identifier: Apache-2.0
"""Counts what a `bazel test` run really ran, from its build events.

Usage: count_tests.py EVENTS EXPECTED [SUFFIX]

EVENTS is the file of --build_event_json_file; EXPECTED has the label of each
test target that had to run, one a line; SUFFIX is put behind each name.

One result for each GoogleTest case, read from the target's test.xml. A target
that was not built, did not run, was not reported, ran no case or ended before
its cases did is a failure of its own; so is any other target that failed to
build. Cases that a test skipped or disabled count as neither and are named on
standard error.
"""

import json
import pathlib
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).parent / "lib"))
import repository  # pylint: disable=wrong-import-position


class Target:
  """What the events say of one target."""

  def __init__(self):
    self.built = None  # True or False once known
    self.why = ""
    self.status = None  # the overall status of a test
    self.xml_files = []


def read_events(path):
  """Targets by label."""
  targets = {}
  with open(path, encoding="utf-8") as events:
    for line in events:
      _take_event(json.loads(line), targets)
  return targets


def _take_event(event, targets):
  """Adds what one event says to the targets."""
  for kind in ("targetCompleted", "testResult", "testSummary"):
    if kind in event["id"]:
      break
  else:
    return
  target = targets.setdefault(event["id"][kind]["label"], Target())
  if kind == "targetCompleted":
    target.built = event.get("completed", {}).get("success", False)
    target.why = event.get("aborted", {}).get("reason", "did not build")
  elif kind == "testSummary":
    target.status = event["testSummary"]["overallStatus"]
  else:
    for output in event["testResult"].get("testActionOutput", []):
      if output["name"] == "test.xml":
        uri = urllib.parse.urlparse(output["uri"])
        target.xml_files.append(urllib.parse.unquote(uri.path))


def read_cases(xml_file):
  """Gives [(case name, problem or None)], [name of a case that did not run].

  Raises ValueError when the file does not tell which cases ran.
  """
  try:
    root = ElementTree.parse(xml_file).getroot()
  except (OSError, ElementTree.ParseError) as error:
    raise ValueError("no readable test.xml: %s" % error) from error
  ran, not_run = [], []
  for case in root.iter("testcase"):
    suite = case.get("classname")
    name = "%s.%s" % (suite, case.get("name")) if suite else case.get("name")
    problem = case.find("failure")
    if problem is None:
      problem = case.find("error")
    if problem is not None:
      ran.append((name, problem.get("message", "failed").split("\n")[0]))
    elif case.get("status") == "notrun" or case.find("skipped") is not None:
      not_run.append(name)
    else:
      ran.append((name, None))
  # Bazel writes a file of its own when GoogleTest wrote none. That is right
  # for a test without GoogleTest; with it, the program ended half-way.
  if root.get("name") != "AllTests":
    output = "".join(e.text or "" for e in root.iter("system-out"))
    if "[ RUN      ]" in output:
      raise ValueError("ended before all of its cases had run")
  return ran, not_run


def count_target(label, target, suffix):
  """Reports the results of one expected test target."""
  if target is None or target.status is None:
    why = "was not reported" if target is None or target.built else target.why
    repository.report(label + suffix, [why])
    return
  problems = [] if target.status == "PASSED" else [target.status]
  cases, failing = 0, 0
  for xml_file in target.xml_files:
    try:
      ran, not_run = read_cases(xml_file)
    except ValueError as error:
      problems.append(str(error))
      continue
    for name in not_run:
      print("did not run: %s %s%s" % (label, name, suffix), file=sys.stderr)
    for name, problem in ran:
      cases += 1
      failing += problem is not None
      repository.report("%s %s%s" % (label, name, suffix),
                        [problem] if problem else [])
  if cases == 0:
    problems.append("ran no case")
  if target.status != "PASSED" and failing > 0 and len(problems) == 1:
    return  # the failing cases say it all
  if problems:
    repository.report(label + suffix, problems)


def main(argv):
  targets = read_events(argv[1])
  expected = pathlib.Path(argv[2]).read_text(encoding="utf-8").split()
  suffix = " (%s)" % argv[3] if len(argv) > 3 else ""
  if not expected:
    repository.report("test targets" + suffix, ["none expected"])
  for label in expected:
    count_target(label, targets.get(label), suffix)
  for label in sorted(set(targets) - set(expected)):
    if targets[label].built is False:
      repository.report(label + suffix, [targets[label].why])
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv))
