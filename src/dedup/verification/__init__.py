"""Verify pairs of images: keypoints, alignment, appearance, and a copy classifier."""
