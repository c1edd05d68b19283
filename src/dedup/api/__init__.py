"""Python API: the steps of the commands as functions of plain arguments, without Hydra."""

from dedup.api.functions import build_index, find_duplicates, query, update_index
from dedup.api.index import Index
from dedup.api.result import DetectionResult
from dedup.api.vectors import match

__all__ = [
    "DetectionResult",
    "Index",
    "build_index",
    "find_duplicates",
    "match",
    "query",
    "update_index",
]
