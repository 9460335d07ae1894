"""Tests summary.py on events as Bazel writes them: what failed, did not build or never ran does not count as green."""

import json
import unittest

from tests.layers import summary

FINISHED = {"id": {"buildFinished": {}}, "finished": {"exitCode": {"code": 0}}}


def test_event(label, status):
    logs = [] if status == "PASSED" else [{"uri": "file:///logs/test.log"}]
    return {"id": {"testSummary": {"label": label}}, "testSummary": {"overallStatus": status, "failed": logs}}


def count(*events):
    return summary.count_events([json.dumps(event) for event in events], "default")


class SummaryTest(unittest.TestCase):

    def test_counts_passed_and_failed(self):
        passed, failures = count(test_event("//a:a", "PASSED"), test_event("//b:b", "FAILED"), FINISHED)
        self.assertEqual(1, passed)
        self.assertEqual(["//b:b (default): FAILED /logs/test.log"], failures)

    def test_a_timeout_fails(self):
        counted = count(test_event("//a:a", "TIMEOUT"), FINISHED)
        self.assertEqual((0, ["//a:a (default): TIMEOUT /logs/test.log"]), counted)

    def test_a_target_that_does_not_build_fails(self):
        event = {"id": {"targetCompleted": {"label": "//a:a"}}, "completed": {}}
        self.assertEqual((0, ["//a:a (default): did not build"]), count(event, FINISHED))

    def test_a_built_target_is_no_test(self):
        event = {"id": {"targetCompleted": {"label": "//a:a"}}, "completed": {"success": True}}
        self.assertEqual((0, []), count(event, FINISHED))

    def test_a_bazel_that_died_fails(self):
        passed, failures = count(test_event("//a:a", "PASSED"))
        self.assertEqual((1, ["bazel (default): ended without a result"]), (passed, failures))

    def test_a_bad_exit_without_a_reason_fails(self):
        finished = {"id": {"buildFinished": {}}, "finished": {"exitCode": {"code": 4}}}
        self.assertEqual((0, ["bazel (default): exit status 4"]), count(finished))

    def test_a_pattern_that_does_not_load_fails(self):
        event = {"id": {"pattern": {"pattern": ["//nowhere"]}}, "aborted": {"description": "no such package"}}
        self.assertEqual((0, ["//nowhere (default): no such package"]), count(event, FINISHED))

    def test_lines_count_too(self):
        passed, failures = summary.count_lines(["ok a\n", "FAILED b\n", "      -> c\n"], "walls")
        self.assertEqual((1, ["walls: b"]), (passed, failures))
        self.assertEqual((0, ["walls: printed nothing"]), summary.count_lines([], "walls"))


if __name__ == "__main__":
    unittest.main()
