"""Every row of every export of the corpus has the outcome that it should, by ``source=auto``."""

import logging
from pathlib import Path

import pytest

from dedup.config.instances import build, default_settings
from dedup.sources.catalogue import Catalogue
from tests.sources.exports import EXPORTS, Row

ENDS = "Choose otherwise with source=NAME, such as source=csv"


def outcomes(catalogue: Catalogue, folder: Path) -> list[Row]:
    """Id, title, addresses and reason of each record; addresses below the folder as they are."""
    products, requests = catalogue.products, catalogue.requests
    titles = products[catalogue.title_column].tolist()
    assert requests["record"].tolist() == [*range(len(products))]
    assert requests["product_id"].tolist() == products[catalogue.id_column].tolist()
    below = f"{folder.resolve()}/"
    found: list[Row] = []
    for row, title in zip(requests.itertuples(), titles, strict=True):
        urls = [url.removeprefix(below) for url in (row.url, *row.alternates) if url]
        found.append((row.product_id, title, urls, row.reason))
    return found


@pytest.mark.parametrize("name", EXPORTS)
def test_every_row_of_an_export(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    export, path = EXPORTS[name], tmp_path / "export"
    export.write(path)
    settings = default_settings("source", "auto") | {"path": str(path), **export.chosen}
    with caplog.at_level(logging.INFO, logger="dedup"):
        catalogue = build(settings).read()
    assert outcomes(catalogue, tmp_path) == export.rows
    chosen, read = (
        [line for line in caplog.messages if part in line]
        for part in (f"source={export.part} reads {path}: ", f"{path} is read ")
    )
    assert len(chosen) == 1
    assert chosen[0].endswith(ENDS)
    assert "\n" not in chosen[0]
    if "dialect" not in export.chosen:
        assert len(read) == bool(export.said)
        assert export.said in "".join(read)


def test_the_corpus_is_large() -> None:
    assert len(EXPORTS) >= 60
