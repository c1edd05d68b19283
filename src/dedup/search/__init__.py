"""Embeddings, clusters, and the search for near ones; the index on disk."""
