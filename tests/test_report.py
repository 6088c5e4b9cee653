"""The report: what it says, that it stands alone, and that nothing in it runs."""

import hashlib
import json
import re
from base64 import b64encode
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given as given_
from hypothesis import strategies as st

from gristmill.errors import UsageError
from gristmill.report.html import write_report
from gristmill.report.numbers import words_of
from tests.milled import NASTY, milled, rows, sample, whole


class Page(HTMLParser):
    """Collects the tags with their attributes, the text of each section, and the scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sections, self.now, self.scripts, self.open = [], {"": ""}, "", [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open = tag
        if tag == "script":
            self.scripts.append("")
        if tag == "section":
            self.now = dict(attrs)["id"]
            self.sections[self.now] = ""

    def handle_endtag(self, _):
        self.open = ""

    def handle_data(self, data):
        if self.open == "script":
            self.scripts[-1] += data
        else:
            self.sections[self.now] += data


def page_of(directory):
    return Page(write_report(directory).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return page_of(whole(tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    return page_of(whole(tmp_path_factory.mktemp("nasty"), NASTY))


SECTIONS = {
    "": ["3 of 12 rows kept", "25.0%", "1.5 s", "source_loss", "lost most"],
    "funnel": ["read + rules", "contamination", "near", "−3"],
    "drops": [
        "no_urls",
        "dropped by near_duplicate: Jaccard 0.91 >= 0.80",
        "dropped by below_quality: quality 1 < 2",
        "dropped by unjudged_quality: score quality is null",
        "dropped by empty: words 0 < 1",
        "la la la",
        "other.jsonl, row 2",
    ],
    "distributions": ["score_quality", "answer length in words", "answer length in characters", "1 row without"],
    "duplicates": ["4 rows", "similarity 0.91", "rye and oats.", "Number twins", "99.7%", "32 bands of 8 rows"],
    "contamination": ["1 of 20", "5.0%", "over 2 %", "item 3", "HOW MANY PEARS DOES KIM HAVE IN ALL"],
    "openings": ["2 rows in 1 group begin"],
    "balance": [
        *("other.jsonl", "0 of 2", "3 of 10", "source moved source lost its rows", "20.0% → 0.0%", "median 20"),
        *(
            "(0.0 % to 5.0 %)",
            "Jensen–Shannon distance 0.300 (0.200 to 0.400)",
            "effect size -0.500 (-0.600 to -0.400); p = 0.25",
            "p < 0.0001",
        ),
    ],
    "collapse": ["source a", "0.5! 0.12320.0%", "distinct pairs at least 0.3 (of people)", "Tell me"],
    "lineage": [
        *(
            "read taken from the ledger",
            "reads test.jsonl",
            "from read, index",
            "12 rows · 2.0 MB on disk · 0.25 s · 200 MB of memory",
        ),
        "scores 9 rows0.10 s",
    ],
    "whatif": [
        "quality at least",
        "near duplicates from Jaccard",
        "Limits of rules",
        "All 12 rows are in the page",
        "Reset",
    ],
    "bad": ["not JSON", "test.jsonl, row 12"],
    "parameters": ["top_2gram at most 0.2 and words at most 19", "near: 0.8", "score_quality at least 2"],
}


@pytest.mark.parametrize("section", SECTIONS)
def test_each_section_says_what_happened(page, section):
    text = re.sub(r"\s+", " ", page.sections[section])
    assert [words for words in SECTIONS[section] if words not in text] == []


def test_it_is_one_file_that_loads_nothing_and_fits_a_phone(page):
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    assert not {"link", "img", "iframe", "object", "image", "use", "base", "form"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    svgs = [attributes for tag, attributes in page.tags if tag == "svg" and "viewbox" in attributes]
    assert len(svgs) == 5
    assert all("width" not in svg and float(svg["viewbox"].split()[2]) <= 380 for svg in svgs)


def policy_of(page):
    return next(attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv"))


def test_only_the_one_script_may_run(page, nasty):
    for each in (page, nasty):
        data, script = each.scripts
        digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert policy_of(each) == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
        kinds = [attributes for tag, attributes in each.tags if tag == "script"]
        assert kinds == [{"type": "application/json", "id": "whatif-data"}, {}]
        assert not set("<>&\u2028\u2029") & set(data)
        assert json.loads(data)["rows"] == 12
    assert page.scripts[1] == nasty.scripts[1]
    assert f"no_urls{NASTY}" in json.loads(nasty.scripts[0])["names"]


def test_without_scripts_nothing_that_needs_one_is_shown(page):
    assert [tag for tag, attributes in page.tags if "data-script" in attributes and "hidden" not in attributes] == []
    shown = {attributes.get("id") for _, attributes in page.tags if "data-script" in attributes}
    assert "whatif" in shown


def test_no_limit_is_no_script(tmp_path):
    page = page_of(milled(tmp_path, [sample("Q", "A")], rules={}))
    assert page.scripts == []
    assert policy_of(page) == "default-src 'none'; style-src 'unsafe-inline'"


def test_every_slider_has_a_label_and_a_number(page):
    ids = {attributes.get("id") for _, attributes in page.tags}
    labels = {attributes["for"] for tag, attributes in page.tags if tag == "label"}
    inputs = [attributes for tag, attributes in page.tags if tag == "input"]
    assert len(inputs) == len(json.loads(page.scripts[0])["controls"])
    for attributes in inputs:
        assert attributes["id"] in labels
        assert attributes["id"].replace("slider", "value") in ids


def test_figures_have_names_and_links_have_targets(page):
    assert all(attributes["aria-label"] for tag, attributes in page.tags if tag == "figure")
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert {attributes["href"][1:] for tag, attributes in page.tags if tag == "a"} <= ids


def test_nothing_in_the_data_becomes_markup(page, nasty):
    assert {tag for tag, _ in nasty.tags} <= {tag for tag, _ in page.tags}
    for tag, attributes in nasty.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    sections = ["", "funnel", "drops", "whatif", "duplicates", "contamination", "openings", "collapse", "balance"]
    for section in (*sections, "lineage", "bad", "parameters"):
        assert "<img src=x onerror=alert(2)>" in nasty.sections[section], section


def test_deleted_and_added_words_are_told_apart(tmp_path):
    text = write_report(whole(tmp_path)).read_text(encoding="utf-8")
    assert "<del>18</del>" in text
    assert "<ins>19</ins>" in text


def test_long_texts_are_cut(tmp_path):
    given = [sample("Long.", "word " * 50_000 + "END", "too_long", why=(50_001.0, 40_000.0, {"measure": "words"}))]
    path = write_report(milled(tmp_path, given))
    assert path.stat().st_size < 60_000
    assert "more characters" in path.read_text(encoding="utf-8")


def test_a_thousand_drop_samples_stay_small(tmp_path):
    given = [sample(f"Q{n}", f"{n} " * 400, f"rule_{n % 40}", why=(1.0, 0.0, {})) for n in range(1000)]
    assert write_report(milled(tmp_path, given)).stat().st_size < 2_000_000


def test_order_of_the_rows_does_not_matter(tmp_path):
    first = write_report(whole(tmp_path)).read_bytes()
    table = pq.read_table(tmp_path / "rows.parquet")
    pq.write_table(table.take(list(range(len(table)))[::-1]), tmp_path / "rows.parquet", row_group_size=3)
    assert write_report(tmp_path).read_bytes() == first


def test_all_rows_dropped_and_no_optional_file_or_key(tmp_path):
    page = page_of(milled(tmp_path, [row for row in rows() if row.get("drop_rule") == "empty"]))
    assert "0 of 1 row" in page.sections[""]
    assert "No evaluation was compared" in page.sections["contamination"]
    assert "Every row could be read" in page.sections["bad"]


def test_preferences_and_prompts(tmp_path):
    why = {"drop_rule": "echo", "drop_value": 1.0, "drop_limit": 0.99, "drop_evidence": "{}"}
    pair = {"prompt": "Which?", "chosen": "This one.", "rejected": "That one."} | why
    page = page_of(milled(tmp_path / "a", [pair], "preference"))
    assert "This one." in page.sections["drops"]
    assert "That one." in page.sections["drops"]
    page = page_of(milled(tmp_path / "b", [{"prompt": "Which is it?"} | why], "prompt"))
    assert "median 3 of all rows" in page.sections["distributions"]


def test_a_directory_without_rows_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no rows\.parquet there; expected the output directory"):
        write_report(tmp_path)


@given_(st.lists(st.text("a \n\tß\u3000")), st.integers(0, 3))
def test_words_are_counted_in_any_slice(texts, start):
    counted = words_of(pa.array(texts, pa.large_string()).slice(start))
    assert counted.tolist() == [len(text.encode().split()) for text in texts[start:]]


def test_the_yields_stand_in_a_table(page, tmp_path):
    assert "\nmodel m3 of 1225.0%empty 9\nmodel (none said)0 of 0" in page.sections["yields"]
    assert "yields" not in page_of(milled(tmp_path, rows())).sections
