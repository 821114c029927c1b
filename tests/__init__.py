"""The tests; a package, so that `tests.experiments` never shadows `experiments`."""
