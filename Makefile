# Every target sets up what it needs: git, Python 3.10 or newer, make and a C++ compiler suffice.
# Set-up is stamped, and done again only when what it was made from changes.

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
VENV ?= .venv

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
MADE := $(VENV)/made
NATIVE := CMakeLists.txt $(wildcard native/*)

.DEFAULT_GOAL := help
.PHONY: help demo test test-aarch64 check format screenshots prove-foundation prove-cpu-speed \
    prove-scheduler-cache prove-serving prove-compression train-recall node-client bench-peers \
    bench-kernels bench-transformers bench-startup bench-bits wheel test-wheel clean

help: ## show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 28

define DEMO_PROMPT
class Point:
    def __init__(self, x, y):
        self.x = x
        self.y = y

    def __eq__(self, other):
endef
export DEMO_PROMPT

demo: $(MADE)/package ## complete Python code with the bundled model
	@echo; echo "vivace-mini, a small model that ships with vivace, completes Python code:"; echo
	@printf '%s' "$$DEMO_PROMPT"
	@$(BIN)/vivace generate --prompt "$$DEMO_PROMPT" --max-tokens 28 --temperature 0 \
	    2> $(MADE)/demo.txt || { cat $(MADE)/demo.txt >&2; exit 1; }
	@echo; cat $(MADE)/demo.txt >&2
	@echo; echo "To serve it over HTTP:  $(BIN)/vivace serve --port 8000"

test: $(MADE)/dev oracle browser ## run every test
	@$(BIN)/python -m pytest

test-aarch64: $(MADE)/cmake ## the kernels' tests on AArch64, under emulation (minutes; needs Debian)
	@PYTHON=$(BIN)/python CMAKE=$(BIN)/cmake tools/test_aarch64.sh

check: $(MADE)/dev ## format, lint, types and the tiny tests, in well under a minute
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -m tiny

format: $(MADE)/dev ## rewrite the sources in the project's format
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

screenshots: $(MADE)/dev browser ## pictures of the server's page for docs/, out of Chromium
	@PYTHONPATH=. $(BIN)/python tools/page_screenshots.py docs

prove-foundation: $(MADE)/dev oracle ## measure every claim of the foundation (ROW=n: one of them)
	@$(BIN)/python tools/prove_foundation.py $(if $(ROW),--row $(ROW))

prove-cpu-speed: $(MADE)/dev oracle ## measure every claim about speed on a CPU (ROW=n, ISA=avx512)
	@$(BIN)/python tools/prove_cpu_speed.py $(if $(ROW),--row $(ROW)) $(if $(ISA),--isa $(ISA))

prove-scheduler-cache: $(MADE)/dev ## measure every claim about scheduling and the KV cache (ROW=n)
	@$(BIN)/python tools/prove_scheduler_cache.py $(if $(ROW),--row $(ROW)); proved=$$?; \
	    $(BIN)/python benchmarks/plot_scheduling.py && exit $$proved

train-recall: $(MADE)/dev oracle ## train the small model that recall is measured with (minutes)
	@$(BIN)/python tools/train_recall.py

prove-compression: $(MADE)/dev oracle ## measure every claim about compression (ROW=n: one of them)
	@$(BIN)/python tools/prove_compression.py $(if $(ROW),--row $(ROW))

prove-serving: $(MADE)/dev node-client ## measure every claim about serving, in 50 minutes (ROW=n)
	@$(BIN)/python tools/prove_serving.py $(if $(ROW),--row $(ROW))

# OpenAI's client for Node.js, which a test runs; without npm it is skipped.
NODE_CLIENT := build/node/node_modules/openai/package.json
node-client:
	@test -e $(NODE_CLIENT) || npm install --silent --no-audit --no-fund --prefix build/node openai@6 \
	    || echo "OpenAI's client for Node.js did not install; the test that needs it will be skipped."

bench-peers: $(MADE)/dev oracle ## everything beside every peer, and docs/performance.md from it
	@mkdir -p build && $(BIN)/python benchmarks/peers_cpu.py $(if $(ISA),--isa $(ISA)) \
	    $(if $(PEERS),--peers $(PEERS)) $(if $(ROWS),--rows $(ROWS)) \
	    $(if $(ROUNDS),--rounds $(ROUNDS)) > build/peers.json
	@$(BIN)/python tools/peers_file.py proofs/peers-$(or $(ISA),native).json < build/peers.json
	@$(BIN)/python tools/performance_page.py

bench-kernels: $(MADE)/cmake ## each kernel beside its limit: streaming read, int8 and bfloat16 peak
	@mkdir -p build && $(BIN)/cmake -S . -B build/bench -DVIVACE_KERNELS_BENCH=ON -DCMAKE_BUILD_TYPE=Release \
	    -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python > build/bench.log 2>&1 && \
	    $(BIN)/cmake --build build/bench --target kernels_bench >> build/bench.log 2>&1 || \
	    { tail -20 build/bench.log >&2; exit 1; }
	@build/bench/kernels_bench $(ISA)

bench-transformers: $(MADE)/dev oracle ## decode and prefill beside Hugging Face Transformers
	@$(BIN)/python benchmarks/transformers_cpu.py

bench-startup: $(MADE)/package ## process start to first token, and to the help text
	@$(BIN)/python benchmarks/startup.py

bench-bits: $(MADE)/package ## what rounding costs: bits per byte on the held-out text
	@$(BIN)/python benchmarks/bits.py

wheel: $(MADE)/venv ## a wheel for machines of this kind, in build/wheel; it needs no compiler
	@rm -rf build/wheel && $(PIP) wheel --no-deps --wheel-dir build/wheel .
	@ls build/wheel/*.whl

test-wheel: wheel ## install it in a fresh environment without a compiler, and use it
	@$(BIN)/python tools/test_wheel.py build/wheel/*.whl

clean: ## remove the virtual environment and what was built
	rm -rf $(VENV) build

# --- set-up ---------------------------------------------------------------------------------------

$(MADE)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "vivace needs Python 3.10 or newer: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Creating $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(MADE) && touch $@

$(MADE)/package: $(MADE)/venv pyproject.toml $(NATIVE)
	@echo "Installing vivace and building its native code (a few minutes the first time) ..."
	@$(PIP) install --editable .
	@touch $@

$(MADE)/dev: $(MADE)/package tools/extra_requirements.py
	@echo "Installing the development tools ..."
	@$(BIN)/python tools/extra_requirements.py dev > $@.txt
	@$(PIP) install -r $@.txt
	@touch $@

$(MADE)/cmake: $(MADE)/venv
	@$(PIP) install "cmake>=3.20" "nanobind>=2.4"
	@touch $@

# The tests that compare with PyTorch and Transformers are skipped where these cannot be had.
.PHONY: oracle
oracle: $(MADE)/dev
	@test -e $(MADE)/oracle || $(MAKE) --no-print-directory $(MADE)/oracle || \
	    echo "PyTorch or Transformers did not install; the tests that need them will be skipped."

$(MADE)/oracle:
	@echo "Installing PyTorch and Transformers, which tests compare with ..."
	@$(BIN)/python tools/extra_requirements.py oracle > $@.txt
	@$(PIP) --retries 0 install "$(TORCH)+cpu" --extra-index-url $(TORCH_CPU_INDEX) 2> /dev/null \
	    || $(PIP) install "$(TORCH)"
	@$(PIP) install -r $@.txt
	@touch $@

# The tests of the server's page are skipped where there is no Chromium and none can be installed.
.PHONY: browser
browser: $(MADE)/dev
	@test -e $(MADE)/browser || $(MAKE) --no-print-directory $(MADE)/browser || \
	    echo "Chromium or selenium did not install; the tests of the page will be skipped."

$(MADE)/browser: tools/install_chromium.sh
	@$(BIN)/python tools/extra_requirements.py browser > $@.txt
	@$(PIP) --retries 0 install -r $@.txt
	@tools/install_chromium.sh
	@touch $@
