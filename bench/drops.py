"""From the drop of a file to the first instruction of its agent."""

from __future__ import annotations

import os
import threading
import time

from tools import Figure, Place, median, quantile, within, write

NO_OP = "run: 'true'\n"


class Stamps:
    """A FIFO into which scripts write their names as their first act: exact, and without a fork.

    (The time of a file that they create would be up to a clock tick too early.)
    """

    def __init__(self, path: str) -> None:
        os.mkfifo(path)
        self.path = path
        self.at: dict[str, float] = {}
        self._fd = os.open(path, os.O_RDWR)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            said = os.read(self._fd, 4096)
            now = time.perf_counter()
            for name in said.decode().split():
                self.at[name] = now

    def wait(self, names: set[str], seconds: float = 60.0) -> None:
        """Until all of them have written. Raises RuntimeError."""
        deadline = time.monotonic() + seconds
        while missing := names - self.at.keys():
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{len(missing)} of {len(names)} dropped tasks never started, such as {min(missing)}"
                )
            time.sleep(0.01)


def latency(place: Place, quick: bool) -> list[Figure]:
    """From the rename or the close of a dropped file to the first instruction of its script."""
    root = place.root(slots=4)
    os.sync()  # what the row before has left is not written beside this one
    place.start(root)
    try:
        took = drop(place, root, 60 if quick else 200)
    finally:
        place.stop(root)
    rows = []
    for what, ways in (
        ("renamed in", ("moved",)),
        ("written in place", ("written",)),
        ("both ways", ("moved", "written")),
    ):
        values = [value for way in ways for value in took[way]]
        rows.append(figure("latency", f"{what}, {len(values)} at 50/s", values, took["hand"], bound=len(ways) == 2))
    return rows


def figure(row: str, what: str, values: list[float], floor: list[float], bound: bool = True, at: int = 0) -> Figure:
    """How it is shown."""
    half, most = median(values), quantile(values, 0.99)
    bounds = (within("p50 ≤ 3 ms", half, 3), within("p99 ≤ 15 ms", most, 15)) if bound else ()
    shown = f"p50 {half:.1f}  p99 {most:.1f}  max {max(values):.1f} ms"
    what = f"drop → first instruction, {what}"
    return Figure(row, what, "ms", values, "the script by hand", floor, bounds, shown=shown, at=at)


def drop(place: Place, root: str, count: int) -> dict[str, list[float]]:
    """Milliseconds of each of so many at 50 a second, every other one `moved` in or `written` in place, while others
    are claimed; and of as many started by `hand`. A dispatcher with free slots runs there."""
    outside = place.folder()
    stamps = Stamps(f"{outside}/stamps")
    dropped: dict[str, float] = {}
    pending = f"{root}/tasks/pending"

    def one(name: str, by_rename: bool) -> None:
        text = f"description: say when\nrun: |\n  echo {name} >{stamps.path}\n"
        path = f"{outside}/{name}" if by_rename else f"{pending}/{name}.yaml"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, text.encode())
        if by_rename:
            os.close(fd)
            dropped[name] = time.perf_counter()
            os.rename(path, f"{pending}/{name}.yaml")
        else:
            dropped[name] = time.perf_counter()
            os.close(fd)

    def others() -> None:  # claims all the while, out of step with the drops
        number = 0
        while not over.wait(0.097):
            number += 1
            write(f"{outside}/other_{number}", f"description: another\n{NO_OP}")
            os.rename(f"{outside}/other_{number}", f"{pending}/other_{number}.yaml")

    def by_hand(number: int) -> None:
        """The same script, started by nobody but us: what the system itself takes."""
        name = f"hand_{number}"
        script = f"{outside}/{name}.sh"
        write(script, f"echo {name} >{stamps.path}\n")
        dropped[name] = time.perf_counter()
        os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-e", script], os.environ), 0)

    over = threading.Event()
    for number in range(8):  # the first ones find cold caches
        one(f"warm_{number}", number % 2 == 0)
        time.sleep(0.05)
    stamps.wait(set(dropped))
    companion = threading.Thread(target=others)
    companion.start()
    begun = time.perf_counter()
    try:
        for number in range(count):
            time.sleep(max(0.0, begun + number * 0.020 - time.perf_counter()))
            one(f"{'moved' if number % 2 else 'written'}_{number}", bool(number % 2))
        stamps.wait(set(dropped))
    finally:
        over.set()
        companion.join()
    for number in range(count):
        by_hand(number)
    stamps.wait(set(dropped))
    took: dict[str, list[float]] = {"moved": [], "written": [], "hand": [], "warm": []}
    for name, at in dropped.items():
        took[name.partition("_")[0]].append(1000 * (stamps.at[name] - at))
    return took
