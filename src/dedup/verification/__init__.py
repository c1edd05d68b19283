"""Comparison of two images: keypoints, alignment, appearance, and what they decide."""
