"""STAGE: segmentation-oriented industrial anomaly synthesis by graded diffusion with explicit mask alignment."""
