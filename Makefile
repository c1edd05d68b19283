# make demo: set up, then train, cluster and detect on the drawn catalogue, and say how to review.
# make test: set up, then lint, type-check and test; the ten slowest tests are printed.
# make stress: set up, then the long forms: all examples of each property, all of the drawn catalogue.
PYTHON ?= python3
V := .venv
PYTEST = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(V)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.PHONY: demo test stress
demo: $(V)/.ok
	$(V)/bin/python train.py data.batch_size=16 epochs=5
	$(V)/bin/python cluster.py
	$(V)/bin/python detect.py
	@echo "Decide on the groups: $(V)/bin/python review.py"

test: $(V)/.ok
	$(V)/bin/ruff check .
	$(V)/bin/ruff format --check .
	$(V)/bin/mypy --strict src
	$(PYTEST) --durations=10

stress: $(V)/.ok
	DEDUP_STRESS=1 $(PYTEST) -m "stress or hypothesis"

# One environment for all. CPU-only torch on Linux: make TORCH_INDEX=<index of torch's CPU builds>
$(V)/.ok: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(V)
	$(if $(TORCH_INDEX),$(V)/bin/python -m pip install -q --index-url $(TORCH_INDEX) torch==2.13.0)
	$(V)/bin/python -m pip install -q -c constraints.txt -e '.[test,sweep]'
	touch $@
