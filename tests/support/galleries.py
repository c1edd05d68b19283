"""Judge pairs by all images of their products, one after the other."""

from itertools import combinations
from typing import NamedTuple

import pandas as pd

Ends = tuple[str, str]


class Agreement(NamedTuple):
    """Two images that agree, of two products in the order of their ids."""

    ends: Ends
    digests: tuple[str, str]


class Slow(NamedTuple):
    """What is left: agreements of pairs and of related pairs, words by pair, and shared images."""

    pairs: list[Agreement]
    related: list[Agreement]
    words: dict[Ends, str]
    shared: set[str]


def slowly(
    images: pd.DataFrame, agreements: list[Agreement], copies: list[tuple[str, str]]
) -> Slow:
    """Judge agreements by loops; ``copies`` are near images, ``images`` are all evidence."""
    name = {digest: {digest} for digest in images["sha256_pixels"]}
    for one, two in copies:
        if name[one] is not name[two]:
            joined = name[one] | name[two]
            name.update(dict.fromkeys(joined, joined))
    copy_of = {digest: min(same) for digest, same in name.items()}
    gallery: dict[str, set[str]] = {}
    records: dict[str, set[int]] = {}
    main: dict[str, str] = {}
    for row in images.to_dict("records"):
        key, image = row["product_id"], copy_of[row["sha256_pixels"]]
        gallery.setdefault(key, set()).add(image)
        records.setdefault(key, set()).add(row["record"])
        main.setdefault(key, image)
    everything = {key: set(shown) for key, shown in gallery.items()}
    agreed: dict[Ends, set[str]] = {}
    for each in agreements:
        agreed.setdefault(each.ends, set()).add(copy_of[each.digests[0]])
    shared: set[str] = set()
    while found := {image for image in set(copy_of.values()) if _is_shared(image, gallery, agreed)}:
        shared |= found
        gallery = {key: shown - found for key, shown in gallery.items()}
        agreed = {ends: same - found for ends, same in agreed.items()}
    words, related = {}, set()
    first = [main[key] for key in records if len(records[key]) == 1]
    ours = {each.ends: copy_of[each.digests[0]] for each in agreements
            if all(len(records[key]) == 1 for key in each.ends)
            and main[each.ends[0]] == main[each.ends[1]] == copy_of[each.digests[0]]
            and first.count(copy_of[each.digests[0]]) == 2}  # fmt: skip
    for ends, image in ours.items():
        agreed[ends] = agreed[ends] | {image}
    for ends, same in agreed.items():
        if not same:
            continue
        mains = [main.get(key, "") for key in ends]
        a, b = (gallery[key] for key in ends)
        orderly = all(len(records[key]) == 1 for key in ends)
        words[ends] = (
            "" if all(len(everything[key]) == 1 for key in ends)
            else "all images the same" if same - shared == a == b != set()
            else "an image is the same" if not orderly
            else "the main image is the same" if mains[0] == mains[1] in same
            else "a secondary image is shared"
        )  # fmt: skip
        least = min(len(a), len(b))
        if orderly and not same & set(mains) and least > 1 and 2 * len(same) <= least:
            related.add(ends)
    left = [each for each in agreements if copy_of[each.digests[0]] not in shared
            or ours.get(each.ends) == copy_of[each.digests[0]]]  # fmt: skip
    return Slow(
        [each for each in left if each.ends not in related],
        [each for each in left if each.ends in related],
        words,
        shared,
    )


def _is_shared(image: str, gallery: dict[str, set[str]], agreed: dict[Ends, set[str]]) -> bool:
    showing = [key for key, shown in gallery.items() if image in shown]
    several = sorted(key for key in showing if len(gallery[key]) > 1)
    pairs = [agreed.get(ends, set()) for ends in combinations(several, 2)]
    alone, agreeing = (sum(test(same) for same in pairs) for test in
                       (lambda same: same == {image}, lambda same: image in same))  # fmt: skip
    return len(several) >= 3 and 2 * len(several) > len(showing) and 2 * alone > agreeing
