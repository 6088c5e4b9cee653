import pytest

from gristmill.filter.privacy import find_private, luhn, mask


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("email", "Write to jo.doe+x@mail.example.org, please", ["jo.doe+x@mail.example.org"]),
        ("email", "a @ b, foo@bar and @someone", []),
        ("phone", "Call (816) 350-5785 or +44 20 7946 0958 or 800-288-2020.", None),
        ("phone", "1234567890, 3.14159265, 2020-10-19, 10-12-2020", []),
        ("card", "4242 4242 4242 4242 and 378282246310005", ["4242 4242 4242 4242", "378282246310005"]),
        ("card", "4242 4242 4242 4241 is no card, nor 9780743273565, nor 4 8 12 16 20 24 28 32", []),
        ("secret", "AKIAIOSFODNN7EXAMPLE", ["AKIAIOSFODNN7EXAMPLE"]),
        ("secret", "sk-proj-" + "a1B2" * 8, ["sk-proj-" + "a1B2" * 8]),
        ("secret", "ghp_" + "x" * 36, ["ghp_" + "x" * 36]),
        ("secret", "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----", None),
        ("secret", "task-oriented sk-learn ghp_short", []),
    ],
)
def test_finds(kind: str, text: str, found: list[str] | None) -> None:
    spans = [text[start:end] for start, end in find_private(kind, text)]
    if found is None:
        assert spans
    else:
        assert spans == found


def test_luhn_takes_one_check_digit_of_ten() -> None:
    assert [last for last in range(10) if luhn([7, 9, 9, 2, 7, 3, 9, 8, 7, 1, last])] == [3]


def test_mask_names_the_kind_and_leaves_the_rest() -> None:
    text = "Card 4242 4242 4242 4242, a@b.org, 800-288-2020"
    assert mask(("email", "phone", "card"), text) == "Card [CARD], [EMAIL], [PHONE]"
    assert mask(("secret",), text) == text
