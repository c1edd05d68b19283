"""A run under review: drawn images, a ledger, and the app on a port of the loopback."""

import hashlib
import http.client
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.cli.reviews import questions
from dedup.detection.results import DetectionResult
from dedup.review.accounts import Accounts
from dedup.review.desk import Desk
from dedup.review.items import Table
from dedup.review.ledger import Ledger
from dedup.review.pictures import Pictures
from dedup.review.server import ReviewApp, listen
from dedup.review.sqlite import SqliteLedger
from dedup.review.standing import Catalogue
from dedup.schemas import GROUPS, INDEX_IMAGES, PAIRS, SHARED
from dedup.search.image_access import ImageAccess
from dedup.search.index import Index
from tests.conftest import draw


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Shop:
    """Groups of products, named by their numbers: ``g0-a`` is kept, ``g0-b`` its copy.

    Attributes:
        sizes: products in each group.
        titles: titles by product; others are made up.
        image_of: name of a product's image; its own by default.
        tier: of all pairs.
        related: pairs that are colour variants.
    """

    sizes: Sequence[int] = (2, 3, 2)
    titles: dict[str, str] = field(default_factory=dict)
    image_of: dict[str, str] = field(default_factory=dict)
    rename: dict[str, str] = field(default_factory=dict)
    tier: str = "near"
    related: Sequence[tuple[str, str]] = ()

    def members(self) -> list[list[str]]:
        names = [
            [f"g{number}-{letter}" for letter in "abcdefghij"[:size]]
            for number, size in enumerate(self.sizes)
        ]
        return [[self.rename.get(name, name) for name in group] for group in names]

    def image(self, product: str) -> str:
        old = {new: old for old, new in self.rename.items()}.get(product, product)
        return self.image_of.get(old, old)

    def index(self) -> Index:
        products = [product for group in self.members() for product in group]
        rows = [
            {
                "record": at, "product_id": product, "url": f"/{self.image(product)}.jpg",
                "sha256_bytes": digest(f"b{self.image(product)}"),
                "sha256_pixels": digest(self.image(product)), "width": 9, "height": 9,
                "contrast": 30.0, "status": "ok", "reason": "", "detail": "", "vector": at,
                "cluster": 0,
            }
            for at, product in enumerate(products)
        ]  # fmt: skip
        table = pd.DataFrame(
            {
                "id": products,
                "title": [self.titles.get(key, f"Blue coat {key}") for key in products],
                "brand": [f"brand {at % 3}" for at in range(len(products))],
                "price": [f"{at % 7}.00" for at in range(len(products))],
                "url": "x",
            },
            dtype=str,
        )
        manifest = {"id_column": "id", "title_column": "title", "url_column": "url"}
        none = np.zeros((1, 2), np.float32)
        images = pd.DataFrame(rows, columns=INDEX_IMAGES.names)
        return Index(images, none, none, table, manifest)

    def result(self) -> DetectionResult:
        groups, pairs = [], []
        for members in self.members():
            group = min(members)
            groups += [(product, group, product == members[0]) for product in members]
            for other in members[1:]:
                left, right = sorted((members[0], other))
                pairs.append(self._pair(left, right, "same image"))
        related = [self._pair(*sorted(pair), "colour variant") for pair in self.related]
        return DetectionResult(
            pairs=pd.DataFrame(sorted(pairs), columns=PAIRS.names),
            groups=pd.DataFrame(groups, columns=GROUPS.names).sort_values(
                ["group_id", "product_id"]
            ),
            shared=pd.DataFrame(columns=SHARED.names),
            related=pd.DataFrame(related, columns=PAIRS.names),
        )

    def _pair(self, left: str, right: str, relation: str) -> tuple[Any, ...]:
        images = (f"/{self.image(left)}.jpg", f"/{self.image(right)}.jpg")
        return left, right, 0.5, self.tier, *images, 0.9, "cropped to 90 %", relation

    def desk(self, ledger: Ledger, **more: Any) -> Desk:
        catalogue = Catalogue.of(self.index())
        items = questions(self.result(), catalogue)
        return Desk.opened(
            ledger, catalogue, Table(self.index()), items, "run", ["brand"], ["brand"], **more
        )


def previews(urls: Sequence[str]) -> list[npt.NDArray[np.uint8]]:
    """A drawn image for each address; the copies of a group look much alike."""
    images = []
    for url in urls:
        seed = int(digest(url.split("-")[0])[:6], 16)
        image = np.array(draw(seed, (120, 160)).convert("RGB"))
        if not url.endswith("a.jpg"):
            image[10:40, 10:40] = 255 - image[10:40, 10:40]
        images.append(image)
    return images


def no_words(urls: Sequence[str]) -> npt.NDArray[np.int32]:
    return np.zeros((len(urls), 1), np.int32)


class Running:
    """The app on a port of its own, in a thread."""

    def __init__(self, desk: Desk) -> None:
        import uvicorn

        self.desk = desk
        self.accounts = Accounts(desk.ledger.database)
        app = ReviewApp(
            desk, Pictures(desk.catalogue, ImageAccess(previews, no_words)), self.accounts
        )
        self._listener = listen("127.0.0.1", 0)
        self.port = self._listener.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            app.asgi([self.origin]), log_level="critical", log_config=None, lifespan="off",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._listener],), daemon=True
        )
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._listener.close()

    def link(self, name: str = "ann", role: str = "lead") -> str:
        return f"{self.origin}/#{self.accounts.invite(name, role)}"

    def client(self, name: str = "ann", role: str = "lead") -> "Client":
        return Client(self, name, role)


class Client:
    """A reviewer without a browser."""

    def __init__(self, running: Running, name: str, role: str) -> None:
        self.running = running
        self.cookie = ""
        token = running.link(name, role).partition("#")[2]
        status, headers, _ = self.send("POST", "/api/session", {"token": token})
        assert status == 200
        self.cookie = headers["set-cookie"].partition(";")[0]

    def send(
        self, method: str, path: str, body: Any = None, **headers: str | None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request as our page does; a header of None is left out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.running.port, timeout=30)
        given: dict[str, str | None] = {
            "Host": f"127.0.0.1:{self.running.port}", "Cookie": self.cookie,
            "Sec-Fetch-Site": "same-origin",
        }  # fmt: skip
        data = None if body is None else json.dumps(body).encode()
        if method == "POST":
            given |= {"Origin": self.running.origin, "Content-Type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in given.items() if value is not None}
        connection.request(method, path, data, sent)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, content

    def get(self, path: str) -> Any:
        status, _, content = self.send("GET", path)
        assert status == 200, content
        return json.loads(content)

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        status, _, content = self.send("POST", path, body)
        return status, json.loads(content)

    def decide(self, batch: str, *choices: dict[str, Any], source: str = "key") -> tuple[int, Any]:
        return self.post(
            "/api/decisions", {"batch": batch, "choices": list(choices), "source": source}
        )


def choice(left: str, right: str, verdict: str, **more: Any) -> dict[str, Any]:
    return {"left": left, "right": right, "verdict": verdict, "expected": None, **more}


def memory() -> SqliteLedger:
    return SqliteLedger(":memory:")
