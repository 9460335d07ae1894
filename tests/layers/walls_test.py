"""Tests walls.py on graphs made for it: each kind of hole is found, and the path is the shortest one."""

import unittest

from tests.layers import walls


def graph(*edges):
    result = {}
    for source, target in edges:
        result.setdefault(source, set()).add(target)
        result.setdefault(target, set())
    return result


def problems(edges):
    return {name: problem for name, problem in walls.check(edges) if problem}


class WallsTest(unittest.TestCase):

    def test_a_sound_graph_has_no_problems(self):
        self.assertEqual({}, problems(graph(
            ("//tools:bench", "//engine:engine"),
            ("//engine:engine", "//codegen:compile"),
            ("//codegen:compile", "@system//:llvm"),
            ("//codegen:compile", "//runtime:program"),
            ("//runtime:program", "//tesa:tensor"),
            ("//models/import:onnx", "@system//:onnx_proto"),
            ("//tools:bench", "//models/import:onnx"),
            ("@system//:onnx_proto", "@system//:protobuf"),
            ("//examples:hello", "//engine:engine"),
        )))

    def test_a_path_through_others_is_found_and_printed_whole(self):
        found = problems(graph(
            ("//runtime:executor", "//base:a"),
            ("//base:a", "//base:b"),
            ("//base:b", "@system//:llvm"),
        ))
        text = found["//runtime does not reach LLVM"]
        self.assertIn("//runtime:executor\n      -> //base:a\n      -> //base:b\n      -> @system//:llvm", text)
        self.assertIn("where no LLVM is installed", text)

    def test_runtime_may_not_reach_graph(self):
        self.assertIn("//runtime does not reach graph", problems(graph(("//runtime:executor", "//graph/ops:conv"))))

    def test_scrambling_may_not_reach_the_algebra(self):
        edges = graph(("//propagate/learn:scramble", "//propagate/learn:fit"),
                      ("//propagate/learn:fit", "//propagate/algebra:algebra"))
        self.assertIn("//propagate/learn does not reach ops or their algebra", problems(edges))
        # Others of its folder may.
        self.assertEqual({}, problems(graph(("//propagate:rule_book", "//propagate/algebra:algebra"))))

    def test_neighbours_on_one_line_may_not_use_each_other(self):
        for source, target in [("propagate", "runtime"), ("runtime", "propagate")]:
            edges = graph(("//{}:a".format(source), "//{}:b".format(target)))
            self.assertIn("//{} uses only layers above it".format(source), problems(edges))

    def test_an_upward_edge_is_found(self):
        self.assertIn("//tesa uses only layers above it", problems(graph(("//tesa:text", "//graph:text"))))

    def test_only_codegen_names_llvm(self):
        self.assertIn("only //codegen names LLVM", problems(graph(("//tools:opt", "@system//:llvm"))))

    def test_only_the_importer_names_protobuf(self):
        edges = graph(("//models:catalog", "@system//:protobuf"))
        self.assertIn("only //models/import names protobuf", problems(edges))

    def test_engine_may_not_reach_protobuf(self):
        edges = graph(("//engine:engine", "//base:file"), ("//base:file", "@system//:protobuf"))
        self.assertIn("//engine does not reach protobuf", problems(edges))

    def test_examples_use_only_the_engine(self):
        self.assertIn("//examples uses only //engine", problems(graph(("//examples:hello", "//graph:builder"))))

    def test_a_folder_is_not_mistaken_for_one_whose_name_it_begins(self):
        self.assertTrue(walls.is_below("//graph/ops:conv", "graph"))
        self.assertFalse(walls.is_below("//graphics:x", "graph"))

    def test_the_shortest_path_wins(self):
        edges = graph(("a", "b"), ("b", "c"), ("c", "goal"), ("a", "d"), ("d", "goal"))
        self.assertEqual(["a", "d", "goal"], walls.shortest_path(edges, ["a"], lambda label: label == "goal"))
        self.assertEqual([], walls.shortest_path(edges, ["goal"], lambda label: label == "a"))

    def test_parses_the_graph_that_bazel_prints(self):
        text = 'digraph mygraph {\n  node [shape=box];\n  "//a:a"\n  "//a:a" -> "//b:b"\n  "//b:b"\n}\n'
        self.assertEqual({"//a:a": {"//b:b"}, "//b:b": set()}, walls.parse_graph(text))


if __name__ == "__main__":
    unittest.main()
