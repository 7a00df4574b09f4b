"""Die at every step, one after the other; start again; look whether anything was lost or doubled.

kill      in process: killed before every call, and in the midst of every write
fail      in process: each call fails instead, once or for long (no room, a bad disk, no descriptors, no right)
power     in process: everything that was not yet synced is gone, torn, or there in another order
outside   the real programs, killed by strace at their system calls
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections import Counter

import inside
from scenes import BY_NAME, SCENES, Scene

KINDS = ("kill", "fail", "power", "outside")
SHOWN = 5  # violations of a scene that are printed


def main(argv: list[str]) -> int:
    """How many violations there were; a table of what was tried."""
    parser = argparse.ArgumentParser(
        prog="crash.py steps", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="all if none is named")
    parser.add_argument("--scene", action="append", choices=[*BY_NAME], help="this one only; may be repeated")
    parser.add_argument("--every", type=int, default=0, help="one point in so many, always the same ones")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--quick", action="store_true", help="a sample")
    given, _ = parser.parse_known_args(argv)
    every = given.every or (20 if given.quick else 1)
    scenes = [BY_NAME[name] for name in given.scene] if given.scene else list(SCENES)
    rows, bad = [], 0
    for kind in given.kinds or KINDS:
        for scene in scenes:
            begun = time.monotonic()
            tried = _one(kind, scene, every, given.jobs)
            if tried is None:
                continue
            found = [(one.point, text) for one in tried for text in one.found]
            bad += len(found)
            reached = sum(one.reached for one in tried)
            rows.append((kind, scene.name, scene.covers, reached, len(found), time.monotonic() - begun))
            print(
                f"{kind:8} {scene.name:15} {reached:6} points  {len(found):4} violations  {rows[-1][-1]:6.1f} s",
                flush=True,
            )
            for text, times in Counter(text for _, text in found).most_common(SHOWN):
                where = [str(point) for point, one in found if one == text][:6]
                print(f"    {times} × {text[:1000]}\n        {', '.join(where)}", flush=True)
    points = Counter[str]()
    for kind, _, _, reached, _, _ in rows:
        points[kind] += reached
    print(
        f"\n{sum(points.values())} points tried ({', '.join(f'{n} {kind}' for kind, n in points.items())}), {bad} violations"
    )
    return bad


def _one(kind: str, scene: Scene, every: int, jobs: int) -> list[inside.Tried] | None:
    if kind == "outside":
        import outside

        return outside.run(scene, every, jobs)
    folder = inside.workshop()
    try:
        if kind == "power":
            import power

            return power.run(scene, folder, every, jobs)
        trial = inside.Trial(scene, f"{folder}/{scene.name}")
        return inside.run(trial, inside.points(trial, every, kind), kind, jobs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
