"""E-mail, Slack, Telegram, Teams and the other services that Apprise knows."""

import asyncio
import importlib
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from crosswind.errors import DataError
from crosswind.stream.notify.adapters.guard import Refused, public_only
from crosswind.stream.notify.service.dispatcher import Reply

REFUSED = frozenset(
    ("dbus", "gio", "glib", "gnome", "kde", "macosx", "qt", "syslog", "windows", "xbmc", "xbmcs", "kodi", "kodis",
     "file", "growl", "upnp", "smpp", "smpps", "mqtt", "mqtts")
)  # fmt: skip
"""Schemes that act on this machine, or connect in a way that the guard does not see."""
THREADS = 8


def check_target(target: str) -> str:
    """The scheme of an Apprise address, e.g. `mailtos`, `slack`, `tgram`, `workflows`.

    Raises:
        DataError: Apprise cannot use it, or the scheme is one of `REFUSED`.
    """
    scheme = target.partition("://")[0].lower()
    if scheme in REFUSED or "://" not in target:
        raise DataError("this Apprise scheme is not allowed; mailtos, slack, tgram, workflows and most others are")
    if _plugin(target) is None:
        raise DataError(
            "Apprise cannot use this address; see its page on the service, e.g. slack://TokenA/TokenB/TokenC"
        )
    return scheme


def _plugin(target: str) -> Any:
    apprise: Any = importlib.import_module("apprise")  # half a second and many modules: only where it is used
    return apprise.Apprise.instantiate(target, suppress_exceptions=True)


class AppriseSender:
    """Sends through Apprise, in threads of its own: its libraries block."""

    def __init__(self, private: bool) -> None:
        self._private = private
        self._executor: ThreadPoolExecutor | None = None

    async def send(self, target: str, title: str, html: str) -> Reply:
        """One attempt; status 200 when the service took it. Apprise does not tell more."""
        self._executor = self._executor or ThreadPoolExecutor(THREADS, thread_name_prefix="apprise")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, copy_context().run, self._blocking, target, title, html)

    def _blocking(self, target: str, title: str, html: str) -> Reply:
        plugin = _plugin(target)
        if plugin is None:
            return Reply(None, "Apprise cannot use the address")
        try:
            if self._private:
                taken = plugin.notify(title=title, body=html, body_format="html")
            else:
                with public_only():
                    taken = plugin.notify(title=title, body=html, body_format="html")
        except Refused:
            return Reply(None, "refused: not a public address")
        return Reply(200) if taken else Reply(None, f"{plugin.service_name} did not take it")

    def close(self) -> None:
        """Does not wait for what hangs."""
        if self._executor:
            self._executor.shutdown(wait=False, cancel_futures=True)
