# make demo      a mask in a generated CT and in a real ultrasound cine, in demo-output/
# make test      ruff, mypy and the tests
# make coverage  the tests, and which lines of the packages they ran; fails below the floor in pyproject.toml
# make docs      the guides and the API reference as pages, in build/docs/
# make soak      the long campaigns
# make clean     remove what the others made
#
# Each sets up .venv first and needs nothing but Python 3.10 to 3.13 and make. Another Python: make PYTHON=python3.12 test
# Which PyTorch: make demo TORCH=cpu|cuda|default; without it, on Linux without an NVIDIA driver the CPU build.

PYTHON ?= python3
# Options of pytest, for example make test PYTEST="--durations=30 -k panel"
PYTEST ?=
TORCH ?= auto
# Where PyTorch's CPU build is; a mirror can stand here.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo-output
DEFINITION := pyproject.toml constraints.txt $(VENV)/.torch

.PHONY: demo picture test coverage docs soak clean force

# rf-sam-2 declares torchvision, and nothing here imports it. One that does not match torch fails at import, which
# MONAI and others notice; so it is taken out again, as in 3D Slicer.
define install
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' \
		|| { echo "$(PYTHON) is not Python 3.10 to 3.13; say which is: make PYTHON=python3.12"; exit 2; }
	@echo "Setting up $(VENV); the first time takes a few minutes."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python tools/torch_build.py prepare --build $(TORCH) --index $(TORCH_INDEX)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(1)]'
	@$(BIN)/python -m pip uninstall --quiet --yes torchvision
	@$(BIN)/python tools/torch_build.py report --build $(TORCH)
	@touch $@
endef

$(VENV)/.installed-to-run: $(DEFINITION)
	$(call install,engine$(comma)dicom$(comma)video)

$(VENV)/.installed-to-test: $(DEFINITION)
	$(call install,test)

$(VENV)/.installed-to-docs: $(DEFINITION)
	$(call install,docs)

# Another choice than the last installs again; none keeps what is there.
$(VENV)/.torch: force
	@mkdir -p $(VENV)
	@test -f $@ -a "$(TORCH)" = auto || echo $(TORCH) | cmp -s - $@ || echo $(TORCH) > $@

comma := ,

demo: $(VENV)/.installed-to-run
	@rm -rf $(DEMO) && mkdir -p $(DEMO)
	@echo "1. A generated CT, and a lesion in its liver from a box on one slice"
	$(BIN)/python -m biosam2.synthetic.phantom $(DEMO)/ct.nrrd --lesion $(DEMO)/ct-truth.nrrd
	$(BIN)/biosam2 segment $(DEMO)/ct.nrrd -o $(DEMO)/ct-lesion.seg.nrrd --window abdomen \
		--segment lesion --box 49,99,16:83,125,16 --first 8 --last 24 \
		--montage $(DEMO)/ct-lesion.png --record $(DEMO)/ct-lesion.json
	@echo "2. An ultrasound cine of the heart (from pydicom), and its left ventricle from a box on the first frame"
	$(BIN)/biosam2 video "$$($(BIN)/python -c 'from pydicom.data import get_testdata_file as f; print(f("examples_ybr_color.dcm", download=False))')" \
		-o $(DEMO)/cine --window 60,120 --segment ventricle --box 164,68,0:197,128,0 \
		--montage $(DEMO)/cine.png --record $(DEMO)/cine.json
	@echo "3. The first run again, from its record"
	$(BIN)/biosam2 replay $(DEMO)/ct-lesion.json
	@echo
	@echo "Look at:"
	@echo "  $(DEMO)/ct-lesion.png       slices of the CT with the lesion outlined"
	@echo "  $(DEMO)/cine.png            frames of the cine with the ventricle outlined"
	@echo "  $(DEMO)/cine/overlay.mp4    the whole cine"
	@echo "  $(DEMO)/ct-lesion.seg.nrrd  the segmentation, for 3D Slicer, on top of $(DEMO)/ct.nrrd"

# The pictures of README.md and docs/panel.md.
picture: demo $(VENV)/.installed-to-test
	@mkdir -p Resources/Screenshots
	$(BIN)/python -c "from PIL import Image; p = Image.open('$(DEMO)/ct-lesion.png'); p.thumbnail((1000, 1000)); \
		p.quantize(96).save('Resources/Screenshots/ct-lesion.png', optimize=True)"
	$(BIN)/python Testing/panel/pictures.py Resources/Screenshots

test: $(VENV)/.installed-to-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python Testing/run.py $(PYTEST)

# Each process that has COVERAGE_PROCESS_START in its environment measures itself; coverage's own .pth file sees to it.
coverage: export COVERAGE_PROCESS_START := $(CURDIR)/pyproject.toml
coverage: export COVERAGE_FILE := $(CURDIR)/build/coverage/data
coverage: $(VENV)/.installed-to-test
	@rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/python Testing/run.py $(PYTEST)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

# Warnings are errors: a link to a file that is not there, a docstring that does not parse.
docs: $(VENV)/.installed-to-docs
	$(BIN)/python -m sphinx --fail-on-warning --quiet -c docs . build/docs
	@echo "Look at build/docs/index.html"

soak: $(VENV)/.installed-to-test
	$(BIN)/python Testing/run.py -m soak $(PYTEST)

clean:
	rm -rf $(VENV) $(DEMO) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
