"""The configurations of the paper's Fig. 6: what each changes, and its results."""
