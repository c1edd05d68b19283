"""The table of pairs, read back with the standard library's reader."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dedup.detection.results import DetectionResult
from dedup.errors import ConfigError
from dedup.reports.csv import CsvReport
from dedup.reports.records import n_left_out, typed_addresses
from dedup.schemas import FAMILIES, GROUPS, INDEX_IMAGES, PAIRS, SHARED
from dedup.search.index import Index

HEADER = (
    "product_id_a,product_id_b,distance,tier,group_id,image_a,image_b,score,evidence,relation,"
    "kept,group_size,title_a,title_b,address_a,address_b"
)
GROUPS_HEADER = "product_id,group_id,kept,duplicate_of,score,evidence"
SAME, NEAR = "same image", "near: distance 1.5"
EMPTY = np.zeros((0, 2), np.float32)
INDEX = Index(pd.DataFrame(columns=INDEX_IMAGES.names), EMPTY, EMPTY, pd.DataFrame())


def written(
    rows: list[tuple[object, ...]],
    group_of: dict[str, str],
    folder: Path,
    shared: list[tuple[object, ...]] | None = None,
    index: Index = INDEX,
) -> Path:
    """The report on these rows of ``PAIRS`` and ``SHARED``."""
    groups = pd.DataFrame([(key, n, key == n) for key, n in group_of.items()], columns=GROUPS.names)
    pairs = pd.DataFrame(rows, columns=PAIRS.names)
    findings = DetectionResult(pairs, groups, pd.DataFrame(shared or [], columns=SHARED.names))
    path = CsvReport(columns=list(index.products.columns[2:])).write(findings, index, folder)
    assert path == folder / "duplicates.csv"
    return path


def read(path: Path) -> list[list[str]]:
    """Every record, as text."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, strict=True))


def test_one_line_for_each_pair(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [
        ("A", "B", 0.0, "same_url", "http://x/1.jpg", "http://x/1.jpg", 1.0, "same address", SAME),
        (
            "C",
            "D",
            0.25,
            "near",
            "http://x/2.jpg",
            "http://x/3.jpg",
            0.875,
            "mirrored, cropped",
            SAME,
        ),
        ("C", "E", 0.5, "near", "http://x/2.jpg", "http://x/4.jpg", math.nan, "", SAME),
    ]
    path = written(rows, {"A": "A", "B": "A", "C": "C", "D": "C"}, tmp_path)
    assert path.read_bytes().decode() == (
        f"{HEADER}\n"
        "A,B,0.0,same_url,A,http://x/1.jpg,http://x/1.jpg,1.0,same address,same image,"
        "A,2,,,http://x/1.jpg,http://x/1.jpg\n"
        'C,D,0.25,near,C,http://x/2.jpg,http://x/3.jpg,0.875,"mirrored, cropped",copy,'
        "C,2,,,http://x/2.jpg,http://x/3.jpg\n"
        "C,E,0.5,near,,http://x/2.jpg,http://x/4.jpg,,near: distance 0.5,copy,"
        ",,,,http://x/2.jpg,http://x/4.jpg\n"
    )
    assert path.with_name("groups.csv").read_text() == (
        f"{GROUPS_HEADER}\n"
        "A,A,True,,,\n"
        "B,A,False,A,1.0,same address\n"
        "C,C,True,,,\n"
        'D,C,False,C,0.875,"mirrored, cropped"\n'
    )


def shop() -> Index:
    """Three products whose table has relative addresses, of which one was read for each."""
    rows = [("A", "Hat", "x/1.jpg;x/9.jpg", "Acme"), ("B", "", "x/%32.jpg", ""), ("C", "", "", "")]
    images = [
        (0, "A", "/shop/x/1.jpg", "ok"),
        (1, "B", "/shop/x/2.jpg", "ok"),
        (2, "C", "", "failed"),
    ]
    products = pd.DataFrame(rows, columns=["sku", "name", "photos", "brand"])
    manifest = {"id_column": "sku", "title_column": "name", "url_column": "photos"}
    table = pd.DataFrame(images, columns=["record", "product_id", "url", "status"])
    return Index(table.reindex(columns=INDEX_IMAGES.names), EMPTY, EMPTY, products, manifest)


def test_the_users_own_table_stands_beside_it(tmp_path: Path) -> None:
    row = ("A", "B", 0.25, "near", "/shop/x/1.jpg", "/shop/x/2.jpg", 0.875, "mirrored", SAME)
    path = written([row], {"A": "A", "B": "A"}, tmp_path, index=shop())
    head, record = read(path)
    assert head[12:] == [*HEADER.split(",")[12:], "photos_a", "photos_b", "brand_a", "brand_b"]
    assert record[12:16] == ["Hat", "", "x/1.jpg", "x/%32.jpg"]
    assert record[18:] == ["Acme", ""]
    head, *records = read(path.with_name("groups.csv"))
    assert head == [*GROUPS_HEADER.split(","), "photos", "brand"]
    assert [record[7] for record in records] == ["Acme", ""]
    assert n_left_out(shop()) == 1
    assert len(read(written([], {}, tmp_path, index=shop()))) == 1


def test_further_addresses_are_counted_over_several_columns() -> None:
    rows = [("A", "1.jpg", "2.jpg, 3.jpg"), ("B", "1.jpg", ""), ("C", "1.jpg", "1.jpg|1.jpg"),
            ("D", "a;b.jpg", "")]  # fmt: skip
    products = pd.DataFrame(rows, columns=["sku", "main", "more"])
    urls = ["/shop/1.jpg", "/shop/1.jpg", "/shop/1.jpg", "/shop/a;b.jpg"]
    images = pd.DataFrame(
        {"record": range(4), "product_id": products["sku"], "url": urls, "status": "ok"}
    ).reindex(columns=INDEX_IMAGES.names)
    manifest = {"id_column": "sku", "title_column": None, "url_column": ["main", "more"]}
    index = Index(images, EMPTY, EMPTY, products, manifest)
    assert n_left_out(index) == 2
    assert typed_addresses(["A", "D"], [urls[0], urls[3]], index) == ["1.jpg", "a;b.jpg"]


def test_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no column brnd, did you mean brand"):
        CsvReport(columns=["brnd"]).check(shop())


def test_a_pair_across_groups_has_no_group(tmp_path: Path) -> None:
    ends = [("A", "B"), ("B", "C"), ("C", "D"), ("D", "E"), ("E", "F")]
    rows: list[tuple[object, ...]] = [
        (a, b, 0.5, "near", "u", "u", math.nan, "", SAME) for a, b in ends
    ]
    path = written(rows, {"A": "A", "B": "A", "C": "C", "D": "C"}, tmp_path)
    assert [record[4] for record in read(path)[1:]] == ["A", "", "C", "", ""]


def test_images_that_prove_nothing_have_a_table_of_their_own(tmp_path: Path) -> None:
    digests = ["0123456789abcdef" * 4, "f" * 64]
    shared: list[tuple[object, ...]] = [
        (digests[0], "007", "http://x/a,b.jpg", 5000, "shared"),
        (digests[1], 'say "x"', "http://x/2.jpg", 2, "flat"),
    ]
    path = written([], {}, tmp_path, shared)
    assert read(path.with_name("shared.csv")) == [
        ["product_id", "image", "n_products", "reason", "picture"],
        ["007", "http://x/a,b.jpg", "5000", "shared", "0123456789ab"],
        ['say "x"', "http://x/2.jpg", "2", "flat", "f" * 12],
    ]


def test_without_such_images_there_is_no_such_table(tmp_path: Path) -> None:
    path = written([], {}, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, "groups.csv"]


def test_no_pairs_are_a_header_alone(tmp_path: Path) -> None:
    assert written([], {}, tmp_path).read_bytes() == f"{HEADER}\n".encode()


def test_distances_and_scores_come_back_to_the_last_bit(tmp_path: Path) -> None:
    values = [0.0, 0.1 + 0.2, 5e-324, 1e-17, 1e22, *np.random.default_rng(0).random(200).tolist()]
    rows: list[tuple[object, ...]] = [("A", "B", it, "near", "", "", it, "", SAME) for it in values]
    records = read(written(rows, {"A": "A", "B": "A"}, tmp_path))[1:]
    for column in (2, 7):
        assert [float(record[column]) for record in records] == values


@pytest.mark.parametrize(
    "odd",
    [
        "007",
        "1e5",
        "NA",
        "",
        " a ",
        "a,b",
        'say "x"',
        "a\nb",
        "a\rb",
        "\r\n",
        "é\u202e",
        "=1+1",
        "'",
    ],
)
def test_ids_and_addresses_stay_as_they_are(tmp_path: Path, odd: str) -> None:
    row = (odd, "z", 1.5, "near", f"http://x/{odd}.jpg", odd, 0.5, odd, SAME)
    path = written([row], {odd: odd, "z": odd}, tmp_path)
    assert read(path) == [
        HEADER.split(","),
        [
            odd,
            "z",
            "1.5",
            "near",
            odd,
            f"http://x/{odd}.jpg",
            odd,
            "0.5",
            odd or NEAR,
            "copy",
            odd,
            "2",
            "",
            "",
            f"http://x/{odd}.jpg",
            odd,
        ],
    ]


def test_what_is_related_has_a_table_of_its_own(tmp_path: Path) -> None:
    rows = [
        ("A", "B", 0.5, "near", "u", "v", 0.96875, "other colours", "colour variant"),
        ("C", "D", 0.75, "near", "w", "x", math.nan, "same image", "same product"),
    ]
    findings = DetectionResult(
        pairs=pd.DataFrame(columns=PAIRS.names),
        groups=pd.DataFrame(columns=GROUPS.names),
        shared=pd.DataFrame(columns=SHARED.names),
        related=pd.DataFrame(rows, columns=PAIRS.names),
        families=pd.DataFrame([("A", "A", "A"), ("B", "A", "B")], columns=FAMILIES.names),
    )
    path = CsvReport().write(findings, INDEX, tmp_path)
    assert read(path) == [HEADER.split(",")]
    assert path.with_name("related.csv").read_text() == (
        "product_id_a,product_id_b,relation,family_id,distance,image_a,image_b,score,evidence,"
        "title_a,title_b,address_a,address_b\n"
        "A,B,colour variant,A,0.5,u,v,0.96875,other colours,,,u,v\n"
        "C,D,same product,,0.75,w,x,,same image,,,w,x\n"
    )
    products = pd.DataFrame({"id": list("ABC"), "name": ["one", "two", ""], "brand": list("xyz")})
    index = replace(INDEX, products=products,
                    manifest={"id_column": "id", "title_column": "name"})  # fmt: skip
    CsvReport(columns=["brand"]).write(findings, index, tmp_path)
    assert [row[9:11] + row[13:] for row in read(path.with_name("related.csv"))] == [
        ["title_a", "title_b", "brand_a", "brand_b"], ["one", "two", "x", "y"], ["", "", "z", ""],
    ]  # fmt: skip
