"""The models, variants and processes that the benchmarks measure."""
