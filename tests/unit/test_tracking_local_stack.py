"""What the commands make of the stack that runs in their folder."""

from pathlib import Path

import jwt
import pytest

from tracking.devstack.data_folder import DataFolder, issuer_claims_of, own_token

SECRET = "s" * 32
STACK = {"jwt_secret": SECRET, "jwt_issuer": "https://issuer.example", "jwt_audience": "tracking"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a running stack."""
    for variable in ("JWT_SECRET", "JWT_ISSUER", "JWT_AUDIENCE"):
        monkeypatch.delenv(variable, raising=False)
    DataFolder(tmp_path).announce(STACK, None)
    return tmp_path


def test_a_token_names_issuer_and_audience_of_the_running_stack(folder: Path) -> None:
    claims = jwt.decode(
        own_token(folder, "ann", "orders:read"),
        SECRET,
        ["HS256"],
        issuer=STACK["jwt_issuer"],
        audience=STACK["jwt_audience"],
    )
    assert claims["sub"] == "ann"


def test_the_environment_goes_before_the_running_stack(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_ISSUER", "https://other.example")
    assert issuer_claims_of(folder) == {"iss": "https://other.example", "aud": "tracking"}


def test_a_secret_of_another_installation_takes_nothing_from_the_running_stack(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)
    assert issuer_claims_of(folder) == {"iss": STACK["jwt_issuer"], "aud": STACK["jwt_audience"]}
    monkeypatch.setenv("JWT_SECRET", "t" * 32)
    assert issuer_claims_of(folder) == {}


def test_no_stack_names_nothing(folder: Path) -> None:
    DataFolder(folder).retract(None)
    assert issuer_claims_of(folder) == {}
