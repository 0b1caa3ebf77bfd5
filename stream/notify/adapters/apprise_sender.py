"""E-mail, Slack, Telegram, Teams and the other services that Apprise knows."""

import asyncio
import importlib
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
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
MAIL = frozenset(("mailto", "mailtos"))


def check_target(target: str) -> str:
    """The scheme of an Apprise address, e.g. `mailtos`, `slack`, `tgram`, `workflows`.

    Raises:
        DataError: Apprise cannot use it, the scheme is one of `REFUSED`, or it names several receivers: when one of
            them fails, Apprise says the same as when all do, and the others would get the message at each attempt.
    """
    scheme = target.partition("://")[0].lower()
    if scheme in REFUSED or "://" not in target:
        raise DataError("this Apprise scheme is not allowed; mailtos, slack, tgram, workflows and most others are")
    plugin = _plugin(target)
    if plugin is None:
        raise DataError(
            "Apprise cannot use this address; see its page on the service, e.g. slack://TokenA/TokenB/TokenC"
        )
    if (receivers := len(plugin)) > 1:
        raise DataError(f"one receiver per subscription: this address names {receivers}; make a subscription for each")
    return scheme


def _plugin(target: str) -> Any:
    apprise: Any = importlib.import_module("apprise")  # half a second and many modules: only where it is used
    return apprise.Apprise.instantiate(target, suppress_exceptions=True)


def list_headers(unsubscribe: str) -> dict[str, str]:
    """The headers by which mail programs end a subscription: RFC 2369, and RFC 8058's one click where it is https.

    >>> list(list_headers("https://x/u")), list(list_headers("http://x/u")), list_headers("")
    (['List-Unsubscribe', 'List-Unsubscribe-Post'], ['List-Unsubscribe'], {})
    """
    if not unsubscribe:
        return {}
    one_click = {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"} if unsubscribe.startswith("https://") else {}
    return {"List-Unsubscribe": f"<{unsubscribe}>", **one_click}


class AppriseSender:
    """Sends through Apprise, in threads of its own: its libraries block."""

    def __init__(self, private: bool) -> None:
        self._private = private
        self._executor: ThreadPoolExecutor | None = None

    async def send(self, target: str, title: str, html: str, unsubscribe: str = "") -> Reply:
        """One attempt; status 200 when the service took it. Apprise does not tell more.

        Args:
            unsubscribe: the address that ends the subscription, for mail programs' own button; empty: none.
        """
        self._executor = self._executor or ThreadPoolExecutor(THREADS, thread_name_prefix="apprise")
        loop = asyncio.get_running_loop()
        work = partial(self._blocking, target, title, html, unsubscribe)
        return await loop.run_in_executor(self._executor, copy_context().run, work)

    def _blocking(self, target: str, title: str, html: str, unsubscribe: str) -> Reply:
        plugin = _plugin(target)
        if plugin is None:
            return Reply(None, "Apprise cannot use the address")
        if target.partition("://")[0].lower() in MAIL:
            # As if the address had them as `+Name=value`. Whoever wrote one there has a list of their own: that wins.
            own = {name.lower() for name in plugin.headers}
            if "list-unsubscribe" not in own and "list-unsubscribe-post" not in own:
                plugin.headers.update(list_headers(unsubscribe))
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
