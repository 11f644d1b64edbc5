"""Slicer's scene: markups, segments, geometry, settings."""
