# What a developer does here. `make` alone lists it.
#
#   PYTHON=/path/to/python3     another Python than the first python3 in PATH
#   BOOTSTRAP=host:port         a Kafka cluster to use; then neither Java nor Maven is needed
#   TESTERS=4                   processes that share the tests: most of them wait most of the time
#   PYTHONHASHSEED=N            the order of sets in a test run, one for all its processes
#   STANDPIPE_DATA=folder       where the tests find recorded frames (default ../shared/data)

PYTHON ?= python3
BOOTSTRAP ?=
TESTERS ?= 4
STANDPIPE_HOME ?= .standpipe
export BOOTSTRAP STANDPIPE_HOME

BIN := .venv/bin
INSTALLED := .venv/.installed
GUIDED := .venv/.guided
MUTATING := .venv/.mutating
FETCHED := $(STANDPIPE_HOME)/kafka/libs/.fetched
READY := $(INSTALLED) $(if $(BOOTSTRAP),,$(FETCHED))

.PHONY: help setup demo fmt fmt-check lint type imports schemas generated freeze test bench \
	chaos chaos-index soak fuzz mutants check build constraints clean
.DELETE_ON_ERROR:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with everything in it, and fetch Kafka
	@echo "Ready: $(BIN)/standpipe"

demo: $(READY) ## Run the whole pipeline on a captured network and show the result
	$(if $(BOOTSTRAP),STANDPIPE_BOOTSTRAP_SERVERS=$(BOOTSTRAP) )$(BIN)/standpipe demo

fmt: $(INSTALLED) ## Format the code
	$(BIN)/ruff check --quiet --select I --fix .
	$(BIN)/ruff format .

fmt-check: $(INSTALLED) ## Is the code formatted?
	$(BIN)/ruff format --check .

lint: $(INSTALLED) ## Does ruff find anything?
	$(BIN)/ruff check .

type: $(INSTALLED) ## Do the types fit (mypy --strict)?
	$(BIN)/mypy

imports: $(INSTALLED) ## Do imports point one way (import-linter)?
	$(BIN)/lint-imports

schemas: $(INSTALLED) ## Is schemas/ sound: every file used, every example valid?
	$(BIN)/pytest --quiet tests/unit/test_schemas*.py

generated: $(INSTALLED) ## Write what is made from schemas/: types, reference, examples
	$(BIN)/python -m pipelines.contracts

freeze: $(INSTALLED) ## Take schemas/ for released: what later ones are held against
	$(BIN)/python -m pipelines.contracts --freeze

check: fmt-check lint type imports schemas ## All of the five above; edits nothing

# Processes that share the tests must name them alike, and names may hold a set.
test: export PYTHONHASHSEED ?= $(shell date +%s)
test: $(READY) ## Run every test, on a real broker
	$(BIN)/pytest --numprocesses $(TESTERS) --dist loadfile \
		--no-loadscope-reorder \
		--reruns 1 --only-rerun '^AssertionError: waited .* in vain' --rerun-show-tracebacks

bench: $(READY) ## Measure the hot path and the pipeline
	$(BIN)/python tests/bench/run.py

chaos: $(READY) ## Kill, stop and damage everything around a pipeline, and compare; goes on where it was
	$(BIN)/python tests/chaos/run.py

chaos-index: $(READY) ## Kill an index of posts fifty times while it is built, and compare
	$(BIN)/python tests/chaos/index.py

soak: $(READY) ## Two million events at full speed: does any process grow, is anything lost?
	$(BIN)/python tests/soak/run.py

fuzz: $(INSTALLED) $(GUIDED) ## Throw mutated bytes at the protocol core
	$(BIN)/python tests/fuzz/run.py
	$(BIN)/python tests/fuzz/guided.py

mutants: $(MUTATING) ## Break the protocol core in small ways: do its tests notice?
	$(BIN)/python tests/mutants/run.py

build: $(INSTALLED) ## Make sdist and wheel in dist/
	rm -rf build dist
	$(BIN)/python -m build

constraints: ## Pin the newest versions that pyproject.toml allows
	@sh -c "$$CHECK_TOOLS"
	$(PYTHON) -m venv --clear build/constraints
	build/constraints/bin/pip install --quiet --editable '.[dev,fuzz,mutants]'
	head -n 1 constraints.txt >build/constraints.txt
	build/constraints/bin/pip freeze --exclude-editable >>build/constraints.txt
	mv build/constraints.txt constraints.txt

clean: ## Remove what was built; .venv and the broker's data stay
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage
	find pipelines tests -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@sh -c "$$CHECK_TOOLS"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	@touch $@

$(GUIDED): EXTRA := fuzz
$(MUTATING): EXTRA := mutants
$(GUIDED) $(MUTATING): $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[$(EXTRA)]'
	@touch $@

$(FETCHED): deploy/kafka/pom.xml | $(INSTALLED)
	@sh -c "$$CHECK_TOOLS"
	$(BIN)/standpipe kafka fetch
	@touch $@

# Names all that is missing, with the Debian package, before anything is changed.
setup demo test bench chaos chaos-index soak: WANTS_BROKER := $(if $(BOOTSTRAP),,yes)
define CHECK_TOOLS
ok=yes
missing() { echo "make: $$1" >&2; ok=; }
if ! command -v $(PYTHON) >/dev/null; then
	missing "Python 3.11 or newer is missing: install it (Debian: apt-get install python3 python3-venv) or name it with PYTHON=/path/to/python3."
elif ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
	missing "$(PYTHON) is older than Python 3.11: install a newer one (Debian 12: apt-get install python3.11 python3.11-venv) or name it with PYTHON=/path/to/python3."
elif ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then
	missing "Python's venv module is missing: install it (Debian: apt-get install $$($(PYTHON) -c 'import sys; print("python3.%d-venv" % sys.version_info[1])'))."
fi
if [ "$(WANTS_BROKER)" ]; then
	own="or use a Kafka cluster of your own with BOOTSTRAP=host:port"
	if ! command -v java >/dev/null; then
		missing "Java 17 or newer is missing: install it (Debian: apt-get install openjdk-17-jre-headless), $$own."
	elif ! java -version 2>&1 | grep -Eq 'version "(1[7-9]|[2-9][0-9])'; then
		missing "java is older than Java 17: install a newer one (Debian: apt-get install openjdk-17-jre-headless), $$own."
	fi
	if ! command -v mvn >/dev/null; then
		missing "Maven is missing: install it (Debian: apt-get install maven), $$own."
	fi
fi
[ "$$ok" ]
endef
export CHECK_TOOLS
