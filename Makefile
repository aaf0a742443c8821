# Each target makes what it needs in .venv. On another Python: make test PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test test-gpu sanitize bench bench-gpu lint kernels clean

train: .venv/run.stamp
	$(BIN)/gpunet train --seed 1

test: .venv/test.stamp
	$(BIN)/python -m pytest -n 2

# The compiled engine with every access and every operation watched; needs GCC.
sanitize: .venv/test.stamp
	PYTHON=$(BIN)/python tests/engine/sanitize

lint: .venv/lint.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/bench.stamp
	$(BIN)/gpunet bench step --output bench/results
	$(BIN)/gpunet bench accuracy --output bench/results
	$(BIN)/gpunet bench scaling --output bench/results
	$(BIN)/gpunet bench memory --output bench/results
	$(BIN)/python bench/backprop_cost.py

# By nvcc where there is one, and by NVRTC, which is what compiles the kernels for users.
kernels: .venv/kernels.stamp
	if command -v nvcc > /dev/null; then $(BIN)/python bench/kernel_resources.py; fi
	$(BIN)/python bench/kernel_resources.py --nvrtc

# On a machine with a GPU. A Python that has CuPy and the test packages already is used as it is, without network.
test-gpu: build/gpu.stamp
	GPUNET_REQUIRE_CUDA=1 PYTHONPATH=build/gpu$${PYTHONPATH:+:$$PYTHONPATH} $$(cat build/gpu.stamp) -P -m pytest -p no:cacheprovider $$($$(cat build/gpu.stamp) -c 'import xdist; print("-n 8")' 2>/dev/null)

bench-gpu: build/gpu.stamp
	GPUNET_REQUIRE_CUDA=1 PYTHONPATH=build/gpu$${PYTHONPATH:+:$$PYTHONPATH} $$(cat build/gpu.stamp) bench/gpu.py

clean:
	rm -rf .venv build dist *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/run.stamp: .venv/bin/python pyproject.toml setup.py $(wildcard kernels/cpu/*)
	$(BIN)/python -m pip install --quiet -e .
	touch $@

.venv/%.stamp: .venv/bin/python pyproject.toml setup.py $(wildcard kernels/cpu/*)
	$(BIN)/python -m pip install --quiet -e ".[$*]"
	touch .venv/run.stamp $@

GPU_PACKAGES := cupy, numpy, scipy, safetensors, threadpoolctl, typer, rich, pytest, hypothesis, setuptools

build/gpu.stamp: pyproject.toml $(shell find gpunet kernels -name '*.py' -o -name '*.cu*' -o -name '*.cpp' -o -name '*.h')
	rm -rf build/gpu && mkdir -p build/gpu
	if $(PYTHON) -c "import $(GPU_PACKAGES)" 2>/dev/null; then \
	    $(PYTHON) -m pip install --quiet --no-deps --no-build-isolation --target build/gpu . && \
	    echo $(PYTHON) > $@; \
	else \
	    $(MAKE) .venv/bin/python && \
	    $(BIN)/python -m pip install --quiet ".[test,bench,cuda13]" && echo $(BIN)/python > $@; \
	fi
