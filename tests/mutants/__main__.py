"""`python -m tests.mutants [NAME…]`: which mutant is caught by what.

All of them, or those that are named; 1 where one is not caught.
"""

import sys
import time

from tests.mutants.trial import SurvivedError, catch_each, read_mutants

WIDTH = 150


def main() -> int:
    mutants = read_mutants()
    asked = [mutants[name] for name in sys.argv[1:]] or list(mutants.values())
    began_s = time.monotonic()
    survivors = 0
    for mutant, caught in catch_each(asked):
        survived = isinstance(caught, SurvivedError)
        survivors += survived
        print(f"{'SURVIVED' if survived else 'caught':8} {mutant.name:28} {mutant.bug}")
        print(f"{'':37} {caught if survived else str(caught)[:WIDTH]}", flush=True)
    took_s = time.monotonic() - began_s
    print(f"{len(asked) - survivors} of {len(asked)} mutants are caught by what is to catch them, in {took_s:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
