"""Texts to tokenize: real ones, and hostile ones."""

from pathlib import Path

from hypothesis import strategies as st

# What no UTF-8 holds, and what it holds in part.
BROKEN = [
    b"\xe4\xb8",
    b"\xf0\x9f\x98",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\xff",
    b"\xf4\x90\x80\x80",
]

nearly_utf8 = st.lists(
    st.lists(
        st.one_of(
            st.binary(max_size=4),
            st.text(max_size=3).map(str.encode),
            st.sampled_from(BROKEN),
        ),
        max_size=6,
    ).map(b"".join),
    max_size=4,
)


def lines(path: Path) -> list[str]:
    """Lines of a file; `splitlines` would also split at U+2028 and the like."""
    return [line for line in path.read_text("utf-8").split("\n") if line]


def real_sentences(data: Path) -> list[str]:
    """Every distinct sentence of the STS, STS-B, SICK and Wikipedia files."""
    sts, sick = data / "senteval" / "STS", data / "senteval" / "SICK"
    columns = [
        *(
            (path, slice(0, 2))
            for path in sorted(sts.glob("STS1?-en-test/STS.input.*"))
        ),
        *((path, slice(5, 7)) for path in sorted(sts.glob("STSBenchmark/sts-*.csv"))),
        *((path, slice(1, 3)) for path in sorted(sick.glob("SICK_*.txt"))),
    ]
    found = [
        sentence
        for path, column in columns
        for line in lines(path)
        for sentence in line.split("\t")[column]
        if sentence not in ("sentence_A", "sentence_B")
    ]
    return list(dict.fromkeys(found + lines(data / "wiki_sentences.txt")))
