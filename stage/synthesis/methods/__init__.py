"""One module per synthesis method."""
