"""A broker that takes TLS with certificates of both sides, and the authority that signs them."""

import asyncio
import secrets
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tracking.devstack.broker_node import BrokerNode
from tracking.devstack.processes import free_port

_PERMISSIONS = Path(__file__).parents[1] / "deploy/rabbitmq/permissions.sh"

_TLS = """\
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {folder}/ca.pem
ssl_options.certfile = {folder}/server.pem
ssl_options.keyfile = {folder}/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
"""


class Authority:
    """Signs certificates for this machine, valid for a day."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority of the tests")])
        builder = self._builder(self._name, self._key.public_key())
        ca = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self._write("ca.pem", ca.sign(self._key, hashes.SHA256()))

    def issue(self, name: str, *hosts: str) -> None:
        """Writes `name`.pem and `name`.key, for this machine's address and these host names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        addresses = x509.SubjectAlternativeName(
            [x509.IPAddress(ip_address("127.0.0.1")), *map(x509.DNSName, hosts)]
        )
        builder = self._builder(subject, key.public_key()).add_extension(addresses, critical=False)
        self._write(f"{name}.pem", builder.sign(self._key, hashes.SHA256()))
        (self._folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )

    def _write(self, name: str, certificate: x509.Certificate) -> None:
        (self._folder / name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


class TlsBroker(BrokerNode):
    """A private node with a TLS listener beside the plain one."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        data.mkdir(parents=True, exist_ok=True)
        self.folder = data
        self.passwords: dict[str, str] = {}
        self._tls_port = free_port()
        authority = Authority(data)
        for name in ("server", "client"):
            authority.issue(name)

    def url_of(self, user: str, *, password: str = "", certificates: str = "cafile certfile keyfile") -> str:
        """The address over TLS, with the user's own password and these of the certificates."""
        password = password or self.passwords[user]
        files = {"cafile": "ca.pem", "certfile": "client.pem", "keyfile": "client.key"}
        query = "&".join(f"{option}={self.folder / files[option]}" for option in certificates.split())
        return f"amqps://{user}:{password}@127.0.0.1:{self._tls_port}/?{query}"

    async def make_users(self, names: Sequence[str]) -> None:
        """Runs the script that operators run, with passwords made up here."""
        self.passwords = {name: secrets.token_hex(16) for name in names}
        environment = self._environment() | {
            f"{user.upper().replace('-', '_')}_PASSWORD": password
            for user, password in self.passwords.items()
        }
        control = str(self._programs / "rabbitmqctl")
        process = await asyncio.create_subprocess_exec(
            _PERMISSIONS, env=environment | {"RABBITMQCTL": control}, stdout=subprocess.PIPE
        )
        await process.communicate()
        assert process.returncode == 0

    def _write_configuration(self) -> None:
        super()._write_configuration()
        with (self._data / "rabbitmq.conf").open("a") as configuration:
            configuration.write(_TLS.format(port=self._tls_port, folder=self.folder))
