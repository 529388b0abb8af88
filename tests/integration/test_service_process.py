"""What a service is started as, wherever it is started from."""

from pathlib import Path

import pytest

from tracking.devstack.service_process import ServiceProcess


@pytest.mark.parametrize("name", ["ingest", "shared"])
async def test_a_file_of_the_folder_that_it_is_started_from_is_not_run(
    name: str, service_environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{name}.py").write_text("raise SystemExit('not the service')\n")
    monkeypatch.chdir(tmp_path)

    service = ServiceProcess("ingest", environment=service_environment, logs=tmp_path / "logs")
    try:
        await service.start()
        assert await service.is_ready()
    finally:
        await service.stop()
