"""Networks that turn images into embeddings, (n, 3, 200, 100) uint8 -> (n, d) float32."""
