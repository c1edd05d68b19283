"""Encoders from images to embeddings, and the files of their weights."""
