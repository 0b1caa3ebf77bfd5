"""No message reaches a private network: every address of a name is checked, and the checked one is dialled."""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from crosswind.stream.notify.domain.addresses import is_public

AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]
Lookup = Callable[[str, int, int], Awaitable[list[AddressInfo]]]


class Refused(OSError):
    """The address is not a public one."""


async def system_lookup(host: str, port: int, family: int) -> list[AddressInfo]:
    """The operating system's answer; it reads `2130706433`, `0177.1` and `0x7f.1` as 127.0.0.1, as a dial would."""
    loop = asyncio.get_running_loop()
    found: list[Any] = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    return found


class GuardedResolver(AbstractResolver):
    """Resolves for aiohttp; one address that is not public refuses the whole name."""

    def __init__(self, private: bool, lookup: Lookup = system_lookup) -> None:
        self._private, self._lookup = private, lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host.

        Raises:
            Refused: one of them is not public.
        """
        found = await self._lookup(host, port, family)
        results = []
        for kind, _, protocol, _, address in found:
            if not self._private:
                check(str(address[0]))
            flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            results.append(ResolveResult(hostname=host, host=str(address[0]), port=port, family=int(kind),
                                         proto=protocol, flags=flags))  # fmt: skip
        return results

    async def close(self) -> None:
        """Nothing is open."""


def guarded_socket(private: bool) -> Callable[[AddressInfo], socket.socket]:
    """Makes the socket for the address that is about to be dialled, or refuses: the last word, whoever resolved it."""

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, address = info
        if not private:
            check(str(address[0]))
        return socket.socket(family, kind, protocol)

    return make


def check(address: str) -> None:
    """Does nothing for a public address.

    Raises:
        Refused: it is not one.
    """
    if not is_public(address):
        raise Refused("the address is not a public one; CROSSWIND_NOTIFY_PRIVATE=true allows private receivers")


_guarded: ContextVar[bool] = ContextVar("guarded", default=False)
_hooked = False


@contextmanager
def public_only() -> Iterator[None]:
    """While it lasts, this thread connects to public addresses only, whichever library does it.

    Python's audit event tells of every connect with the address as it is dialled, so a name that is resolved anew by
    the library, or a redirect that it follows, is checked like the first.
    """
    global _hooked
    if not _hooked:
        sys.addaudithook(_on_audit)
        _hooked = True
    token = _guarded.set(True)
    try:
        yield
    finally:
        _guarded.reset(token)


def _on_audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto") and _guarded.get():
        address = arguments[1]
        check(str(address[0]) if isinstance(address, tuple) else "a local socket")
