"""A planned job and the workers that make its samples."""
