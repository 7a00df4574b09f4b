"""The queue for programs that await: each call runs in a thread of its own object's, so that the loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any


class AsyncQueue:
    """Every method of the `TaskQueue` that it is given, to be awaited. One thread does them all, one after the other."""

    def __init__(self, queue: object) -> None:
        self._queue = queue
        self._thread = ThreadPoolExecutor(1, "orchestrate-queue")

    async def __aenter__(self) -> AsyncQueue:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False)

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._queue, name)

        async def call(*args: Any, **more: Any) -> Any:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, lambda: method(*args, **more))

        return call
