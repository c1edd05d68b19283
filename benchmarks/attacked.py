"""What ``benchmarks/attacks.py`` does in a process of its own, to see what it takes.

    python benchmarks/attacked.py ingest TABLE FOLDER SETTINGS
    python benchmarks/attacked.py serve COMMANDS
    python benchmarks/attacked.py read FILE plain|checked

Each prints a line of JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any


def peak() -> float:
    """The most memory that this process has had, in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def ingest(table: str, folder: str, settings: str) -> dict[str, Any]:
    """Read a table's images into a store, and say what it took."""
    from dedup.download.client import Fetcher
    from dedup.errors import DedupError
    from dedup.sources.csv import CsvSource
    from dedup.store.image_store import ImageStore

    threads, start, said = [0], time.perf_counter(), ""

    def watch() -> None:
        while True:
            threads[0] = max(threads[0], threading.active_count() - 1)
            time.sleep(0.01)

    threading.Thread(target=watch, daemon=True).start()
    place = Path(folder)
    store = ImageStore(place / "store", fetcher=Fetcher(**json.loads(settings)))
    try:
        images = store.ingest(CsvSource(table).read(), place)
        images.to_parquet(place / "images.parquet")
    except DedupError as error:
        said = f"{type(error).__name__}: {error}"
    mine, theirs = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "said": said,
        "seconds": time.perf_counter() - start,
        "cpu": mine.ru_utime + mine.ru_stime,
        "peak": peak(),
        "child": theirs.ru_maxrss / 1024,
        "threads": threads[0],
    }


def serve(commands: str) -> list[Any]:
    """Run commands where the name service is ours, and every address is a server of ours.

    Returns:
        How many questions were asked, the address of each connection that came, how many were
        begun in all, and what each command said.
    """
    from tests.support.hostile import hostile
    from tests.support.nameserver import ATTACKS, CUT, REBOUND, many, naming, split

    zone = {name: answer for name, (answer, _) in ATTACKS.items()} | REBOUND
    zone |= {f"hanging-{number}.test": split(A=CUT, AAAA=CUT) for number in range(300)}
    zone |= {"closed.test": many("9.9.31.1")}
    with naming(zone) as server, hostile("0.0.0.0", 80) as site, hostile("::", 80) as site6:
        said = [
            json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            for command in json.loads(commands)
        ]
        lines = Path("/proc/net/snmp").read_text(encoding="ascii").splitlines()
        names, values = (line.split() for line in lines if line.startswith("Tcp:"))
        begun = int(values[names.index("ActiveOpens")])
        asked = sum(server.asked.values())
        return [asked, site.connections + site6.connections, begun, said]


def read(path: str, how: str) -> list[Any]:
    """Read a Parquet file as it comes, or by what is expected of it; what came, s, MB."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from parquets import SCHEMA

    start = time.perf_counter()
    try:
        table = pq.read_table(path).to_pandas() if how == "plain" else checked(path)
        said = table if isinstance(table, str) else f"{len(table):,} rows"
        if not isinstance(table, str) and list(table.columns) != SCHEMA.names:
            said += f" of {', '.join(map(str, list(table.columns)[:3]))}"
    except (pa.ArrowException, OSError) as error:
        said = type(error).__name__
    except Exception as error:  # noqa: BLE001 what else a file can raise is what is asked
        said = f"**{type(error).__name__}**"
    return [said, time.perf_counter() - start, peak()]


def checked(path: str) -> Any:
    """A table of the columns and the rows that are expected, or why it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from parquets import ROWS, SCHEMA

    with pq.ParquetFile(path) as file:
        said = file.metadata
        groups = [said.row_group(number).num_rows for number in range(said.num_row_groups)]
        if not file.schema_arrow.remove_metadata().equals(SCHEMA):
            return "other columns"
        if said.num_rows != ROWS or sum(groups) != ROWS:
            return "another number of rows"
        table = file.read(use_threads=False)
    if table.num_rows != ROWS:
        return "another number of rows came"
    table.validate(full=True)
    # Without what the file says of pandas: that is parsed even where it is not heeded.
    return pa.Table.from_arrays(table.columns, schema=SCHEMA).to_pandas()


if __name__ == "__main__":
    print(json.dumps({"ingest": ingest, "serve": serve, "read": read}[sys.argv[1]](*sys.argv[2:])))
