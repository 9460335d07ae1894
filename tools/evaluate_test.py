"""Tests `evaluate`: each figure on few seeds and images, its rows against what is published and what must hold."""

import json
import unittest

from tools import tool_case


class EvaluateTest(tool_case.ToolCase):

    def test_propagation_beside_the_published_values(self):
        out = self.passes("evaluate", "--figure=propagation", "--seeds=2", "-o", "json", "--plot=plots")
        self.assertIn("</svg>", (self.folder / "plots" / "mlp_fine.svg").read_text())
        tables = json.loads(out)
        self.assertEqual(2, len(tables))
        mlp, mobilenet = (table["rows"] for table in tables)
        self.assertEqual(4 * (8 + 5 + 5), len(mlp))
        self.assertEqual(6 * 2 + 6 * 3, len(mobilenet))
        for row in mlp + mobilenet:
            self.assertAlmostEqual(row["difference"], row["mean"] - row["published"], delta=2e-4)
            if row["closed_form"] is not None and row["mean_not_collapsed"] is not None:
                # Two seeds are near the mean of many.
                self.assertAlmostEqual(row["closed_form"], row["mean_not_collapsed"], delta=0.03, msg=str(row))
        third = next(r for r in mlp if (r["pattern"], r["dropped_percent"], r["row"]) == ("fine", 90, "L3"))
        self.assertEqual(0.9344, third["published"])
        collapsed = [r for r in mobilenet if r["pattern"] == "coarse" and r["dropped_percent"] == 95]
        self.assertEqual({"2 of 2: COLLAPSE"}, {r["collapsed"] for r in collapsed})
        for row in collapsed:
            self.assertEqual(1.0, row["mean"])

    def test_mixed_layers_agree_with_plans_of_one_part(self):
        out = self.passes("evaluate", "--figure=mixed", "--size=96", "-o", "json")
        precision, pattern = (table["rows"] for table in json.loads(out))
        self.assertEqual(4, len(precision))
        for row in precision:
            self.assertLess(row["rel_error"], 0.03)
            self.assertGreater(row["us"], 0)
        self.assertLess(3, len(pattern))
        for row in pattern:
            if row["us"] is not None:
                self.assertLess(row["rel_error"], 1e-5, row)

    def test_bits_fall_at_equal_accuracy(self):
        out = self.passes("evaluate", "--figure=bits", "--images=250", "--noise=30", "--tolerance=0.02", "-o", "json")
        layers, means, accuracy, work = (table["rows"] for table in json.loads(out))
        self.assertEqual(28, len(layers))
        published, _, here = means[:3]
        self.assertEqual([6.57, 5.0], [round(published[k], 2) for k in ("mean_bits_before", "mean_bits_after")])
        self.assertAlmostEqual(here["mean_bits_after"], sum(r["bits_after"] for r in layers) / 28)
        self.assertGreaterEqual(here["fall"], 1)
        for row in accuracy:
            self.assertGreater(row["accuracy_f32"], 88)
            self.assertAlmostEqual(row["change"],
                                   (row["right_after_only"] - row["right_before_only"]) / row["count"] * 100)
        self.assertLess(work[0]["node_executions"], work[0]["node_executions_without_cache"])

    def test_failures(self):
        self.fails(2, "expected one of all, propagation, bits", "evaluate", "--figure=lunch")
        self.fails(2, "expected flags only", "evaluate", "zoo:mlp")
        self.fails(1, "apt-get install dataset-fashion-mnist", "evaluate", "--figure=bits", "--data=/nonexistent")


if __name__ == "__main__":
    unittest.main()
