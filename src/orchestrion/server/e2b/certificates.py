"""TLS of our own: an authority made once, and a wildcard certificate that is renewed before it ends."""

from __future__ import annotations

import ipaddress
import os
import secrets
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CA_YEARS = 10
# Some clients trust no certificate of more than 398 days.
_DAYS = 390
_RENEW_DAYS = 30


@dataclass(frozen=True)
class Certificate:
    """Files for serving TLS and for trusting it.

    Attributes:
        chain: What is served.
        key: Its private key.
        authority: What clients such as node must trust besides the public authorities; None if they do already.
        bundle: The public authorities and ours, for clients that know one file only.
    """

    chain: Path
    key: Path
    authority: Path | None = None
    bundle: Path | None = None


def own_certificate(folder: Path, names: Sequence[str]) -> Certificate:
    """Return a certificate for these names, made or renewed as needed.

    Args:
        folder: Where authority and certificate are kept.
        names: Host names, with wildcards, and addresses.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = Certificate(folder / "cert.pem", folder / "cert.key", folder / "ca.pem", folder / "ca-bundle.pem")
    authority, authority_key = _authority(folder)
    if not _still_good(made.chain, names, authority):
        _issue(made, names, authority, authority_key)
    _write(folder / "ca-bundle.pem", _public_authorities(folder / "ca-bundle.pem") + _pem(authority), mode=0o644)
    return made


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    path, key_path = folder / "ca.pem", folder / "ca.key"
    if path.exists() and key_path.exists():
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        authority = x509.load_pem_x509_certificate(path.read_bytes())
        if isinstance(key, ec.EllipticCurvePrivateKey) and _days_left(authority) > _DAYS:
            return authority, key
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Orchestrion sandboxes {secrets.token_hex(4)}")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    authority = (
        _begin(name, name, key.public_key(), timedelta(days=365 * _CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(key_path, _private(key))
    _write(path, _pem(authority), mode=0o644)
    return authority, key


def _issue(
    made: Certificate, names: Sequence[str], authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        _begin(name, authority.subject, key.public_key(), timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general(entry) for entry in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    _write(made.key, _private(key))
    _write(made.chain, _pem(certificate) + _pem(authority), mode=0o644)


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lasts: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _still_good(path: Path, names: Sequence[str], authority: x509.Certificate) -> bool:
    if not path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    same = list(held) == [_general(name) for name in names]
    return same and certificate.issuer == authority.subject and _days_left(certificate) > _RENEW_DAYS


def _days_left(certificate: x509.Certificate) -> int:
    return (certificate.not_valid_after_utc - datetime.now(UTC)).days


def _public_authorities(own: Path) -> bytes:
    """Return what this machine trusts, as one file; nothing where it has none."""
    paths = ssl.get_default_verify_paths()
    for name in (paths.cafile, paths.openssl_cafile, "/etc/ssl/certs/ca-certificates.crt"):
        if name and Path(name).is_file() and not (own.exists() and Path(name).samefile(own)):
            return Path(name).read_bytes().rstrip() + b"\n"
    return b""


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    pkcs8 = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption())


def _write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file at once; it never has more readers than it is meant to."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    draft.touch(mode=mode, exist_ok=False)
    draft.write_bytes(content)
    os.replace(draft, path)
