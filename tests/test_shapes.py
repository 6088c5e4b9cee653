"""Other people's rows become ours, and say so when they cannot."""

import json

import pytest

from gristmill.errors import BadRow
from gristmill.export.messages import training_row
from gristmill.records import row_id
from gristmill.shapes import kind_of_record, row_of

CHAT = {"messages": [{"role": "user", "content": "Add.\n1 2"}, {"role": "assistant", "content": "3"}]}
SAME = [
    CHAT,
    {"instruction": "Add.", "input": "1 2", "output": "3"},
    {"instruction": "Add.", "context": "1 2", "response": "3", "category": "maths"},
    {"instruction": "Add.\n1 2", "input": "", "output": "3", "id": 17},
    {"conversations": [{"from": "human", "value": "Add.\n1 2"}, {"from": "gpt", "value": "3"}]},
    {"prompt": "Add.\n1 2", "completion": "3"},
    {"prompt": "Add.\n1 2", "response": "3"},
    {"prompt": [{"role": "user", "content": "Add.\n1 2"}], "completion": [{"role": "assistant", "content": "3"}]},
    {"question": "Add.\n1 2", "answer": "3"},
    {"problem": "Add.\n1 2", "solution": "3"},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Add.\n1 2"}]}, CHAT["messages"][1]]},
]


@pytest.mark.parametrize("record", SAME, ids=lambda r: "+".join(r))
def test_one_conversation_has_one_id_in_every_shape(record):
    kind = kind_of_record(record)
    assert kind == "sample"
    assert row_id(kind, row_of(record, kind)) == row_id("sample", row_of(CHAT, "sample"))
    assert training_row(kind, row_of(record, kind)) == CHAT


def test_what_has_no_column_goes_to_meta():
    row = row_of({"instruction": "a", "output": "b", "id": 3, "score": 1.5}, "sample")
    assert json.loads(row["meta"]) == {"id": 3, "score": 1.5}


def test_an_answer_is_the_reference_where_rows_are_answered_anew():
    row = row_of({"question": "q", "answer": "#### 4"}, "prompt", answer="reference")
    assert (row["reference"], "response" in row) == ("#### 4", False)


def test_a_worked_solution_is_the_response_and_its_answer_the_reference():
    row = row_of({"problem": "q", "solution": "so 4", "answer": "4"}, "sample")
    assert (row["response"], row["reference"]) == ("so 4", "4")


def test_what_a_conversation_ends_with_is_its_answer():
    record = CHAT | {"answer": "three"}
    row = row_of(record, kind_of_record(record))
    assert (row["response"], row["reference"]) == ("3", "three")


def test_a_prompt_of_messages_may_end_with_its_answer_or_with_a_beginning_of_it():
    turns = CHAT["messages"]
    assert row_of({"prompt": turns}, kind_of_record({"prompt": turns}))["response"] == "3"
    begun = row_of({"prompt": turns, "completion": " apples"}, "sample")
    assert (len(begun["prompt"]), begun["response"]) == (2, " apples")


def test_verl_rows_bring_their_ground_truth():
    record = {"prompt": [{"role": "user", "content": "q"}], "reward_model": {"style": "rule", "ground_truth": "4"}}
    assert kind_of_record(record) == "prompt"
    assert row_of(record, "prompt")["reference"] == "4"


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {
            "question": "q",
            "chosen": [{"role": "assistant", "content": "good"}],
            "rejected": {"from": "gpt", "value": "bad"},
        },
        {"conversations": [{"from": "human", "value": "q"}], "chosen": "good", "rejected": "bad"},
        {
            "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
            "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}],
        },
        {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
    ],
    ids=["text", "messages", "sharegpt", "implicit prompt", "transcript"],
)
def test_preferences_of_every_shape_are_one(record):
    assert kind_of_record(record) == "preference"
    row = row_of(record, "preference")
    assert ([m["content"] for m in row["prompt"]], row["chosen"], row["rejected"]) == (["q"], "good", "bad")


def test_labels_come_as_pairs_and_as_conversations():
    pair = {"prompt": "q", "completion": "a", "label": False}
    chat = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": False}
    rows = [row_of(record, kind_of_record(record)) for record in (pair, chat)]
    assert [(r["response"], r["label"]) for r in rows] == [("a", False)] * 2
    assert row_id("label", rows[0]) == row_id("label", rows[1])


def test_tool_calls_survive_the_way_in_and_out():
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    record = {
        "messages": [
            {"role": "user", "content": "1+1?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "2", "tool_call_id": "c1"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ],
        "tools": [{"type": "function", "function": {"name": "add"}}],
    }
    out = training_row("sample", row_of(record, "sample"))
    calls = [m for m in out["messages"] if "tool_calls" in m]
    assert [m["tool_calls"] for m in calls] == [[call], [call]]
    assert out["messages"][2] == record["messages"][2]
    assert out["tools"] == record["tools"]


def test_a_conversation_that_ends_with_the_user_has_no_answer():
    record = {"messages": [{"role": "user", "content": "q"}]}
    assert kind_of_record(record) == "prompt"
    assert row_of(record, "sample")["response"] is None


@pytest.mark.parametrize(
    ("record", "kind", "reason"),
    [
        ({"instruction": 4, "output": "x"}, "sample", "instruction is a number"),
        ({"instruction": None, "output": "x"}, "sample", "instruction is null"),
        ({"prompt": "q", "response": ["x"]}, "sample", "response"),
        ({"prompt": "q", "response": 3}, "sample", "response is a number"),
        ({"instruction": "a", "input": 3, "output": "x"}, "sample", "input is a number"),
        ({"messages": "hello"}, "sample", "messages is text"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "sample", "role text (wizard)"),
        ({"messages": [{"role": "user", "content": None}]}, "sample", "content null"),
        ({"messages": [3]}, "sample", "messages[0] is a number"),
        ({"prompt": "q", "response": "a\0b"}, "sample", "NUL character at 1"),
        ({"colour": "red"}, "sample", "--map prompt=COLUMN"),
        ({"prompt": "q", "chosen": "a", "rejected": None}, "preference", "rejected is null"),
        ({"prompt": "q", "completion": "a", "label": "yes"}, "label", "label is text"),
        ({"prompt": ""}, "prompt", "the prompt is empty"),
        ({"prompt": "q", "response": "a"}, "prompt", "prompts only"),
    ],
)
def test_what_cannot_be_a_row_names_the_column_and_what_it_holds(record, kind, reason):
    with pytest.raises(BadRow) as error:
        row_of(record, kind)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
