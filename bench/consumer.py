"""The queues of others at their own work, in processes of their own, for the rows `throughput` and `submit`.

python consumer.py put KIND FOLDER COUNT    add so many tasks, and say how many seconds that took
python consumer.py work KIND FOLDER         run all that waits, four at once, each by subprocess; ends when it is killed

Each is used in the fastest way that its documents call sensible; no result is kept. A task that has run appends its
number and the time to FOLDER/done.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

SLOTS = 4
KINDS: dict[str, tuple[Callable[[str, Sequence[int]], float], Callable[[str], None]]] = {}


def run(number: int) -> None:
    """One task: the command, and that it is done."""
    subprocess.call(("true",))
    fd = os.open(os.environ["BENCH_DONE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, f"{number} {time.monotonic()}\n".encode())
    os.close(fd)


def kind(name: str) -> Callable[[type], type]:
    """A class with `put` and `work` is one kind of queue."""

    def known(one: type) -> type:
        KINDS[name] = (one.put, one.work)  # type: ignore[attr-defined]
        return one

    return known


def timed(put: Callable[[int], object], numbers: Sequence[int]) -> float:
    """Seconds for all."""
    begun = time.perf_counter()
    for number in numbers:
        put(number)
    return time.perf_counter() - begun


def processes(work: Callable[[], None]) -> None:
    """The same in each of four processes."""
    for _ in range(SLOTS - 1):
        if not os.fork():
            break
    work()


@kind("ours")
class Ours:
    """TaskQueue.create_task, one by one: each is on the disk when the call returns."""

    @staticmethod
    def put(folder: str, numbers: Sequence[int]) -> float:
        from orchestrator import TaskQueue

        queue = TaskQueue(folder)
        return timed(lambda number: queue.create_task("true"), numbers)

    @staticmethod
    def work(folder: str) -> None:
        raise NotImplementedError("the dispatcher does that")


@kind("ours, at once")
class OursAtOnce(Ours):
    """TaskQueue.create_tasks: all are on the disk when the call returns."""

    @staticmethod
    def put(folder: str, numbers: Sequence[int]) -> float:
        from orchestrator import TaskQueue

        queue = TaskQueue(folder)
        begun = time.perf_counter()
        queue.create_tasks([{"description": "true"} for _ in numbers])
        return time.perf_counter() - begun


class Huey:
    """Its own consumer with four processes, which looks again at once."""

    @staticmethod
    def consume(queue: Any) -> None:
        queue.create_consumer(
            workers=SLOTS, worker_type="process", periodic=False, initial_delay=0.01, max_delay=0.05
        ).run()


@kind("huey, files")
class HueyFiles(Huey):
    """FileHuey; it locks the whole queue for each call, and syncs nothing."""

    @staticmethod
    def queue(folder: str) -> tuple[Any, Any]:
        from huey import FileHuey

        queue = FileHuey("bench", path=f"{folder}/queue", results=False)
        return queue, queue.task(name="run")(run)

    @classmethod
    def put(cls, folder: str, numbers: Sequence[int]) -> float:
        return timed(cls.queue(folder)[1], numbers)

    @classmethod
    def work(cls, folder: str) -> None:
        cls.consume(cls.queue(folder)[0])


@kind("huey, SQLite")
class HueySqlite(HueyFiles):
    """SqliteHuey as it comes; SQLite's own default in a WAL is synchronous=FULL: a sync at each commit."""

    @staticmethod
    def queue(folder: str) -> tuple[Any, Any]:
        from huey import SqliteHuey

        queue = SqliteHuey("bench", filename=f"{folder}/queue.db", results=False)
        return queue, queue.task(name="run")(run)


@kind("litequeue")
class Litequeue:
    """As it comes: a WAL with synchronous=NORMAL, which syncs at a checkpoint and not at a commit."""

    synced = False

    @classmethod
    def queue(cls, folder: str) -> Any:
        from litequeue import LiteQueue

        queue = LiteQueue(f"{folder}/queue.db", timeout=60)
        if cls.synced:
            queue.conn.execute("PRAGMA synchronous=FULL")
        return queue

    @classmethod
    def put(cls, folder: str, numbers: Sequence[int]) -> float:
        queue = cls.queue(folder)
        return timed(lambda number: queue.put(str(number)), numbers)

    @classmethod
    def work(cls, folder: str) -> None:
        def work() -> None:
            queue = cls.queue(folder)
            while found := queue.pop():
                run(int(found.data))
                queue.done(found.message_id)

        processes(work)


@kind("litequeue, synced")
class LitequeueSynced(Litequeue):
    """The same with synchronous=FULL."""

    synced = True


@kind("litequeue, synced, one transaction")
class LitequeueAtOnce(LitequeueSynced):
    """All puts in one transaction of its own, which is durable as a whole."""

    @classmethod
    def put(cls, folder: str, numbers: Sequence[int]) -> float:
        queue = cls.queue(folder)
        begun = time.perf_counter()
        with queue.transaction():
            for number in numbers:
                queue.put(str(number))
        return time.perf_counter() - begun


@kind("persist-queue")
class Persist:
    """SQLiteAckQueue with SQLite's default, synchronous=FULL; four threads, as its claims are exact in one process only."""

    @staticmethod
    def put(folder: str, numbers: Sequence[int]) -> float:
        from persistqueue import SQLiteAckQueue

        return timed(SQLiteAckQueue(f"{folder}/queue", multithreading=True).put, numbers)

    @staticmethod
    def work(folder: str) -> None:
        from persistqueue import Empty, SQLiteAckQueue

        queue = SQLiteAckQueue(f"{folder}/queue", multithreading=True)

        def work() -> None:
            while True:
                try:
                    found = queue.get(block=False, raw=True)
                except Empty:
                    return
                run(found["data"])
                queue.ack(id=found["pqid"])

        threads = [threading.Thread(target=work) for _ in range(SLOTS)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()


@kind("dirq")
class Dirq:
    """QueueSimple: an element is a file, a claim is a hard link; it syncs nothing."""

    @staticmethod
    def put(folder: str, numbers: Sequence[int]) -> float:
        from dirq.QueueSimple import QueueSimple

        queue = QueueSimple(f"{folder}/queue")
        return timed(lambda number: queue.add(str(number)), numbers)

    @staticmethod
    def work(folder: str) -> None:
        from dirq.QueueSimple import QueueSimple

        def work() -> None:
            queue = QueueSimple(f"{folder}/queue")
            for name in queue:
                if queue.lock(name):
                    run(int(queue.get(name)))
                    queue.remove(name)

        processes(work)


@kind("celery")
class Celery:
    """The filesystem transport, four forked workers, no results, no gossip."""

    @staticmethod
    def queue(folder: str) -> tuple[Any, Any]:
        from celery import Celery

        for name in ("messages", "control"):
            os.makedirs(f"{folder}/{name}", exist_ok=True)
        places = {"data_folder_in": f"{folder}/messages", "data_folder_out": f"{folder}/messages"}
        queue = Celery("bench", broker="filesystem://", set_as_current=True)
        queue.conf.update(
            broker_transport_options={**places, "control_folder": f"{folder}/control"}, task_ignore_result=True
        )
        return queue, queue.task(name="run")(run)

    @classmethod
    def put(cls, folder: str, numbers: Sequence[int]) -> float:
        return timed(cls.queue(folder)[1].delay, numbers)

    @classmethod
    def work(cls, folder: str) -> None:
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR")
        cls.queue(folder)[0].worker_main(["worker", "-c", str(SLOTS), "-P", "prefork", *quiet])


@kind("rq")
class Rq:
    """Redis as it comes on a socket, four workers that do not fork for each task, no results."""

    @staticmethod
    def queue(folder: str) -> Any:
        import redis
        import rq

        return rq.Queue(connection=redis.Redis(unix_socket_path=f"{folder}/redis"))

    @classmethod
    def put(cls, folder: str, numbers: Sequence[int]) -> float:
        queue = cls.queue(folder)
        return timed(lambda number: queue.enqueue("consumer.run", number, result_ttl=0), numbers)

    @classmethod
    def work(cls, folder: str) -> None:
        import rq

        def work() -> None:
            queue = cls.queue(folder)
            rq.SimpleWorker([queue], connection=queue.connection).work(burst=True, logging_level="ERROR")

        processes(work)


def main(what: str, name: str, folder: str, count: str = "0") -> None:
    """Put or work."""
    os.environ["BENCH_DONE"] = f"{folder}/done"
    put, work = KINDS[name]
    if what == "put":
        print(put(folder, range(int(count))), flush=True)
    else:
        work(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
