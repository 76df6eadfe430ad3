"""Describes the shipped workflows and writes their files; see `python -m workflow_maker --help`."""
