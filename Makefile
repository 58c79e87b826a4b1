# Every target makes .venv in this folder when it is missing and touches nothing outside it.
PYTHON ?= python3
# The torch to install first; set it to a wheel of your own, or to another index with PIP_EXTRA_INDEX_URL.
TORCH ?= torch==2.13.0

# What `make demo` shows: unetr_btcv (abdominal CT, in demo/) or unetr_brats (brain MR, in demo/unetr_brats/).
BUNDLE ?= unetr_btcv
DEMO := $(if $(filter unetr_btcv,$(BUNDLE)),demo,demo/$(BUNDLE))

VENV := $(CURDIR)/.venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: help demo test lint pack bench clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(READY): requirements.txt requirements-dev.txt
	@$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 'Python 3.11 or newer is needed: make PYTHON=python3.11 TARGET')"
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet "$(TORCH)"
	$(RUN) -m pip install --quiet -r requirements-dev.txt
	touch $(READY)

demo: $(READY) ## generate images, pre-train, fine-tune, evaluate, segment; report in demo/ (7 to 10 minutes, 2 cores)
	$(RUN) -W ignore -m scripts.demo --bundle $(BUNDLE) --output_dir $(DEMO)

test: $(READY) ## all tests; set SAMPLE_DATA to a folder of real images to run those that need them
	$(RUN) -m pytest

lint: $(READY) ## ruff
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

pack: $(READY) ## self-contained bundles in dist/
	$(RUN) -W ignore -m scripts.pack

bench: $(READY) ## time and memory of segmenting a 512x512x128 CT; images/s of chest X-rays; PyTorch and onnxruntime
	$(RUN) -W ignore -m scripts.bench
	$(RUN) -W ignore -m scripts.bench_images
	$(RUN) -W ignore -m scripts.bench_runtimes

clean: ## remove what the other targets made, but not .venv
	rm -rf demo dist .pytest_cache .ruff_cache bundles/*/eval bundles/*/cache
