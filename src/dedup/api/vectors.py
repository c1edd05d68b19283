"""Match any vectors by their distance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.config.instances import build, default_config
from dedup.errors import ConfigError
from dedup.runtime.parallel import one_thread
from dedup.search.clustering import Clusterer
from dedup.search.radius import RadiusSearch, ordered


def match(vectors: npt.ArrayLike, threshold: float) -> pd.DataFrame:
    """Find every pair of vectors within a distance, exactly, by clusters and bisector bounds.

    Args:
        vectors: (n, d) finite numbers; compared as float32.
        threshold: largest L2 distance of a pair, above 0.

    Returns:
        Columns ``left`` and ``right`` (int64 row numbers, left < right) and ``distance``
        (float64), sorted by both rows.

    Raises:
        ConfigError: the vectors are no (n, d) finite numbers, or the threshold is not above 0.
    """
    try:
        given = np.asarray(vectors)
        if given.dtype.kind not in "fiub":
            raise TypeError(f"their type is {given.dtype}")
        table, threshold = np.ascontiguousarray(given, np.float32), float(threshold)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ConfigError(
            f"the vectors or the threshold are no real numbers ({error}): convert them first"
        ) from error
    if table.ndim != 2 or not np.isfinite(table).all():
        raise ConfigError(
            f"vectors of shape {table.shape} are not (n, d), or not finite: pass a two-dimensional "
            "array of finite numbers"
        )
    if not (np.isfinite(threshold) and threshold > 0):
        raise ConfigError(
            f"threshold={threshold} is not above 0: set a positive distance, which equal vectors "
            "always satisfy"
        )
    if len(table) < 2:
        return pd.DataFrame({"left": [], "right": [], "distance": []}).astype(_TYPES)
    with one_thread():
        clusterer: Clusterer = build(default_config("cluster").clusterer)
        clusters, centroids = clusterer.fit_predict(table)
        pairs = ordered(RadiusSearch(threshold).prepare(table, clusters, centroids).pairs())
    columns = (np.minimum(pairs.left, pairs.right), np.maximum(pairs.left, pairs.right))
    frame = pd.DataFrame({"left": columns[0], "right": columns[1], "distance": pairs.distance})
    return frame.sort_values(["left", "right"], ignore_index=True).astype(_TYPES)


_TYPES = {"left": np.int64, "right": np.int64, "distance": np.float64}
