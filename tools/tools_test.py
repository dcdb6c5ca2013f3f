#!/usr/bin/env python3
# Copyright 2026 The dmamap Authors
# SPDX-License-Identifier: Apache-2.0
"""Tests of the checks themselves: each must complain where it should.

Prints one result line for each test (lib/results.sh).
"""

import contextlib
import io
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import unittest

TOOLS = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(TOOLS))
sys.path.insert(0, str(TOOLS / "lib"))
import check_format  # pylint: disable=wrong-import-position
import check_headers  # pylint: disable=wrong-import-position
import check_instructions  # pylint: disable=wrong-import-position
import check_sources  # pylint: disable=wrong-import-position
import count_tests  # pylint: disable=wrong-import-position
import repository  # pylint: disable=wrong-import-position

HEADER = """// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef {guard}
#define {guard}

{body}

#endif  // {guard}
"""


class TreeTest(unittest.TestCase):
  """Has a folder to lay out a small repository in."""

  def setUp(self):
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.root = pathlib.Path(folder.name)

  def write(self, path, text):
    target = self.root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target

  def header(self, path, body=""):
    guard = check_sources.guard(path)
    return self.write(path, HEADER.format(guard=guard, body=body))

  def results(self, function, *argv):
    """Runs a check's main; gives {name: (verdict, why)}."""
    output, diagnostics = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output):
      with contextlib.redirect_stderr(diagnostics):
        function(["check"] + [str(a) for a in argv])
    found = {}
    for line in output.getvalue().splitlines():
      verdict, name, why = (line.split("\t") + [""])[:3]
      self.assertNotIn(name, found)
      found[name] = (verdict, why)
    return found

  def assert_fails(self, results, name, why):
    self.assertEqual(results[name][0], "fail", results)
    self.assertIn(why, results[name][1])


class SourcesTest(TreeTest):

  def check(self):
    return self.results(check_sources.main, self.root)

  def problem(self, path, body):
    """What is said of a file with this body, beside the others."""
    if path.endswith(".h"):
      self.header(path, body)
    else:
      self.write(path, HEADER.split("#ifndef", 1)[0] + body)
    verdict, why = self.check()["source " + path]
    return why if verdict == "fail" else None

  def setUp(self):
    super().setUp()
    for folder in list(repository.FLOORS) + ["benchmarks"]:
      self.header(folder + "/there.h", "#include <cstdint>")

  def test_good_tree_passes(self):
    self.header("iova/a.h", '#include <bit>\n\n#include "dma/there.h"')
    self.assertEqual({v for v, _ in self.check().values()}, {"pass"})

  def test_empty_tree_fails(self):
    with tempfile.TemporaryDirectory() as empty:
      found = self.results(check_sources.main, empty)
    self.assert_fails(found, "sources", "none below")

  def test_lower_floor_may_not_include_upper(self):
    why = self.problem("dma/a.h", '#include "domain/there.h"')
    self.assertIn("dma/ may not include domain/there.h", why)

  def test_parts_do_not_know_each_other(self):
    for part in ("iova", "iotlb", "bounce", "nicring"):
      for other in {"iova", "iotlb", "bounce", "nicring"} - {part}:
        why = self.problem(part + "/a.h", '#include "%s/there.h"' % other)
        self.assertIn("may not include", why)

  def test_domain_may_include_the_parts(self):
    self.assertIsNone(
        self.problem(
            "domain/a.h", '#include "bounce/there.h"\n'
            '#include "iotlb/there.h"\n#include "iova/there.h"'))

  def test_only_tests_include_testing(self):
    line = '#include "testing/there.h"\n'
    self.assertIn("may not include", self.problem("domain/a.h", line))
    self.assertIsNone(self.problem("domain/a_test.cc", line))
    line += "#include <gtest/gtest.h>"
    self.assertIsNone(self.problem("domain/a_for_test.h", line))

  def test_nobody_includes_programs(self):
    for path in ("domain/a_test.cc", "testing/a.h", "dma/a.h"):
      why = self.problem(path, '#include "benchmarks/there.h"\n')
      self.assertIn("may not include", why)
    self.assertIsNone(
        self.problem("examples/a.cc", '#include "benchmarks/there.h"\n'))

  def test_indented_and_conditional_includes_count(self):
    why = self.problem("dma/a.h", '#if 1\n#  include  "iova/there.h"\n#endif')
    self.assertIn("may not include", why)

  def test_paths_start_at_the_root(self):
    why = self.problem("dma/a.h", '#include "there.h"')
    self.assertIn("not written from the root", why)
    why = self.problem("dma/a.h", "#include <dma/there.h>")
    self.assertIn("quotes", why)
    why = self.problem("dma/a.h", '#include "dma/missing.h"')
    self.assertIn("does not exist", why)

  def test_public_headers_use_the_standard_library_alone(self):
    for name in ('"absl/status/status.h"', "<gtest/gtest.h>", "<stdint.h>",
                 "<unistd.h>"):
      why = self.problem("iotlb/a.h", "#include %s" % name)
      self.assertIn("not of the C++20 standard library", why)
      self.assertIsNone(self.problem("iotlb/a_test.cc", "#include %s\n" % name))

  def test_the_bridge_to_abseil_may_use_abseil(self):
    line = '#include "absl/status/status.h"'
    self.assertIsNone(self.problem("dma/absl.h", line))

  def test_headers_for_linux_may_use_its_headers(self):
    self.assertIsNone(self.problem("dma/rseq.h", "#include <unistd.h>"))
    self.assertIsNone(
        self.problem("dma/rseq_registration.h", "#include <sys/auxv.h>"))
    self.assertIsNotNone(self.problem("dma/rseq.h", "#include <gtest/gtest.h>"))

  def test_licence_and_guard(self):
    self.write("dma/a.h", "#ifndef A\n#define A\n#endif\n")
    why = self.check()["source dma/a.h"][1]
    self.assertIn("licence", why)
    self.assertIn("DMAMAP_DMA_A_H_", why)

  def test_unknown_folder_fails(self):
    why = self.problem("attic/a.h", "")
    self.assertIn("no place", why)


class HeadersTest(TreeTest):

  def check(self, body):
    self.header("dma/a.h", body)
    return self.results(check_headers.main, self.root)

  def assert_all_fail(self, body):
    found = self.check(body)
    for compiler in ("g++", "clang++"):
      self.assertEqual(found["dma/a.h " + compiler][0], "fail", body)

  def test_good_header_passes(self):
    found = self.check("#include <cstdint>\ninline std::uint8_t x = 1;")
    self.assertEqual({v for v, _ in found.values()}, {"pass"})
    self.assertEqual(len(found), 4)

  def test_bad_headers_fail(self):
    self.assert_all_fail("inline int Size() { return sizeof(std::string); }")
    self.assert_all_fail("inline short F(long x) { return x; }")
    self.assert_all_fail("inline int F(int x) { { int x = 1; return x; } }")
    self.assert_all_fail("inline void F() { throw 1; }")
    self.assert_all_fail("struct A { virtual ~A(); };\n"
                         "inline void* F(A* a) "
                         "{ return dynamic_cast<void*>(static_cast<A*>(a)); }\n"
                         "struct B : A {};\n"
                         "inline B* G(A* a) { return dynamic_cast<B*>(a); }")

  def test_second_inclusion_counts(self):
    self.write("dma/a.h", "struct Twice {};\n")
    found = self.results(check_headers.main, self.root)
    self.assert_fails(found, "dma/a.h g++", "exit status")

  def test_headers_of_tests_are_not_shipped(self):
    self.header("dma/a_for_test.h", "int x = \"a\";")
    found = self.check("")
    self.assertEqual({v for v, _ in found.values()}, {"pass"})
    self.assertEqual(len(found), 4)

  def test_no_header_is_a_failure(self):
    found = self.results(check_headers.main, self.root)
    self.assert_fails(found, "headers", "none found")

  def test_missing_or_old_compiler_is_version_0(self):
    self.assertEqual(check_headers.major_version("no-such-compiler", "X"), 0)
    self.assertEqual(check_headers.major_version("g++", "NO_SUCH_MACRO"), 0)


class FormatTest(TreeTest):

  def test_clang_format(self):
    self.write(".clang-format", "BasedOnStyle: Google\n")
    self.write("dma/good.h", "int x;\n")
    self.write("dma/bad.cc", "int   x ;\n")
    found = self.results(check_format.main, "clang-format", self.root)
    self.assertEqual(found["clang-format dma/good.h"][0], "pass")
    self.assertEqual(found["clang-format dma/bad.cc"][0], "fail")

  def test_no_file_is_a_failure(self):
    found = self.results(check_format.main, "clang-format", self.root)
    self.assert_fails(found, "clang-format", "no file found")

  def test_formatter_that_fails(self):
    self.write("BUILD.bazel", "")
    found = self.results(check_format.main, "buildifier", "/bin/false",
                         self.root)
    self.assertEqual(found["buildifier BUILD.bazel"][0], "fail")


GTEST_XML = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="3" name="AllTests"><testsuite name="S">
{cases}
</testsuite></testsuites>
"""
GOOD = '<testcase name="Good" status="run" result="completed" classname="S"/>'
BAD = ('<testcase name="Bad" status="run" result="completed" classname="S">'
       '<failure message="a.cc:3&#x0A;Expected"/></testcase>')
SKIPPED = ('<testcase name="Skip" status="run" result="skipped" classname="S">'
           '<skipped message="x"/></testcase>')
DISABLED = ('<testcase name="Off" status="notrun" result="suppressed" '
            'classname="S"/>')
BAZEL_XML = """<testsuites><testsuite name="d/t">
<testcase name="d/t" status="run"></testcase>
<system-out>{output}</system-out></testsuite></testsuites>
"""


class CountTest(TreeTest):

  def setUp(self):
    super().setUp()
    self.events = []
    self.expected = []

  def target(self, label, status, xml, built=True):
    """Adds an expected target and its events."""
    self.expected.append(label)
    self.other(label, built)
    if status is None:
      return
    path = self.write("logs/%d/test.xml" % len(self.expected), xml)
    output = {"name": "test.xml", "uri": path.as_uri()}
    self.events.append({
        "id": {"testResult": {"label": label}},
        "testResult": {"testActionOutput": [output], "status": status}
    })
    self.events.append({
        "id": {"testSummary": {"label": label}},
        "testSummary": {"overallStatus": status}
    })

  def other(self, label, built):
    completed = {"success": True} if built else {}
    self.events.append({
        "id": {"targetCompleted": {"label": label}},
        "completed": completed
    })

  def count(self):
    lines = [json.dumps(e) for e in self.events]
    events = self.write("events.json", "\n".join(lines))
    expected = self.write("expected", "\n".join(self.expected))
    return self.results(count_tests.main, events, expected, "tsan")

  def test_each_case_counts(self):
    xml = GTEST_XML.format(cases=GOOD + GOOD.replace("Good", "Better"))
    self.target("//d:t", "PASSED", xml)
    self.assertEqual(
        self.count(), {
            "//d:t S.Good (tsan)": ("pass", ""),
            "//d:t S.Better (tsan)": ("pass", "")
        })

  def test_failing_case_counts_once(self):
    self.target("//d:t", "FAILED", GTEST_XML.format(cases=GOOD + BAD))
    found = self.count()
    self.assert_fails(found, "//d:t S.Bad (tsan)", "a.cc:3")
    self.assertEqual(len(found), 2)

  def test_failing_target_without_failing_case(self):
    self.target("//d:t", "FAILED", GTEST_XML.format(cases=GOOD))
    self.assert_fails(self.count(), "//d:t (tsan)", "FAILED")

  def test_timeout_without_output(self):
    self.target("//d:t", "TIMEOUT", "")
    self.assert_fails(self.count(), "//d:t (tsan)", "TIMEOUT")

  def test_target_that_did_not_build(self):
    self.target("//d:t", None, "", built=False)
    self.assert_fails(self.count(), "//d:t (tsan)", "did not build")

  def test_target_that_was_never_mentioned(self):
    self.expected.append("//d:t")
    self.assert_fails(self.count(), "//d:t (tsan)", "was not reported")

  def test_target_that_built_and_did_not_run(self):
    self.target("//d:t", None, "")
    self.assert_fails(self.count(), "//d:t (tsan)", "was not reported")

  def test_program_that_did_not_build(self):
    self.target("//d:t", "PASSED", GTEST_XML.format(cases=GOOD))
    self.other("//d:program", built=False)
    found = self.count()
    self.assert_fails(found, "//d:program (tsan)", "did not build")
    self.assertEqual(len(found), 2)

  def test_skipped_and_disabled_cases_do_not_pass(self):
    xml = GTEST_XML.format(cases=SKIPPED + DISABLED)
    self.target("//d:t", "PASSED", xml)
    found = self.count()
    self.assert_fails(found, "//d:t (tsan)", "ran no case")
    self.assertEqual(len(found), 1)

  def test_early_exit_does_not_pass(self):
    output = "[==========] Running 3 tests\n[ RUN      ] S.Exits"
    self.target("//d:t", "PASSED", BAZEL_XML.format(output=output))
    self.assert_fails(self.count(), "//d:t (tsan)", "ended before")

  def test_program_without_googletest_is_one_case(self):
    self.target("//d:t", "PASSED", BAZEL_XML.format(output="fine"))
    self.assertEqual(self.count(), {"//d:t d/t (tsan)": ("pass", "")})

  def test_nothing_expected_is_a_failure(self):
    self.assert_fails(self.count(), "test targets (tsan)", "none expected")


# A compiler of a version, and a callgrind of which a step takes as many
# instructions as the file named for its workload says.
COMPILER = """#!/bin/sh
case "$*" in *-dM*) echo '#define __VERSION__ "{version}"' ;; esac
"""
CALLGRIND = """#!/bin/sh
for out in "$@"; do
  case $out in --callgrind-out-file=*) break ;; esac
done
shift $(($# - 2))
echo "totals: $((7000 + $2 * $(cat {root}/$1)))" >"${{out#*=}}"
"""


class InstructionsTest(TreeTest):

  def setUp(self):
    super().setUp()
    old = os.environ["PATH"]
    self.addCleanup(os.environ.__setitem__, "PATH", old)
    os.environ["PATH"] = "%s:%s" % (self.root / "bin", old)
    self.tool("valgrind", CALLGRIND.format(root=self.root))
    self.compiler = "g++ 12.2.0 %s" % platform.machine()
    self.known(100, 50)
    self.counts(100, 50)

  def tool(self, name, text):
    self.write("bin/" + name, text).chmod(0o755)

  def known(self, pair, ring):
    self.write(
        check_instructions.RECORD, "# a comment\n"
        "{0}\tpair_1t\t{1:.2f}\n{0}\tring1024\t{2:.2f}\n".format(
            self.compiler, pair, ring))

  def counts(self, pair, ring, longer=None):
    self.write("pair_1t", str(pair))
    self.write("ring1024", str(ring))
    self.write("longer", str(longer or 5 * pair // 4))

  def check(self, *argv, version="12.2.0"):
    self.tool("compiler", COMPILER.format(version=version))
    return self.results(check_instructions.main, "--compiler=compiler", *argv,
                        self.root)

  def name(self, workload):
    return "%s (%s)" % (workload, self.compiler)

  def test_what_is_recorded_passes(self):
    self.assertEqual(
        self.check(), {
            "a longer step is found": ("pass", ""),
            self.name("pair_1t"): ("pass", ""),
            self.name("ring1024"): ("pass", "")
        })

  def test_ten_percent_more_pass_and_eleven_do_not(self):
    self.counts(110, 50)
    self.assertEqual(self.check()[self.name("pair_1t")], ("pass", ""))
    self.counts(111, 50)
    found = self.check()
    self.assert_fails(found, self.name("pair_1t"), "+11.0 %")
    self.assertEqual(found[self.name("ring1024")], ("pass", ""))

  def test_a_record_a_fifth_lower_fails(self):
    self.known(80, 40)
    found = self.check()
    self.assert_fails(found, self.name("pair_1t"), "--record")
    self.assert_fails(found, self.name("ring1024"), "--record")

  def test_fewer_pass(self):
    self.counts(60, 30)
    self.assertEqual({v for v, _ in self.check().values()}, {"pass"})

  def test_another_compiler_is_not_compared(self):
    self.counts(1000, 500)
    self.assertEqual(
        self.check(version="13.1.0"),
        {"a longer step is found": ("pass", "")})

  def test_a_workload_without_a_record_fails(self):
    self.write(check_instructions.RECORD,
               "%s\tpair_1t\t100.00\n" % self.compiler)
    self.assert_fails(self.check(), self.name("ring1024"), "not recorded")

  def test_record(self):
    self.counts(200, 300)
    self.check("--record")
    self.assertEqual({v for v, _ in self.check().values()}, {"pass"})
    self.check("--record", version="13.1.0")
    record = check_instructions.read_record(self.root /
                                            check_instructions.RECORD)
    self.assertEqual(record[self.compiler], {"pair_1t": 200, "ring1024": 300})
    self.assertEqual(len(record), 2)

  def test_a_control_that_is_not_found_fails(self):
    self.counts(100, 50, longer=105)
    self.assert_fails(self.check(), "a longer step is found", "pass for")

  def test_no_count_fails(self):
    self.counts(0, 50, longer=10)
    self.assert_fails(self.check(), "instructions", "did not count")
    self.tool("valgrind", "#!/bin/sh\nexit 3\n")
    self.assert_fails(self.check(), "instructions", "exit status 3")

  def test_a_bad_record_fails(self):
    self.write(check_instructions.RECORD, "%s\tpair_1t\n" % self.compiler)
    self.assert_fails(self.check(), "instructions", "recorded.txt:1")

  def test_names_of_compilers(self):
    name = check_instructions.compiler_name
    self.assertEqual(
        name('#define __clang__ 1\n#define __VERSION__ "Debian Clang 14.0.6"\n',
             "x86_64"), "clang++ 14.0.6 x86_64")
    self.assertEqual(
        name('#define __VERSION__ "12.2.0"\n', "aarch64"),
        "g++ 12.2.0 aarch64")


class ResultsTest(unittest.TestCase):
  """lib/results.sh, which makes the last line."""

  def run_shell(self, script):
    done = subprocess.run(
        ["bash", "-u", "-c", '. "$0/lib/results.sh"; ' + script,
         str(TOOLS)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False)
    lines = done.stdout.splitlines()
    return done.returncode, lines[-1] if lines else ""

  def test_counts(self):
    self.assertEqual(
        self.run_shell("printf 'pass\\ta\\npass\\tb\\n' | collect x; "
                       "printf 'pass\\tc\\n' | collect y; finish"),
        (0, "3 passed, 0 failed"))

  def test_failure(self):
    self.assertEqual(
        self.run_shell("printf 'pass\\ta\\nfail\\tb\\twhy\\n' | collect x; "
                       "finish"), (1, "1 passed, 1 failed"))

  def test_step_without_results_is_a_failure(self):
    self.assertEqual(
        self.run_shell("printf 'pass\\ta\\n' | collect x; "
                       "collect y </dev/null; finish"),
        (1, "1 passed, 1 failed"))

  def test_exit_status_counts_once(self):
    self.assertEqual(
        self.run_shell("printf 'pass\\ta\\n' | collect x 3; finish"),
        (1, "1 passed, 1 failed"))
    self.assertEqual(
        self.run_shell("printf 'fail\\ta\\twhy\\n' | collect x 3; finish"),
        (1, "0 passed, 1 failed"))

  def test_other_lines_are_failures(self):
    self.assertEqual(
        self.run_shell("printf 'passed\\ta\\npass\\tb\\n' | collect x; finish"),
        (1, "1 passed, 1 failed"))

  def test_last_line_without_newline_counts(self):
    self.assertEqual(
        self.run_shell("printf 'pass\\ta\\nfail\\tb\\twhy' | collect x; "
                       "finish"), (1, "1 passed, 1 failed"))

  def test_nothing_at_all_is_a_failure(self):
    self.assertEqual(self.run_shell("finish"), (1, "0 passed, 1 failed"))


class InstallTest(unittest.TestCase):
  """lib/install.sh finds what is missing, and says so."""

  def run_shell(self, script):
    done = subprocess.run(
        ["bash", "-u", "-c", '. "$0/lib/install.sh"; ' + script,
         str(TOOLS)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False)
    return done.returncode, done.stdout

  def test_nothing_missing(self):
    self.assertEqual(
        self.run_shell("require command:bash=bash file:/=base-files"), (0, ""))

  def test_missing_packages(self):
    self.assertEqual(
        self.run_shell("missing_packages command:no-such-tool=one "
                       "command:bash=two file:/no/such/file=three"),
        (0, "one\nthree\n"))

  def test_without_the_right_to_install(self):
    status, output = self.run_shell(
        "id() { echo 1000; }; sudo() { return 1; }; "
        "require command:no-such-tool=one file:/no/such/file=two")
    self.assertEqual(status, 1)
    self.assertIn("apt-get update && apt-get install -y one two\n", output)


class Reporter(unittest.TestResult):
  """Prints result lines."""

  def _report(self, test, problems):
    repository.report(test.id().replace("__main__.", "tools "), problems)

  def addSuccess(self, test):
    super().addSuccess(test)
    self._report(test, [])

  def addFailure(self, test, err):
    super().addFailure(test, err)
    print(self._exc_info_to_string(err, test), file=sys.stderr)
    self._report(test, [str(err[1])])

  addError = addFailure


def main():
  suite = unittest.defaultTestLoader.loadTestsFromModule(
      sys.modules["__main__"])
  result = Reporter()
  suite.run(result)
  return 0 if not result.failures and result.testsRun > 0 else 1


if __name__ == "__main__":
  sys.exit(main())
