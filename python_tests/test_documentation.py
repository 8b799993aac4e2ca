"""Every block of Python and every command in the documentation runs, or says why not and is checked without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import documentation
import pytest
import torch
from documentation import DOCUMENTS, ROOT, SHELLS, Block, blocks_of, check_command, check_python, commands_of
from sample_checkpoints import to_paddle, write_paddle
from video_files import write_video

from litehrnet_cuda import _extension
from litehrnet_cuda.cli.main import main
from litehrnet_cuda.data.generated.coco_folder import write_coco
from litehrnet_cuda.engine.recipe_files import load_recipe
from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.models import checkpoints
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, save_checkpoint
from litehrnet_cuda.models.published import PUBLISHED
from litehrnet_cuda.models.registry import create_model

SIZE = (160, 120)  # of pictures
HELP = "mend it, or say why it is not run on the line before it: <!-- not run: it needs a GPU -->"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What readers have when they try the examples: pictures, data sets and checkpoints under the names in the text."""
    folder = tmp_path_factory.mktemp("reader")
    demo = folder / "runs" / "demo"
    write_coco(demo / "data", 2, split="val", size=SIZE)
    for split in ("train2017", "val2017"):
        write_coco(folder / "coco", 2, split=split, size=SIZE)
    shutil.copy(folder / "coco" / "annotations" / "person_keypoints_val2017.json", folder)
    shutil.copytree(folder / "coco" / "val2017", folder / "val2017")
    picture = cv2.imread(str(next((folder / "val2017").iterdir())))
    cv2.imwrite(str(folder / "street.jpg"), cv2.resize(picture, None, fx=4, fy=4))
    (folder / "boxes.json").write_text(json.dumps({"street.jpg": [[20, 10, 80, 110]]}))

    write_video(folder / "street.mp4", 3)
    (folder / "my_detector.py").write_text("def people(image):\n    return [[10, 10, 60, 60]]\n")

    torch.manual_seed(0)
    small = CheckpointMetadata("naive_litehrnet_18", "pose", 17, COCO, (64, 96))
    save_checkpoint(create_model(small.variant), folder / "model.safetensors", small)
    shutil.copy(folder / "model.safetensors", demo)
    streets = CheckpointMetadata(small.variant, "segmentation", 19, head="fcn")
    save_checkpoint(create_model(small.variant, "segmentation"), folder / "cityscapes.safetensors", streets)
    torch.save({"state_dict": create_model("litehrnet_18").state_dict(), "optimizer": {}}, folder / "epoch_210.pth")
    wider = create_model("wider_naive_litehrnet_18").state_dict()
    write_paddle(to_paddle(dict(wider)), folder / "tinypose_256x192.pdparams")
    return folder


@pytest.fixture
def stage(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that, in which the test runs; published checkpoints are made up instead of downloaded."""
    folder = tmp_path / "reader"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)

    def made_up(name: str) -> Path:
        file = tmp_path / PUBLISHED[name].file_name
        if not file.exists():
            entry = PUBLISHED[name]
            torch.save(create_model(entry.variant, num_outputs=entry.num_outputs).state_dict(), file)
        return file

    monkeypatch.setattr(checkpoints, "fetch", made_up)
    return folder


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks(document: Path, stage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"images": torch.randn(2, 3, 64, 48), "image": cv2.imread("street.jpg")}
    for block in blocks_of(document):
        try:
            if block.language == "python":
                run_python(block, names)
            elif block.language in SHELLS:
                run_shell(block)
        except (Exception, SystemExit) as error:
            printed = capsys.readouterr().err
            raise AssertionError(f"{block}: {type(error).__name__}: {error}\n{printed}{HELP}") from error


def run_python(block: Block, names: dict[str, Any]) -> None:
    if block.reason is not None:
        check_python(block.text, names)
        return
    if "functional" in block.text and not _extension.load().ok:
        pytest.skip(f"{block} needs the native library: {_extension.load().reason}")
    exec(compile(block.text, str(block), "exec"), names)


def run_shell(block: Block) -> None:
    for words in commands_of(block.text):
        arguments = documentation.litehrnet_arguments(words)
        excepted = block.reason is not None and (not block.excepted or bool(block.excepted & set(words)))
        if excepted:
            check_command(words)
        elif arguments is None or words[0] == "torchrun":
            raise AssertionError(f"`{' '.join(words)}` is not run by the tests")
        else:
            assert main(arguments) == 0, f"`{' '.join(words)}` failed"


def test_pages_that_other_tests_run() -> None:
    for page, test in documentation.RUN_BY.items():
        assert Path(page).name in (ROOT / "python_tests" / test).read_text(encoding="utf-8")


def test_the_recipe_in_the_page_on_training(tmp_path: Path) -> None:
    (text,) = (block.text for block in blocks_of(ROOT / "docs" / "training.md") if block.language == "toml")
    (tmp_path / "mine.toml").write_text(text)
    recipe = load_recipe(tmp_path / "mine.toml")
    assert (recipe.model, recipe.training.amp, recipe.input_size) == ("litehrnet_30", "bf16", (192, 256))


def test_there_is_documentation_to_test() -> None:
    blocks = [block for document in DOCUMENTS for block in blocks_of(document)]
    assert {"README.md", "kernels.md", "migrating.md", "training.md", "own_data.md"} <= {d.name for d in DOCUMENTS}
    run = [block for block in blocks if block.reason is None and block.language in ("python", *SHELLS)]
    assert len(run) >= 10
    assert any("litehrnet predict" in block.text for block in run)


def test_links_lead_to_files() -> None:
    missing = []
    for document in DOCUMENTS:
        for target in documentation.links_of(document):
            if not (document.parent / target).exists():
                missing.append(f"{document.relative_to(ROOT)}: {target}")
    assert missing == []


# ------------------------------------------------------------------------------------- the checks can fail


PAGE = """\
Text.

```python
a = 1
```

<!-- not run: needs a GPU -->
```bash
litehrnet env    # what there is
litehrnet train \\
    --list
```

- a list whose items
    go on indented

<!-- not run (train): minutes -->

    LITEHRNET_CUDA_BUILD=0 pip install '.[test]' && make test
    litehrnet train --list

    base = "recipe"
"""


def test_blocks_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    python, bash, indented, recipe = blocks_of(page)
    assert (python.line, python.language, python.text, python.reason) == (4, "python", "a = 1", None)
    assert (bash.line, bash.language, bash.reason, bash.excepted) == (9, "bash", "needs a GPU", frozenset())
    assert list(commands_of(bash.text)) == [["litehrnet", "env"], ["litehrnet", "train", "--list"]]
    assert (indented.line, indented.language) == (19, "bash")
    assert (indented.reason, indented.excepted) == ("minutes", {"train"})
    assert list(commands_of(indented.text))[:2] == [["pip", "install", ".[test]"], ["make", "test"]]
    assert (recipe.text, recipe.language) == ('base = "recipe"', "")


@pytest.mark.parametrize(
    "command",
    [
        "litehrnet train --epoch-count 3",
        "litehrnet fly",
        "torchrun --nproc-per-node 2 -m litehrnet_cuda train --flies",
        "python -m benchmarks --flies",
        "python -m benchmarks networks fly",
        "python python_tests/absent.py",
        "make coffee",
        "pip install '.[coffee]'",
        "brew coffee",
    ],
)
def test_wrong_commands_are_noticed(command: str) -> None:
    (words,) = commands_of(command)
    with pytest.raises((AssertionError, SystemExit)):
        check_command(words)


@pytest.mark.parametrize(
    "code",
    [
        "import litehrnet_cuda as lh\nlh.fly()",
        "import litehrnet_cuda as lh\nlh.create_model('litehrnet_18', wings=2)",
        "from litehrnet_cuda.models import wings",
        "from litehrnet_cuda.backends import fly",
        "a = = 1",
    ],
)
def test_wrong_python_is_noticed(code: str) -> None:
    with pytest.raises((AssertionError, ImportError, AttributeError, SyntaxError)):
        check_python(code, {})


def test_unmarked_commands_of_others_are_noticed() -> None:
    block = Block(ROOT / "README.md", 1, "bash", "make demo")
    with pytest.raises(AssertionError, match="`make demo` is not run"):
        run_shell(block)
