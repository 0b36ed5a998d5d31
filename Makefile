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

# A finished demo makes room for the next; an unfinished one resumes where it stopped.
demo: $(STAMP)
	@if [ -e runs/demo/result.json ]; then rm -rf runs/demo; fi
	$(BIN)/python -m data.prep stdlib --vocab 1024 --out data/datasets/stdlib
	$(BIN)/python -m data.check data/datasets/stdlib
	$(BIN)/python train_gpt.py configs/demo.yaml
	$(BIN)/python -m quant.inspect runs/demo
	$(BIN)/python -m eval.bpb --stride 64 runs/demo
	$(BIN)/python -m eval.codec compress runs/demo README.md runs/demo/README.glz
	$(BIN)/python -m eval.codec decompress runs/demo runs/demo/README.glz runs/demo/README.back
	cmp README.md runs/demo/README.back
	$(BIN)/python -m tools.record runs/demo --track track_non_record_16mb --name demo -o runs/demo/records
	$(BIN)/python -m tools.verify --sample --keep --records runs/demo/records runs/demo/records/*/*_demo
	$(BIN)/python -m tools.leaderboard runs/demo/records

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
