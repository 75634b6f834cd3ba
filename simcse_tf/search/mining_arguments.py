"""The flags that say which hard negatives are wanted."""

import argparse

from simcse_tf.core.errors import UserError
from simcse_tf.search.mining import SAMPLINGS, Rule


def add_rule_flags(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for each field of `Rule`.

    Args:
        parser: The parser of a command.

    Example:

    ```python
    add_rule_flags(parser)
    ```
    """
    default = Rule()
    parser.add_argument(
        "--negatives", type=int, default=default.negatives, help="an anchor, at most"
    )
    parser.add_argument(
        "--skip", type=int, default=default.skip, help="nearest texts that are left out"
    )
    parser.add_argument(
        "--depth", type=int, default=default.depth, help="rank of the last candidate"
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=default.margin,
        help="a negative's cosine is below the positive's by this much",
    )
    parser.add_argument(
        "--relative-margin",
        type=float,
        default=default.relative_margin,
        help="the same, as a share of the positive's cosine",
    )
    parser.add_argument("--sampling", choices=SAMPLINGS, default=default.sampling)
    parser.add_argument("--seed", type=int, default=default.seed)


def rule_of(arguments: argparse.Namespace) -> Rule:
    """The rule that flags of `add_rule_flags` say.

    Args:
        arguments: Of the command line.

    Raises:
        UserError: If they are out of range, or contradict each other.

    Example:

    ```python
    rule_of(parser.parse_args(["--negatives", "3"])).negatives  # 3
    ```
    """
    rule = Rule(**{name: getattr(arguments, name) for name in Rule._fields})
    for name, least in (("negatives", 1), ("skip", 0), ("depth", 1), ("seed", 0)):
        if getattr(rule, name) < least:
            raise UserError(
                f"--{name}: expected {least} or more, received {getattr(rule, name)}"
            )
    if rule.skip + rule.negatives > rule.depth:
        raise UserError(
            f"--depth: expected at least --skip and --negatives together "
            f"({rule.skip + rule.negatives}), received {rule.depth}"
        )
    if not 0 <= rule.margin <= 2:
        raise UserError(f"--margin: expected 0 to 2, received {rule.margin}")
    if not 0 <= rule.relative_margin <= 1:
        raise UserError(
            f"--relative-margin: expected 0 to 1, received {rule.relative_margin}"
        )
    return rule
