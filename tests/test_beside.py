"""A directory written beside its place: there whole or not at all, whoever else writes there."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from gristmill.beside import beside, move

NAMES = [f"file{n}" for n in range(5)]


def filled(directory, text):
    for name in NAMES:
        (directory / name).write_text(text)


def content(directory):
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_what_is_not_moved_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), beside(tmp_path / "new" / "out") as partial:
        filled(partial, "half")
        raise RuntimeError
    assert list((tmp_path / "new").iterdir()) == []


def test_what_is_there_is_replaced_whole(tmp_path):
    place = tmp_path / "out"
    place.mkdir()
    (place / "old").touch()
    with beside(place) as partial:
        filled(partial, "new")
        assert content(place) == {"old": ""}
        move(partial, place)
    assert content(place) == dict.fromkeys(NAMES, "new") and list(tmp_path.iterdir()) == [place]


def test_where_it_cannot_move_what_was_there_stays(tmp_path):
    place = tmp_path / "out"
    place.mkdir()
    filled(place, "old")
    with pytest.raises(FileNotFoundError):
        move(tmp_path / "nowhere", place)
    assert content(place) == dict.fromkeys(NAMES, "old") and list(tmp_path.iterdir()) == [place]


def test_only_what_a_killed_process_left_is_removed(tmp_path):
    with beside(tmp_path / "out") as held:
        others = [tmp_path / name for name in (".out.x.01234567.partial", ".out.x.01234567.before", ".out.01.partial")]
        left = tmp_path / ".out.01234567.partial"
        for directory in (*others, left):
            directory.mkdir()
        with beside(tmp_path / "out") as partial:
            assert set(tmp_path.iterdir()) == {held, partial, *others}


@pytest.mark.parametrize("there", [False, True])
def test_what_had_moved_aside_is_put_back_unless_the_new_one_is_there(tmp_path, there):
    place, aside = tmp_path / "out", tmp_path / ".out.01234567.before"
    aside.mkdir()
    filled(aside, "old")
    if there:
        place.mkdir()
        filled(place, "new")
    with beside(place):
        assert content(place) == dict.fromkeys(NAMES, "new" if there else "old") and not aside.exists()


def test_of_many_that_write_to_one_place_one_is_there_whole(tmp_path):
    place = tmp_path / "out"

    def write(number):
        for _ in range(20):
            with beside(place) as partial:
                filled(partial, str(number))
                move(partial, place)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert len(set(content(place).values())) == 1 and sorted(content(place)) == NAMES
    assert list(tmp_path.iterdir()) == [place]
