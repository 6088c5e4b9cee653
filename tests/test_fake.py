import asyncio
from pathlib import Path
from typing import Any

import pytest

from gristmill.errors import CallFailed, UsageError
from gristmill.models.fake import Fake
from gristmill.models.protocol import Completion, Request


def fake(folder: Path, text: str) -> Fake:
    path = folder / "script.yaml"
    path.write_text(text, encoding="utf-8")
    return Fake(path)


def asked(model: Fake, text: Any, sample: int = 0, **sampling: Any) -> Completion:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    return asyncio.run(model.complete(Request(messages, sampling, sample=sample)))


def said(model: Fake, text: Any, sample: int = 0, **sampling: Any) -> str | None:
    return asked(model, text, sample, **sampling).choices[0].text


def test_the_first_entry_that_fits_the_last_user_message_answers(tmp_path: Path) -> None:
    model = fake(
        tmp_path,
        r"""
        replies:
          - {exact: "Hello", reply: "Hi"}
          - {match: "Hello", reply: "Hi there"}
          - {regex: '^Add (\d+) and (\d+)', reply: '\1 + \2'}
          - {default: 'never \1'}
        """,
    )
    assert model.name == "fake:script"
    assert said(model, "Hello") == "Hi"
    assert said(model, "Hello, you") == "Hi there"
    assert said(model, [{"type": "text", "text": "Add 1 and 22"}]) == "1 + 22"
    assert said(model, "Be brief.") == r"never \1"
    turns = [{"role": r, "content": c} for r, c in (("user", "Hello"), ("assistant", "Hi"), ("user", "So?"))]
    assert asyncio.run(model.complete(Request(turns))).choices[0].text == r"never \1"


def test_samples_and_choices_go_round_the_replies(tmp_path: Path) -> None:
    model = fake(tmp_path, "replies: [{match: '', replies: [a, b, c]}]")
    assert [said(model, "?", sample) for sample in range(4)] == ["a", "b", "c", "a"]
    assert [choice.text for choice in asked(model, "?", 1, n=3).choices] == ["b", "c", "a"]


def test_words_are_tokens_and_the_limit_cuts(tmp_path: Path) -> None:
    model = fake(tmp_path, "replies: [{match: '', reply: 'one  two three', reasoning: 'let me see'}]")
    whole = asked(model, "How many now?")
    assert (whole.tokens_in, whole.tokens_out) == (5, 6)
    assert whole.choices[0][:3] == ("one  two three", "let me see", "stop")
    cut = asked(model, "How many now?", max_tokens=5)
    assert cut.choices[0][:3] == ("one  two", "let me see", "length") and cut.tokens_out == 5
    assert asked(model, "How many now?", max_tokens=2).choices[0][:3] == ("", "let me", "length")


def test_a_function_beside_the_script_answers(tmp_path: Path) -> None:
    source = tmp_path / "helper_of_script.py"
    source.write_text("def reply(messages, sampling):\n    return messages[-1]['content'] + str(sampling['seed'])\n")
    script = "replies: [{match: a, function: 'helper_of_script:reply', finish_reason: length}]"
    model = fake(tmp_path, script)
    answer = asked(model, "a", seed=7).choices[0]
    assert (answer.text, answer.finish_reason) == ("a7", "length")
    with pytest.raises(UsageError, match="reply raised KeyError"):
        asked(model, "a")
    assert fake(tmp_path, script).identity == model.identity
    source.write_text("def reply(messages, sampling):\n    return 1\n")
    changed = fake(tmp_path, script)
    assert changed.identity != model.identity
    with pytest.raises(UsageError, match="returned int"):
        asked(changed, "a")


def test_identity_is_of_the_script(tmp_path: Path) -> None:
    first = fake(tmp_path, "replies: [{default: a}]").identity
    assert (
        fake(tmp_path, "replies: [{default: b}]").identity
        != first
        == fake(tmp_path, "replies: [{default: a}]").identity
    )


def failures(model: Fake) -> set[tuple[int, int]]:
    failed = set()
    for i in range(100):
        for sample in range(4):
            try:
                asked(model, f"question {i}", sample)
            except CallFailed as error:
                assert error.kind == "server"
                failed.add((i, sample))
    return failed


def test_the_same_share_of_requests_fails_each_time(tmp_path: Path) -> None:
    some = failures(fake(tmp_path, "replies: [{default: a, fail: 0.25}]"))
    assert 60 <= len(some) <= 140  # 100 of 400 expected, standard deviation 8.7
    assert failures(fake(tmp_path, "replies: [{default: a, fail: 0.25, delay: 0.0001}]")) == some
    assert failures(fake(tmp_path, "replies: [{default: a, fail: 0.5}]")) > some
    assert not failures(fake(tmp_path, "replies: [{default: a}]"))
    assert len(failures(fake(tmp_path, "replies: [{default: a, fail: 1}]"))) == 400


def test_what_no_entry_fits_is_a_bad_request(tmp_path: Path) -> None:
    with pytest.raises(CallFailed, match=r"bad_request: no reply of .*script.yaml matches 'b'"):
        asked(fake(tmp_path, "replies: [{match: a, reply: b}]"), "b")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("replies: [", "not YAML"),
        ("[]", "holds a list"),
        ("replies: []", "replies: "),
        ("replies: [{default: a}]\nmore: 1", "more: "),
        ("replies: [{match: a, reply: b}, {match: a, replay: b}]", "replies.1.replay: "),
        ("replies: [{match: a, reply: 1}]", "replies.0.reply: "),
        ("replies: [{match: a, replies: []}]", "replies.0.replies: "),
        ("replies: [{match: a, reply: b, delay: -1}]", "replies.0.delay: "),
        ("replies: [{match: a, reply: b, fail: 2}]", "replies.0.fail: "),
        ("replies: [{match: a, exact: a, reply: b}]", "has match and exact"),
        ("replies: [{reply: b}]", "replies.0: needs one of match, exact, regex, default; has none"),
        ("replies: [{match: a}]", "needs one of reply, replies, function; has none"),
        ("replies: [{match: a, reply: b, replies: [c]}]", "has reply and replies"),
        ("replies: [{default: a, reply: b}]", "take reply away"),
        ("replies: [{default: a}, {match: a, reply: b}]", "entry 0 is a default"),
        ("replies: [{regex: '(', reply: b}]", "replies.0: regex: "),
        (r"replies: [{regex: a, reply: '\1'}]", "regex: invalid group reference"),
        ("replies: [{match: a, function: reply}]", "replies.0.function: "),
        ("replies: [{match: a, function: 'no_such_module:f'}]", "replies.0.function: no_such_module:f: ModuleNotFound"),
        ("replies: [{match: a, function: 'json:no_such'}]", "no function 'no_such' in json"),
    ],
)
def test_a_bad_script_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError) as raised:
        fake(tmp_path, text)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / 'script.yaml'}: ") and told in message and "\n" not in message


def test_a_script_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        Fake(tmp_path / "none.yaml")
