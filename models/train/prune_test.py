"""Tests of prune.py: python3 prune_test.py (numpy is all it needs)."""

import unittest

import numpy as np

import prune


class PruneTest(unittest.TestCase):

    def setUp(self):
        self.random = np.random.default_rng(7)

    def test_scattered_keeps_the_largest_and_the_exact_count(self):
        for shape in ((1, 1), (3, 7), (64, 33)):
            weight = self.random.standard_normal(shape)
            mask = prune.scattered(weight, 0.9)
            self.assertEqual(mask.sum(), round(0.1 * weight.size))
            if mask.any():
                self.assertGreaterEqual(np.abs(weight[mask]).min(), np.abs(weight[~mask]).max())

    def test_equal_magnitudes_still_give_the_exact_count(self):
        self.assertEqual(prune.scattered(np.zeros((10, 10)), 0.9).sum(), 10)

    def test_block4x1_is_all_or_nothing_and_by_magnitude(self):
        weight = self.random.standard_normal((16, 25))
        mask = prune.block4x1(weight, 0.9)
        blocks = mask.reshape(4, 4, 25)
        np.testing.assert_array_equal(blocks.all(axis=1), blocks.any(axis=1))
        self.assertEqual(mask.sum(), 4 * round(0.1 * 100))
        sums = np.abs(weight).reshape(4, 4, 25).sum(axis=1)
        self.assertGreaterEqual(sums[blocks.any(axis=1)].min(), sums[~blocks.any(axis=1)].max())

    def test_block4x1_refuses_outputs_that_are_not_fours(self):
        with self.assertRaisesRegex(ValueError, r"\(6, 5\)"):
            prune.block4x1(np.zeros((6, 5)), 0.5)

    def test_channels_by_norm_and_by_the_scale_behind(self):
        weight = np.diag([1.0, 4.0, 3.0, 2.0])
        np.testing.assert_array_equal(prune.channels(weight, 0.5), [False, True, True, False])
        np.testing.assert_array_equal(
            prune.channels(weight, 0.5, scale=np.array([-9.0, 0.1, 1.0, 1.0])), [True, False, True, False])

    def test_pruning_further_only_removes(self):
        weight = self.random.standard_normal((32, 32))
        for pattern in (prune.scattered, prune.block4x1):
            first = pattern(weight, 0.5)
            second = pattern(weight * first, 0.8)
            self.assertFalse((second & ~first).any())

    def test_ramp_goes_from_nothing_to_all(self):
        self.assertEqual(prune.ramp(0.0, 0.9), 0.0)
        self.assertEqual(prune.ramp(1.0, 0.9), 0.9)
        self.assertEqual(prune.ramp(2.0, 0.9), 0.9)
        values = [prune.ramp(x / 10, 0.9) for x in range(11)]
        self.assertEqual(values, sorted(values))


if __name__ == "__main__":
    unittest.main()
