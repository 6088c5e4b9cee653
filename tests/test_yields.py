"""What a filter keeps of each temperature, model and template, against counting by hand."""

import json
from collections import Counter

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from gristmill.filter.yields import MOST, Yields

LARGE = pa.large_string()


def window(rows):
    """Rows of (sampling, model, template, rule) as the filter writes them."""
    samplings, models, templates, rules = zip(*rows, strict=True) if rows else ([], [], [], [])
    metas = [name and json.dumps({"template": name, "template_hash": "0", "cost": 1}) for name in templates]
    columns = {"sampling": [s and json.dumps(s) for s in samplings], "model": models, "meta": metas, "drop_rule": rules}
    return pa.table({name: pa.array(values, LARGE) for name, values in columns.items()})


ROW = st.tuples(
    st.none()
    | st.fixed_dictionaries(
        {"seed": st.integers(0, 9)}, optional={"temperature": st.sampled_from([0, 0.3, 1e-7, 1.5])}
    ),
    st.none() | st.sampled_from(["a", "b#c", 'quo"te']),
    st.none() | st.sampled_from(["teacher", "math.steps-2"]),
    st.none() | st.sampled_from(["empty", "refusal"]),
)


@given(st.lists(st.lists(ROW, max_size=12), max_size=3))
def test_every_row_counts_once_under_what_made_it(windows):
    yields = Yields()
    for rows in windows:
        yields.add(window(rows))
    rows = [row for rows in windows for row in rows]
    made_by = {
        "temperature": [None if not s or "temperature" not in s else float(s["temperature"]) for s, *_ in rows],
        "model": [model for _, model, _, _ in rows],
        "template": [name for _, _, name, _ in rows],
    }
    expected = {
        (by, value): Counter(rule for (*_, rule), of in zip(rows, values, strict=True) if of == value)
        for by, values in made_by.items()
        for value in (set(values) if len(set(values)) > 1 else ())
    }
    found = {(e["by"], e["value"]): Counter(e["dropped"]) + Counter({None: e["kept"]}) for e in yields.summary()}
    assert found == expected
    for each in yields.summary():
        assert each["rows"] == each["kept"] + sum(each["dropped"].values())
        assert each["yield"] == each["kept"] / each["rows"]


def test_a_temperature_that_a_prompt_talks_of_is_none():
    yields = Yields()
    meta = [json.dumps({"template": "of a letter"}), json.dumps({"note": '"template": "x", "template_hash"'})]
    table = window([({"temperature": 0.5}, "m", None, None), ({"temperature": 1}, "m", None, None)])
    yields.add(table.set_column(2, "meta", pa.array(meta, LARGE)))
    assert [(each["by"], each["value"]) for each in yields.summary()] == [("temperature", 0.5), ("temperature", 1.0)]


def test_a_column_of_as_many_values_as_rows_says_nothing():
    yields = Yields()
    for start in range(0, 3 * MOST, MOST):
        yields.add(window([(None, f"run {start + n}", None, None) for n in range(MOST)]))
    assert yields.summary() == []


def test_tables_of_other_kinds_have_none():
    yields = Yields()
    yields.add(pa.table({"prompt": ["x"], "drop_rule": pa.array([None], LARGE)}))
    assert yields.summary() == []
