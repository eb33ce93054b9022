"""Benchmarks: captures to measure on, ratios against other programs."""
