"""The repository's own promises: pinned requirements, commands that exist, nothing of one machine in it."""

import re
import subprocess
import sys

from tests.runs import ROOT, entry


def test_every_requirement_is_pinned_exactly() -> None:
    for file in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / file).read_text().splitlines():
            wanted = line.split("#")[0].strip()
            assert not wanted or wanted.startswith("-r ") or re.fullmatch(r"[\w.-]+==[\w.]+", wanted), line


def test_every_runtime_requirement_is_imported_somewhere() -> None:
    modules = {"pyyaml": "yaml", "annotated-types": "annotated_types", "markdown-it-py": "markdown_it"}
    ours = [p for p in ROOT.glob("[a-z]*/**/*.py") if p.relative_to(ROOT).parts[0] not in ("tests", "runs", "records")]
    source = "\n".join(p.read_text() for p in ours)
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if wanted := line.split("#")[0].split("==")[0].strip():
            assert re.search(rf"^\s*(import|from) {modules.get(wanted, wanted)}\b", source, re.M), wanted


def test_the_readmes_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"`?make ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= named <= targets


def test_every_command_of_the_readme_has_help() -> None:
    modules = set(re.findall(r"python -m ([\w.]+)", (ROOT / "README.md").read_text()))
    assert modules
    for module in modules:
        assert f"python -m {module}" in entry(module).parser().format_help(), module


def test_links_in_the_documents_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_the_light_half_works_without_torch() -> None:
    modules = "data.prep, data.check, data.contest, eval.stats, eval.metric, eval.windows"
    code = f"import sys; sys.modules['torch'] = None; import {modules}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
