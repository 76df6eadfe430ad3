"""Measurements whose figures stand in benchmarks/README.md; not part of the pack."""
