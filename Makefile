# Each verb works on a bare clone: it makes .venv and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
BUILD := pyproject.toml constraints.txt CMakeLists.txt $(wildcard src/clew/ops/csrc/*)
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo test check bench soak gpu sanitize clean
.DEFAULT_GOAL := demo

.venv/runtime: $(BUILD)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	touch $@

.venv/dev: $(BUILD)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable '.[dev]'
	touch $@

demo: .venv/runtime
	$(BIN)/python scripts/demo.py

test: .venv/dev
	$(BIN)/python -m pytest --numprocesses auto

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

bench: .venv/dev
	$(INSTALL) '.[bench]'
	$(BIN)/python benchmarks/cpu_train.py
	$(BIN)/python benchmarks/cpu_step.py
	$(BIN)/python benchmarks/whole_runs.py
	$(BIN)/python scripts/benchmark_tables.py
	$(BIN)/python benchmarks/mixers.py
	$(BIN)/python benchmarks/step_all.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/long.py
	$(BIN)/python benchmarks/recall.py
	$(BIN)/python benchmarks/shakespeare.py
	$(BIN)/python scripts/recurrence_tables.py
	$(BIN)/python benchmarks/adding.py
	$(BIN)/python benchmarks/forecast_classic.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/recipes.py all
	$(BIN)/python benchmarks/decoding.py
	$(BIN)/python benchmarks/brackets.py
	$(BIN)/python benchmarks/pointers.py
	$(BIN)/python benchmarks/pairs.py all
	$(BIN)/python benchmarks/patterns.py all
	$(BIN)/python benchmarks/pages.py all
	$(BIN)/python benchmarks/remembering.py all
	$(BIN)/python benchmarks/streams.py all
	$(BIN)/python benchmarks/serving.py

# What only long runs show.
soak: .venv/dev
	$(BIN)/python benchmarks/soak.py all
	$(BIN)/python benchmarks/files.py
	$(BIN)/python benchmarks/interpreted.py
	$(BIN)/python benchmarks/gpu.py --small

# On a machine with a GPU.
gpu: .venv/dev
	$(BIN)/python benchmarks/gpu.py laws tune scans layers models streams

# The kernels' own tests with the compiler's checks of addresses and of undefined behaviour.
sanitize: .venv/dev
	$(BIN)/python benchmarks/sanitize.py

clean:
	rm -rf .venv build dist runs
