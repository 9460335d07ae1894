"""Tests tidy.py: each rule finds the one fault of a small text made for it, and leaves a sound text alone."""

import unittest

from tests.layers import tidy

PROSE = "// What this is, why it is here, and an example that fits on a line.\n"
HEADER = PROSE + "#ifndef TESSERA_BASE_A_H_\n#define TESSERA_BASE_A_H_\n\n#endif  // TESSERA_BASE_A_H_\n"


def findings(path, text):
    return ["{}: {}".format(line, what) for rule in tidy.RULES_OF_A_FILE for line, what in rule(path, text)]


def tree_findings(rule, files):
    return ["{}:{}: {}".format(path, line, what) for path, line, what in rule(files)]


class RulesOfAFile(unittest.TestCase):

    def only(self, path, text, expected):
        found = findings(path, text)
        self.assertEqual(1, len(found), found)
        self.assertIn(expected, found[0])

    def test_sound_files_have_no_findings(self):
        self.assertEqual([], findings("base/a.h", HEADER))
        self.assertEqual([], findings("base/a.cc", '#include "base/a.h"\n\n#include <vector>\n'))
        self.assertEqual([], findings("base/BUILD", 'load("@rules_cc//cc:defs.bzl", "cc_library")\n\ncc_library(\n)\n'))

    def test_guard(self):
        self.only("base/b.h", HEADER, "TESSERA_BASE_B_H_")
        self.only("base/a.h", HEADER.replace("#endif  // TESSERA_BASE_A_H_", "#endif"), "TESSERA_BASE_A_H_")

    def test_prose(self):
        self.only("base/a.h", HEADER.replace(PROSE, ""), "does not open with prose")
        self.only("tests/a.py", '"""Short."""\n', "does not open with prose")

    def test_own_header_comes_first(self):
        self.only("base/a_test.cc", '#include <vector>\n\n#include "base/a.h"\n', "first include")
        self.assertEqual([], findings("base/a_test.cc", '#include "base/a.h"\n\n#include <vector>\n'))

    def test_includes(self):
        self.only("base/a.cc", '#include "../tesa/types.h"\n', "relative include")
        self.only("base/a.h", HEADER.replace("\n\n", "\nusing namespace std;\n\n"), "opens a namespace")

    def test_long_files_give_a_reason(self):
        body = "int x;\n" * 601
        self.only("base/a.cc", PROSE + body, "602 lines")
        self.assertEqual([], findings("base/a.cc", PROSE + "// One thing: a table.\n" + body))

    def test_long_functions(self):
        body = "int F(int x) {\n" + "  ++x;\n" * 151 + "}\n"
        self.only("base/a.cc", body, "1: a function of 152 lines")
        self.assertEqual([], findings("base/a.cc", body.replace("  ++x;\n" * 10, "  ++x;\n")))

    def test_lines(self):
        self.only("base/a_test.py", '"""' + "x" * 60 + '"""\n#' + "x" * 120 + "\n", "2: 121 columns")
        self.only("base/a.cc", "int x; \n", "blanks")
        self.only("base/a.cc", "\tint x;\n", "a tab")
        self.only("base/a.cc", "int x;", "no newline")

    def test_unfinished(self):
        self.only("base/a.cc", "// TO" "DO: the rest\n", "left for later")
        self.assertEqual([], findings("base/a.cc", "int mastodon;\n"))

    def test_machine_paths(self):
        self.only("check", "cp a /ho" "me/someone/b\n", "absolute path")
        self.assertEqual([], findings("check", 'cp a "$HOME/work/b"\n'))

    def test_build(self):
        self.only("base/BUILD", "cc_library(\n)\n", "without load")
        self.only("tesa/BUILD", 'package(default_visibility = ["//visibility:public"])\n', "public to everybody")
        self.assertEqual([], findings("engine/BUILD", 'package(default_visibility = ["//visibility:public"])\n'))


class RulesOfTheTree(unittest.TestCase):

    def test_a_pair_has_its_test(self):
        pair = {"base/a.h": HEADER, "base/a.cc": ""}
        self.assertEqual(1, len(tree_findings(tidy.check_tested, pair)))
        self.assertEqual([], tree_findings(tidy.check_tested, {**pair, "base/a_test.cc": ""}))
        named = {**pair, "base/a.h": HEADER.replace("line.\n", "line. Tested by b_test.cc.\n", 1)}
        self.assertEqual(1, len(tree_findings(tidy.check_tested, named)))
        self.assertEqual([], tree_findings(tidy.check_tested, {**named, "base/b_test.cc": ""}))

    def test_rows_are_tested(self):
        rows = {"graph/ops/ops.def": "// The ops.\nOP(Relu, 1)\nOP(Conv, 2)\n"}
        self.assertIn("Relu, Conv", tree_findings(tidy.check_rows_tested, rows)[0])
        self.assertIn("names Conv,", tree_findings(tidy.check_rows_tested, {**rows, "graph/a_test.cc": "kRelu\n"})[0])
        walked = {**rows, "graph/a_test.cc": '#include "graph/ops/ops.def"\n'}
        self.assertEqual([], tree_findings(tidy.check_rows_tested, walked))

    def test_readmes(self):
        self.assertEqual(["base:1: no README.md"], tree_findings(tidy.check_readmes, {"base/a.h": "", "check": ""}))
        self.assertEqual([], tree_findings(tidy.check_readmes, {"base/README.md": "", ".ci/run": ""}))

    def test_rooms(self):
        files = {"ARCHITECTURE.md": "```\nbase/   status\nattic/  old things\n```\n", "base/a.h": "", "graph/a.h": ""}
        self.assertEqual(["ARCHITECTURE.md:1: the rooms lack graph/",
                          "ARCHITECTURE.md:1: the rooms have attic/, the tree has not"],
                         tree_findings(tidy.check_rooms, files))

    def test_packages_agree(self):
        files = {
            "third_party/packages.txt": "build libzstd-dev\n",
            "third_party/system.bzl": '_library("zstd", "libzstd-dev", x),\n'
                                      '_library(\n    "json",\n    "nlohmann-json3-dev",\n',
            "third_party/README.md": "`libzstd-dev` packs.",
        }
        found = tree_findings(tidy.check_packages, files)
        self.assertEqual(1, len(found), found)
        self.assertIn("nlohmann-json3-dev is a row of system.bzl", found[0])
        files["third_party/packages.txt"] += "build nlohmann-json3-dev\n"
        self.assertIn("does not say why nlohmann-json3-dev", tree_findings(tidy.check_packages, files)[0])


if __name__ == "__main__":
    unittest.main()
