# Every target makes .venv in this folder when it is missing and touches nothing outside it.
PYTHON ?= python3
# The torch to install first; set it to a wheel of your own, or to another index with PIP_EXTRA_INDEX_URL.
TORCH ?= torch==2.13.0

# What `make demo` shows: unetr_btcv (abdominal CT, in demo/) or unetr_brats (brain MR, in demo/unetr_brats/).
BUNDLE ?= unetr_btcv
DEMO := $(if $(filter unetr_btcv,$(BUNDLE)),demo,demo/$(BUNDLE))

# MONAI Label's torch and torchvision, of one build; `===` takes the registry's own, not a local CPU build of torch.
LABEL_TORCH ?= torch===2.13.0 torchvision===0.28.0
# What `make label` serves: a folder of NIfTI or PNG files, or the address of a DICOMweb server; else generated images.
STUDIES ?=
# Which bundles it serves: folders with commas between them; else those of this collection.
BUNDLES ?=
PORT ?= 8000
# Which parts `make bench` measures, with commas, else all of them; and the folder of its report.
ROWS ?=
BENCH ?= docs

# What `make federated` runs at: a network that trains in a second.
FEDERATED_SIZE := --img_size "[32,32,32]" --patch_size 8 --hidden_size 24 --num_layers 3 --num_heads 2 \
	--spacing "[8,8,8]" --split 0/5 --num_workers 0
FEDERATED_DECODER := --decoder_hidden_size 24 --decoder_num_layers 1 --decoder_num_heads 2
FEDERATED_SITES := north=federated/data/north,south=federated/data/south

VENV := $(CURDIR)/.venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
LABEL_RUN := $(CURDIR)/.venv-label/bin/python
LABEL_READY := $(CURDIR)/.venv-label/.ready
FEDERATED_RUN := $(CURDIR)/.venv-federated/bin/python
FEDERATED_READY := $(CURDIR)/.venv-federated/.ready
AUDIT_READY := $(CURDIR)/.venv-audit/.ready

.PHONY: help env demo test lint pack bench label test-label federated test-federated soak audit clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(READY): requirements.txt requirements-dev.txt
	@$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 'Python 3.11 or newer is needed: make PYTHON=python3.11 TARGET')"
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet "$(TORCH)"
	$(RUN) -m pip install --quiet -r requirements-dev.txt
	touch $(READY)

env: $(READY) ## the environment alone, .venv

demo: $(READY) ## generate images, pre-train, fine-tune, evaluate, segment; report in demo/ (7 to 10 minutes, 2 cores)
	$(RUN) -W ignore -m scripts.demo --bundle $(BUNDLE) --output_dir $(DEMO)

test: $(READY) ## all tests, in two processes; set SAMPLE_DATA to a folder of real images to run those that need them
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(READY) ## ruff
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

pack: $(READY) ## check and pack the bundles into dist/; PACK="NAME --as OTHER --weights-url URL" for its options
	$(RUN) -W ignore -m scripts.pack $(PACK)

bench: $(READY) ## time and memory against MONAI's own parts, into docs/performance.md; ROWS=name,name measures some
	$(if $(filter command line,$(origin ROW)),$(error ROW means nothing; say ROWS=$(ROW)))
	$(RUN) -W ignore -m scripts.bench $(if $(ROWS),--rows "$(ROWS)") --output_dir $(BENCH)

$(LABEL_READY): requirements-label.txt
	@$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else 'MONAI Label needs Python 3.11: make PYTHON=python3.11 label')"
	$(PYTHON) -m venv $(CURDIR)/.venv-label
	$(LABEL_RUN) -m pip install --quiet --upgrade $(LABEL_TORCH)
	$(LABEL_RUN) -m pip install --quiet --no-deps -r requirements-label.txt
	touch $(LABEL_READY)

label: $(LABEL_READY) ## MONAI Label with the bundles on http://127.0.0.1:8000; STUDIES=folder of images or DICOMweb address
	$(LABEL_RUN) -W ignore -m scripts.label $(if $(STUDIES),--studies "$(STUDIES)") $(if $(BUNDLES),--bundles "$(BUNDLES)") --port $(PORT)

test-label: $(LABEL_READY) ## MONAI Label: start the server, infer, save labels, train
	$(LABEL_RUN) -m pytest tests/system/test_label.py

$(FEDERATED_READY): requirements.txt requirements-federated.txt
	@$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 'Python 3.11 or newer is needed: make PYTHON=python3.11 federated')"
	$(PYTHON) -m venv $(CURDIR)/.venv-federated
	$(FEDERATED_RUN) -m pip install --quiet "$(TORCH)"
	$(FEDERATED_RUN) -m pip install --quiet -r requirements-federated.txt
	touch $(FEDERATED_READY)

federated/data: | $(FEDERATED_READY)
	$(FEDERATED_RUN) -W ignore -m scripts.phantoms ct --out $@.part/north --cases 10 --seed 1 --shape "[44,40,38]" --spacing "[9,8.5,8]"
	$(FEDERATED_RUN) -W ignore -m scripts.phantoms ct --out $@.part/south --cases 5 --seed 2 --shape "[44,40,38]" --spacing "[9,8.5,8]"
	mv $@.part $@

federated: federated/data ## two sites pre-train and fine-tune in NVIDIA FLARE's simulator, on generated images, into federated/
	$(FEDERATED_RUN) -W ignore -m scripts.federated bundles/mae_pretrain_ct --sites $(FEDERATED_SITES) \
		--output_dir federated/pretraining $(FEDERATED_SIZE) $(FEDERATED_DECODER)
	$(FEDERATED_RUN) -W ignore -m scripts.federated bundles/unetr_btcv --sites $(FEDERATED_SITES) \
		--output_dir federated/training $(FEDERATED_SIZE) --feature_size 4 --validation_cases 1 \
		--pretrained_weights federated/pretraining/model.pt
	@echo "global weights: federated/pretraining/model.pt and, fine-tuned from them, federated/training/model.pt"

test-federated: $(FEDERATED_READY) ## NVIDIA FLARE: what is averaged, and what leaves a site
	$(FEDERATED_RUN) -m pytest tests/system/test_federated.py

soak: $(READY) ## what takes too long for `make test`: 2,000 training steps, 500 inferences, more fuzzing; into soak/ (half an hour)
	rm -rf soak
	$(RUN) -W ignore -m tests.system.soak --output_dir soak
	HYPOTHESIS_PROFILE=soak $(RUN) -m pytest tests/fuzz --timeout 7200

$(AUDIT_READY):
	$(PYTHON) -m venv $(CURDIR)/.venv-audit
	$(CURDIR)/.venv-audit/bin/pip install --quiet pip-audit
	touch $(AUDIT_READY)

audit: $(READY) $(AUDIT_READY) ## known vulnerabilities of all that is installed here, by pip-audit, which asks PyPI; fails if it cannot tell
	for place in $(CURDIR)/.venv/lib/python3*/site-packages $(wildcard $(CURDIR)/.venv-*/lib/python3*/site-packages); do \
		echo "$$place" && $(CURDIR)/.venv-audit/bin/pip-audit --strict --progress-spinner off --path "$$place" || exit 1; \
	done

clean: ## remove what the other targets made, but not .venv, nor label/, where trained weights are
	rm -rf demo dist federated soak .pytest_cache .ruff_cache bundles/*/eval bundles/*/cache
