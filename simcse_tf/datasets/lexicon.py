"""The words of the grammar: one lexicon to train on, one to be measured on.

The two share only what carries no content of its own: numbers, times, and words
such as "before" or "most". A model that does well on the second has learned how
sentences are built, not which words occurred.

Words in the same tuple mean the same. Verbs are past forms that serve as participles
too, so that each can be used in the passive.
"""

from dataclasses import dataclass
from typing import TypeAlias

Synonyms: TypeAlias = tuple[str, ...]
Opposites: TypeAlias = tuple[Synonyms, Synonyms]

NUMBERS = ("two", "three", "four", "six", "eight", "ten")
AMOUNTS = ("twenty", "thirty", "fifty", "eighty", "ninety", "two hundred")
TIMES: tuple[Synonyms, ...] = (
    ("at noon", "at midday"),
    ("at midnight", "in the middle of the night"),
    ("at sunrise", "at dawn"),
    ("in the evening", "during the evening"),
    ("on Monday",),
    ("on Friday",),
    ("last winter", "the previous winter"),
    ("last summer", "the previous summer"),
    ("two days ago", "the day before yesterday"),
    ("a year ago", "twelve months ago"),
)
# Each share of a group, and the shares that it rules out.
SHARES: dict[Synonyms, tuple[Synonyms, ...]] = {
    ("all of", "every one of"): (
        ("none of", "not one of"),
        ("few of", "only a handful of"),
    ),
    ("most of", "the majority of"): (
        ("few of", "only a handful of"),
        ("none of", "not one of"),
    ),
    ("half of", "fifty percent of"): (
        ("all of", "every one of"),
        ("none of", "not one of"),
    ),
    ("none of", "not one of"): (
        ("all of", "every one of"),
        ("most of", "the majority of"),
    ),
}


@dataclass(frozen=True)
class Lexicon:
    """Open-class words.

    Attributes:
        people: Persons by trade or kin; each with a regular plural.
        places: Where something happens, with the preposition.
        deeds: What one person does to another, and the opposite.
        handlings: What people do to things, the opposite, and the things.
        transfers: Clauses in which `{o}` goes from `{a}` to `{b}`, and what can go.
        comparisons: A comparative and its opposite, and things to compare.
        relations: A preposition and the one that reverses it.
        furniture: Things that stand in such a relation.
        groups: Plurals, and what their members did.
        states: Adjectives, their opposites, and what can be so.
    """

    people: tuple[Synonyms, ...]
    places: tuple[Synonyms, ...]
    deeds: tuple[Opposites, ...]
    handlings: tuple[tuple[Synonyms, Synonyms, tuple[Synonyms, ...]], ...]
    transfers: tuple[tuple[Synonyms, tuple[str, ...]], ...]
    comparisons: tuple[tuple[tuple[str, str], tuple[str, ...]], ...]
    relations: tuple[tuple[str, str], ...]
    furniture: tuple[str, ...]
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    states: tuple[tuple[Synonyms, Synonyms, tuple[str, ...]], ...]


TRAINING = Lexicon(
    people=(
        ("lawyer", "attorney"),
        ("professor", "lecturer"),
        ("pilot",),
        ("teacher", "schoolteacher"),
        ("farmer",),
        ("baker",),
        ("singer", "vocalist"),
        ("soldier",),
        ("plumber",),
        ("tourist", "sightseer"),
        ("coach", "trainer"),
        ("waiter",),
        ("librarian",),
        ("gardener",),
        ("driver",),
        ("painter",),
        ("mayor",),
        ("nurse",),
        ("student",),
        ("father", "dad"),
        ("king", "monarch"),
        ("inspector",),
    ),
    places=(
        ("in the village",),
        ("at the train station", "at the railway station"),
        ("in the garden",),
        ("at the airport",),
        ("in the library",),
        ("near the river",),
        ("in the hotel lobby",),
        ("at the football stadium", "at the soccer stadium"),
        ("in the town hall",),
        ("on the farm",),
        ("at the market",),
        ("in the forest", "in the woods"),
        ("at the museum",),
        ("on the island",),
    ),
    deeds=(
        (("praised", "commended"), ("criticized", "denounced")),
        (("helped", "assisted"), ("hindered", "obstructed")),
        (("hired", "employed"), ("fired", "dismissed")),
        (("rescued", "saved"), ("abandoned", "deserted")),
        (("greeted", "welcomed"), ("ignored", "snubbed")),
        (("admired", "respected"), ("despised", "scorned")),
        (("protected", "defended"), ("attacked", "assaulted")),
        (("trusted", "believed"), ("doubted", "distrusted")),
        (("freed", "released"), ("captured", "caught")),
        (("calmed", "soothed"), ("frightened", "scared")),
        (("followed", "trailed"), ("avoided", "shunned")),
        (("paid", "compensated"), ("robbed", "cheated")),
    ),
    handlings=(
        (("opened",), ("closed", "shut"), (("gate",), ("window",), ("curtain",))),
        (
            ("bought", "purchased"),
            ("sold",),
            (("car", "automobile"), ("sofa", "couch"), ("bicycle", "bike")),
        ),
        (("built", "constructed"), ("demolished", "destroyed"), (("wall",), ("shed",))),
        (("repaired", "fixed"), ("damaged", "wrecked"), (("radio",), ("engine",))),
        (("lifted", "raised"), ("lowered",), (("crate",), ("flag",), ("barrel",))),
        (
            ("found", "discovered"),
            ("lost", "misplaced"),
            (("wallet", "billfold"), ("key",), ("passport",)),
        ),
        (("cleaned", "washed"), ("dirtied", "soiled"), (("carpet", "rug"), ("shirt",))),
        (("filled",), ("emptied", "drained"), (("bucket", "pail"), ("bathtub",))),
        (("loaded",), ("unloaded",), (("truck", "lorry"), ("wagon",))),
        (("praised",), ("criticized",), (("novel",), ("movie", "film"))),
        (("caught",), ("dropped",), (("ball",), ("vase",))),
        (("planted",), ("uprooted",), (("tree",), ("rose bush",))),
    ),
    transfers=(
        (
            (
                "{a} gave {b} {o}",
                "{a} gave {o} to {b}",
                "{b} received {o} from {a}",
                "{b} was given {o} by {a}",
            ),
            ("a watch", "an apple", "a puppy", "a coat", "a ticket"),
        ),
        (
            (
                "{a} sold {b} {o}",
                "{a} sold {o} to {b}",
                "{b} bought {o} from {a}",
                "{b} purchased {o} from {a}",
            ),
            ("a painting", "a guitar", "a camera", "an old coin"),
        ),
        (
            (
                "{a} handed {b} {o}",
                "{a} handed {o} to {b}",
                "{b} was handed {o} by {a}",
            ),
            ("a newspaper", "a glass of wine", "the bill"),
        ),
    ),
    comparisons=(
        (("softer", "harder"), ("bread", "cheese", "chocolate")),
        (("heavier", "lighter"), ("suitcase", "trunk", "parcel")),
        (("hotter", "colder"), ("oven", "bathroom", "greenhouse")),
        (("faster", "slower"), ("bus", "tram", "ferry", "taxi")),
        (("louder", "quieter"), ("trumpet", "drum", "piano")),
        (("cleaner", "dirtier"), ("beach", "lake", "stream")),
    ),
    relations=(("above", "below"), ("in front of", "behind")),
    furniture=("lamp", "clock", "mirror", "shelf", "desk", "calendar", "portrait"),
    groups=(
        ("students", ("passed the exam", "wore a uniform", "spoke French")),
        ("passengers", ("missed the flight", "slept", "complained about the noise")),
        (
            "soldiers",
            ("survived the war", "carried a rifle", "wrote letters to their mothers"),
        ),
        ("farmers", ("grew wheat", "owned a tractor", "voted for the mayor")),
        ("tourists", ("visited the castle", "hired a car", "bought souvenirs")),
    ),
    states=(
        (("quiet", "silent"), ("noisy", "loud"), ("classroom", "street", "theater")),
        (("clean", "spotless"), ("dirty", "filthy"), ("kitchen", "carpet", "towel")),
        (("empty", "deserted"), ("crowded", "full"), ("square", "bar", "ballroom")),
        (("happy", "cheerful"), ("sad", "unhappy"), ("baker", "bride", "student")),
        (("fast", "quick"), ("slow", "sluggish"), ("train", "waiter", "elevator")),
        (("easy", "simple"), ("difficult", "hard"), ("exam", "puzzle", "lesson")),
        (("true", "correct"), ("false", "untrue"), ("story", "rumor", "statement")),
    ),
)

HELD_OUT = Lexicon(
    people=(
        ("doctor", "physician"),
        ("journalist", "reporter"),
        ("butcher",),
        ("violinist",),
        ("engineer",),
        ("carpenter",),
        ("poet",),
        ("scientist", "researcher"),
        ("manager", "boss"),
        ("thief", "burglar"),
        ("judge",),
        ("barber", "hairdresser"),
        ("sailor",),
        ("neighbor",),
        ("prince",),
        ("dancer",),
        ("banker",),
        ("tailor",),
        ("uncle",),
        ("magician",),
    ),
    places=(
        ("in the hospital",),
        ("at the harbor", "at the port"),
        ("in the cellar", "in the basement"),
        ("on the roof",),
        ("in the courtroom",),
        ("at the bakery",),
        ("in the desert",),
        ("on the ship",),
        ("in the laboratory", "in the lab"),
        ("at the cemetery", "at the graveyard"),
        ("near the mountain",),
        ("in the palace",),
    ),
    deeds=(
        (("encouraged", "inspired"), ("discouraged", "disheartened")),
        (("supported", "backed"), ("opposed", "resisted")),
        (("loved", "adored"), ("hated", "detested")),
        (("promoted",), ("demoted",)),
        (("complimented", "flattered"), ("insulted", "offended")),
        (("pulled", "tugged"), ("pushed", "shoved")),
        (("amused", "entertained"), ("bored",)),
        (("obeyed",), ("defied", "disobeyed")),
        (("invited",), ("excluded", "banned")),
        (("honored",), ("mocked", "ridiculed")),
        (("healed", "cured"), ("injured", "wounded")),
    ),
    handlings=(
        (("locked",), ("unlocked",), (("door",), ("cabinet", "cupboard"))),
        (("assembled",), ("dismantled", "disassembled"), (("tent",), ("bookcase",))),
        (("heated", "warmed"), ("cooled", "chilled"), (("soup",), ("milk",))),
        (("lengthened", "extended"), ("shortened",), (("rope",), ("skirt",))),
        (("packed",), ("unpacked",), (("backpack", "rucksack"), ("picnic basket",))),
        (("borrowed",), ("lent", "loaned"), (("umbrella",), ("ladder",))),
        (("approved", "accepted"), ("rejected", "refused"), (("plan",), ("request",))),
        (("erased", "deleted"), ("restored", "recovered"), (("photograph", "photo"),)),
        (("folded",), ("unfolded",), (("map",), ("blanket",))),
        (("buried",), ("unearthed", "dug up"), (("treasure",), ("bone",))),
        (("covered",), ("uncovered",), (("pot",), ("boat",))),
    ),
    transfers=(
        (
            (
                "{a} lent {b} {o}",
                "{a} lent {o} to {b}",
                "{b} borrowed {o} from {a}",
            ),
            ("a knife", "a dictionary", "an umbrella", "some money"),
        ),
        (
            (
                "{a} mailed {b} {o}",
                "{a} mailed {o} to {b}",
                "{b} was mailed {o} by {a}",
            ),
            ("a postcard", "a package", "a contract"),
        ),
        (
            (
                "{a} taught {b} {o}",
                "{b} learned {o} from {a}",
                "{b} was taught {o} by {a}",
            ),
            ("a song", "a card trick", "a recipe"),
        ),
    ),
    comparisons=(
        (("wetter", "drier"), ("attic", "cave", "tent")),
        (("rougher", "smoother"), ("sea", "canal", "road")),
        (("richer", "poorer"), ("banker", "merchant", "widow")),
        (("stronger", "weaker"), ("lion", "bear", "wolf")),
        (("brighter", "dimmer"), ("torch", "lantern", "candle")),
    ),
    relations=(
        ("on top of", "underneath"),
        ("to the left of", "to the right of"),
    ),
    furniture=("cushion", "notebook", "candle", "bowl", "hat", "envelope", "pillow"),
    groups=(
        ("workers", ("joined the strike", "lived nearby", "drank coffee")),
        ("patients", ("recovered", "refused the medicine", "watched television")),
        ("prisoners", ("escaped", "confessed", "played chess")),
        ("birds", ("flew away", "sang", "laid an egg")),
        ("voters", ("supported the law", "lied to the journalist", "stayed at home")),
    ),
    states=(
        (("dark", "dim"), ("bright", "well lit"), ("corridor", "chapel", "cellar")),
        (("wet", "soaked"), ("dry",), ("jacket", "mattress", "blanket")),
        (
            ("cheap", "inexpensive"),
            ("expensive", "costly"),
            ("necklace", "hat", "ring"),
        ),
        (("angry", "furious"), ("calm", "relaxed"), ("boss", "widow", "sailor")),
        (("safe", "harmless"), ("dangerous", "risky"), ("road", "plan", "cave")),
        (("sick", "ill"), ("healthy",), ("horse", "poet", "dancer")),
        (("famous", "well known"), ("unknown", "obscure"), ("poet", "violinist")),
    ),
)
