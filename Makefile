# The two commands of the README, and the benches. VENV_ARGS=--system-site-packages reuses an installed torch.
PYTHON ?= python3
VENV_ARGS ?=
BIN := .venv/bin

.PHONY: demo test faults lint bench scale clean

.venv/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV_ARGS) .venv

# One pip call, so that torch and torchvision are chosen together.
.venv/demo.stamp: pyproject.toml | .venv/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[photos]"
	touch $@

.venv/test.stamp: pyproject.toml | .venv/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test,heic,photos,onnx,notebook,review]"
	touch $@ .venv/demo.stamp

.venv/bench.stamp: pyproject.toml | .venv/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test,heic,photos,onnx,notebook,review,bench]"
	touch $@ .venv/test.stamp .venv/demo.stamp

demo: .venv/demo.stamp
	$(BIN)/coterie fit digits -o runs/demo
	$(BIN)/coterie evaluate runs/demo --labels builtin
	$(BIN)/coterie report runs/demo -o runs/demo/report.html

test: .venv/test.stamp
	$(BIN)/python -m pytest -n 2

# What wants a large library that `make test` does without and skips: Ray's workers.
.PHONY: test-extras
test-extras: .venv/test.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[ray]"
	$(BIN)/python -m pytest tests/fitting/test_on_ray.py

# The numeric tests as other CPUs compute them: torch without vector code and MKL on its common path, then oneDNN held at AVX2.
# make test-isa NUMERIC=tests runs all tests so.
NUMERIC ?= tests/learning tests/clustering tests/networks tests/augment tests/evaluate tests/methods tests/parity
.PHONY: test-isa
test-isa: .venv/test.stamp
	ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE $(BIN)/python -m pytest -n 2 $(NUMERIC)
	ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest -n 2 $(NUMERIC)

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# make bench TABLE=store   (benchmarks/README.md lists the tables)
# make bench TABLE=overview ARGS="--seeds 5"   (a table of docs/benchmarks: its rows to benchmarks/results, its fits to runs/bench)
ARGS ?=
bench: .venv/bench.stamp
ifneq ($(wildcard benchmarks/$(TABLE).py),)
	$(BIN)/python -m benchmarks.$(TABLE) $(ARGS)
else
	$(BIN)/coterie bench $(TABLE) -o benchmarks/results --page docs/benchmarks --keep runs/bench $(ARGS)
endif

# What each step costs as the pictures become more, and predict ended ten times: some minutes (docs/scale.md)
scale: .venv/test.stamp
	$(BIN)/python -m benchmarks.scale 10000 100000

clean:
	rm -rf .venv runs build src/*.egg-info

# Damage on purpose: sources, runs and stores with bits turned and pieces cut; counts, and status 1 when anything ends in a traceback or lies.
faults: .venv/test.stamp
	$(BIN)/python -m benchmarks.faults
