"""Certificates in memory: reading PEM, the names that they are for, and making self-signed ones."""

from __future__ import annotations

import base64
import datetime
import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class CertificateError(ValueError):
    """A certificate or key cannot be used; the message says why and is meant for an operator."""


class CertificateAndKey(Struct, frozen=True):
    """What a server shows for some names: a certificate, the chain to its CA, and the private key.

    Attributes:
        chain: The server's own certificate first.
        names: DNS names, lower case, where the leftmost label may be ``*``, and IP addresses in canonical form.
    """

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey
    names: tuple[str, ...]

    def __repr__(self) -> str:
        return f"CertificateAndKey(names={self.names!r})"

    @classmethod
    def from_pem(cls, certificates: bytes, key: bytes) -> CertificateAndKey:
        """Read a chain and its unencrypted private key.

        Raises:
            CertificateError: they cannot be read or do not belong together.
        """
        try:
            chain = tuple(x509.load_pem_x509_certificates(certificates))
        except ValueError as error:
            raise CertificateError(f"no certificates in PEM form: {error}") from None
        try:
            private_key = serialization.load_pem_private_key(key, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise CertificateError(f"no unencrypted private key in PEM form: {error}") from None
        if not isinstance(private_key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise CertificateError("the private key is neither RSA nor ECDSA")
        if chain[0].public_key() != private_key.public_key():
            raise CertificateError("the private key does not belong to the first certificate")
        return cls(chain, private_key, certificate_names(chain[0]))

    def is_for(self, name: str) -> bool:
        """Whether the certificate is for a DNS name or an IP address."""
        return names_match(self.names, name)


def certificate_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the DNS names and IP addresses of a certificate; its common name does not count (RFC 9525 section 2)."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    names = [name.lower().rstrip(".") for name in alternatives.get_values_for_type(x509.DNSName)]
    names += [str(address) for address in alternatives.get_values_for_type(x509.IPAddress)]
    return tuple(names)


def names_match(names: Sequence[str], wanted: str) -> bool:
    """Whether one of a certificate's names is the wanted one; ``*`` stands for one whole label (RFC 9525 section 6.3).

    Args:
        names: As from `certificate_names`.
        wanted: An A-label name or an IP address.
    """
    wanted = wanted.lower().rstrip(".")
    try:
        wanted = str(ipaddress.ip_address(wanted))
    except ValueError:
        label, _, rest = wanted.partition(".")
        return wanted in names or ("." in rest and bool(label) and f"*.{rest}" in names)
    return wanted in names


def make_self_signed(
    names: Sequence[str], *, days: int = 365, now: datetime.datetime | None = None
) -> tuple[bytes, bytes]:
    """Make a P-256 key and a certificate for it that is signed by itself.

    Args:
        names: DNS names and IP addresses; the first is the subject's common name too.
        days: How long it is valid, from an hour ago on.
        now: For tests.

    Returns:
        The certificate and the private key, as PEM.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def make_client_certificate(seed: str) -> bytes:
    """Make what a TLS client shows of an Ed25519 key: a self-signed certificate, and the key, as PEM.

    Args:
        seed: 32 octets, base64url without padding.

    Raises:
        ValueError: it is no such seed.
    """
    octets = base64.urlsafe_b64decode(seed + "=" * (-len(seed) % 4))
    key = ed25519.Ed25519PrivateKey.from_private_bytes(octets)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mailcrane sendmail")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks differ; who looks at the key does not look at the time.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, None)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + private


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
