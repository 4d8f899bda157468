# Two promises: `make demo` and `make test` set up all they need in a fresh clone and do their job, with what users
# install: the wheel built from the source distribution, and its dependencies by the ordinary resolver.
PYTHON ?= python3
UV := .venv/bin/uv
PYTEST := python -m pytest -n auto --maxprocesses 4 --dist worksteal
# Packages whose tests call every dependency, the long trainings left out.
OLDEST := tests/audio tests/cli tests/data tests/io tests/models tests/networks tests/ops tests/report tests/tts \
	$(wildcard tests/test_*.py)
FILES := $(shell find src -type f -not -path '*/__pycache__/*') setup.py pyproject.toml MANIFEST.in README.md LICENSE

# Folders of packages that pip is told of serve uv too.
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
# Nothing but the environment: the checkout must not come before the wheel.
unexport PYTHONPATH

.PHONY: setup demo test test-newest test-oldest lint docs lock wheels clean

setup: .venv/.ready

$(UV):
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -q --disable-pip-version-check uv

dist/.built: $(FILES) | $(UV)
	rm -rf dist
	$(UV) build -q -o dist .
	touch $@

# The newest dependencies as of the lock.
.venv/.ready: dist/.built requirements/torch.txt requirements/lock.txt
	$(UV) pip install -q --python .venv -r requirements/torch.txt
	$(UV) pip install -q --python .venv --reinstall-package emotalking -c requirements/torch.txt -c requirements/lock.txt \
		"$$(ls dist/*.whl)[dev]"
	touch $@

# The oldest that pyproject.toml allows; of torch, too, the one that is tested, whose older builds come with CUDA.
.venv-oldest/.ready: dist/.built requirements/torch.txt
	$(UV) venv -q --clear --python .venv/bin/python .venv-oldest
	$(UV) pip install -q --python .venv-oldest -r requirements/torch.txt
	$(UV) pip install -q --python .venv-oldest --resolution lowest-direct -c requirements/torch.txt \
		-r pyproject.toml --extra dev dist/*.whl
	touch $@

demo: setup
	.venv/bin/emotalking demo -o demo

test: test-newest test-oldest

# One thread a process, or they wait for one another.
test-newest: setup
	OMP_NUM_THREADS=1 .venv/bin/$(PYTEST)

test-oldest: .venv-oldest/.ready
	OMP_NUM_THREADS=1 .venv-oldest/bin/$(PYTEST) $(OLDEST)

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright

docs: setup
	$(UV) pip install -q --python .venv -c requirements/torch.txt -c requirements/lock.txt "$$(ls dist/*.whl)[docs]"
	.venv/bin/python -m sphinx -W --keep-going -q -b html docs docs/_build

# Write the newest versions that fit together into the lock.
lock: $(UV)
	mkdir -p dist && echo "torch; python_version < '3'" > dist/without-torch.txt
	$(UV) pip compile -q --upgrade --universal --python-version 3.11 --no-annotate --no-header \
		--override dist/without-torch.txt --extra dev --extra docs pyproject.toml > dist/lock.txt
	(echo "# The newest versions that fit together, of all that tests and docs use but torch (torch.txt); by make lock."; \
		cat dist/lock.txt) > requirements/lock.txt

# A release: the source distribution and a wheel for every platform.
wheels: $(UV)
	rm -rf dist
	$(UV) run -q --no-project scripts/build_wheels.py

clean:
	rm -rf .venv .venv-oldest dist demo docs/_build
