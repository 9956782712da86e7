"""The options of commands that call a server over TLS: whom they believe, and what they show."""

from __future__ import annotations

import click

from graphpipe.commandline import option

__all__ = ["tls_options"]


def tls_options(section: str = "TLS") -> list[click.Option]:
    """``--tls-ca``, ``--tls-cert`` and ``--tls-key``: files in PEM, and empty where there is none."""
    return [
        option("--tls-ca", section=section, default="", metavar="FILE", type=click.Path(),
               help="PEM file of the authorities that the server's certificate may come from.  [default: the system's]"),
        option("--tls-cert", section=section, default="", metavar="FILE", type=click.Path(),
               help="PEM file with a certificate to show to the server, where it wants one."),
        option("--tls-key", section=section, default="", metavar="FILE", type=click.Path(),
               help="PEM file with its key.  [default: in the certificate's file]"),
    ]  # fmt: skip
