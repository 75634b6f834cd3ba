"""The clauses of the grammar: eight families of statements and their opposites."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from simcse_tf.datasets.lexicon import AMOUNTS, NUMBERS, SHARES, Lexicon, Synonyms


@dataclass(frozen=True)
class Clause:
    """One statement, without place and time, and what it can be confused with.

    Attributes:
        same: Wordings that mean the same.
        opposed: Statements that cannot be true beside it.
        other: Statements on another matter about the same persons or things.
        altered: Statements that differ in one detail only; may be empty.

    Example:

    ```python
    clause = FAMILIES[0](Random(42), TRAINING)
    clause.same, clause.opposed
    ```
    """

    same: Sequence[str]
    opposed: Sequence[str]
    other: Sequence[str]
    altered: Sequence[str] = ()


Family: TypeAlias = Callable[[Random, Lexicon], Clause]


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
