"""Find all pairs of near vectors in anybody's embeddings; no image, no encoder.

python examples/match_vectors.py
"""

import numpy as np

import dedup


def main(n_vectors: int = 10_000, n_copies: int = 20) -> None:
    """Plant near copies among random unit vectors, and find each of them."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((n_vectors, 64), np.float32)
    vectors[-n_copies:] = vectors[:n_copies] + 0.01 * rng.standard_normal((n_copies, 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    pairs = dedup.match(vectors, threshold=0.2)  # L2; every pair within it, none is missed
    print(pairs)
    print(f"{len(pairs)} pairs, {n_copies} planted")


if __name__ == "__main__":
    main()
