"""Every block of Python and every command in the documentation runs, or says why not and is checked without."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import documentation
import pytest
import torch
from documentation import (
    COVERED_BY,
    DOCUMENTS,
    ROOT,
    SHELLS,
    Block,
    blocks_of,
    check_command,
    check_python,
    commands_of,
)
from reader_folder import fill_reader_folder

from litehrnet_cuda import _extension
from litehrnet_cuda.cli.main import main
from litehrnet_cuda.engine.recipe_files import load_recipe
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models import checkpoints
from litehrnet_cuda.models.published import PUBLISHED
from litehrnet_cuda.models.registry import create_model

HELP = "mend it, or say why it is not run on the line before it: <!-- not run: it needs a GPU -->"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What readers have when they try the examples."""
    folder = tmp_path_factory.mktemp("reader")
    fill_reader_folder(folder)
    return folder


@pytest.fixture
def stage(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that, in which the test runs; published checkpoints are made up instead of downloaded."""
    folder = tmp_path / "reader"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def made_up(name: str) -> Path:
        file = tmp_path / PUBLISHED[name].file_name
        if not file.exists():
            entry = PUBLISHED[name]
            torch.save(create_model(entry.variant, num_outputs=entry.num_outputs).state_dict(), file)
        return file

    monkeypatch.setattr(checkpoints, "fetch", made_up)
    return folder


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_blocks(document: Path, stage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"images": torch.randn(2, 3, 64, 48), "image": cv2.imread("street.jpg")}
    for block in blocks_of(document):
        try:
            run_or_check(block, names)
        except (Exception, SystemExit) as error:
            printed = capsys.readouterr().err
            raise AssertionError(f"{block}: {type(error).__name__}: {error}\n{printed}{HELP}") from error


def run_or_check(block: Block, names: dict[str, Any]) -> None:
    if block.language == "python":
        run_python(block, names)
    elif block.language in SHELLS:
        run_shell(block)
    else:
        covered = (block.document.relative_to(ROOT).as_posix(), block.language) in COVERED_BY
        assert covered, f"nobody runs or reads blocks of the kind {block.language or 'indented text'!r} of this page"


def run_python(block: Block, names: dict[str, Any]) -> None:
    if block.reason is not None or ("functional" in block.text and not _extension.load().ok):
        check_python(block.text, names)
    else:
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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_within_sentences_exist(document: Path) -> None:
    documentation.check_inline_commands(document)


def test_there_are_commands_within_sentences() -> None:
    assert documentation.check_inline_commands(ROOT / "README.md") >= 5


def test_what_other_tests_cover_is_there() -> None:
    kinds = {(d.relative_to(ROOT).as_posix(), block.language) for d in DOCUMENTS for block in blocks_of(d)}
    for (page, language), test in COVERED_BY.items():
        assert (page, language) in kinds
        assert Path(page).name in (ROOT / "python_tests" / test).read_text(encoding="utf-8")


def test_the_recipe_in_the_page_on_training(tmp_path: Path) -> None:
    (text,) = (block.text for block in blocks_of(ROOT / "docs" / "training.md") if block.language == "toml")
    (tmp_path / "mine.toml").write_text(text)
    recipe = load_recipe(tmp_path / "mine.toml")
    assert (recipe.model, recipe.training.amp, recipe.input_size) == ("litehrnet_30", "bf16", (192, 256))


def test_there_is_documentation_to_test() -> None:
    blocks = [block for document in DOCUMENTS for block in blocks_of(document)]
    names = {document.relative_to(ROOT).as_posix() for document in DOCUMENTS}
    assert {"README.md", "CHANGELOG.md", "docs/training.md", "benchmarks/README.md"} <= names
    run = [block for block in blocks if block.reason is None and block.language in ("python", *SHELLS)]
    assert len(run) >= 10
    assert any("litehrnet predict" in block.text for block in run)


def test_links_lead_to_files_and_sections() -> None:
    missing = []
    for document in DOCUMENTS:
        for target in documentation.links_of(document):
            name, _, section = target.partition("#")
            file = document.parent / name if name else document
            if not file.exists() or (section and section not in documentation.sections_of(file)):
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
        "litehrnet train litehrnet_18_birds --out runs",
        "litehrnet train --out runs generated --set training.wings=2",
        "litehrnet fly",
        "torchrun --wings 2 -m litehrnet_cuda train",
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
    with pytest.raises((AssertionError, SystemExit, InputError)):
        check_command(words)


@pytest.mark.parametrize(
    "code",
    [
        "import litehrnet_cuda as lh\nlh.fly()",
        "import litehrnet_cuda as lh\nlh.create_model('litehrnet_18', wings=2)",
        "from litehrnet_cuda.models import wings",
        "from litehrnet_cuda.backends import fly",
        "import torch.wings",
        "import torch\ntorch.fly()",
        "import no_such_package",
        "return 1",
        "a = = 1",
    ],
)
def test_wrong_python_is_noticed(code: str) -> None:
    with pytest.raises((AssertionError, ImportError, AttributeError, SyntaxError)):
        check_python(code, {})


def test_names_that_a_block_gives_anew_are_not_those_of_earlier_blocks() -> None:
    check_python("import torch\ntorch = images = other()\ntorch.fly(); images.fly()", {"images": torch.zeros(1)})


def test_unmarked_commands_of_others_are_noticed() -> None:
    block = Block(ROOT / "README.md", 1, "bash", "make demo")
    with pytest.raises(AssertionError, match="`make demo` is not run"):
        run_shell(block)


@pytest.mark.parametrize("language", ["console", "yaml", "toml", ""])
@pytest.mark.parametrize("reason", [None, "needs a GPU"])
def test_blocks_of_new_kinds_are_noticed(language: str, reason: str | None) -> None:
    with pytest.raises(AssertionError, match="nobody runs or reads"):
        run_or_check(Block(ROOT / "README.md", 1, language, "wings = 2", reason), {})


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("- a list\n  ```python\n  a = 1\n  ```\n", "page.md:2: expected ``` at the begin"),
        ("~~~\na\n~~~\n", "page.md:1: expected ```"),
        ("```python title=a\n```\n", "page.md:1: expected ```"),
        ("```python\na = 1\n", "page.md:1: a fence without an end"),
        ("<!-- not run: slow -->\n\ntext\n", r"a reason of lines \[1\] .* before no block"),
        ("<!-- not run, slow -->\n```sh\nmake demo\n```\n", r"a reason of lines \[1\] is malformed"),
        ("<!-- not run (train): slow -->\n```sh\nlitehrnet env\n```\n", "page.md:3: train is excepted, but not there"),
    ],
)
def test_malformed_pages_are_noticed(tmp_path: Path, page: str, words: str) -> None:
    (tmp_path / "page.md").write_text(page)
    with pytest.raises(AssertionError, match=words):
        blocks_of(tmp_path / "page.md")


def test_wrong_commands_within_sentences_are_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(documentation, "ROOT", tmp_path)
    for text in ("Try `litehrnet fly`.", "Or `litehrnet train --out runs --wings 2` again."):
        (tmp_path / "page.md").write_text(text)
        with pytest.raises(AssertionError, match=r"litehrnet (fly|train).* no "):
            documentation.check_inline_commands(tmp_path / "page.md")
