"""What `python -m benchmarks.step_cost` is made of: models, variants, timing, report."""
