import threading

import pytest

from gristmill.threads import in_threads


def test_results_come_in_the_order_of_the_items():
    assert list(in_threads(lambda n: n * n, range(100))) == [n * n for n in range(100)]


def test_no_more_items_are_taken_than_there_are_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    taken = []
    results = in_threads(lambda n: n, (taken.append(n) or n for n in range(10)))
    assert next(results) == 0
    assert len(taken) == 4  # three under way, and one that waits for the place of the first


def test_items_are_worked_on_at_once(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    both = threading.Barrier(2, timeout=10)
    assert len(list(in_threads(lambda _: both.wait(), range(2)))) == 2


def test_an_exception_comes_where_the_result_would_have():
    results = in_threads(lambda n: 1 // n, [1, 0])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
