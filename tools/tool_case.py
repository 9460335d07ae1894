"""What the tests of the command lines share: running a tool in a folder of its own and looking at what it said.

    class ConvertTest(tool_case.ToolCase):
        def test_help(self):
            self.fails(2, "TES-2001: no model given", "convert")
"""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

TOOLS = pathlib.Path("tools").resolve()
ZOO = pathlib.Path("models/zoo").resolve()
RELU = 'graph "g" {\n  %x: f32[1,4] = input\n  %y: f32[1,4] = relu(%x)\n  return %y\n}\n'


class ToolCase(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "relu.txt").write_text(RELU)

    def call(self, tool, *args):
        """(status, stdout, stderr) of a tool that stands in self.folder."""
        environment = {**os.environ, "TESSERA_CACHE": str(self.folder / "cache")}
        environment.pop("BUILD_WORKING_DIRECTORY", None)
        command = [str(TOOLS / tool), *args]
        answer = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        return answer.returncode, answer.stdout, answer.stderr

    def passes(self, tool, *args):
        """stdout of a call that must work."""
        status, out, err = self.call(tool, *args)
        self.assertEqual(0, status, err)
        return out

    def fails(self, status, text, tool, *args):
        """A call that must end with this status, one TES line that holds the text, and no trace of a crash."""
        found, _, err = self.call(tool, *args)
        self.assertEqual(status, found, err)
        self.assertIn(text, err)
        self.assertRegex(err, r"(?m)^TES-\d{4}: ")
        self.assertNotIn("terminate called", err)

    def rows(self, text):
        return [json.loads(line) for line in text.splitlines()]
