"""Tests `tune`: times are taken once, kept, merged and used."""

import unittest

from tools import tool_case

MODEL = """graph "g" {
  %x: f32[32,64] = input
  %w: f32[64,128] tesa(scattered kept 10%) = constant random(seed = 1)
  %y: f32[32,128] = matmul(%x, %w)
  return %y
}
"""


class TuneTest(tool_case.ToolCase):

    def setUp(self):
        super().setUp()
        (self.folder / "product.txt").write_text(MODEL)

    def test_a_second_run_measures_nothing(self):
        first = self.rows(self.passes("tune", "product.txt", "--cache=t.tsv", "--rounds=3", "-o", "jsonl"))
        self.assertEqual(["now"], [row["measured"] for row in first])
        records = (self.folder / "t.tsv").read_text()
        self.assertRegex(records, r"(?m)^[0-9a-f]{32}\tmatmul\t[0-9.]+\tmatmul f32\[32,64\] x f32\[64,128\] kept")
        second = self.rows(self.passes("tune", "product.txt", "--cache=t.tsv", "--rounds=3", "-o", "jsonl"))
        self.assertEqual(["before"], [row["measured"] for row in second])
        self.assertEqual(records, (self.folder / "t.tsv").read_text())

    def test_what_was_measured_decides(self):
        self.passes("tune", "product.txt", "--cache=t.tsv", "--rounds=1", "--threads=1")
        lines = (self.folder / "t.tsv").read_text().splitlines()
        for way in ("matmul", "generic"):
            # As if this way had taken no time at all.
            key, _, _, what = lines[1].split("\t")
            (self.folder / "u.tsv").write_text("\n".join(lines + [f"{key}\t{way}\t0.001\t{what}"]) + "\n")
            _, out, err = self.call("bench", "product.txt", "--tuning=u.tsv", "--threads=1", "--profile",
                                    "--min_time=0.01")
            self.assertRegex(out + err, rf"node '[^']*': {way};")

    def test_files_merge_and_a_budget_of_nothing_measures_nothing(self):
        self.passes("tune", "product.txt", "--cache=a.tsv", "--rounds=1")
        self.passes("tune", "product.txt", "--cache=b.tsv", "--merge=a.tsv", "--budget=0")
        self.assertEqual((self.folder / "a.tsv").read_text(), (self.folder / "b.tsv").read_text())
        _, _, err = self.call("tune", "product.txt", "--cache=c.tsv", "--budget=0")
        self.assertIn("0 ways measured, 1 nodes left", err)

    def test_bad_records(self):
        (self.folder / "bad.tsv").write_text("# tessera tuning records 1\nkey\tmatmul\tfast\tno time\n")
        self.fails(1, "line 2: expected a time in microseconds, found 'fast'", "tune", "product.txt", "--cache=bad.tsv")
        self.fails(1, "TES-1001", "tune", "product.txt", "--cache=c.tsv", "--merge=missing.tsv")
        self.fails(2, "no model given", "tune")


if __name__ == "__main__":
    unittest.main()
