"""Files of certificates as a TLS context to call a server with."""

from __future__ import annotations

import ssl

from graphpipe.words import visible

__all__ = ["is_about_tls", "is_secured", "tls_context"]


def is_secured(url: str) -> bool:
    """Whether TLS is spoken to the server at this URL."""
    return url.lower().startswith("https://")


def is_about_tls(error: BaseException) -> bool:
    """Whether an error of a client is that it and the server did not come to terms."""
    return isinstance(error.__cause__, ssl.SSLError)


def tls_context(ca: str, cert: str, key: str, flags: str) -> ssl.SSLContext | None:
    """Whom to believe and what to show, of files in PEM; None where none is named.

    ``flags`` is what their flags begin with. Raises ValueError, in one line with the flag and the file.
    """
    if not (ca or cert or key):
        return None
    if key and not cert:
        raise ValueError(f"{flags}key does nothing without {flags}cert")
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        raise ValueError(f"{flags}ca {ca}: {_words(error)}") from None
    if cert:
        try:
            context.load_cert_chain(cert, key or None, _nobody_knows)
        except (OSError, ValueError) as error:
            raise ValueError(f"{flags}cert {cert}{f' and {key}' if key else ''}: {_words(error)}") from None
    return context


def _nobody_knows() -> str:
    # Otherwise OpenSSL asks at the terminal, and everybody waits.
    raise ValueError("the key is encrypted, and nobody is there to say its password; openssl pkey writes it without")


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "the key is not the certificate's"
        if error.reason in ("NO_CERTIFICATE_OR_CRL_FOUND", "NO_START_LINE"):
            return "it has no certificate in PEM"
        if "PEM lib" in str(error):  # OpenSSL has no reason for it
            return "it has no certificate and key in PEM"
    return visible(getattr(error, "strerror", None) or str(error))
