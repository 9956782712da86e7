"""Where a server is: what a URL says, taken apart once."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from graphpipe.arguments import came

__all__ = ["Address"]

_FORMS = "expected http://HOST:PORT, https://HOST or unix:/path/to.sock"


@dataclass(frozen=True, slots=True)
class Address:
    """A server's place: a host and port, or the path of a Unix socket; and the target of requests to it.

    ``login`` is what a URL's user name and password are in a header; ``url`` has neither.
    """

    url: str
    host: str
    port: int
    tls: bool
    unix_path: str
    target: str
    login: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str) -> Address:
        """The address that a URL stands for: http://, https:// or unix:/path/to.sock[:/target].

        Raises ValueError, with the forms that there are.
        """
        if not isinstance(url, str):
            raise ValueError(f"a server's URL is a text; {came(url)}; {_FORMS}")
        if re.search(r"^[\x00-\x20]|[\x00-\x1f\x7f]|\s$", url):
            raise ValueError(
                f"{_redacted(url)!r} has white space around it, or a control character in it, which no URL has"
            )
        if url.startswith("unix:"):
            path, _, target = url[len("unix:") :].partition(":")
            if not path:
                raise ValueError(
                    f"{url!r} names no socket; expected unix:/path/to.sock or unix:/path/to.sock:/models/NAME"
                )
            return cls(url, "localhost", 0, False, path, _target(f"/{target.lstrip('/')}"))
        try:
            parts = urlsplit(url)
            given_port = parts.port
        except ValueError as error:
            raise ValueError(
                f"{_redacted(url)!r} is not a server's URL: {error}; {_FORMS}{_with_scheme(url)}"
            ) from None
        if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", parts.netloc):
            raise ValueError(f"{_redacted(url)!r} is not a server's URL; {_FORMS}{_with_scheme(url)}")
        login = None
        if parts.username is not None:
            words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            login = base64.b64encode(words.encode()).decode()
            url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        tls = parts.scheme == "https"
        port = given_port if given_port is not None else 443 if tls else 80
        target = _target(parts.path) + (f"?{_quoted(parts.query)}" if parts.query else "")
        return cls(url, _host(parts.hostname, url), port, tls, "", target, login)

    @property
    def host_header(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in (0, 443 if self.tls else 80) else f"{host}:{self.port}"


def _with_scheme(url: str) -> str:
    """What was probably meant by a host and port alone, in a question."""
    alone = re.fullmatch(r"(?!unix:)(?:[\w.-]+|\[[0-9A-Fa-f:.]+\]):\d+(?:/[^\s@]*)?|localhost(?:/[^\s@]*)?", url)
    return f"; did you mean {'http://' + url!r}?" if alone else ""


def _redacted(url: str) -> str:
    """A URL that may be none, without what may be a login in it."""
    return re.sub(r"(?<=//)[^/]*@", "", url)


def _host(name: str, url: str) -> str:
    """A host's name as the name service and the Host header know it."""
    if ":" in name:
        return name
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        raise ValueError(f"{url!r} has a host name that cannot be looked up") from None


def _target(path: str) -> str:
    return _quoted(path or "/")


def _quoted(text: str) -> str:
    # Nothing that could end the request line gets into it.
    return quote(text, safe="/?%:@!$&'()*+,;=~-._")
