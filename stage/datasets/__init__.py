"""Real and drawn data sets, read into one catalog."""
