"""Progress from a callback to an answer that is written while the work goes on."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from btmd.api.answers import Progress


@asynccontextmanager
async def heard(progress: Progress) -> AsyncIterator[Callable[[float, str], None]]:
    """A callback for work; what it is told last is passed on, so that a slow client delays nothing."""
    news = anyio.Event()
    told: tuple[float, str] | None = None

    def tell(share: float, text: str) -> None:
        nonlocal told
        told = (share, text)
        news.set()

    async def pass_on() -> None:
        nonlocal news, told
        while True:
            await news.wait()
            news = anyio.Event()
            if told is not None:
                share, text = told
                told = None
                await progress(share, text)

    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pass_on)
        try:
            yield tell
        except Exception as error:  # noqa: BLE001 - taken out of the task group, which would wrap it
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
