"""Tests the two commands of README.md as a user meets them, without installing or building anything.

Help, wrong options and the parts of third_party/setup.sh that decide what to install, the latter against a made-up
list of packages and stand-ins for dpkg-query, id, sudo and apt-get that write down how they were called.
"""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def run(command, **environment):
    answer = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                            env={**os.environ, "HOME": os.environ.get("TEST_TMPDIR", "/nonexistent"), **environment})
    return answer.returncode, answer.stdout, answer.stderr


class CommandsTest(unittest.TestCase):

    def test_help_goes_to_stdout_and_names_every_option(self):
        for command in ("check", "quickstart"):
            status, out, err = run("./{} --help".format(command))
            self.assertEqual((0, ""), (status, err), command)
            text = (ROOT / command).read_text()
            options = re.findall(r"^    (--[\w-]+)", text, re.MULTILINE)
            self.assertGreater(len(options), 2)
            for option in options:
                self.assertIn(option, out, command)

    def test_an_unknown_option_stops_with_the_help(self):
        for command in ("check", "quickstart"):
            status, out, err = run("./{} --frobnicate".format(command))
            self.assertEqual((1, ""), (status, out))
            self.assertIn("--no-install", err)
            self.assertIn("error: unknown option --frobnicate", err)

    def test_a_model_is_looked_for_where_the_user_stands(self):
        folder = os.environ.get("TEST_TMPDIR", "/tmp")
        command = "mkdir -p bin; printf '#!/bin/sh' >bin/bazel; chmod +x bin/bazel; PATH=$PWD/bin:$PATH"
        status, _, err = run("cd '{}'; {} '{}/quickstart' --no-install lost.onnx".format(folder, command, ROOT),
                             TESSERA_CACHE=folder + "/cache")
        self.assertEqual(1, status)
        self.assertIn("error: cannot read the model {}/lost.onnx".format(folder), err)

    def test_both_run_from_any_folder(self):
        status, out, _ = run("cd /; '{}/check' --help".format(ROOT))
        self.assertEqual(0, status)
        self.assertIn("N passed, N failed", out)


class SetupTest(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.folder.name)
        (self.root / "third_party").mkdir()
        (self.root / "bin").mkdir()
        rows = "# a comment\nbuild here-dev\nbuild gone-dev\ntest gone-test\n"
        (self.root / "third_party/packages.txt").write_text(rows)
        self.stub("dpkg-query", 'case "$*" in *here-dev*) echo -n installed;; *) exit 1;; esac')
        self.stub("apt-get", 'echo "apt-get $*" >>"$LOG"')
        self.stub("sudo", 'echo "sudo" >>"$LOG"; exec "$@"')

    def tearDown(self):
        self.folder.cleanup()

    def stub(self, name, body):
        path = self.root / "bin" / name
        path.write_text("#!/bin/bash\n" + body + "\n")
        path.chmod(0o755)

    def setup(self, command, user=0, path="/usr/bin:/bin"):
        self.stub("id", "echo {}".format(user))
        (self.root / "log").write_text("")
        status, _, err = run("cd '{0}'; source '{1}/third_party/setup.sh'; {2}".format(self.root, ROOT, command),
                             PATH="{}/bin:{}".format(self.root, path), LOG=str(self.root / "log"))
        return status, err, (self.root / "log").read_text().splitlines()

    def test_asks_the_network_only_when_something_is_missing(self):
        (self.root / "third_party/packages.txt").write_text("build here-dev\n")
        status, err, log = self.setup("install_packages build test")
        self.assertEqual((0, []), (status, log))
        self.assertIn("all here", err)

    def test_installs_the_missing_ones_of_the_groups_asked_for(self):
        flags = "-q -y --no-install-recommends"
        status, _, log = self.setup("install_packages build")
        self.assertEqual((0, ["apt-get update -q", "apt-get install {} gone-dev".format(flags)]), (status, log))
        _, _, log = self.setup("install_packages build test")
        self.assertEqual("apt-get install {} gone-dev gone-test".format(flags), log[-1])

    def test_a_user_goes_through_sudo(self):
        _, _, log = self.setup("install_packages build", user=1000)
        self.assertEqual("sudo", log[0])

    def test_without_root_or_sudo_the_command_to_run_is_named(self):
        (self.root / "bin/sudo").unlink()
        for name in ("bash", "cut", "cat"):
            os.symlink("/bin/" + name, self.root / "bin" / name)
        status, err, log = self.setup("install_packages build", user=1000, path="/nowhere")
        self.assertEqual((1, []), (status, log))
        self.assertIn("apt-get install gone-dev", err)

    def test_a_failing_apt_stops(self):
        self.stub("apt-get", "exit 100")
        status, err, _ = self.setup("install_packages build")
        self.assertEqual(1, status)
        self.assertIn("apt-get update failed", err)


if __name__ == "__main__":
    unittest.main()
