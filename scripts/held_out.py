"""Which images the classifier of copies is never fitted on, so that benchmarks may measure it.

Photos are told apart by their sender, who has one home and one camera: all photos of a sender are
held out, or none. Goods are told apart by the name of their file.
"""

from __future__ import annotations

from hashlib import sha256

UNLISTED = frozenset(
    (
        "f6f0b6a5-5053-44d2-8fa4-241719f97237.jpg",
        "fc68930e-47fe-4972-894a-c52eac23d77d.jpg",
    )
)
"""One photo and a crop of it, which the table of true duplicates lacks."""


def is_held_out(key: str) -> bool:
    """Tell whether images of a key are held out: about a third of all keys are.

    Args:
        key: a photo's ``sender_id``, as its table writes it, or the name of a file of goods.
    """
    return int(sha256(f"0{key}".encode()).hexdigest(), 16) % 3 == 0
