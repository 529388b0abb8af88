"""Addresses of broker and database are checked at the start, and never quoted."""

import re
from pathlib import Path

import pytest

from tls_broker import Authority
from tracking_shared.errors import SettingsError
from tracking_shared.serving import BadAddress, check_addresses, check_broker_url, check_database_url
from tracking_shared.settings import Settings
from tracking_shared.storage.database import open_database
from tracking_shared.telemetry.logs import without_secrets

PASSWORD = "pa55w0rd"


@pytest.mark.parametrize(
    "url",
    [
        "amqp://guest:guest@127.0.0.1:5672/",
        "amqps://u:p@broker.example:5671/vhost?heartbeat=5",
        "amqp://u:p%2C@h1:5672,h2,[::1]:5672/%2Fvhost?heartbeat=5",
        f"amqps://broker.example/?cafile={__file__}&no_verify_ssl=0",
    ],
)
def test_a_good_broker_url_passes(url: str) -> None:
    check_broker_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://127.0.0.1:27017/?directConnection=true",
        "mongodb://u:p@a.example:1,b.example:2/?replicaSet=rs0&authSource=tracking",
        f"mongodb://a.example/?tls=true&tlsCAFile={__file__}",
        "mongodb+srv://u:p@cluster.example/",
        "mongodb+srv://u:p@cluster.example/?retryWrites=true&w=majority&appName=a",
        "mongodb://a.example/?readPreference=primary&journal=true&readConcernLevel=majority",
    ],
)
def test_a_good_database_url_passes(url: str) -> None:
    check_database_url(url)


BAD_BROKERS = [
    f"http://u:{PASSWORD}@broker",
    f"amqp://u:{PASSWORD}/x@broker",
    f"amqp://u:{PASSWORD}@broker:port",
    f"amqp://u:{PASSWORD}@[broker",
    f"amqp://u:{PASSWORD}@h1,,h2/",
    f"amqp://u:{PASSWORD}@h1,h2:port/",
    "amqp://",
    f"amqps://u:{PASSWORD}@broker/?cafile=/nowhere/{PASSWORD}.pem",
    f"amqps://u:{PASSWORD}@broker/?no_verify_ssl=1",
    f"amqp://u:{PASSWORD}@broker/?cafile={__file__}",
]
BAD_DATABASES = [
    f"postgres://u:{PASSWORD}@db",
    f"mongodb://u:{PASSWORD}/x@db",
    f"mongodb://u:{PASSWORD}@x@db",
    f"mongodb://u:{PASSWORD}@db:port",
    f"mongodb://u:{PASSWORD}@",
    f"mongodb://u:{PASSWORD}@db/?tls=true&tlsCAFile=/nowhere/{PASSWORD}.pem",
    f"mongodb://u:{PASSWORD}@db/?tls=true&tlsInsecure=true",
    f"mongodb://u:{PASSWORD}@db/?tls=true&tlsAllowInvalidCertificates=true",
    f"mongodb+srv://u:{PASSWORD}@db/?tlsAllowInvalidHostnames=true",
]


WEAKENING = [
    "readPreference=secondaryPreferred",
    "readPreference=primary&readPreference=nearest",
    "replicaSet=rs0;readPreference=secondary",
    "READPREFERENCE=primaryPreferred",
    "readPreferenceTags=dc:eu",
    "maxStalenessSeconds=120",
    "w=1",
    "w=0",
    "w=2",
    "journal=false",
    "j=false",
    "readConcernLevel=local",
    "readConcernLevel=available",
    "retryWrites=false",
]


@pytest.mark.parametrize("scheme", ["mongodb", "mongodb+srv"])
@pytest.mark.parametrize("options", WEAKENING)
def test_an_option_that_would_weaken_reads_or_writes_is_refused_by_its_name(
    scheme: str, options: str
) -> None:
    name = re.split("[&;]", options)[-1].partition("=")[0]
    with pytest.raises(SettingsError, match=f"MONGODB_URL: {name}: leave it out") as refused:
        check_addresses(
            Settings(amqp_url="amqp://a", mongodb_url=f"{scheme}://u:{PASSWORD}@db.example/?{options}")
        )
    assert PASSWORD not in str(refused.value)
    assert "db.example" not in str(refused.value)


@pytest.mark.parametrize("url", BAD_BROKERS)
def test_a_bad_broker_url_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(BadAddress) as refused:
        check_broker_url(url)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("url", BAD_DATABASES)
def test_a_bad_database_url_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(BadAddress) as refused:
        check_database_url(url)
    assert PASSWORD not in str(refused.value)


async def test_tls_options_reach_the_driver(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    Authority(tmp_path)
    url = f"mongodb://db.example:1/?tls=true&tlsCAFile={authority}"
    async with open_database(url, "tracking") as database:
        options = database.client.options.pool_options
        assert options._ssl_context is not None
        assert [found["subject"] for found in options._ssl_context.get_ca_certs()] != []
        assert options._ssl_context.check_hostname


def test_the_variable_is_named() -> None:
    with pytest.raises(SettingsError, match="MONGODB_URL: tlscafile"):
        check_addresses(Settings(amqp_url="amqp://a", mongodb_url="mongodb://a/?tls=true&tlsCAFile=/nowhere"))


def test_settings_do_not_show_their_secrets() -> None:
    url = f"amqp://u:{PASSWORD}@a"
    shown = repr(Settings(amqp_url=url, mongodb_url=url, jwt_secret=PASSWORD * 5))
    assert PASSWORD not in shown


def test_secrets_in_what_others_write_are_masked() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
    text = without_secrets(f"no amqp://u:{PASSWORD}@h:1/v and mongodb://u:{PASSWORD}@h; Bearer {token}, a@b")
    assert text == "no amqp://***@h:1/v and mongodb://***@h; Bearer ***, a@b"
    assert without_secrets(str(Path(__file__))) == __file__
