"""Mix files to shares and quotas: presets, floors, temperature, caps, epochs, and exact whole numbers."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from gristmill.errors import UsageError
from gristmill.mix.mix_file import MixFile, presets, read_mix, task_range
from gristmill.mix.resolve import Resolved, by_kind, resolve

TABLE = {"assistant": (40, 60), "math": (60, 80), "translation": (70, 90), "code": (50, 70), "safety": (30, 50)}
"""Task-specific per cent, as published."""


def mix(*sources: dict[str, Any], **more: Any) -> MixFile:
    return MixFile.model_validate({"sources": [{"files": "x", **source} for source in sources], **more})


def two(**more: Any) -> MixFile:
    return mix({"name": "t", "kind": "math"}, {"name": "g", "kind": "general"}, **more)


def of(wanted: MixFile, total: int | None = 1_000, **sizes: int) -> Resolved:
    return resolve(wanted, sizes, total=total)


@pytest.mark.parametrize("name", TABLE)
def test_a_preset_begins_in_the_middle_of_its_range(name: str) -> None:
    low, high = TABLE[name]
    assert (presets()[name].low, presets()[name].high) == (low / 100, high / 100)
    found = of(two(preset=name), t=10_000, g=10_000)
    assert found.shares["t"] == pytest.approx((low + high) / 200)
    assert found.quotas["t"] == round((low + high) * 5)


def test_the_floor_cuts_the_range_of_translation_and_says_so() -> None:
    assert task_range(two(preset="translation")) == (0.7, 0.8)
    notes = of(two(preset="translation"), t=10_000, g=10_000).notes
    assert any("70% to 90%" in note and "80%" in note and "20% general" in note for note in notes)
    assert of(two(preset="math"), t=10_000, g=10_000).notes == []


def test_general_data_below_the_floor_is_raised_and_stated() -> None:
    wanted = mix({"name": "t", "share": 0.95}, {"name": "g", "kind": "general", "share": 0.05})
    found = of(wanted, t=10_000, g=10_000)
    assert found.shares == pytest.approx({"t": 0.8, "g": 0.2})
    assert "general is raised from 5.0% to its floor of 20%" in found.notes


def test_a_floor_is_lowered_by_name_only() -> None:
    sources = ({"name": "t", "share": 0.95}, {"name": "g", "kind": "general", "share": 0.05})
    found = of(mix(*sources, floors={"general": 0.02}), t=10_000, g=10_000)
    assert found.shares == pytest.approx({"t": 0.95, "g": 0.05})
    assert any("asked for by name" in note for note in found.notes)
    with pytest.raises(UsageError, match=r"no source of the kind general.*floors: \{general: 0\}"):
        of(mix({"name": "t"}), t=10)
    assert of(mix({"name": "t"}, floors={"general": 0}), total=None, t=10).quotas == {"t": 10}


def test_a_preset_needs_task_specific_data() -> None:
    with pytest.raises(UsageError, match="no task-specific source"):
        of(mix({"name": "g", "kind": "general"}, preset="math"), g=10)


def test_any_kind_may_have_a_floor() -> None:
    sources = [{"name": n, "kind": k, "share": s} for n, k, s in (("a", "math", 0.7), ("b", "code", 0.05))]
    wanted = mix(*sources, {"name": "g", "kind": "general", "share": 0.25}, floors={"code": 0.1})
    assert by_kind(wanted, of(wanted, a=9_000, b=9_000, g=9_000).shares)["code"] == pytest.approx(0.1)


def test_temperature_flattens_sizes() -> None:
    """Sizes 100 and 10,000: by size 1 to 100, at temperature 2 their roots, 1 to 10, and even at a high one."""
    sources = ({"name": "a"}, {"name": "b"})
    for temperature, ratio in ((1, 100), (2, 10), (1e9, 1)):
        wanted = mix(*sources, floors={"general": 0}, temperature=temperature)
        shares = of(wanted, total=None, a=100, b=10_000).shares
        assert shares["b"] / shares["a"] == pytest.approx(ratio)


def test_given_shares_stand_and_the_others_share_the_rest_of_their_side() -> None:
    sources = ({"name": "a", "share": 0.5}, {"name": "b"}, {"name": "c"}, {"name": "g", "kind": "general"})
    found = of(mix(*sources, preset="math"), a=9_000, b=1_000, c=3_000, g=9_000)
    assert found.shares == pytest.approx({"a": 0.5, "b": 0.05, "c": 0.15, "g": 0.3})


def test_shares_that_do_not_fit_are_refused() -> None:
    for shares in ((0.5, 0.4), (0.9, 0.2)):
        with pytest.raises(UsageError, match="shares"):
            of(mix({"name": "t", "share": shares[0]}, {"name": "g", "kind": "general", "share": shares[1]}), t=9, g=9)


def test_the_total_shrinks_so_that_shares_hold_and_the_note_names_the_source() -> None:
    found = of(two(preset="math"), t=70, g=10_000)
    assert found.quotas == {"t": 70, "g": 30}
    assert any("100 of 1,000 rows: t has 70 rows, each taken once at most" in note for note in found.notes)


def test_epochs_let_a_source_repeat() -> None:
    wanted = mix({"name": "t", "kind": "math", "epochs": 10}, {"name": "g", "kind": "general"}, preset="math")
    assert of(wanted, t=70, g=10_000).quotas == {"t": 700, "g": 300}


def test_a_cap_gives_to_its_own_side() -> None:
    sources = ({"name": "a", "kind": "math"}, {"name": "b", "kind": "general"}, {"name": "c", "kind": "general"})
    capped = ({"cap": 50, **sources[1]},)
    found = of(mix(sources[0], *capped, sources[2], preset="math"), a=9_000, b=9_000, c=9_000)
    assert found.quotas == {"a": 700, "b": 50, "c": 250}
    assert any(note.startswith("b is capped at 50 rows: 5.0% of the mix instead of 15.0%") for note in found.notes)
    every = mix(sources[0], *capped, preset="math")
    assert sum(of(every, a=9_000, b=9_000).quotas.values()) == pytest.approx(50 / 0.3, abs=1)


@example(sources=[(1, 1), (1, 1), (1, 1), (3, 1)], total=6)
@given(st.lists(st.tuples(st.integers(1, 5_000), st.integers(1, 100)), min_size=2, max_size=6), st.integers(1, 3_000))
def test_quotas_are_exact_to_a_row(sources: list[tuple[int, int]], total: int) -> None:
    """Largest remainders: every quota is its share of the total rounded up or down, and they sum to the total."""
    whole = sum(weight for _, weight in sources)
    wanted = mix(*({"name": f"s{n}", "share": w / whole} for n, (_, w) in enumerate(sources)), floors={"general": 0})
    sizes = {f"s{n}": size for n, (size, _) in enumerate(sources)}
    try:
        found = resolve(wanted, sizes, total=total)
    except UsageError:
        return
    made = sum(found.quotas.values())
    assert made <= total
    assert all(abs(found.quotas[n] - found.shares[n] * made) <= 1 for n in sizes)
    assert all(found.quotas[n] <= sizes[n] for n in sizes)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"preset": "poetry"}, "allowed are assistant"),
        ({"rows": 5, "tokens": 5}, "both given"),
        ({"sauces": []}, "unknown key"),
        ({"floors": {"code": 0.1}}, "no source is of the kind code"),
        ({"sources": [{"name": "a", "files": "x"}, {"name": "a", "files": "y"}]}, "two sources are called a"),
        ({"sources": [{"name": "a", "files": "x", "share": 1.5}]}, "less than or equal to 1"),
    ],
)
def test_a_wrong_file_is_one_line(content: dict[str, Any], problem: str, tmp_path: Path) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text(yaml.safe_dump({"sources": [{"name": "a", "files": "x"}], **content}))
    with pytest.raises(UsageError, match=problem) as raised:
        read_mix(path)
    assert "\n" not in str(raised.value)
