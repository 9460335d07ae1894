"""Tests `tessera`, the program that holds every verb of tools/verbs.def."""

import pathlib
import re
import unittest

from tools import tool_case

VERBS = re.findall(r'^TES_VERB\(\w+, "(\w+)"', pathlib.Path("tools/verbs.def").read_text(), re.MULTILINE)


class TesseraTest(tool_case.ToolCase):

    def test_every_verb_has_help_here_and_a_program_of_its_own(self):
        overview = self.passes("tessera", "--help")
        self.assertGreater(len(VERBS), 2)
        for verb in VERBS:
            self.assertIn("\n  " + verb, overview)
            self.assertEqual(self.passes(verb, "--help"), self.passes("tessera", verb, "--help"))

    def test_zoo_lists_what_there_is(self):
        out = self.passes("tessera", "bench", "zoo:")
        for name in ("mlp", "mobilenet_v1", "bert_base", "fashion_mobilenet_channels70"):
            self.assertIn(name, out)

    def test_bad_usage(self):
        self.fails(2, "no verb given", "tessera")
        self.fails(2, "did you mean 'convert'?", "tessera", "conver", "a.onnx")
        self.fails(2, "no model given", "tessera", "run")


if __name__ == "__main__":
    unittest.main()
