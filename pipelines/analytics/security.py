"""The `[librdkafka]` settings of a deployment, as Faust and aiokafka want them.

Only what is about security and identity is translated; the others tune librdkafka and mean nothing
here. A security setting that cannot be translated is refused: connecting with less protection
than was asked for would be worse than not connecting.
"""

import ssl
from collections.abc import Mapping
from typing import Final

import faust
from faust.types.auth import CredentialsT, SASLMechanism

from pipelines.errors import ConfigError

_PROTOCOL: Final = "security.protocol"
_SECURITY: Final = ("security.", "sasl.", "ssl.", "enable.ssl.")
_KNOWN: Final = frozenset(
    {
        _PROTOCOL,
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.username",
        "sasl.password",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
    }
)
_MECHANISMS: Final = (
    SASLMechanism.PLAIN,
    SASLMechanism.SCRAM_SHA_256,
    SASLMechanism.SCRAM_SHA_512,
)


def credentials_of(options: Mapping[str, str]) -> CredentialsT | None:
    """Returns Faust's credentials for librdkafka's settings; None for a plain connection.

    Args:
        options: settings as librdkafka spells them.

    Raises:
        ConfigError: a security setting that has no counterpart, or a file that cannot be read.
    """
    unknown = [
        f"analytics uses another Kafka client than the other stages, which cannot follow the "
        f"librdkafka setting {name!r}: it knows {', '.join(sorted(_KNOWN))}"
        for name in options
        if name.startswith(_SECURITY) and name not in _KNOWN
    ]
    if unknown:
        raise ConfigError(*unknown)
    match options.get(_PROTOCOL, "plaintext").lower():
        case "plaintext":
            return None
        case "ssl":
            return faust.SSLCredentials(_ssl_context(options))
        case "sasl_plaintext":
            return _sasl(options, None)
        case "sasl_ssl":
            return _sasl(options, _ssl_context(options))
        case other:
            raise ConfigError(
                f"the librdkafka setting {_PROTOCOL!r} is {other!r}: use plaintext, ssl, "
                "sasl_plaintext or sasl_ssl"
            )


def _sasl(options: Mapping[str, str], context: ssl.SSLContext | None) -> faust.SASLCredentials:
    name = options.get("sasl.mechanism") or options.get("sasl.mechanisms") or ""
    known = {mechanism.value: mechanism for mechanism in _MECHANISMS}
    if name.upper() not in known:
        raise ConfigError(
            f"the librdkafka setting 'sasl.mechanism' is {name!r}: analytics can use "
            f"{', '.join(known)}"
        )
    return faust.SASLCredentials(
        username=options.get("sasl.username"),
        password=options.get("sasl.password"),
        ssl_context=context,
        mechanism=known[name.upper()],
    )


def _ssl_context(options: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("ssl.ca.location"))
        certificate = options.get("ssl.certificate.location")
        if certificate is not None:
            context.load_cert_chain(
                certificate, options.get("ssl.key.location"), options.get("ssl.key.password")
            )
    except OSError as error:  # also what the ssl module raises for bad content
        raise ConfigError(f"the files of the librdkafka settings 'ssl.…': {error}") from None
    return context
