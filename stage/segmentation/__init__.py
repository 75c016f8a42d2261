"""Downstream segmenters, which measure whether samples help."""
