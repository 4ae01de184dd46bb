"""`python -m benchmarks`: how fast it is, on this machine, now. Exits 1 when a figure is below its bound."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from benchmarks import dashboards, latency, lateness, memory, reads, rebuilding, takeover, throughput, watching
from benchmarks.buyers import warm_up
from benchmarks.report import Result, show
from benchmarks.rig import Neighbours, Rig

Measure = Callable[..., Result]
BENCHMARKS: dict[str, Measure] = {
    "throughput": throughput.measure,
    "latency": latency.measure,
    "lateness": lateness.measure,
    "takeover": takeover.measure,
    "rebuild": rebuilding.measure,
    "memory": memory.measure,
    "reads": reads.measure,
    "watching": watching.measure,
    "dashboards": dashboards.measure,
}


def main(
    only: Annotated[str, typer.Option(help=f"Just these: {','.join(BENCHMARKS)}")] = ",".join(BENCHMARKS),
    json: Annotated[Path | None, typer.Option(help="Where to write the figures and the raw samples")] = None,
    data: Annotated[Path | None, typer.Option(help="Where to work; a temporary directory unless given")] = None,
    *,
    quick: Annotated[bool, typer.Option(help="A smaller form, for a first look")] = False,
) -> None:
    """Measure with real processes, which are started and ended here."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = set(names).difference(BENCHMARKS)
    if unknown or not names:
        raise typer.BadParameter(f"{', '.join(sorted(unknown)) or 'nothing'} is none of {', '.join(BENCHMARKS)}")
    console = Console()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary, Rig(data or Path(temporary)) as rig:
        with console.status("warming up"):
            warm_up(rig, quick=quick)
        for name in names:
            with console.status(f"measuring {name}"):
                neighbours = Neighbours()
                result = BENCHMARKS[name](rig, quick=quick)
                result.notes.append(f"others used {100 * neighbours.share():.0f} % of the machine meanwhile")
                results.append(result)
    show(console, results)
    report = orjson.dumps([result.as_json() for result in results], option=orjson.OPT_INDENT_2)
    if json is None:
        print(report.decode())
    else:
        json.write_bytes(report)
    raise typer.Exit(0 if all(result.holds for result in results) else 1)


if __name__ == "__main__":
    typer.run(main)
