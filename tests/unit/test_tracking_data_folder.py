"""The data folder: one stack at a time, private files, nothing wiped that is not its own."""

import os
import stat
from pathlib import Path

import pytest

from tracking.devstack.data_folder import DataFolder, FolderUnusable, open_data_folder


@pytest.fixture(autouse=True)
def no_given_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests are about the stored one."""
    monkeypatch.delenv("JWT_SECRET", raising=False)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_secret_is_made_once_and_private(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)

    secret = folder.jwt_secret()

    assert len(secret.encode()) >= 32
    assert DataFolder(tmp_path).jwt_secret() == secret
    assert _mode(tmp_path / "jwt-secret") == 0o600


def test_a_given_secret_wins_and_is_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", "x" * 40)

    assert DataFolder(tmp_path).jwt_secret() == "x" * 40
    assert DataFolder(tmp_path).stored_secret() is None


def test_a_second_stack_is_refused_while_the_first_one_runs(tmp_path: Path) -> None:
    with (
        open_data_folder(tmp_path / "data"),
        pytest.raises(FolderUnusable, match=f"another stack .*process {os.getpid()}"),
        open_data_folder(tmp_path / "data"),
    ):
        pass
    with open_data_folder(tmp_path / "data"):
        assert _mode(tmp_path / "data") == 0o700


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(FolderUnusable, match="cannot be used"), open_data_folder(tmp_path / "file" / "data"):
        pass


def test_fresh_removes_what_a_stack_put_there_and_nothing_else(tmp_path: Path) -> None:
    for name in ("broker", "database", "logs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "something").touch()
    (tmp_path / "mine.txt").touch()
    DataFolder(tmp_path).jwt_secret()

    with open_data_folder(tmp_path, fresh=True):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "logs", "mine.txt"]


def test_what_the_stack_announces_is_private_and_goes_away(tmp_path: Path) -> None:
    folder, ready = DataFolder(tmp_path), tmp_path / "ready.json"

    folder.announce({"ingest": "http://127.0.0.1:1"}, ready)
    assert folder.running_stack() == {"ingest": "http://127.0.0.1:1"}
    assert _mode(ready) == 0o600

    folder.retract(ready)
    assert folder.running_stack() is None
    assert not ready.exists()


def test_a_large_log_is_set_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.logs.mkdir()
    log = folder.logs / "ingest.log"
    with log.open("a") as writer:
        writer.write("x" * 100)
        writer.flush()
        folder.rotate_logs(larger_than_bytes=50)
        writer.write("y")

    assert log.read_text() == "y"
    assert (folder.logs / "ingest.log.1").read_text() == "x" * 100
