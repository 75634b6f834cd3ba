import pytest

from simcse_tf.core.printing import one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\rb\x7f\x9b31m", r"a\rb\x7f\x9b31m"),
        ("one\u2028two\u202eowt", r"one\u2028two\u202eowt"),
        ("a\tb\nc", "a\tb\nc"),
        ("\ud800", r"\ud800"),
        ("naïve 日本語 👩‍👩‍👧 שלום", "naïve 日本語 👩‍👩‍👧 שלום"),
    ],
)
def test_control_characters_stand_as_escapes_and_text_as_it_is(text, shown):
    assert printable(text) == shown


def test_long_text_is_cut_before_its_characters_are_escaped():
    assert printable("\x00" * 9, longest=2) == r"\x00\x00..."
    assert printable("ab", longest=2) == "ab"


def test_a_long_message_keeps_both_ends():
    assert one_line("short\n  message") == "short message"
    line = one_line("begin" + "x" * 10_000 + "end", longest=100)
    assert line.startswith("beginx")
    assert line.endswith("xend")
    assert len(line) <= 100
