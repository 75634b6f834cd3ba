"""A small grammar that writes an NLI-like training set and graded sentence pairs.

It takes the place of NLI (section 4 of the paper) where a minute of training must
show an effect: `nli.csv` holds triplets of a premise, a sentence it entails and one
that contradicts it, and `pairs/` pairs graded from 0 to 5, as the evaluation takes
them. Contradictions keep nearly all the words of the premise (who did it
to whom, not, opposites, numbers, places, times), entailments often few of them
(passive, synonyms, reversed comparisons), so that counting common words does not
help. The pairs use another lexicon than the triplets.

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
from typing import TypeVar

from simcse_tf.core import cli
from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.errors import UserError
from simcse_tf.datasets.clauses import FAMILIES, Clause, Family
from simcse_tf.datasets.lexicon import HELD_OUT, TIMES, TRAINING, Lexicon, Synonyms
from simcse_tf.datasets.source import COLUMNS

TRIPLETS = 2000
# How much of one sentence's meaning the other shares. The grades are stricter with
# opposites than people are: a contradiction shares the subject but not the claim, and
# that is what hard negatives teach.
GRADES = {
    5: "the same in other words",
    4: "the same, but one of the two says less",
    3: "the same but for one detail, such as a number, the place or the time",
    2: "another matter of the same persons or things; both can be true",
    1: "the opposite; only one of the two can be true",
    0: "nothing in common",
}
PAIRS_PER_GRADE = {"dev": 50, "test": 100}
_SCORED = ("sentence1", "sentence2", "score")


@dataclass(frozen=True)
class GradedPair:
    """Two sentences and how much of their meaning they share (see `GRADES`).

    Example:

    ```python
    GradedPair(5, "deed", "The cook thanked the nurse.", "The nurse was thanked ...")
    ```
    """

    grade: int
    family: str
    sentence_a: str
    sentence_b: str


@dataclass(frozen=True)
class Scene:
    """A clause with its place and time, and another place and another time.

    Attributes:
        clause: The `Clause`.
        details: Wordings of the place, and of the time.
        altered_details: Wordings of another place, and of another time.

    Example:

    ```python
    Scene(clause, [("at home",), ("at noon",)], [("at work",), ("at dawn",)])
    ```
    """

    clause: Clause
    details: Sequence[Synonyms]
    altered_details: Sequence[Synonyms]


_Sentences = TypeVar("_Sentences", bound=tuple[str, ...])


def triplets(count: int = TRIPLETS, seed: int = 42) -> list[tuple[str, str, str]]:
    """Premises, each with an entailed and a contradicting sentence.

    Args:
        count: The number of triplets.
        seed: The same seed gives the same triplets on every machine.

    Returns:
        `(sent0, sent1, hard_neg)`; no sentence occurs twice in all of them.

    Raises:
        UserError: If the grammar has no more different sentences.

    Example:

    ```python
    triplets(1)  # [("Every one of the passengers slept ...", "All of ...", "In ...")]
    ```
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

    Example:

    ```python
    graded_pairs()["test"][0].grade  # from 0 to 5
    ```
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
    """Writes `nli.csv` and `pairs/{dev,test}.csv`.

    Each file appears whole or not at all. `simcse_tf.evaluation.tasks` reads
    `output/pairs`.

    Args:
        output: The directory to write in; made if missing.
        count: The number of triplets.
        seed: The seed of both the triplets and the pairs.

    Raises:
        UserError: As `triplets`, or if a file cannot be written.

    Example:

    ```python
    write("data", count=400)  # data/nli.csv, data/pairs/...
    ```
    """
    rows = triplets(count, seed)
    splits = graded_pairs(seed)
    try:
        with atomic_write(Path(output, "nli.csv")) as path:
            _write_csv(path, [COLUMNS, *rows])
        for split, pairs in splits.items():
            scored = [(p.sentence_a, p.sentence_b, str(p.grade)) for p in pairs]
            with atomic_write(Path(output, "pairs", f"{split}.csv")) as path:
                _write_csv(path, [_SCORED, *scored])
    except OSError as error:
        raise UserError(f"cannot write in {output}: {error.strerror}") from error


def main(argv: Sequence[str] | None = None) -> None:
    """Writes what the command line asks for, and prints some of it.

    Args:
        argv: Optional strings. Defaults to `sys.argv` without the program's name.

    Raises:
        UserError: If something that the user gave is wrong.

    Example:

    ```python
    main(["--output", "data", "--triplets", "400"])
    ```
    """
    parser = cli.Parser(
        prog="python -m simcse_tf.datasets.grammar",
        description="Write a small NLI-like training set and graded pairs.",
    )
    parser.add_argument("--output", required=True, metavar="DIR", type=Path)
    parser.add_argument("--triplets", type=int, default=TRIPLETS, metavar="N")
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args(argv)
    if args.triplets < 1:
        raise UserError(f"--triplets: expected at least 1, received {args.triplets}")
    write(args.output, args.triplets, args.seed)
    print(_summary(args.output, args.triplets, args.seed))


def _summary(output: Path, count: int, seed: int) -> str:
    lines = [f"{output / 'nli.csv'}: {count} triplets, for example"]
    for row in triplets(count, seed)[:3]:
        lines += [
            f"  {name + ':':<10}{cell}" for name, cell in zip(COLUMNS, row, strict=True)
        ]
        lines.append("")
    splits = graded_pairs(seed)
    sizes = " and ".join(f"{len(pairs)} {split}" for split, pairs in splits.items())
    lines.append(f"{output / 'pairs'}: {sizes} pairs, for example")
    for grade in (5, 3, 1):
        pair = next(pair for pair in splits["test"] if pair.grade == grade)
        lines.append(f"  {grade} ({GRADES[grade]})")
        lines += [f"    {pair.sentence_a}", f"    {pair.sentence_b}"]
    return "\n".join(lines)


def _write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


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
        _sentence(rng, premise, scene.details),
        _regrade(rng, scene, premise, rng.choice((5, 4))),
        # Mostly opposites, as in NLI; the rest keeps numbers and places apart.
        _regrade(rng, scene, premise, rng.choice((1, 1, 3))),
    )


def _pair(rng: Random, family: Family, grade: int) -> tuple[str, str]:
    scene = _scene(rng, family, HELD_OUT)
    premise = rng.choice(scene.clause.same)
    return (
        _sentence(rng, premise, scene.details),
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
        return _sentence(rng, reworded, details)
    if grade == 4:
        return _sentence(rng, reworded, [rng.choice(details)])
    if grade == 3 and clause.altered and rng.random() < 0.5:
        return _sentence(rng, rng.choice(clause.altered), details)
    if grade == 3:
        changed = rng.randrange(len(details))
        details[changed] = scene.altered_details[changed]
        return _sentence(rng, reworded, details)
    if grade == 2:
        return _sentence(rng, rng.choice(clause.other), [rng.choice(details)])
    if grade == 1:
        return _sentence(rng, rng.choice(clause.opposed), details)
    stranger = scene
    while not set(stranger.details).isdisjoint(scene.details):
        stranger = _scene(rng, rng.choice(FAMILIES), HELD_OUT)
    return _sentence(rng, rng.choice(stranger.clause.same), stranger.details)


def _scene(rng: Random, family: Family, lexicon: Lexicon) -> Scene:
    (place, elsewhere), (time, another_time) = (
        rng.sample(pool, 2) for pool in (lexicon.places, TIMES)
    )
    clause = family(rng, lexicon)
    return Scene(clause, (place, time), (elsewhere, another_time))


def _sentence(rng: Random, clause: str, details: Sequence[Synonyms]) -> str:
    """A whole sentence: the clause, with some of the details before it."""
    words = [rng.choice(synonyms) for synonyms in details]
    rng.shuffle(words)
    front = f"{words.pop()}, " if rng.random() < 0.3 else ""
    sentence = " ".join([front + clause, *words])
    return sentence[0].upper() + sentence[1:] + "."


if __name__ == "__main__":
    cli.run(main)
