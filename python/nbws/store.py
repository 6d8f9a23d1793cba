"""Where a repository lies: URLs, and store objects of ``obstore`` wherever a URL is taken."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from urllib.parse import quote

from nbws.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ObstoreStore", "StoreLike", "locate"]

# Class of obstore: scheme of the URL and the option that names the bucket.
_REMOTE = {
    "S3Store": ("s3", "bucket"),
    "GCSStore": ("gs", "bucket"),
    "AzureStore": ("az", "container_name"),
}
_OPERATION = "open store"


class ObstoreStore(Protocol):
    """A store of ``obstore``: ``S3Store``, ``GCSStore``, ``AzureStore`` or ``LocalStore``."""

    @property
    def prefix(self) -> Any:
        """The prefix or directory below which its objects lie."""


StoreLike: TypeAlias = str | ObstoreStore


def locate(
    url: StoreLike, prefix: str | None = None, options: Mapping[str, str] | None = None
) -> tuple[str, dict[str, str]]:
    """Returns URL and options of a URL or an ``obstore`` store, the latter as its own configuration says.

    nbws makes its own connection from that configuration: creates are never sent twice, listings are checked and no
    redirect is followed, whatever the store object would do. Its ``retry_config`` is therefore not used.

    Args:
        url: a URL or a store of ``obstore``.
        prefix: below the prefix of a store object; a URL holds its own.
        options: options in obstore's key names; they go before those of a store object.

    Raises:
        InvalidInput: ``prefix`` with a URL, or an option that can't be given on.
        Unsupported: neither a URL nor a store object that can be opened.
    """
    given = dict(options or {})
    if isinstance(url, str):
        if prefix is not None:
            raise InvalidInput("prefix goes with a store object; a URL holds its prefix itself", operation=_OPERATION)
        return url, given
    name = type(url).__name__
    # Classes of obstore's own and subclasses of them; nothing of obstore is imported.
    kind = next((cls.__name__ for cls in type(url).__mro__ if cls.__name__ in {*_REMOTE, "LocalStore"}), None)
    if kind == "LocalStore":
        return _directory(url, prefix), given
    if kind is None:
        raise Unsupported(
            f"a store is named by a URL or by a store of obstore (S3Store, GCSStore, AzureStore, LocalStore), not by {name}; "
            "write file:///dir/prefix, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or memory:///name",
            operation=_OPERATION,
        )
    try:
        return _remote(url, kind, prefix, given)
    except (AttributeError, KeyError, TypeError) as cause:
        # Its text may hold what was configured.
        raise Unsupported(
            f"this {name} is of a version of obstore that nbws does not know ({type(cause).__name__}); give a URL and options",
            operation=_OPERATION,
        ) from None


def _directory(store: ObstoreStore, prefix: str | None) -> str:
    if store.prefix is None:
        raise InvalidInput("this LocalStore is the whole file system; give it a prefix", operation=_OPERATION)
    return Path(store.prefix).absolute().joinpath(*_names(prefix)).as_uri()


def _remote(store: Any, kind: str, prefix: str | None, given: dict[str, str]) -> tuple[str, dict[str, str]]:
    if getattr(store, "credential_provider", None) is not None:
        raise Unsupported(
            f"this {kind} asks a credential provider, which nbws can't do; configure it with keys or by the environment",
            operation=_OPERATION,
        )
    scheme, bucket_key = _REMOTE[kind]
    config = {str(key): _text(key, value) for key, value in dict(store.config).items()}
    bucket = config.pop(bucket_key)
    for key, value in dict(store.client_options or {}).items():
        config[f"client_options.{key}"] = _text(key, value)
    path = "/".join(quote(name, safe="") for name in (*_names(store.prefix), *_names(prefix)))
    return f"{scheme}://{bucket}/{path}", {**config, **given}


def _names(prefix: object) -> list[str]:
    return [name for name in str(prefix or "").split("/") if name]


def _text(key: object, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return f"{value // timedelta(milliseconds=1)}ms"
    if isinstance(value, str | int):
        return str(value)
    raise InvalidInput(
        f"the store's option {key} can't be given on: it is a {type(value).__name__}", operation=_OPERATION
    )
