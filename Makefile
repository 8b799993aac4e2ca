# Everything runs in a virtual environment that is made when it is missing; a second run needs no network.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
CUDA_TORCH ?= torch==2.14.1
WORKERS ?= auto

# Kernels take ten minutes or more to build, for all architectures on two cores, and run on GPUs alone: without one they are left out here, not so by `pip install .`.
export LITEHRNET_CUDA_BUILD ?= $(if $(shell nvidia-smi -L 2>/dev/null),auto,cpu)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
SOURCES := $(shell find litehrnet_cuda csrc build_support -type f ! -name '*.py[co]' ! -name '*.so')

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint gpu-check gpu-present cuda-load-check clean

help:
	@echo 'make demo       train, evaluate and predict on generated people; pictures in runs/demo'
	@echo 'make test       lint, types, and all tests but the slow ones'
	@echo 'make test-slow  the slow tests: packaging in fresh environments, long training runs'
	@echo 'make lint       ruff and mypy alone'
	@echo 'make gpu-check  on a machine with an NVIDIA GPU: tests there, compute-sanitizer, benchmarks; logs in runs/gpu-check'
	@echo 'make cuda-load-check  load the native library into a torch with CUDA (downloads gigabytes, needs no GPU)'
	@echo 'make clean      remove $(VENV), build products and caches; runs/ stays'
	@echo
	@echo 'PYTHON=python3.12   the Python that makes $(VENV) (3.10 or newer; now $(PYTHON))'
	@echo 'WORKERS=1           processes that run tests (default: one a core, as far as there is memory for them)'
	@echo 'TORCH=torch==2.10.0 the torch to install (default $(TORCH), unless $(PYTHON) brings its own)'

demo: $(VENV)/.package
	$(BIN)/litehrnet demo --out runs/demo

# The console script, not `python -m pytest`, which would put the source tree before the installed package.
test: lint
	$(BIN)/pytest -n $(WORKERS) -m 'not slow'

test-slow: $(VENV)/.package
	$(BIN)/pytest -n $(WORKERS) -m slow

lint: $(VENV)/.package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Asked first, before an environment of gigabytes is made for nothing.
gpu-present:
	@nvidia-smi -L 2>/dev/null | grep -q GPU || { \
	    echo 'gpu-check: nvidia-smi finds no NVIDIA GPU here, and what this checks is how the kernels run on one'; exit 1; }

# The library is built with its kernels whatever was installed before. Without a toolkit, pip fetches the compiler.
gpu-check: gpu-present
	$(MAKE) $(VENV)/.dependencies
	LITEHRNET_CUDA_BUILD=1 $(PIP) install --quiet --no-deps --force-reinstall .
	$(BIN)/python python_tests/gpu_check.py

# The library is built with its kernels against the torch of $(VENV), and loaded into another one.
cuda-load-check: $(VENV)/.dependencies $(VENV)-cuda/.torch
	LITEHRNET_CUDA_BUILD=1 $(PIP) install --quiet --no-index --no-deps --no-build-isolation --force-reinstall .
	$(VENV)-cuda/bin/python python_tests/load_check.py $(VENV)/lib/python3.*/site-packages/litehrnet_cuda/_C.so

$(VENV)-cuda/.torch:
	$(PYTHON) -m venv --clear $(VENV)-cuda
	$(VENV)-cuda/bin/python -m pip install '$(CUDA_TORCH)'
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-cuda build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find litehrnet_cuda python_tests -name __pycache__ -prune -exec rm -rf {} +
	find litehrnet_cuda -name '*.so' -delete

# The Python that made the environment is in the stamp's name: one asked for by name replaces an environment of another
# version, and without a name the environment stays as it is.
VERSION = $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
ifeq ($(origin PYTHON),file)
ENVIRONMENT := $(or $(firstword $(wildcard $(VENV)/.python-*)),$(VENV)/.python-$(VERSION))
else
ENVIRONMENT := $(VENV)/.python-$(VERSION)
endif

# A torch that PYTHON brings along, as in PyTorch's container images, is used rather than installed again.
$(ENVIRONMENT):
	@$(PYTHON) -c '' 2>/dev/null || { echo '$(PYTHON): no such Python; name one, as in PYTHON=python3.12 make test'; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else 1)' || { \
	    echo '$(PYTHON) is Python $(VERSION), and 3.10 or newer is needed; name one, as in PYTHON=python3.12 make test'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo '$(PYTHON) lacks the venv module; on Debian and Ubuntu the package python3-venv has it'; exit 1; }
	$(PYTHON) -m venv --clear $(if $(shell $(PYTHON) -c 'import torch; print(1)' 2>/dev/null),--system-site-packages) $(VENV)
	@touch $@

$(VENV)/.dependencies: pyproject.toml $(ENVIRONMENT)
ifeq ($(origin TORCH),file)
	$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) install '$(TORCH)'
else
	$(PIP) install '$(TORCH)'
endif
	$(PIP) install 'setuptools>=77'
	$(PIP) install --no-build-isolation '.[dev]'
	@touch $@

# Not editable, so that tests and demo run what users get.
$(VENV)/.package: setup.py $(SOURCES) $(VENV)/.dependencies
	$(PIP) install --quiet --no-index --no-deps --no-build-isolation --force-reinstall .
	@touch $@
