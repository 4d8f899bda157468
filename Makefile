# Two promises: `make demo` and `make test` set up all they need in a fresh clone and do their job, with what users
# install: the wheel built from the source distribution, and its dependencies by the ordinary resolver.
PYTHON ?= python3
# What is imported is compiled then, and kept: pip would compile all, on one core.
unexport PYTHONDONTWRITEBYTECODE
PIP := python -m pip install -q --disable-pip-version-check --no-compile
PYTEST := python -m pytest -n auto --maxprocesses 4 --dist worksteal
# Tests that call every dependency, without long trainings, and without checks of shapes, which the newest have.
OLDEST := tests/audio tests/cli tests/data tests/io tests/models tests/networks tests/report tests/serve/test_session_protocol.py \
	tests/tts $(addprefix tests/ops/test_,alignment.py colour.py geometry.py mesh.py poisson.py) \
	$(addprefix tests/test_,docs_snippets.py installed.py library.py) -o addopts="-q --strict-markers --import-mode=importlib"
FILES := $(shell find src -type f -not -path '*/__pycache__/*') setup.py pyproject.toml MANIFEST.in README.md LICENSE

# Nothing but the environment: the checkout must not come before the wheel.
unexport PYTHONPATH

.PHONY: setup setups demo test test-newest test-oldest lint docs lock wheels clean

setup: .venv/.ready

# Both environments; with -j side by side.
setups: .venv/.ready .venv-oldest/.ready

.venv/bin/pyproject-build .venv-oldest/bin/pip:
	$(PYTHON) -m venv $(firstword $(subst /, ,$@))
	$(if $(findstring build,$@),.venv/bin/$(PIP) build)

dist/.built: $(FILES) | .venv/bin/pyproject-build
	rm -rf dist
	.venv/bin/pyproject-build -o dist . > .venv/build.log 2>&1 || { cat .venv/build.log; exit 1; }
	touch $@

# The newest dependencies as of lock.txt; and the oldest that pyproject.toml allows, but of torch the one in torch.txt:
# older builds for x86-64 come with CUDA.
.venv/.needs .venv/.ready: CONSTRAINTS := requirements/lock.txt
.venv-oldest/.needs .venv-oldest/.ready: CONSTRAINTS := requirements/oldest.txt
.venv/.torch: requirements/torch.txt | .venv/bin/pyproject-build
.venv-oldest/.torch: requirements/torch.txt | .venv-oldest/bin/pip
.venv/.torch .venv-oldest/.torch:
	$(@D)/bin/$(PIP) -r requirements/torch.txt
	touch $@

# While the wheel is built, which has one core busy.
.venv/.needs: .venv/.torch requirements/lock.txt
.venv-oldest/.needs: .venv-oldest/.torch requirements/oldest.txt
.venv/.needs .venv-oldest/.needs:
	$(@D)/bin/$(PIP) -c requirements/torch.txt -r $(CONSTRAINTS)
	touch $@

# The resolver finds that all of the wheel's dependencies are there, or gets what is missing.
.venv/.ready: dist/.built .venv/.needs
.venv-oldest/.ready: dist/.built .venv-oldest/.needs
.venv/.ready .venv-oldest/.ready:
	$(@D)/bin/$(PIP) --no-deps --force-reinstall dist/*.whl
	$(@D)/bin/$(PIP) -c requirements/torch.txt -c $(CONSTRAINTS) "$$(ls dist/*.whl)[dev]"
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
	.venv/bin/$(PIP) -c requirements/torch.txt -c requirements/lock.txt "$$(ls dist/*.whl)[docs]"
	.venv/bin/python -m sphinx -W --keep-going -q -b html docs docs/_build

# Write the newest versions that fit together into lock.txt, and the oldest that pyproject.toml allows into oldest.txt.
lock: .venv/bin/pyproject-build
	.venv/bin/$(PIP) uv
	mkdir -p dist && echo "torch; python_version < '3'" > dist/without-torch.txt
	.venv/bin/uv pip compile -q --upgrade --universal --python-version 3.11 --no-annotate --no-header \
		--override dist/without-torch.txt --extra dev --extra docs pyproject.toml > dist/lock.txt
	.venv/bin/uv pip compile -q --resolution lowest-direct --python-version 3.11 --no-annotate --no-header \
		--override dist/without-torch.txt --extra dev pyproject.toml > dist/oldest.txt
	(echo "# The newest versions that fit together, of all that tests and docs use but torch (torch.txt); by make lock."; \
		cat dist/lock.txt) > requirements/lock.txt
	(echo "# The oldest versions that pyproject.toml allows, and the newest of what they need; by make lock."; \
		cat dist/oldest.txt) > requirements/oldest.txt

# A release: the source distribution and a wheel for every platform.
wheels: .venv/bin/pyproject-build
	rm -rf dist
	.venv/bin/$(PIP) setuptools
	.venv/bin/python scripts/build_wheels.py

clean:
	rm -rf .venv .venv-oldest dist demo docs/_build
