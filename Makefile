# make demo   from nothing to a trained generator on sample data
# make test   the fast tests; `make test-slow` the others; `make test-all` all; `make test-gpu` those for a CUDA device
# make bench  the native operators against pure torch, on the GPU where there is one; BENCH_ARGS="--help" says more
# make bench-dataset   making an archive, against a plain loop over Pillow and zipfile
# make bench-metrics   Inception's features and the Frechet distance against other packages (the extra `parity`)
# make bench-train     training against its plain formulation, other settings, the limit; make bench-sample: sampling
# make bench-gpu       with a CUDA device: its tests, then all benchmarks, in 15 minutes, into BENCH_DIR
# Variables: PYTHON (3.11 or later), VENV, TORCH (another torch version), PIP_ARGS (e.g. an index of CPU builds)

PYTHON ?= python3
VENV   ?= .venv
TORCH  ?=
PIP_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
BENCH_DIR ?= bench-gpu

PY := $(VENV)/bin/python
CONSTRAINTS := $(VENV)/constraints.txt
# Tests run in a process a core; those of a module in the same one, because they share its fixtures. Of the slow ones
# the longest is alone in its module: sorted by their numbers it would start last, so they keep their order.
SPREAD := --numprocesses=auto --maxprocesses=4 --dist=loadscope
INSTALLED := $(VENV)/.installed$(if $(TORCH),-$(TORCH))

.PHONY: demo test test-slow test-all test-gpu bench bench-dataset bench-metrics bench-train bench-sample \
    bench-gpu lint types install clean

demo: $(INSTALLED)
	$(PY) -m stylegan2_pipeline demo $(DEMO_ARGS)

test: $(INSTALLED)
	$(PY) -m pytest $(SPREAD) -m "not slow"

test-slow: $(INSTALLED)
	$(PY) -m pytest $(SPREAD) --no-loadscope-reorder -m slow

test-all: $(INSTALLED)
	$(PY) -m pytest $(SPREAD)

test-gpu: $(INSTALLED)
	$(PY) -m pytest -m gpu

bench: $(INSTALLED)
	$(PY) -m benchmarks.ops $(BENCH_ARGS)

bench-dataset: $(INSTALLED)
	$(PY) -m benchmarks.dataset_tool $(BENCH_ARGS)

bench-metrics: $(INSTALLED)
	$(PY) -m benchmarks.metrics $(BENCH_ARGS)

bench-train: $(INSTALLED)
	$(PY) -m benchmarks.train $(BENCH_ARGS)

bench-sample: $(INSTALLED)
	$(PY) -m benchmarks.sample $(BENCH_ARGS)

bench-gpu: $(INSTALLED)
	$(PY) -m benchmarks.gpu --outdir=$(BENCH_DIR) $(BENCH_ARGS)

lint: $(INSTALLED)
	$(PY) -m ruff check .

types: $(INSTALLED)
	$(PY) -m mypy

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	    { echo "Python 3.11 or later is needed; this is `$(PYTHON) --version 2>&1`. Name another: make PYTHON=python3.12 ..."; exit 2; }
	@echo "Making the environment in $(VENV) (once)"
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	sed '$(if $(TORCH),s/^torch==.*/torch==$(TORCH)/)' constraints.txt > $(CONSTRAINTS)
	$(PY) -m pip install --disable-pip-version-check $(PIP_ARGS) -c $(CONSTRAINTS) -e '.[dev]'
	@rm -f $(VENV)/.installed*
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
