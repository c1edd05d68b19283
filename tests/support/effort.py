"""How many examples a property is tried on: some in ``make test``, all in ``make stress``."""

import os

IS_STRESS = bool(os.environ.get("DEDUP_STRESS"))


def examples(n: int) -> int:
    """A third of the examples where time counts; they are drawn in the same order."""
    return n if IS_STRESS else max(10, n // 3)
