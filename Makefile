# make run: everything on this machine, from nothing but Python 3.11+ and make. README.md says more.

# The first Python that is new enough.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
BIN := .venv/bin
INSTALLED := .venv/.installed
WORKERS ?= 3

.PHONY: run demo setup test lint format schemas bench screenshots outage mutants simulate chaos bulk mutation fuzz contract access vulnerabilities

run: setup
	@exec $(BIN)/python -m services.local

# The same with orders that come by themselves, in a place of its own, with delays that one can wait for.
demo: setup
	@DEMO_ORDERS_PER_S=$${DEMO_ORDERS_PER_S:-1} RETRY_DELAYS=$${RETRY_DELAYS:-20s,1m,2m} VERIFY_DELAYS=$${VERIFY_DELAYS:-5s,30s,70s} \
		exec $(BIN)/python -m services.local --data .data/demo

setup: $(INSTALLED)
	@$(BIN)/python -m services.local.prepare

# Three at a time, a file each: the tests wait for sessions and delays about half of their time. What fails is tried once
# more, for a machine may be busy; three tests at most, each named at the end with its fault; never after a breach of an
# invariant. `pytest` alone tries everything once.
test: setup lint
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
		--reruns 1 --max-suite-reruns 3 --rerun-except 'breaches:'

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schemas: $(INSTALLED)
	$(BIN)/python -m schemas
	$(BIN)/python -m services.gateway.published

# All figures, or ONLY one: `make bench ONLY=reads` asks a million orders.
bench: setup
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

# SEEDS fresh histories from BASE on (drawn from the clock unless given), or the one of SEED.
simulate: $(INSTALLED)
	@$(BIN)/python -m tests.simulation $(if $(JOBS),--processes $(JOBS)) $(if $(SEED),--seed $(SEED),--regressions $(if $(SEEDS),--seeds $(SEEDS)) $(if $(BASE),--base $(BASE)))

# Bad input over HTTP in every place, and schemathesis with EXAMPLES cases for each call in every state of authentication.
EXAMPLES ?= 100
contract: setup
	CONTRACT_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/contract -o timeout=3600

# Every route, as every role, with every kind of credential that is not one; logins, sessions, keys, limits.
access: setup
	$(BIN)/python -m pytest tests/gateway/access tests/gateway/test_access.py

# MINUTES of everything dying and coming back, by the plan of SEED (any, unless given).
chaos: setup
	@$(BIN)/python -m tests.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

# ORDERS that failed, retried together by a gateway that is killed in the middle.
bulk: setup
	@$(BIN)/python -m tests.gateway.bulk $(if $(ORDERS),--orders $(ORDERS))

# The dashboard's pages of one and the same morning, into docs/screenshots.
screenshots: setup
	@$(BIN)/python -m pytest tests/gateway/dashboard/screenshots.py

# An outage of the provider with 5,000 orders waiting, and a worker killed in the middle of it.
outage: setup
	@$(BIN)/python -m tests.outage

mutants: setup
	$(BIN)/python -m tests.mutants

# mutmut on the pure modules; it has an environment of its own beside ours, for it takes other versions of what we take.
# ONLY 'schemas.ids.*', for example, tries so many.
MUTATION := .data/mutation
mutation: $(INSTALLED)
	@test -x $(MUTATION)/bin/python || { $(BIN)/python -m venv $(MUTATION) && \
		$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' >"$$(echo $(MUTATION)/lib/python*/site-packages)/ours.pth" && \
		$(MUTATION)/bin/python -m pip install --quiet --require-hashes -r tests/mutants/requirements.txt; }
	@rm -rf $(MUTATION)/copy
	$(MUTATION)/bin/python -m tests.mutants.mutation $(MUTATION)/copy $(if $(ONLY),'$(ONLY)')

# atheris on whatever makes sense of bytes, SECONDS each; there are wheels of it for Linux alone.
fuzz: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --require-hashes -r tests/fuzz/requirements.txt
	$(BIN)/python -m tests.fuzz $(SECONDS)

# What is known to be vulnerable among the locked dependencies. It asks pypi.org about each of them, so it is no part of
# `make test`; one that cannot be asked about fails as well. pip-audit has an environment of its own.
VULNERABILITIES := .data/vulnerabilities
vulnerabilities: $(INSTALLED)
	@test -x $(VULNERABILITIES)/bin/pip-audit || { $(BIN)/python -m venv $(VULNERABILITIES) && \
		$(VULNERABILITIES)/bin/python -m pip install --quiet --require-hashes -r tests/vulnerabilities/requirements.txt; }
	@$(VULNERABILITIES)/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off \
		-r requirements.txt -r requirements-dev.txt

$(INSTALLED): requirements-dev.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; make PYTHON=/path/to/it says where one is" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) lacks venv (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@
