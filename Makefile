# make quickstart   install, train on real images, segment held-out ones, draw the comparison
# make test         install, run the tests but for the slow ones
# make test-all     install, run all tests
# make check        install, run all checks that .ci/run runs
# make docs         install, build the documentation into docs/_build
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT := runs/quickstart

.PHONY: quickstart test test-all check

quickstart: $(VENV)/.installed
	rm -rf $(OUT)
	$(BIN)/python train.py --config quickstart.yaml --output $(OUT)/learned
	$(BIN)/python train.py --config quickstart.yaml --config method/uniform.yaml --output $(OUT)/uniform
	$(BIN)/deformsample measure $(OUT)/learned $(OUT)/uniform --config quickstart.yaml \
		--split test
	$(BIN)/deformsample compare $(OUT)/learned $(OUT)/uniform --config quickstart.yaml \
		--split test --output $(OUT)/comparison.png

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry deformsample

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet -e '.[test]'
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $@

# Warnings are errors: unknown names and links, invalid docstrings.
.PHONY: docs
docs: $(VENV)/.installed-dev
	$(BIN)/sphinx-build -q -W --keep-going -E -b html docs docs/_build

# External links of the documentation; needs the network.
.PHONY: links
links: $(VENV)/.installed-dev
	$(BIN)/sphinx-build -q -E -b linkcheck docs docs/_build/links

# Checks that the installed wheel finds its configs and models.
.PHONY: wheel-check
wheel-check: $(VENV)/.installed-dev
	rm -rf build/wheel-check
	$(BIN)/python -m build --wheel --outdir build/wheel-check .
	$(BIN)/pip install --quiet --no-deps --target build/wheel-check/site build/wheel-check/*.whl
	cd build/wheel-check && PYTHONPATH=site $(abspath $(BIN))/python -m deformsample fit \
		--config quickstart.yaml --print_config > printed.yaml
	test -f build/wheel-check/site/deformsample/configs/method/uniform.yaml
	grep -q BlueMarble build/wheel-check/printed.yaml
	cd build/wheel-check && PYTHONPATH=site $(abspath $(BIN))/python -m deformsample demo
	test -s build/wheel-check/demo.html
	rm -rf build/wheel-check
