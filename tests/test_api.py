"""The public names: at most 30, all there, and quick to import."""

import gristmill


def test_every_public_name_is_there():
    assert len(gristmill.__all__) <= 30
    assert sorted(gristmill.__all__) == sorted(
        {"__version__", *(n for names in gristmill._HOMES.values() for n in names)}
    )
    for name in gristmill.__all__:
        assert getattr(gristmill, name) is not None


def test_the_steps_compose_as_plain_functions(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"prompt": "Two plus two?", "response": "4"}\n' * 2 + '{"prompt": "And three?", "response": ""}\n')
    table = gristmill.read(str(path))
    marked = gristmill.near(gristmill.exact(gristmill.apply_rules(table)), 0.8).table
    assert gristmill.kept(marked).count_rows() == 1
    assert sorted(gristmill.dropped(marked).to_pydict()["drop_rule"]) == ["empty", "exact_duplicate"]
