"""The tables of docs/results/ladder.md, from what simt_matrix_test printed.

    tests/ladder/table.py bazel-testlogs/tests/ladder/simt_matrix_all_test/*/test.log

One row for each network and precision: combinations of chip and pattern, the error that comes nearest to its bound,
and the seconds that compiling and the three orders of threads took; then one for each chip.
"""

import collections
import json
import sys


def rows(paths):
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.startswith('{"chip"'):
                    yield json.loads(line)


def print_table(found, keys, titles):
    groups = collections.defaultdict(list)
    for row in found:
        groups[tuple(row[key] for key in keys)].append(row)
    columns = titles + ["combinations", "error nearest its bound", "to the lowered graph", "bound", "compile s",
                        "run s"]
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for group, of_group in sorted(groups.items()):
        worst = max(of_group, key=lambda row: row["rel_error"] / row["bound"])
        print("| {} | {} | {:.1e} | {:.1e} | {:.0e} | {:.1f} | {:.1f} |".format(
            " | ".join(group), len(of_group), worst["rel_error"], max(row["to_lowered"] for row in of_group),
            worst["bound"], sum(row["compile_s"] for row in of_group), sum(sum(row["run_s"]) for row in of_group)))


def main():
    found = list(rows(sys.argv[1:]))
    print_table(found, ["network", "precision"], ["network", "precision"])
    print()
    print_table(found, ["pattern", "precision"], ["pattern", "precision"])
    print()
    print_table(found, ["chip"], ["chip"])


if __name__ == "__main__":
    main()
