"""Pseudonyms of patients: the same for the same patient, and of no use to anybody without the user's secret."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Collection, Iterable
from pathlib import Path

from torchgenaug.errors import ConfigurationError

VARIABLE = "TORCHGENAUG_SECRET_FILE"
"""Environment variable that names the file of the secret; default: ``~/.config/torchgenaug/secret``."""

_BYTES = 32
_MARK = "anonymous-"
_PSEUDONYM = re.compile(_MARK + "[0-9a-f]{24}")


def pseudonym(patient: str) -> str:
    """HMAC-SHA256 of a patient's identifier under the user's secret: 24 hexadecimal digits.

    Identifiers come from small sets (numbers of a hospital), so that a plain hash of one is found again by trying all.
    With a secret key that stays in a file of the user's, only its holder can tell whether a patient is among the
    pseudonyms. Who reads the secret can do so, too: keep the file with the data, and never with a model.

    Raises:
        ConfigurationError: the file of the secret cannot be read or made, or holds no secret.

    References:
        Krawczyk, Bellare, Canetti (1997). HMAC: keyed-hashing for message authentication. RFC 2104.
    """
    # Names of files that are no UTF-8 hold surrogates.
    return hmac.new(secret(), patient.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()[:24]


def anonymous(name: str) -> str:
    """The pseudonym of a sample or a patient as records hold it, which can be recognised as one; a pseudonym stays."""
    return name if is_pseudonym(name) else f"{_MARK}{pseudonym(name)}"


def is_pseudonym(name: str) -> bool:
    """Whether `anonymous` gave this name."""
    return _PSEUDONYM.fullmatch(name) is not None


def is_among(names: Iterable[str], record: Collection[str]) -> list[bool]:
    """Whether each name is in a record of training data, by itself or by its pseudonym.

    Args:
        names: of samples or of patients.
        record: what was trained on; its names may be pseudonyms (``torchgenaug fit --anonymous``), which only the
            holder of the secret can compare.
    """
    known = set(record)
    if not any(each.startswith(_MARK) for each in known):
        return [name in known for name in names]
    return [name in known or anonymous(name) in known for name in names]


def secret_file() -> Path:
    """Where the secret is kept."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME")
    try:
        return (Path(home) if home else Path.home() / ".config") / "torchgenaug" / "secret"
    except RuntimeError as error:
        raise _unusable(Path("~/.config/torchgenaug/secret"), error) from error


def secret() -> bytes:
    """The user's secret; made on first use, readable by the user alone.

    Raises:
        ConfigurationError: a file that cannot be read or made, or holds no secret.
    """
    path = secret_file()
    try:
        if not path.exists():
            _make(path)
        content = path.read_text().strip()
        key = bytes.fromhex(content)
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from error
    if len(key) < _BYTES:
        raise _unusable(path, ValueError(f"{len(key)} bytes where {_BYTES} are needed"))
    return key


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w") as file:
            file.write(secrets.token_hex(_BYTES) + "\n")
        # A link fails where another process was first: all must use one secret.
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            if not path.exists():
                draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _unusable(path: Path, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"The secret that patients' pseudonyms are made with must be a file of {2 * _BYTES} hexadecimal digits, got "
        f"{error!r} for {str(path)!r}. No patient was named. Let it be written there, or name another place: "
        f"export {VARIABLE}=/path/to/secret"
    )
