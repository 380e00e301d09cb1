# Needs python3 (3.11 or later, with venv), git and make. Everything else is fetched into the checkout.
.DEFAULT_GOAL := help
.PHONY: help install run test check bench servers format

PYTHON ?= python3
UV := .uv/bin/uv
RUN := .venv/bin/python
export UV_PYTHON_DOWNLOADS := never

help:
	@echo "make run      start the demo: http://127.0.0.1:8080"
	@echo "make test     run every test, on SQLite and PostgreSQL, against real servers"
	@echo "make check    format, lint, types"
	@echo "make bench    benchmarks, one JSON line each"
	@echo "make install  build .venv only"

install: .venv/.ready

$(UV):
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv

.venv/.ready: $(UV) pyproject.toml uv.lock hatch_build.py package.json build.mjs $(shell find gateway/web/ui -type f 2>/dev/null)
	$(UV) sync --quiet --frozen --extra dev
	@touch $@

run: install
	.venv/bin/gatehouse demo

test: install servers
	$(RUN) -m pytest -n 2 --dist loadgroup

# Dovecot, Postfix and Chromium come from the distribution, where this may install them.
servers:
	@sh tests/servers/install.sh

check: install
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

format: install
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

bench: install
	$(RUN) -m tests.bench
