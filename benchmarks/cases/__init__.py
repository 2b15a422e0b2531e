"""The benchmarks of the suite: each module holds one, as `CASE`."""
