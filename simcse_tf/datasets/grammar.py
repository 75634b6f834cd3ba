"""A small grammar that writes an NLI-like training set and graded sentence pairs.

It stands in for NLI (section 4 of the paper) where a minute of training has to
show something: `nli.csv` holds triplets of a premise, a sentence it entails and one
that contradicts it, and `senteval/` pairs graded from 0 to 5 in the layout of the
STS Benchmark. Contradictions keep nearly all the words of the premise (who did it
to whom, not, opposites, numbers, places, times), entailments often few of them
(passive, synonyms, reversed comparisons), so that counting common words leads
astray. The pairs use another lexicon than the triplets.

```
python -m simcse_tf.datasets.grammar --output DIR [--triplets N] [--seed 42]
```
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import TypeAlias, TypeVar

from simcse_tf.core import cli
from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.errors import UserError
from simcse_tf.datasets.lexicon import (
    AMOUNTS,
    HELD_OUT,
    NUMBERS,
    SHARES,
    TIMES,
    TRAINING,
    Lexicon,
    Synonyms,
)

TRIPLETS = 2000
HEADER = ("sent0", "sent1", "hard_neg")
# How much of what one sentence says the other says too. Stricter with opposites
# than people are: a contradiction shares its subject and claims nothing in common,
# which is what hard negatives teach.
GRADES = {
    5: "the same in other words",
    4: "the same, but one of the two says less",
    3: "the same but for one detail, such as a number, the place or the time",
    2: "another matter of the same persons or things; both can be true",
    1: "the opposite; only one of the two can be true",
    0: "nothing in common",
}
PAIRS_PER_GRADE = {"dev": 50, "test": 100}


@dataclass(frozen=True)
class GradedPair:
    """Two sentences and how much of their meaning they share (see `GRADES`)."""

    grade: int
    family: str
    sentence_a: str
    sentence_b: str


@dataclass(frozen=True)
class Clause:
    """One statement, without place and time, and what it can be confused with.

    Attributes:
        same: Wordings that mean the same.
        opposed: Statements that cannot be true beside it.
        other: Statements on another matter about the same persons or things.
        altered: Statements that differ in one detail only; may be empty.
    """

    same: Sequence[str]
    opposed: Sequence[str]
    other: Sequence[str]
    altered: Sequence[str] = ()


@dataclass(frozen=True)
class Scene:
    """A clause with its place and time, and another place and another time."""

    clause: Clause
    details: Sequence[Synonyms]
    altered_details: Sequence[Synonyms]


_Sentences = TypeVar("_Sentences", bound=tuple[str, ...])
Family: TypeAlias = Callable[[Random, Lexicon], Clause]


def triplets(count: int = TRIPLETS, seed: int = 42) -> list[tuple[str, str, str]]:
    """Premises, each with an entailed and a contradicting sentence.

    Args:
        count: How many.
        seed: The same seed gives the same triplets on every machine.

    Returns:
        `(sent0, sent1, hard_neg)`; no sentence occurs twice in all of them.

    Raises:
        UserError: The grammar has no more different sentences.
    """
    rng = Random(f"triplets {seed}")
    seen: set[str] = set()
    return [_draw_unseen(partial(_triplet, rng), seen) for _ in range(count)]


def graded_pairs(seed: int = 42) -> dict[str, list[GradedPair]]:
    """Held-out pairs in random order, `PAIRS_PER_GRADE` of each grade.

    Args:
        seed: The same seed gives the same pairs on every machine.

    Returns:
        The pairs of the splits `"dev"` and `"test"`; no sentence occurs twice in
        the two, and none of `triplets` occurs at all.
    """
    rng = Random(f"pairs {seed}")
    seen: set[str] = set()
    splits = {}
    for split, count in PAIRS_PER_GRADE.items():
        pairs = [
            _graded_pair(rng, FAMILIES[i % len(FAMILIES)], grade, seen)
            for grade in GRADES
            for i in range(count)
        ]
        rng.shuffle(pairs)
        splits[split] = pairs
    return splits


def write(output: str | Path, count: int = TRIPLETS, seed: int = 42) -> None:
    """Writes `nli.csv` and `senteval/STS/STSBenchmark/sts-{dev,test}.csv`.

    Each file appears whole or not at all. `simcse_tf.evaluation.sts` reads
    `output/senteval`.

    Args:
        output: The directory to write in; made if missing.
        count: Number of triplets.
        seed: Of both the triplets and the pairs.

    Raises:
        UserError: As `triplets`, or a file cannot be written.
    """
    rows = triplets(count, seed)
    splits = graded_pairs(seed)
    try:
        with atomic_write(Path(output, "nli.csv")) as path:
            _write_csv(path, [HEADER, *rows])
        for split, pairs in splits.items():
            with atomic_write(
                Path(output, "senteval/STS/STSBenchmark", f"sts-{split}.csv")
            ) as path:
                _write_benchmark(path, pairs, split)
    except OSError as error:
        raise UserError(f"cannot write in {output}: {error.strerror}") from error


def main() -> None:
    parser = cli.Parser(
        prog="python -m simcse_tf.datasets.grammar",
        description="Write a small NLI-like training set and graded pairs.",
    )
    parser.add_argument("--output", required=True, metavar="DIR", type=Path)
    parser.add_argument("--triplets", type=int, default=TRIPLETS, metavar="N")
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    if args.triplets < 1:
        raise UserError(f"--triplets: expected at least 1, received {args.triplets}")
    write(args.output, args.triplets, args.seed)
    print(_summary(args.output, args.triplets, args.seed))


def _summary(output: Path, count: int, seed: int) -> str:
    lines = [f"{output / 'nli.csv'}: {count} triplets, for example"]
    for row in triplets(count, seed)[:3]:
        lines += [
            f"  {name + ':':<10}{cell}" for name, cell in zip(HEADER, row, strict=True)
        ]
        lines.append("")
    splits = graded_pairs(seed)
    sizes = " and ".join(f"{len(pairs)} {split}" for split, pairs in splits.items())
    lines.append(f"{output / 'senteval'}: {sizes} pairs, for example")
    for grade in (5, 3, 1):
        pair = next(pair for pair in splits["test"] if pair.grade == grade)
        lines.append(f"  {grade} ({GRADES[grade]})")
        lines += [f"    {pair.sentence_a}", f"    {pair.sentence_b}"]
    return "\n".join(lines)


def _write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _write_benchmark(path: Path, pairs: Sequence[GradedPair], split: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for number, pair in enumerate(pairs):
            columns = (
                "grammar",
                pair.family,
                split,
                f"{number:04}",
                f"{pair.grade:.3f}",
            )
            file.write("\t".join((*columns, pair.sentence_a, pair.sentence_b)) + "\n")


def _draw_unseen(draw: Callable[[], _Sentences], seen: set[str]) -> _Sentences:
    for _ in range(1000):
        sentences = draw()
        if len(set(sentences)) == len(sentences) and seen.isdisjoint(sentences):
            seen.update(sentences)
            return sentences
    raise UserError(
        f"the grammar has few sentences beyond these {len(seen)}: ask for fewer"
    )


def _triplet(rng: Random) -> tuple[str, str, str]:
    scene = _scene(rng, rng.choice(FAMILIES), TRAINING)
    premise = rng.choice(scene.clause.same)
    return (
        _tell(rng, premise, scene.details),
        _regrade(rng, scene, premise, rng.choice((5, 4))),
        # Mostly opposites, as in NLI; the rest keeps numbers and places apart.
        _regrade(rng, scene, premise, rng.choice((1, 1, 3))),
    )


def _pair(rng: Random, family: Family, grade: int) -> tuple[str, str]:
    scene = _scene(rng, family, HELD_OUT)
    premise = rng.choice(scene.clause.same)
    return (
        _tell(rng, premise, scene.details),
        _regrade(rng, scene, premise, grade),
    )


def _graded_pair(rng: Random, family: Family, grade: int, seen: set[str]) -> GradedPair:
    sentences = _draw_unseen(partial(_pair, rng, family, grade), seen)
    return GradedPair(grade, family.__name__.strip("_"), *sentences)


def _regrade(rng: Random, scene: Scene, premise: str, grade: int) -> str:
    """A sentence that shares `grade` of its meaning with the scene's premise."""
    clause, details = scene.clause, list(scene.details)
    reworded = rng.choice([w for w in clause.same if w != premise] or [premise])
    if grade == 5:
        return _tell(rng, reworded, details)
    if grade == 4:
        return _tell(rng, reworded, [rng.choice(details)])
    if grade == 3 and clause.altered and rng.random() < 0.5:
        return _tell(rng, rng.choice(clause.altered), details)
    if grade == 3:
        changed = rng.randrange(len(details))
        details[changed] = scene.altered_details[changed]
        return _tell(rng, reworded, details)
    if grade == 2:
        return _tell(rng, rng.choice(clause.other), [rng.choice(details)])
    if grade == 1:
        return _tell(rng, rng.choice(clause.opposed), details)
    stranger = scene
    while not set(stranger.details).isdisjoint(scene.details):
        stranger = _scene(rng, rng.choice(FAMILIES), HELD_OUT)
    return _tell(rng, rng.choice(stranger.clause.same), stranger.details)


def _scene(rng: Random, family: Family, lexicon: Lexicon) -> Scene:
    (place, elsewhere), (time, another_time) = (
        rng.sample(pool, 2) for pool in (lexicon.places, TIMES)
    )
    clause = family(rng, lexicon)
    return Scene(clause, (place, time), (elsewhere, another_time))


def _tell(rng: Random, clause: str, details: Sequence[Synonyms]) -> str:
    """A whole sentence: the clause, with some of the details before it."""
    words = [rng.choice(synonyms) for synonyms in details]
    rng.shuffle(words)
    front = f"{words.pop()}, " if rng.random() < 0.3 else ""
    sentence = " ".join([front + clause, *words])
    return sentence[0].upper() + sentence[1:] + "."


def _the(rng: Random, names: Synonyms) -> str:
    return f"the {rng.choice(names)}"


def _fill(patterns: Sequence[str], a: str, b: str) -> list[str]:
    return [pattern.format(a=a, b=b) for pattern in patterns]


def _voices(subject: str, verbs: Synonyms, thing: str, adverb: str = "") -> list[str]:
    active = [f"{subject} {adverb}{verb} {thing}" for verb in verbs]
    return active + [f"{thing} was {adverb}{verb} by {subject}" for verb in verbs]


def _deed(rng: Random, lexicon: Lexicon) -> Clause:
    a, b = (_the(rng, names) for names in rng.sample(lexicon.people, 2))
    verbs, opposite = rng.sample(rng.choice(lexicon.deeds), 2)
    return Clause(
        same=_voices(a, verbs, b),
        opposed=[
            *_voices(a, opposite, b),
            *_voices(b, verbs, a),
            *_voices(a, verbs, b, "never "),
        ],
        other=_fill(_ENCOUNTERS, a, b),
    )


def _handling(rng: Random, lexicon: Lexicon) -> Clause:
    *pair, things = rng.choice(lexicon.handlings)
    verbs, opposite = rng.sample(pair, 2)
    thing = _the(rng, rng.choice(things))
    name = rng.choice(rng.choice(lexicon.people))
    many, more = (f"{number} {_plural(name)}" for number in rng.sample(NUMBERS, 2))
    several = rng.random() < 0.5
    who = many if several else f"the {name}"
    return Clause(
        same=_voices(who, verbs, thing),
        opposed=_voices(who, opposite, thing) + _voices(who, verbs, thing, "never "),
        other=_fill(_INTERESTS, who, thing),
        altered=_voices(more, verbs, thing) if several else (),
    )


def _transfer(rng: Random, lexicon: Lexicon) -> Clause:
    a, b = (_the(rng, names) for names in rng.sample(lexicon.people, 2))
    patterns, things = rng.choice(lexicon.transfers)
    thing, another = rng.sample(things, 2)
    return Clause(
        same=[p.format(a=a, b=b, o=thing) for p in patterns],
        opposed=[
            *(p.format(a=b, b=a, o=thing) for p in patterns),
            # Before any verb form, whoever is the subject.
            *(p.replace("}", "} never", 1).format(a=a, b=b, o=thing) for p in patterns),
        ],
        other=_fill(_ENCOUNTERS, a, b),
        altered=[p.format(a=a, b=b, o=another) for p in patterns],
    )


def _comparison(rng: Random, lexicon: Lexicon) -> Clause:
    pair, things = rng.choice(lexicon.comparisons)
    higher, lower = rng.sample(pair, 2)
    a, b = (f"the {thing}" for thing in rng.sample(things, 2))
    return Clause(
        same=[
            f"{a} was {higher} than {b}",
            f"{b} was {lower} than {a}",
            f"compared with {b}, {a} was {higher}",
        ],
        opposed=[
            f"{b} was {higher} than {a}",
            f"{a} was {lower} than {b}",
            f"{a} was not {higher} than {b}",
            f"{b} was not {lower} than {a}",
        ],
        other=_fill(_RESEMBLANCES, a, b),
    )


def _relation(rng: Random, lexicon: Lexicon) -> Clause:
    here, there = rng.sample(rng.choice(lexicon.relations), 2)
    a, b = (f"the {thing}" for thing in rng.sample(lexicon.furniture, 2))
    return Clause(
        same=[
            f"{a} was {here} {b}",
            f"{b} was {there} {a}",
            f"someone put {a} {here} {b}",
            f"someone put {b} {there} {a}",
        ],
        opposed=[
            f"{b} was {here} {a}",
            f"{a} was {there} {b}",
            f"{a} was not {here} {b}",
            f"{b} was not {there} {a}",
        ],
        other=_fill(_RESEMBLANCES, a, b),
    )


def _share(rng: Random, lexicon: Lexicon) -> Clause:
    group, predicates = rng.choice(lexicon.groups)
    did, did_else = rng.sample(predicates, 2)
    share = rng.choice(list(SHARES))
    return Clause(
        same=[f"{words} the {group} {did}" for words in share],
        opposed=[
            f"{words} the {group} {did}"
            for excluded in SHARES[share]
            for words in excluded
        ],
        other=[f"{words} the {group} {did_else}" for words in share],
    )


def _amount(rng: Random, lexicon: Lexicon) -> Clause:
    group, predicates = rng.choice(lexicon.groups)
    did, did_else = rng.sample(predicates, 2)
    amount, another = rng.sample(AMOUNTS, 2)
    more, less = rng.sample((("more than", "over"), ("fewer than", "under")), 2)
    return Clause(
        same=[f"{words} {amount} {group} {did}" for words in more],
        opposed=[f"{words} {amount} {group} {did}" for words in less],
        other=[f"{words} {amount} {group} {did_else}" for words in more],
        altered=[f"{words} {another} {group} {did}" for words in more],
    )


def _state(rng: Random, lexicon: Lexicon) -> Clause:
    *pair, things = rng.choice(lexicon.states)
    adjectives, opposite = rng.sample(pair, 2)
    thing = f"the {rng.choice(things)}"
    return Clause(
        same=[f"{thing} {was} {word}" for word in adjectives for was in _WAS],
        opposed=[
            *(f"{thing} {was} {word}" for word in opposite for was in _WAS),
            *(f"{thing} was {no} {word}" for word in adjectives for no in _NOT),
        ],
        other=_fill(_MENTIONS, thing, ""),
    )


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith(("s", "ch", "sh")) else "s")


FAMILIES: tuple[Family, ...] = (
    _deed,
    _handling,
    _transfer,
    _comparison,
    _relation,
    _share,
    _amount,
    _state,
)

_WAS = ("was", "was very", "seemed")
_NOT = ("not", "not at all", "anything but")
# Other matters: only graded pairs need them, so they have no lexicon of their own.
_ENCOUNTERS = (
    "{a} had lunch with {b}",
    "{a} played tennis with {b}",
    "{a} sat next to {b}",
    "{a} asked {b} for directions",
    "{a} looked like {b}",
)
_INTERESTS = (
    "{a} talked about {b}",
    "{a} walked past {b}",
    "{a} made a drawing of {b}",
    "{a} had never seen {b}",
)
_RESEMBLANCES = (
    "{a} was next to {b}",
    "{a} was mentioned together with {b}",
    "{a} looked more interesting than {b}",
    "{a} was not far from {b}",
)
_MENTIONS = (
    "everyone talked about {a}",
    "{a} was mentioned in a letter",
    "nobody recognized {a}",
    "{a} appeared in a documentary",
)


if __name__ == "__main__":
    cli.run(main)
