"""Queries over published data and its versions: what made a sample, what came of a photograph, what changed and why."""
