import pytest

from simcse_tf.core.printing import one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\rb\x7f\x9b31m", r"a\rb\x7f\x9b31m"),
        ("one\u2028two\u202eowt", r"one\u2028two\u202eowt"),
        ("a\tb\nc", "a\tb\nc"),
        ("naïve 日本語 👩‍👩‍👧 שלום", "naïve 日本語 👩‍👩‍👧 שלום"),
    ],
)
def test_control_characters_stand_as_escapes_and_text_as_it_is(text, shown):
    assert printable(text) == shown


def test_a_long_message_keeps_both_ends():
    assert one_line("short\n  message") == "short message"
    line = one_line("begin" + "x" * 10_000 + "end", longest=100)
    assert line.startswith("beginx")
    assert line.endswith("xend")
    assert len(line) <= 100
