"""Which bundles there are, which one is live, and putting another one live: what the page and the API of models share.

Only what lies in the registry can be put live from here, and the shipped bundle: no path and no address is taken from
a browser. Workers check a bundle before it scores (`stream/service/deployment.py`); here it is only wished for.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import Engine

from crosswind.dashboard import models_page
from crosswind.errors import BundleError, ModelError
from crosswind.export.bundle import SHIPPED, Manifest, read_manifest
from crosswind.export.registry import DEFAULT, Registry, registry_of
from crosswind.settings import Settings
from crosswind.stream.adapters.postgres.deployments import PostgresDeployments
from crosswind.stream.service.deployment import Deployment, Slot

REST: Final = 10.0
"""Seconds for which a list of bundles is good: the registry may be far away, and every page asks on every change."""


class ModelsDesk:
    """Methods block.

    Args:
        engine: best one that can only read.
        writer: what deployments are written with.
        clock: seconds, monotonic.
    """

    def __init__(
        self, settings: Settings, engine: Engine, writer: Engine, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings, self._engine, self._clock = settings, engine, clock
        self._book = PostgresDeployments(writer)
        self._lock = threading.Lock()
        self._listed: tuple[float, list[Manifest]] | None = None

    def read(self) -> models_page.Models:
        """What is live, what became of deployments, how a shadow does.

        Raises:
            DatabaseError: the database cannot be reached or refuses.
        """
        return models_page.read(self._engine, self._settings.run)

    def bundles(self) -> list[Manifest]:
        """Those that can be put live, the shipped one first; up to `REST` old.

        Raises:
            BundleError: the registry cannot be read.
        """
        with self._lock:
            if self._listed is None or self._clock() - self._listed[0] >= REST:
                try:
                    found = [read_manifest(SHIPPED), *self._registry().bundles()]
                except OSError as error:
                    raise BundleError(f"the registry of bundles cannot be read: {error.strerror or error}") from error
                self._listed = (self._clock(), found)
            return self._listed[1]

    def find(self, which: str) -> tuple[str, str]:
        """Version and address of a bundle.

        Args:
            which: a name, a version or its beginning, or `default` for the shipped one.

        Raises:
            BundleError: there is none, or more than one.
        """
        shipped = read_manifest(SHIPPED).version
        if which in (DEFAULT, shipped):
            return shipped, DEFAULT
        registry = self._registry()
        version = registry.find(which).version
        return version, registry.address(version)

    def deploy(self, version: str, address: str, over: int | None) -> Deployment:
        """Wishes for a bundle; workers take it up within half a second and a loading.

        Args:
            over: the newest deployment that is known to whoever asks, 0: none; None: never mind.

        Raises:
            DataError: there is a newer one.
        """
        return self._book.wish(self._settings.run, Slot.LIVE, version, address, reason="deploy", over=over)

    def former(self) -> tuple[str, str]:
        """Version and address of what a rollback puts live.

        Raises:
            ModelError: no other bundle was live before.
        """
        found = self._book.before(self._settings.run)
        if found is None:
            raise ModelError("no other bundle was live before; put one live instead")
        return found

    def roll_back(self, version: str, address: str, over: int | None) -> Deployment:
        """Wishes for a former bundle; see `deploy`."""
        return self._book.wish(self._settings.run, Slot.LIVE, version, address, reason="rollback", over=over)

    def _registry(self) -> Registry:
        return registry_of(self._settings)
