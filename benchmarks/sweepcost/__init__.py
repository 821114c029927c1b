"""The parts of `python -m benchmarks.sweep`: many lambdas at once against fits one by one."""
