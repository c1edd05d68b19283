"""Steps of the commands and of the Python API, with explicit arguments."""

from dedup.pipeline.checks import check_columns
from dedup.pipeline.freshness import changes_since, warn_of_changed_table
from dedup.pipeline.indexes import (
    Embedding,
    add_products,
    log_changes,
    make_index,
    save_changed,
)
from dedup.pipeline.reading import (
    open_images,
    open_images_of,
    read_images,
    read_training_images,
    with_images,
)
from dedup.pipeline.searches import Sampling, answer, check_query, detect, detect_between

__all__ = [
    "Embedding",
    "Sampling",
    "add_products",
    "answer",
    "changes_since",
    "check_columns",
    "check_query",
    "detect",
    "detect_between",
    "log_changes",
    "make_index",
    "open_images",
    "open_images_of",
    "read_images",
    "read_training_images",
    "save_changed",
    "warn_of_changed_table",
    "with_images",
]
