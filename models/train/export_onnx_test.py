"""Tests of export_onnx.py: python3 export_onnx_test.py (needs numpy, onnx and onnxruntime)."""

import unittest

import numpy as np
import onnxruntime

import export_onnx


def random_state(random, density):
    """Parameters of the MLP with about `density` of fc1 and fc2 kept."""
    state = {}
    for name, shape in (("fc1", (1024, 784)), ("fc2", (1024, 1024)), ("fc3", (10, 1024))):
        weight = random.standard_normal(shape) * np.sqrt(2 / shape[1])
        if name != "fc3":
            weight *= random.random(shape) < density
        state[f"{name}.weight"] = weight.astype(np.float16)
        state[f"{name}.bias"] = random.standard_normal(shape[0]).astype(np.float32)
    return state


def reference(state, images):
    x = images.reshape(len(images), -1).astype(np.float64)
    for name in ("fc1", "fc2", "fc3"):
        x = x @ state[f"{name}.weight"].astype(np.float64).T + state[f"{name}.bias"]
        x = np.maximum(x, 0) if name != "fc3" else x
    return x


class ExportTest(unittest.TestCase):

    def setUp(self):
        self.random = np.random.default_rng(3)

    def test_dense_and_sparse_files_compute_what_the_parameters_say(self):
        images = self.random.random((3, 1, 28, 28)).astype(np.float32)
        for density, form in ((1.0, "dense"), (0.1, "sparse")):
            state = random_state(self.random, density)
            data = export_onnx.mlp_model("m", state, {"pattern": form}).SerializeToString()
            session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
            expected = reference(state, images)
            (found,) = session.run(["logits"], {"image": images})
            self.assertLess(np.abs(found - expected).max(), 1e-4 * np.abs(expected).max())

    def test_a_weight_takes_the_smaller_form(self):
        for density, form in ((1.0, "dense"), (0.3, "dense"), (0.1, "sparse")):
            state = random_state(self.random, density)
            stored = export_onnx.stored_weights(export_onnx.mlp_model("m", state, {}))
            self.assertEqual(stored["fc1.weight"][1], form)
            self.assertEqual(stored["fc3.weight"][1], "dense")
            for name, (value, _) in stored.items():
                np.testing.assert_array_equal(value, state[name])

    def test_a_weight_that_is_not_float16_is_refused(self):
        state = random_state(self.random, 1.0)
        state["fc2.weight"] = state["fc2.weight"].astype(np.float32)
        with self.assertRaisesRegex(ValueError, "fc2.weight"):
            export_onnx.mlp_model("m", state, {})


if __name__ == "__main__":
    unittest.main()
