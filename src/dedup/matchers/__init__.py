"""Which pictures belong together: by content digest, or by the distance of their embeddings."""
