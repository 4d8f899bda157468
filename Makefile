# Two promises: `make demo` and `make test` set up all they need in a fresh clone and do their job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint docs clean

setup: $(VENV)/.ready

$(VENV)/.ready: requirements/torch.txt requirements/lock.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements/torch.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements/lock.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	touch $@

demo: setup
	$(BIN)/emotalking demo -o demo

# A process for each core, four at most; one thread each, or they wait for one another.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: setup
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements/docs.txt
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

clean:
	rm -rf $(VENV) demo docs/_build
