"""Counts what passed and failed, from the events that Bazel wrote and the walls' lines; the end of `./check`.

    summary.py FOLDER      FOLDER/<config>.json (bazel test --build_event_json_file); FOLDER/walls.txt and lint.txt,
                           whose lines begin with `ok ` or `FAILED `

Prints every failure with where its log is, then `N passed, N failed` alone on the last line. A test that did not build,
a pattern that matched nothing and a Bazel that died each count as a failure: nothing is green by being absent.
Tested by summary_test.py.
"""

import json
import pathlib
import sys

PASSED = ("PASSED", "FLAKY")


def count_events(lines, config):
    """(passed, failures) of one run of Bazel: how many tests passed, and one text for each that did not."""
    passed = 0
    failures = {}
    exit_code = None
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:  # the last line of a Bazel that was killed
            continue
        what = event.get("id", {})
        if "testSummary" in what:
            label = what["testSummary"]["label"]
            summary = event.get("testSummary", {})
            status = summary.get("overallStatus", "NO_STATUS")
            if status in PASSED:
                passed += 1
            else:
                logs = [log.get("uri", "").replace("file://", "") for log in summary.get("failed", [])]
                failures[label] = " ".join([status] + logs)
        elif "targetCompleted" in what and not event.get("completed", {}).get("success", False):
            failures.setdefault(what["targetCompleted"]["label"], "did not build")
        elif "aborted" in event and ("pattern" in what or "unconfiguredLabel" in what or "configuredLabel" in what):
            label = next(iter(what.values())).get("label") or " ".join(what.get("pattern", {}).get("pattern", []))
            failures.setdefault(label, event["aborted"].get("description", "did not load"))
        elif "buildFinished" in what:
            exit_code = event.get("finished", {}).get("exitCode", {}).get("code", 0)
    if exit_code is None:
        failures["bazel"] = "ended without a result"
    elif exit_code != 0 and not failures:
        failures["bazel"] = "exit status {}".format(exit_code)
    return passed, ["{} ({}): {}".format(label, config, text) for label, text in sorted(failures.items())]


def count_lines(lines, name):
    """(passed, failures) of a text that says `ok WHAT` or `FAILED WHAT` per line; other lines explain."""
    heads = [line.rstrip("\n") for line in lines if line.startswith(("ok ", "FAILED "))]
    failures = ["{}: {}".format(name, line[len("FAILED "):]) for line in heads if line.startswith("FAILED ")]
    if not heads:
        failures = ["{}: printed nothing".format(name)]
    return len([line for line in heads if line.startswith("ok ")]), failures


def main(folder):
    passed = 0
    failures = []
    for path in sorted(pathlib.Path(folder).glob("*")):
        with path.open(encoding="utf-8", errors="replace") as lines:
            more, failed = count_lines(lines, path.stem) if path.suffix == ".txt" else count_events(lines, path.stem)
        passed += more
        failures += failed
    if passed == 0 and not failures:
        failures = ["nothing ran"]
    for failure in failures:
        print("FAILED " + failure)
    print("{} passed, {} failed".format(passed, len(failures)))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
