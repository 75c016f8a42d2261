"""From a plan to samples: one file per method."""
