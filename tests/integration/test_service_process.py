"""What a service is started as, wherever it is started from."""

from pathlib import Path

import pytest

from fixtures import StartService


@pytest.mark.parametrize("name", ["ingest", "shared"])
async def test_a_file_of_the_folder_that_it_is_started_from_is_not_run(
    name: str, start_service: StartService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{name}.py").write_text("raise SystemExit('not the service')\n")
    monkeypatch.chdir(tmp_path)

    service = await start_service("ingest")

    assert await service.is_ready()
