"""Networks that turn pictures into embeddings, (n, 3, 200, 100) uint8 -> (n, d) float32."""
