# make app    installs what is missing and opens the studio in the browser
# make test   installs what is missing and proves it, in a real browser too
PYTHON ?= python3
BIN := .venv/bin
export GRADIO_ANALYTICS_ENABLED := False
export HF_HUB_DISABLE_TELEMETRY := 1
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# pip would compile one file after the other; some packages hold files that no Python can compile.
COMPILE := $(BIN)/python -m compileall -qq -j 0 .venv/lib || true

.PHONY: app test test-slow lint screenshots

app: .venv/app-ready
	$(BIN)/python app.py --open $(ARGS)

test: .venv/test-ready
	sh tests/browser/install_chromium.sh
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --ignore=tests/browser -m "not slow" -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser -m "not slow and not timed" -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)
	$(BIN)/python -m pytest tests/browser -m "timed and not slow" $(ARGS)

test-slow: .venv/test-ready
	sh tests/browser/install_chromium.sh
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: .venv/test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

screenshots: .venv/test-ready
	$(BIN)/python benchmarks/take_screenshots.py

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11, which transformers 5 needs. Install a newer one and call make PYTHON=python3.12 app."; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Python cannot make a virtual environment here. On Debian and Ubuntu: apt install python3-venv, then call make again."; exit 1; }

.venv/app-ready: requirements.txt | .venv/bin/python
	$(INSTALL) -r requirements.txt
	$(COMPILE)
	touch $@

.venv/test-ready: requirements.txt tests/requirements.txt | .venv/bin/python
	$(INSTALL) -r tests/requirements.txt
	$(COMPILE)
	touch .venv/app-ready $@
