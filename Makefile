# Every verb of the project; `make` lists them. Needs Python 3.11, git and make.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo data-given run ablation nightly-up nightly-down test lint format lock
.DELETE_ON_ERROR:

PYTHON ?= python3.11
REPORT := data/evaluate/report/index.html
PIN = $(shell sed -n 's/^ *"$(1)==\([^"]*\)".*/\1/p' pyproject.toml)
PIP := .venv/bin/python -m pip --disable-pip-version-check --quiet
LOCK := .ci/requirements.lock
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1

help:  ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*  ## /\1|/p' Makefile | while IFS='|' read -r verb line; do printf 'make %-12s %s\n' "$$verb" "$$line"; done

setup: .venv/.installed  ## make .venv with every pinned package (3 GB, a few minutes the first time)

demo: setup  ## run the whole line on the embedded demo data and say where the report is
	@grep -q '^  layout: demo' params.yaml || { echo "Expected params.yaml to read the demo's data, found another data set in it. Run \`git checkout params.yaml\` for the demo, or \`dvc repro\` to go on with yours." >&2; exit 1; }
	@$(call REPRO,)
	@echo "The report: file://$(CURDIR)/$(REPORT)"

data-given:
	@[ -d "$${DATA:-}" ] || { echo "Expected DATA to be a folder of images, found '$${DATA:-}'. Run \`make run DATA=<folder>\`; docs/data.md describes the layouts." >&2; exit 1; }

run: data-given setup  ## run the whole line on your images: make run DATA=<folder>
	@if git diff --quiet HEAD -- params.yaml 2>/dev/null && grep -q '^  layout: demo' params.yaml; then \
	  cp params/real-cpu.yaml params.yaml; stage use-data "$$DATA" || { git checkout --quiet params.yaml; exit 1; }; \
	  echo "params.yaml was the demo's as committed; it now begins with params/real-cpu.yaml."; \
	else stage use-data "$$DATA"; fi
	@$(call REPRO,)
	@echo "The report: file://$(CURDIR)/$(REPORT)"

ablation: setup  ## run the six configurations of the paper's Fig. 6, and RePaint, and draw their bars (about an hour)
	@stage ablation --check
	@$(call REPRO,ablation/dvc.yaml)
	@stage ablation

nightly-up: setup  ## start a local Prefect server and a worker, and schedule the night (docs/nights.md)
	@python -m flows.services up

nightly-down:  ## end that server and that worker, and no other
	@python -m flows.services down

test: .venv/.ready-to-test  ## run every test, three files at a time; those that need Chromium or a GPU skip themselves and say so
	@OMP_NUM_THREADS=1 python -m pytest -rs -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup  ## check style and types
	@ruff check .
	@ruff format --check .
	@pyright
	@lint-imports > /dev/null || lint-imports

format: setup  ## lay out the code
	@ruff check --fix .
	@ruff format .

# `tee -i` outlives Ctrl-C, so that DVC can finish its last line. GNU Make 3.81, which macOS has, knows no .SHELLFLAGS: hence `set`.
define REPRO
set -euo pipefail; \
git rev-parse --git-dir >/dev/null 2>&1 || { echo "Expected a git checkout in $(CURDIR), found none; DVC needs one. Clone the project, or run \`git init\` here." >&2; exit 1; }; \
log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
dvc repro $(1) | tee -i "$$log"; \
grep '^Running stage' "$$log" | grep -vq "'environment'" || echo "Nothing has changed since the last run, so nothing was done."
endef

# Without CUDA's packages, which only some builds of torch bring. The stamps stay newer than the lock, or the next verb would install all again.
lock: .venv/.ready-to-test  ## write .ci/requirements.lock from .venv, for `make test` to judge
	@{ grep '^#' $(LOCK); .venv/bin/python -m pip freeze --exclude-editable | sed -E '/^(nvidia|cuda)[-_]|^triton==/d; s/\+[a-z0-9]*$$//'; } > $(LOCK).new
	@mv $(LOCK).new $(LOCK)
	@touch .venv/.installed .venv/.ready-to-test

# The stamp comes last: an interrupted installation is taken up again.
.venv/.installed: pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { echo "Expected Python 3.11 as \`$(PYTHON)\`, found none. Install it, or run \`make $(MAKECMDGOALS) PYTHON=<path of a Python 3.11>\`." >&2; exit 1; }
	@echo "Setting up .venv: 3 GB, a few minutes the first time."
	@$(PYTHON) -m venv .venv
	@$(PIP) install --constraint $(LOCK) "torch==$(call PIN,torch)"
	@$(PIP) install --constraint $(LOCK) --editable '.[dev]'
	@# docs/decisions/0002: the same OpenCV without the system library libGL.
	@$(PIP) install --no-deps --force-reinstall "opencv-python-headless==$(call PIN,opencv-python)"
	@$(PIP) check
	@touch $@

.venv/.ready-to-test: .venv/.installed
	@echo "Adding Ray, Dask and a server that speaks S3 to .venv, for the tests of workers and storage."
	@$(PIP) install --constraint $(LOCK) --editable '.[dev,ray,dask,s3-test]'
	@$(PIP) check
	@touch $@
