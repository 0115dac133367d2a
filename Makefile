# Only paths relative to this file, and the interpreter called by its path in .venv, so a space in the directory's name
# does no harm. Choose the interpreter with e.g. `make demo PYTHON=python3.12` (3.10 or newer).
PYTHON ?= python3
VENV_PYTHON := .venv/bin/python
TINYFOA := .venv/bin/tinyfoa
DEMO := runs/demo

.DEFAULT_GOAL := help
.PHONY: help install demo test check bench docs clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

install: .venv/with-sklearn,plot  ## .venv with the package (editable), scikit-learn's digits, and matplotlib
	@echo "installed; try: .venv/bin/tinyfoa --help"

demo: .venv/with-sklearn,plot  ## train TinyFoA on handwritten digits, print its test error and its memory
	@rm -rf $(DEMO)
	$(TINYFOA) train digits --network fc:1000x3 --epochs 40 --batch 10 --lr 0.002 --audit --out $(DEMO)
	$(TINYFOA) audit $(DEMO)

test: .venv/with-test  ## run the tests
	$(VENV_PYTHON) -m pytest --numprocesses auto --dist loadfile

check: .venv/with-dev  ## ruff and mypy
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy

bench: .venv/with-bench  ## run every script in benchmarks/, beside PyTorch
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(VENV_PYTHON) "$$script"; done

docs: .venv/with-docs  ## write the pages that are made from the code, and the Python reference in docs/api/
	$(VENV_PYTHON) docs/pages.py
	$(VENV_PYTHON) -m pdoc --docformat numpy --output-directory docs/api tinyfoa_np

clean:  ## remove .venv, builds and caches (Python's, numba's, the tools'); keeps runs/
	rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name '*.egg-info' -prune -exec rm -rf {} +
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV_PYTHON):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "make: tinyfoa-np needs Python 3.10 or newer, but $(PYTHON) is %d.%d; try make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv

# One stamp per list of extras; made again when the metadata change.
.venv/with-%: setup.cfg pyproject.toml | $(VENV_PYTHON)
	$(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	@touch $@
