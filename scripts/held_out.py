"""Which images the classifier of copies is never fitted on, so that benchmarks may measure it.

Photos are told apart by their sender, who has one home and one camera: all photos of a sender are
held out, or none. Goods are told apart by the name of their file.
"""

from __future__ import annotations

from hashlib import sha256


def is_held_out(key: str) -> bool:
    """Tell whether images of a key are held out: about a third of all keys are.

    Args:
        key: a photo's ``sender_id``, as its table writes it, or the name of a file of goods.
    """
    return int(sha256(f"0{key}".encode()).hexdigest(), 16) % 3 == 0
