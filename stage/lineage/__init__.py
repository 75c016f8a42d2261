"""Queries over published data and its versions: what made a sample, what was made from a photograph, what changed and why."""
