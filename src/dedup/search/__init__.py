"""Embedding, clustering, lossless radius search, and the index on disk."""
