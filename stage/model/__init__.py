"""The method's mathematics and networks."""
