"""Certificates for tests, and the ways in which they come to lie where a server reads them.

files = Files(folder)
files.rename(authority.issue_cert("127.0.0.1"))
server = start("double", *files.flags)
"""

from __future__ import annotations

import itertools
import os
import ssl
from pathlib import Path

import trustme
from cryptography import x509

from tests.raw_http import connect

_numbers = itertools.count()


class Files:
    """A certificate's file and its key's in a folder. Each way of putting others there is one that people use."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.cert, self.key = folder / "tls.crt", folder / "tls.key"

    @property
    def flags(self) -> tuple[str, ...]:
        """For a server."""
        return "--tls-cert", str(self.cert), "--tls-key", str(self.key)

    def in_place(self, leaf: trustme.LeafCert) -> None:
        """Written over, as an editor or cp does."""
        self.cert.write_bytes(chain_of(leaf))
        self.key.write_bytes(leaf.private_key_pem.bytes())

    def rename(self, leaf: trustme.LeafCert) -> None:
        """Each written beside, and moved there at one stroke, as careful programs do."""
        for path, content in ((self.key, leaf.private_key_pem.bytes()), (self.cert, chain_of(leaf))):
            beside = path.with_suffix(".new")
            beside.write_bytes(content)
            os.replace(beside, path)

    def swap(self, leaf: trustme.LeafCert) -> None:
        """As Kubernetes renews a volume: all files are links by way of ``..data``, which is turned at one stroke."""
        version = self.folder / f"..{next(_numbers)}"
        version.mkdir()
        (version / self.cert.name).write_bytes(chain_of(leaf))
        (version / self.key.name).write_bytes(leaf.private_key_pem.bytes())
        data, beside = self.folder / "..data", self.folder / "..data_tmp"
        beside.symlink_to(version.name)
        os.replace(beside, data)
        for path in (self.cert, self.key):
            if not path.is_symlink():
                path.symlink_to(Path("..data", path.name))


def chain_of(leaf: trustme.LeafCert) -> bytes:
    """What the file of a certificate has in it."""
    return b"".join(pem.bytes() for pem in leaf.cert_chain_pems)


def of(leaf: trustme.LeafCert) -> bytes:
    """What a caller sees of it."""
    return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())


def name_of(leaf: trustme.LeafCert) -> x509.Name:
    """Its subject."""
    return x509.load_der_x509_certificate(of(leaf)).subject


def trusting(authority: trustme.CA, own: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """A caller's context: whom it trusts, and who it is."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if own is not None:
        own.configure_cert(context)
    return context


def served(url: str) -> bytes:
    """The certificate that a new connection sees."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(connect(url, 10)) as connection:
        return connection.getpeercert(binary_form=True) or b""
