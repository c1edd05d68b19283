"""The command ``review``: the page, invitations, and the ledger as a file."""

from __future__ import annotations

import getpass
import ipaddress
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from dedup import pipeline
from dedup.actions.measurement import ENDS, frame_of
from dedup.cli.outcome import say
from dedup.config.instances import build, plain
from dedup.detection.results import DetectionResult, index_of
from dedup.errors import ArtifactError, ConfigError
from dedup.reports.group_table import evidence_of
from dedup.reports.proofs import surest_pairs
from dedup.review.accounts import Accounts
from dedup.review.audit import EVERY, Draw
from dedup.review.desk import Desk
from dedup.review.items import Item, Question, Table, items_of
from dedup.review.ledger import Ledger
from dedup.review.standing import Catalogue, plain_rows
from dedup.runtime.garbage import staying
from dedup.runtime.invocation import command
from dedup.runtime.nouns import counted
from dedup.search import origins
from dedup.search.index import Index

log = logging.getLogger("dedup")

CALIBRATION_DRAWS = 300
"""Pairs that are drawn by chance, at least, where a review is for a calibration."""


def export(cfg: DictConfig) -> None:
    """Write all decisions of the ledger into a file."""
    ledger, path = _ledger(cfg), Path(str(cfg.export))
    n = ledger.export(path)
    say(f"{counted(n, 'row')} of {ledger.name} written to {path}")


def import_(cfg: DictConfig) -> None:
    """Read the decisions of a file into the ledger."""
    ledger, path = _ledger(cfg), Path(str(cfg["import"]))
    n = ledger.import_(path)
    say(f"{counted(n, 'new row')} of {path} added to {ledger.name}")


def invite(cfg: DictConfig) -> None:
    """Print a link for another person."""
    ledger = _ledger(cfg)
    _check_server(plain(cfg.server))
    token = Accounts(ledger.database).invite(str(cfg.invite), str(cfg.role))
    address = _addresses(plain(cfg.server), cfg.server.port)[0]
    say(f"{address}/#{token}")
    log.info("the link opens the page once, for %s: send it to nobody else", cfg.invite)


def open_page(cfg: DictConfig) -> None:
    """Serve the page on a detect run until the process is stopped."""
    from dedup.review.pictures import Pictures  # OpenCV and uvicorn: not for the rest
    from dedup.review.server import ReviewApp, listen, serve

    settings = plain(cfg.server)
    _check_server(settings)
    ledger = _ledger(cfg)
    with staying():
        desk, index = opened(Path(str(cfg.findings)), ledger, plain(cfg.work))
    accounts = Accounts(ledger.database)
    app = ReviewApp(
        desk, Pictures(desk.catalogue, index.sight), accounts,
        settings["address"] is not None, settings["sso_header"],
    )  # fmt: skip
    listener = listen(settings["host"], settings["port"])
    addresses = _addresses(settings, listener.getsockname()[1])
    name = str(cfg.reviewer or _account())

    def started() -> None:
        log.info("%s open, %s settled; decisions are kept in %s",
                 counted(desk.queue.n_open(), "item"),
                 f"{len(desk.items) - desk.queue.n_open():,}", ledger.name)  # fmt: skip
        if desk.state.renamed:
            log.info("%s carried over to new ids: the page lists and undoes them",
                     counted(len(desk.state.renamed), "decision"))  # fmt: skip
        say(f"open {addresses[0]}/#{accounts.invite(name, 'lead')} and stop with Ctrl-C")

    proxies = [settings["trusted_proxy"]] if settings["trusted_proxy"] else []
    try:
        serve(app.asgi(addresses, proxies), listener, started)
    except KeyboardInterrupt:
        log.info("stopped: every decision is in %s", ledger.name)
    finally:
        ledger.close()


def opened(folder: Path, ledger: Ledger, work: dict[str, Any]) -> tuple[Desk, Index]:
    """Open a detect run for review.

    Args:
        folder: the run's folder.
        ledger: the decisions.
        work: settings of the page: ``filters`` and ``rules``, names of columns; ``audit``, a
            number of pairs; ``ask``, ``usual`` or ``calibration``.

    Raises:
        ArtifactError: there is no result, or its index is gone.
        ConfigError: the run compared two catalogues.
    """
    result, place = DetectionResult.load(folder), index_of(folder)
    if result.search is not None and result.search.against:
        raise ConfigError(
            f"{folder} compares two catalogues, and decisions are kept for one: name a run "
            "without against= by findings=PATH"
        )
    if place is None:
        raise ArtifactError(
            f"{folder} does not say which index it was found in: run {command('detect')} again"
        )
    index = pipeline.with_images(origins.load_index(place), place)
    catalogue = Catalogue.of(index)
    run = folder.resolve().name
    items = questions(result, catalogue)
    for_calibration = work["ask"] == "calibration"
    n_drawn = len(items) // (EVERY - 1) + int(work["audit"])
    n_drawn = max(n_drawn, CALIBRATION_DRAWS) if for_calibration else n_drawn
    threshold = 0.5 if result.calibration is None else result.calibration.threshold
    desk = Desk.opened(
        ledger, catalogue, Table(index), items, run, work["filters"], work["rules"],
        audit=audit_of(result, catalogue, run, n_drawn), n_first=int(work["audit"]),
        threshold=threshold if for_calibration else None,
    )  # fmt: skip
    return desk, index


def audit_of(
    result: DetectionResult, catalogue: Catalogue, run: str, n: int
) -> list[tuple[Question, Draw]]:
    """Draw pairs of a result for the audit, n at most."""
    draws = frame_of(result, run).draws(n)
    wanted = {pair for pair, _ in draws}
    rows = pd.concat([result.pairs, result.candidates])
    rows = rows[[pair in wanted for pair in zip(rows[ENDS[0]], rows[ENDS[1]], strict=True)]]
    rows = rows.drop_duplicates(ENDS)
    of = {
        evidence.pair: Question(evidence, "", tier, score, distance, words)
        for evidence, tier, score, distance, words in zip(
            catalogue.evidence(rows), rows["tier"], rows["score"], rows["distance"],
            evidence_of(rows), strict=True,
        )
    }  # fmt: skip
    return [(of[pair], draw) for pair, draw in draws]


def questions(result: DetectionResult, catalogue: Catalogue) -> list[Item]:
    """Make the items of a result: its groups, then other pairs, then related products."""
    proofs = surest_pairs(result.groups, result.pairs)
    proofs = proofs.assign(words=evidence_of(proofs))
    home = dict(plain_rows(result.groups[["product_id", "group_id"]]))
    ends = plain_rows(result.pairs[["product_id_a", "product_id_b"]])
    homes = [(home.get(one), home.get(other)) for one, other in ends]
    is_across = [one is None or one != other for one, other in homes]
    across = result.pairs[np.array(is_across, bool)]
    others = pd.concat([across, result.related])
    others = others.assign(words=evidence_of(others))
    return items_of(result.groups, proofs, others, catalogue)


def _ledger(cfg: DictConfig) -> Ledger:
    ledger: Ledger | None = build(cfg.ledger)
    if ledger is None:
        raise ConfigError("ledger=none keeps no decisions: choose ledger=sqlite, or leave it out")
    return ledger


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        return "reviewer"


def _check_server(settings: dict[str, Any]) -> None:
    """Check that a page that others can reach is behind a proxy with TLS.

    Raises:
        ConfigError: it is not.
    """
    host, proxy, address = (settings[name] for name in ("host", "trusted_proxy", "address"))
    if not _is_loopback(host) and not (proxy and address):
        raise ConfigError(
            f"server.host={host} can be reached by others, and this server has no TLS: name the "
            "proxy in front of it with server.trusted_proxy=IP and server.address=https://NAME, or "
            "leave server.host out"
        )
    if address is not None and (
        not str(address).startswith("https://") or str(address).count("/") != 2
    ):
        raise ConfigError(f"server.address={address}: expected https:// and a name, without a path")
    if settings["sso_header"] is not None and not proxy:
        raise ConfigError(
            "server.sso_header needs server.trusted_proxy=IP: anybody else could send that header"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _addresses(settings: dict[str, Any], port: int) -> list[str]:
    """List the addresses of the page, that of the link first."""
    if settings["address"] is not None:
        return [str(settings["address"])]
    host = str(settings["host"])
    names = [f"[{host}]" if ":" in host else host, "127.0.0.1", "localhost"]
    return [f"http://{name}:{port}" for name in dict.fromkeys(names)]
