"""Passwords and tokens in addresses: one masked form for whatever is written, printed or listed.

The address itself stays in the environment of the process and of those that it starts, which other
users cannot read. Configs, files, arguments and messages have the masked form.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, unquote_plus

from l2keras_experiments.config.schema import ConfigError

MASK = "***"
KEYS = ("tracking.uri", "tune.storage")  # of the config; their secrets are kept by `sealed`
_SEALED = "L2KERAS_SEALED"  # environment variable: JSON, masked address to address
# Environment variables that hold addresses, and those that hold nothing but a secret.
_ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_BACKEND_STORE_URI")
_BARE = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "DATABRICKS_TOKEN", "PGPASSWORD")
_FILES = ("sqlite", "file", "")  # what names a path where it begins with a slash
# Dialects in which a user without a password is a name; elsewhere it may be a token.
_DATABASES = ("postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle", "cockroachdb")
_NAME = r"[\w.%-]*(?:password|passwd|passphrase|pwd|token|secret|api_?key|access_?key)"
_QUERY = re.compile(
    r"pass|pwd|secret|token|(?<!share)key|cred|auth|sig|jwt|bearer|session|^pw$|^sas$|^code$"
)
# An address ends where a quote or a space does, though a quote before the last "@" belongs to its
# password; a comma before the next scheme ends one, too.
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
_ADDRESS = re.compile(
    rf"{_SCHEME}(?:(?:(?!['\"]?,['\"]?{_SCHEME})\S)*@)?(?:(?!,{_SCHEME})[^\s'\"<>`])*"
)
# Long values of mixed characters are keys or tokens, whatever their parameter is called.
_RANDOM = re.compile(
    r"(?=.*[0-9])(?:(?=.*[a-z])(?=.*[A-Z])[\w+=~-][\w+/=~-]{7,}|(?=.*[A-Za-z])[0-9A-Za-z]{16,})"
)
_PORT = re.compile(r"^([^/?]*):(?!\d+(?:[/?;,]|$))([^/?\]:]+)(?=[/?]|$)")  # a password without host
_ASSIGNMENT = re.compile(
    rf"\b({_NAME}['\"]?\s*[=:]\s*)(\{{[^}}]*\}}|'[^']*'|\"[^\"]*\"|[^\s;&,'\"]+)", re.IGNORECASE
)
_HEADER = re.compile(r"\b((?:Basic|Bearer)\s+)[\w+/=.~-]{6,}")
_NAMED = re.compile(rf"{_NAME}", re.IGNORECASE)
# A reference to a variable, of which a file shows the name only.
_REFERENCE = re.compile(r"\$\{(?:oc\.env:)?[\w.]+(?:,(?:null|''|\"\"))?\}")
_OF_JOBS = re.compile(r"(?:.*\.)?\+{0,2}hydra\.job\.env_set\.(.+)", re.DOTALL)
_OF_SWEEPS = re.compile(r"hydra\.sweeper\.(?:params|grids)\.(.+)", re.DOTALL)
_BARE_USER = re.compile(r"(?<![\w/@:])([^\s/:@'\"=]+):(?!//)[^\s'\"]+@(?=[\w.\[-])")


def masked_address(address: str) -> str:
    """The address of a store or a database with "***" in place of what may be secret.

    Where the text can be read in several ways, as with a raw "@" or "/" in a password, more is
    masked rather than less.
    """
    scheme, mark, rest = _split(address)
    dialect = scheme.lower().partition("+")[0]
    if dialect in _FILES and (found := re.match(r"(/+)[^/@]*:.*@", rest)):  # a slash too many
        rest = f"{found[1]}{MASK}@{rest[found.end() :]}"
    elif not rest.startswith("/") or dialect not in _FILES:  # else it has no user
        _, _, query = rest.partition("?")
        if "@" in query and _masked_query(query) != query:  # of the password before, or behind it
            return f"{scheme}{mark}{MASK}?{_masked_query(query)}"
        user, at, host = rest.rpartition("@")
        if mark and not at:
            host = _PORT.sub(rf"\1:{MASK}", host)
        rest = _masked_user(user, dialect in _DATABASES) + at + host
    path, question, query = rest.partition("?")
    return scheme + mark + _ASSIGNMENT.sub(rf"\g<1>{MASK}", path) + question + _masked_query(query)


def _split(address: str) -> tuple[str, str, str]:
    """Scheme, "://" and the rest; an address may lack the first, or both."""
    scheme, mark, rest = address.partition("://")
    if mark:
        return scheme, mark, rest
    mark = "//" if address.startswith("//") and "@" in address else ""
    return "", mark, address.removeprefix(mark)


def _masked_user(user: str, is_database: bool) -> str:
    name, colon, password = unquote(user).partition(":")
    is_token = bool(colon) and not password
    if not user or not is_database or is_token or set(name) & set("/@?"):
        return MASK if user else ""
    return f"{name}:{MASK}" if colon else name


def _masked_query(query: str) -> str:
    """Of a query that may hold a secret anywhere, nothing is left from there on."""
    pieces: list[str] = []
    hidden = False
    for piece in query.split("&"):
        key, equals, value = piece.partition("=")
        key, value = unquote_plus(key), unquote_plus(value)
        is_random, value = _RANDOM.fullmatch(value), value.lower()
        if key.lower() == "odbc_connect":
            return "&".join([*pieces, f"{key}={MASK}"])
        if equals:
            nested = re.search(r"[=:]", value) and _QUERY.search(
                value
            )  # -cpassword=..., {"key":...}
            hidden = bool(nested or _QUERY.search(key.lower()) or is_random)
            pieces.append(f"{key}={MASK}" if hidden else piece)
        elif not hidden:  # else it belongs to the value before it
            pieces.append(piece)
    return "&".join(pieces)


def masked(text: str) -> str:
    """The text without the passwords and tokens in it: those in addresses, and those known."""
    text = _ADDRESS.sub(lambda found: masked_address(found[0]), text)
    text = _BARE_USER.sub(rf"\1:{MASK}@", text)
    text = _ASSIGNMENT.sub(rf"\g<1>{MASK}", text)
    text = _HEADER.sub(rf"\g<1>{MASK}", text)
    for secret in _known():
        text = text.replace(secret, MASK)
    return text


def masked_words(words: Sequence[str]) -> list[str]:
    """The arguments of a command; an address in one ends where the argument does."""
    return [masked(_with_address(word, masked_address)) for word in words]


def _with_address(word: str, change: Callable[[str], str]) -> str:
    """The argument with its address changed, be it `ADDRESS` or `--flag=ADDRESS`."""
    found = re.fullmatch(r"([+\w./-]+=['\"]?)?(\w[\w+.-]*://.*)", word, re.DOTALL)
    return word if found is None else f"{found[1] or ''}{change(found[2])}"


def sealed_word(word: str) -> str:
    """An argument with the masked form of its address, as `sealed`."""
    return _with_address(word, sealed)


def sealed_override(word: str) -> str:
    """The same for an override of Hydra's, which takes quotes and backslashes in it.

    A secret that a job is to have as an environment variable becomes one now.

    Raises:
        ConfigError: the secret is the value of another key, or inside of a value.
    """
    key, equals, value = word.partition("=")
    if not equals or word.startswith("-"):
        return sealed_word(word)
    plain = _unquoted(value)
    variable = re.fullmatch(r"\+{0,2}hydra\.job\.env_set\.(\w+)", key)
    if variable and "${" not in plain:
        if plain == MASK or not is_secret(variable[1], plain):
            return word
        os.environ[variable[1]] = plain
        return f"{key}='{MASK}'"
    if (path := key.strip().lstrip("+~")).partition(".")[0] == "hydra":
        check_hydra(path, _parsed(word))
    if key.lstrip("+") not in KEYS:
        check_no_secret(key, plain)
        return word
    if len(_ADDRESS.findall(plain)) > 1:
        return _ADDRESS.sub(lambda found: sealed(found[0]), word)
    shown = sealed(plain)
    return word if shown == plain else f"{key}={_quoted(shown)}"


def check_no_secret(key: str, text: str) -> None:
    """Raises ConfigError for an address with a secret where a config would show it.

    To mask it would change what the key means.
    """
    if any(masked_address(address) != address for address in _ADDRESS.findall(text)):
        raise ConfigError(
            f"`{key}` must hold no password or token, as Hydra writes it to disk. "
            f"Received: {masked(text)}. Set an environment variable and write ${{oc.env:NAME}}."
        )


def check_hydra(key: str, value: Any) -> None:
    """Raises ConfigError for a secret in a part of Hydra's own config, which it writes to disk.

    Args:
        key: Dotted, of the part.
        value: A scalar, or mappings and lists of them.
    """
    if isinstance(value, Mapping):
        for name, inner in value.items():
            check_hydra(f"{key}.{name}", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            check_hydra(key, inner)
    elif value is not None and not isinstance(value, bool):
        _check_hydra_text(key, str(value))


def _check_hydra_text(key: str, text: str) -> None:
    if variable := _OF_JOBS.fullmatch(key):
        if not _is_reference(text) and is_secret(variable[1], text):
            raise ConfigError(
                f"`hydra.job.env_set.{variable[1]}` must hold no password or token here, as Hydra "
                f"writes it to disk. Received: {MASK}. Set the environment variable "
                f"{variable[1]} in the shell: the jobs have it, too."
            )
        return
    is_named = _NAMED.fullmatch(key.rpartition(".")[2]) and not _is_reference(text)
    if is_named or _assigns_secret(text):
        raise ConfigError(
            f"`{key}` must hold no password or token, as Hydra writes it to disk. "
            f"Received: {MASK}. Set an environment variable and write ${{oc.env:NAME}}."
        )
    swept = _OF_SWEEPS.fullmatch(key)
    override = f"{swept[1]}={text}" if swept else text
    if found := re.match(r"[+~]*(hydra(?:\.[^=]*)?)=", override):  # inside of a value
        check_hydra(found[1], _parsed(override))


def _assigns_secret(text: str) -> bool:
    """Whether a text, such as a command of the shell, has a secret in it and not its name only."""
    if _HEADER.search(text):
        return True
    values = [found[2].strip("'\"{}") for found in _ASSIGNMENT.finditer(text)]
    return not all(value.startswith("$") or _is_reference(value) for value in values)


def _is_reference(text: str) -> bool:
    return text in ("", MASK) or _REFERENCE.fullmatch(text) is not None


def _parsed(word: str) -> Any:
    """The value of an override, as mappings, lists and scalars.

    Raises:
        ConfigError: Hydra cannot read it, and it may set a secret for the jobs.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        [override] = OverridesParser.create().parse_overrides([word])
        value: Any = override.value()
    except Exception:  # the check of the overrides says what is wrong with it
        if "env_set" in word and _QUERY.search(word.lower()):
            raise ConfigError(
                "`hydra.job.env_set` must be one override for each variable, without a password "
                f"or token. Received: {MASK}. Set the environment variable in the shell."
            ) from None
        return word.partition("=")[2]
    return [getattr(item, "text", item) for item in getattr(value, "list", [value])]


def is_secret(name: str, value: str) -> bool:
    """Whether an environment variable holds one."""
    is_named = _QUERY.search(name.lower()) is not None
    return is_named or masked_address(value) != value or masked(value) != value


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1].replace(f"\\{value[0]}", value[0])
    return re.sub(r"\\([\\()\[\]{}:=, \t'\"])", r"\1", value)


def _quoted(value: str) -> str:
    escaped = value.replace("'", r"\'")
    return f"'{escaped}'"


def page(address: str) -> str:
    """The address of a server for a browser, which asks for the password itself."""
    return re.sub(r"://.*@", "://", masked_address(address))


def sealed(address: str) -> str:
    """The masked form of an address, which `revealed` turns back, in child processes too."""
    shown = masked_address(address)
    if shown != address:
        known = _sealed()
        known[shown] = address
        os.environ[_SEALED] = json.dumps(known)
    return shown


def revealed(address: str) -> str:
    """The address that `sealed` has masked; any other as it is.

    Raises:
        ConfigError: it is masked, and the process was not told what is behind the mask.
    """
    candidates = {masked_address(a): a for n in _ADDRESSES if (a := os.environ.get(n))}
    found = {**candidates, **_sealed()}.get(address)
    if found is None and MASK in address:
        raise ConfigError(
            f"An address must have its password. Received: {address}. "
            "Set MLFLOW_TRACKING_URI to the whole address in the environment."
        )
    return address if found is None else found


def _sealed() -> dict[str, str]:
    found: dict[str, str] = json.loads(os.environ.get(_SEALED, "{}"))
    return found


def hide(seal: Callable[[str], str] = sealed_word) -> None:
    """Masks secrets in this process' output, and in its arguments, which every user can list.

    Where an argument holds one, the process starts again without it.
    """
    words = sys.argv[1:]
    hidden = [seal(word) for word in words]
    if hidden != words:
        sys.argv[1:] = hidden
        before, given = sys.orig_argv[: -len(words)], sys.orig_argv[-len(words) :]
        if given == words:
            os.execv(sys.executable, [*before, *hidden])
    mask_output()


def mask_output() -> None:
    """Masks what is printed and logged, once there is a secret to mask."""
    if not _known() or isinstance(sys.stdout, _Masked):
        return
    sys.stdout, sys.stderr = _Masked(sys.stdout), _Masked(sys.stderr)
    make = logging.getLogRecordFactory()

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.msg, record.args = masked(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = masked(logging.Formatter().formatException(record.exc_info))
        return record

    logging.setLogRecordFactory(factory)


class _Masked:
    """A stream without secrets."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(masked(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _known() -> tuple[str, ...]:
    """What must not be seen, the longest first."""
    addresses = [os.environ[name] for name in _ADDRESSES if os.environ.get(name)]
    bare = [os.environ[name] for name in _BARE if os.environ.get(name)]
    return _secrets((*addresses, *_sealed().values()), tuple(bare))


@functools.lru_cache(maxsize=8)
def _secrets(addresses: tuple[str, ...], bare: tuple[str, ...]) -> tuple[str, ...]:
    """Parts of addresses, as written and decoded; a part that stays visible is no secret."""
    found: set[str] = set(bare)
    for address in addresses:
        shown = masked_address(address)
        if shown == address:
            continue
        rest = _split(address)[2]
        user = rest.rpartition("@")[0]
        hidden = {*re.split(r"[:/@?&;=]", rest), user, user.partition(":")[2]}
        visible = set(re.split(r"[:/@?&;=]", shown))
        found |= {part for part in hidden if part not in visible and part not in shown}
    found |= {unquote_plus(part) for part in found} | {unquote(part) for part in found}
    return tuple(sorted((part for part in found if len(part) > 3), key=len, reverse=True))
