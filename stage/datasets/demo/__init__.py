"""The demo's images, drawn by code."""
