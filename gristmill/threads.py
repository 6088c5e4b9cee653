"""Work on every core of this machine in the threads of one process.

Worth it where the work is numpy's or Arrow's, which let other threads run meanwhile. Not covered: work in Python
itself.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`function` of each item, in their order, a thread a core.

    No more items are under way at once than there are cores. An exception of `function` is raised where its result
    would have come.
    """
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        under_way: deque[Future[Result]] = deque()
        for item in items:
            if len(under_way) == cores:
                yield under_way.popleft().result()
            under_way.append(pool.submit(function, item))
        while under_way:
            yield under_way.popleft().result()
