"""The kit of all benchmarks: paired timing, results as JSON, and one renderer."""
