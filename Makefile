# Every target makes what it needs, from a fresh clone with nothing but python3 >= 3.11.
# The stamp keeps .venv up to date with requirements*.txt: a second call costs nothing.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.up-to-date

.PHONY: .venv demo test test-slow lint check bench

.venv: $(STAMP)

$(STAMP): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "bitgolf needs python >= 3.11; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv || \
		{ echo "python3 -m venv failed (on Debian: apt install python3-venv)" >&2; rm -rf .venv; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

demo: $(STAMP)
	$(BIN)/python -m data.prep stdlib --vocab 1024 --out data/datasets/stdlib
	$(BIN)/python -m data.check data/datasets/stdlib
	$(BIN)/python train_gpt.py configs/demo.yaml
	$(BIN)/python -m quant.inspect
	$(BIN)/python -m eval.bpb --stride 64
	$(BIN)/python -m eval.codec compress README.md runs/README.glz
	$(BIN)/python -m eval.codec decompress runs/README.glz runs/README.back
	cmp README.md runs/README.back
	$(BIN)/python -m eval.probe --tokens 1024

test: $(STAMP)
	$(BIN)/python -m pytest

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

bench: $(STAMP)
	$(BIN)/python -m tools.bench
