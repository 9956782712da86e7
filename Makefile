# Every target does its own set-up: the first call creates .venv, later calls find it ready. Nothing is written outside the
# ignored paths of this clone. `make help` lists the targets; the text after ## is what it prints.

PORT ?= 9000
ARGS ?=
BASE ?=
export PORT

RUN := exec sh scripts/with_venv.sh

.DEFAULT_GOAL := help
.PHONY: help serve demo test test-all lint format dist conformance vectors fuzz soak bench-setup bench guard images audit generate clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

serve: ## serve the demo model on 127.0.0.1:9000 (PORT=...), classify one digit, keep serving until Ctrl-C
	@$(RUN) onnx scripts/demo.py --port "$(PORT)" --keep-serving

demo: ## the same, but exit after the answer
	@$(RUN) onnx scripts/demo.py --port "$(PORT)"

test: ## run every test this machine can run, in about 9 minutes (ARGS="wire lint" picks suites)
	@$(RUN) dev scripts/run_tests.py $(ARGS)

test-all: ## the same and the slow ones: clean clones, soak, long fuzzing
	@$(RUN) fuzz scripts/run_tests.py --slow $(ARGS)

lint: ## check style and types; changes nothing
	@$(RUN) dev scripts/run_tests.py lint

format: ## put the Python code into the form that lint expects
	@sh scripts/with_venv.sh dev -m ruff check --fix-only .
	@$(RUN) dev -m ruff format .

dist: ## build a release of the commit into dist/: wheel, sdist and SBOM, checked, installed and called
	@$(RUN) dist scripts/dist.py $(ARGS)

conformance: ## run the shared vectors over every client language
	@$(RUN) dev conformance/run.py $(ARGS)

vectors: ## pack the conformance vectors and their runner for a client in a new language: conformance/dist
	@$(RUN) dev conformance/make_archive.py

fuzz: ## every fuzzer for a minute: executions, coverage, findings (ARGS="--seconds 600 head", ARGS=--minimise)
	@$(RUN) fuzz -m scripts.fuzz $(ARGS)

soak: ## 15 minutes of mixed traffic, every answer checked, nothing left at the end (ARGS="--minutes 60 --workers 2")
	@$(RUN) dev scripts/soak.py $(ARGS)

bench-setup: ## make the environments that the benchmarks need: peers, formats, TF-Serving's messages
	@$(RUN) bench scripts/bench.py --set-up

bench: ## measure beside peers, in about 15 minutes: docs/performance.md (ARGS="peers --full", ARGS=codec)
	@$(RUN) bench scripts/bench.py $(ARGS)

guard: ## what grew by more than 5 % since a commit: codec, hot route, exchange, client (BASE=main ARGS=codec)
	@$(RUN) dev benchmarks/guard.py $(if $(BASE),--base "$(BASE)") $(ARGS)

images: ## build the images of docker/ and run each (ARGS="onnx cpu" picks some, ARGS=--write puts the table into the docs)
	@$(RUN) dev -m scripts.images $(ARGS)

audit: ## what is known against the pinned versions: pip-audit, govulncheck, osv-scanner, where they and their databases are
	@$(RUN) dev scripts/audit.py

generate: ## write the generated code anew from schema/graphpipe.fbs (needs flatc)
	@$(RUN) dev scripts/generate.py

clean: ## remove what the targets made, .venv included
	@chmod -R u+w .build 2>/dev/null; rm -rf .venv .build .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
