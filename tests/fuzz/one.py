"""`python -m tests.fuzz.one TARGET …`: one decoder under libFuzzer, which takes the other arguments. atheris is no part
of the environment: `make fuzz` installs it.
"""

import sys

import atheris

with atheris.instrument_imports(include=["schemas", "services", "json"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
