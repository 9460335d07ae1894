"""Tests `bench`: its rows, columns and checks, and the exit status of each failure. Times are not judged."""

import json
import unittest

from tools import tool_case

QUICK = ["--min_time=0.02", "--runs=3", "--warmup=0"]


class BenchTest(tool_case.ToolCase):

    def bench(self, *args):
        return self.rows(self.passes("bench", *args, *QUICK, "-o", "jsonl"))

    def test_a_row_for_each_combination_with_its_keys(self):
        rows = self.bench("zoo:fashion_mlp", "relu.txt", "--threads=1,2", "--sparsity=on,off")
        self.assertEqual(8, len(rows))
        row = rows[0]
        for key in ("min", "median", "mean", "p90", "p95", "p99"):
            self.assertGreater(row["latency_us_" + key], 0)
        self.assertEqual(row["samples"], len(row["latency_us"]))
        for key in ("cv", "arena_bytes", "max_abs_error", "rel_error", "seed", "threads", "target", "precision",
                    "sparsity", "roofline_share", "isa", "clock_ghz", "commit", "model_hash", "cpu"):
            self.assertIn(key, row)
        self.assertLess(row["rel_error"], 1e-4)
        self.assertEqual({("on", 1), ("off", 1), ("on", 2), ("off", 2)}, {(r["sparsity"], r["threads"]) for r in rows})
        self.assertEqual({"yes"}, {r["checked"] for r in rows})

    def test_a_skipped_check_is_said(self):
        self.assertEqual("no check", self.bench("relu.txt", "--no-check")[0]["checked"])
        self.assertEqual("null", self.bench("relu.txt", "--target=null")[0]["checked"])

    def test_batches_and_imposed_patterns(self):
        rows = self.bench("zoo:fashion_mlp", "--batch=1,3", "--impose=none,90%:fine", "--threads=1")
        self.assertEqual([(1, "none"), (1, "90%:fine"), (3, "none"), (3, "90%:fine")],
                         [(r["batch"], r["impose"]) for r in rows])

    def test_precisions_with_their_accuracy(self):
        rows = self.bench("zoo:fashion_mlp_block4x1_90", "--precision=as-is,i8,bf16,w4g32", "--accuracy=fashion:500",
                          "--threads=1")
        self.assertEqual(["f32", "i8", "bf16", "w4g32"], [r["precision"] for r in rows])
        self.assertEqual({"yes"}, {r["checked"] for r in rows})
        self.assertEqual("f32", self.bench("relu.txt", "--precision=as-is")[0]["precision"])
        for row in rows[1:]:
            # Calibrated with noise, i8 may lose more than it should; the others are what they are.
            self.assertLess(abs(row["accuracy_percent"] - rows[0]["accuracy_percent"]),
                            20 if row["precision"] == "i8" else 2)
        self.fails(2, "expected i8, w8", "bench", "relu.txt", "--precision=i9")
        rows = self.bench("zoo:fashion_mobilenet", "--precision=bf16,i8", "--threads=1")
        self.assertEqual({"yes"}, {r["checked"] for r in rows})

    def test_propagation_can_be_left_out(self):
        rows = self.bench("zoo:fashion_mobilenet_channels70", "--propagate=on,off", "--threads=1")
        self.assertEqual(["on", "off"], [r["propagate"] for r in rows])
        self.assertLess(rows[0]["flops"], rows[1]["flops"])
        out = self.passes("bench", "zoo:fashion_mobilenet_channels70", "--threads=1", "--profile", *QUICK)
        self.assertIn("shrunk in", out)

    def test_forms_profile_compare_and_trace(self):
        table = self.passes("bench", "relu.txt", "--emitter=auto,generic", "--compare", *QUICK, "-o", "md")
        self.assertIn("x first", table)
        self.assertEqual(4, table.count("\n"))
        out = self.passes("bench", "relu.txt", "--threads=1", "--profile", "--trace=t.json", *QUICK)
        for part in ("steps of relu", "GFLOP/s", "decisions"):
            self.assertIn(part, out)
        self.assertTrue(json.loads((self.folder / "t.json").read_text())["traceEvents"])

    def test_failures(self):
        self.fails(1, "TES-1001", "bench", "gone.onnx")
        self.fails(1, "TES-3003", "bench", "relu.txt", "--target=toaster")
        self.fails(2, "did you mean --threads?", "bench", "relu.txt", "--thread=1")
        self.fails(2, "two rows at least", "bench", "relu.txt", "--compare")
        self.fails(2, "of one row", "bench", "relu.txt", "--trace=t.json", "--threads=1,2")
        self.fails(2, "expected none, 90%:fine", "bench", "relu.txt", "--impose=lots")


if __name__ == "__main__":
    unittest.main()
