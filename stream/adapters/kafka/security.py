"""TLS and log-in to Kafka, from the settings, for each of the clients that we use."""

import ssl
from typing import TYPE_CHECKING, Any

from crosswind.errors import SettingsError
from crosswind.settings import Settings

if TYPE_CHECKING:
    from faust.types.auth import CredentialsT


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The context for TLS, which checks the server's certificate and name; None where TLS is off.

    Raises:
        SettingsError: a certificate file cannot be read.
    """
    if not settings.kafka_tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ca)
        if settings.kafka_certificate:
            context.load_cert_chain(settings.kafka_certificate)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"the certificates for Kafka cannot be used ({error}); CROSSWIND_KAFKA_CA and CROSSWIND_KAFKA_CERTIFICATE "
            "name PEM files"
        ) from None
    return context


def client_options(settings: Settings) -> dict[str, Any]:
    """Options that a client of kafka-python takes for TLS and log-in; empty where both are off.

    Raises:
        SettingsError: certificates cannot be read, or name or password is missing.
    """
    context = tls_context(settings)
    options: dict[str, Any] = {"ssl_context": context} if context else {}
    protocol = "SSL" if context else "PLAINTEXT"
    if settings.kafka_sasl:
        user, password = _login(settings)
        protocol = f"SASL_{protocol}"
        options |= {"sasl_mechanism": settings.kafka_sasl, "sasl_plain_username": user, "sasl_plain_password": password}
    return options if protocol == "PLAINTEXT" else {**options, "security_protocol": protocol}


def faust_credentials(settings: Settings) -> "CredentialsT | None":
    """The same for Faust; None where both are off.

    Raises:
        SettingsError: certificates cannot be read, or name or password is missing.
    """
    from faust.auth import SASLCredentials, SSLCredentials  # not needed by a feed, and slow to import

    context = tls_context(settings)
    if settings.kafka_sasl:
        user, password = _login(settings)
        return SASLCredentials(username=user, password=password, ssl_context=context, mechanism=settings.kafka_sasl)
    return SSLCredentials(context) if context else None


def _login(settings: Settings) -> tuple[str, str]:
    if not settings.kafka_user or not settings.kafka_password:
        raise SettingsError("CROSSWIND_KAFKA_SASL needs CROSSWIND_KAFKA_USER and CROSSWIND_KAFKA_PASSWORD")
    return settings.kafka_user, settings.kafka_password.get_secret_value()
