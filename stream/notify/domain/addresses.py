"""Which network addresses a message may be sent to. Pure."""

import ipaddress
from urllib.parse import urlsplit

from crosswind.errors import DataError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_TRANSLATED = tuple(ipaddress.ip_network(n) for n in ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48"))
"""IPv6 ranges whose last 32 bits are an IPv4 address that the network may deliver to."""
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")
"""Begin the lower half of an IPv6 address that ends in an IPv4 address."""
_REFUSED = tuple(ipaddress.ip_network(n) for n in ("192.88.99.0/24", "fec0::/10", "2002::/16", "2001::/32"))
"""Ranges that Python calls global but that lead into, or through, somebody's private network."""


def is_public(text: str) -> bool:
    """Whether everyone on the internet would reach the same host there.

    >>> [is_public(a) for a in ("93.184.215.14", "127.0.0.1", "::ffff:10.0.0.1", "169.254.169.254", "64:ff9b::7f00:1")]
    [True, False, False, False, False]
    """
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            address = address.ipv4_mapped
        elif any(address in network for network in _TRANSLATED) or address.packed[8:12] in _ISATAP:
            return False
    if any(address in network for network in _REFUSED if network.version == address.version):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def check_url(url: str, *, private: bool) -> str:
    """The host and port of a webhook's address, `host:port`.

    Args:
        private: plain http and private hosts are allowed.

    Raises:
        DataError: it is not an address that a webhook may have.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        raise DataError("the webhook's address is not a URL; expected https://host/path") from None
    if parts.scheme not in (("https", "http") if private else ("https",)) or not parts.hostname or not port:
        raise DataError("a webhook's address begins with https://host (http:// needs CROSSWIND_NOTIFY_PRIVATE=true)")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise DataError("a webhook's address has no user, password or #fragment in it; the signature proves who sends")
    if any(ord(letter) <= 32 or ord(letter) == 127 or letter == "\\" for letter in url):
        raise DataError("a webhook's address has no spaces, control characters or backslashes")
    return f"{parts.hostname}:{port}"
