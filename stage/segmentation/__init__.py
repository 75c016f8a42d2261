"""The downstream segmenters that say whether samples help."""
