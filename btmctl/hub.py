"""A model hub that speaks the Hugging Face protocol: what a model consists of, and its bytes from any place on.

Only `btmctl models pull` imports this, after somebody agreed to use the network. Interface:
https://huggingface.co/docs/hub/api
"""

import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from btmctl.errors import FAILED, NOT_FOUND, NOT_PERMITTED, REFUSED, CommandError
from btmd.hub_cache import hub_cache

USUAL_ENDPOINT = "https://huggingface.co"
TIMEOUT_S = 30.0
MOST_LISTING_BYTES = 50_000_000
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_SMALL = re.compile(r".*\.(?:json|txt|model|jinja|md)|LICENSE.*|NOTICE.*|vocab.*|merges.*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a model. ``sha256`` is of its bytes; without it ``git_sha1`` is that of git's blob."""

    name: str
    size_bytes: int
    sha256: str = ""
    git_sha1: str = ""


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model at one revision, with the files that stand in its top folder and can be checked."""

    hub_id: str
    revision: str
    files: tuple[HubFile, ...]


class BadAnswer(CommandError):
    """The hub answered with something that cannot be used; trying again may help."""


class Hub:
    """One hub. Raises CommandError for what it refuses, OSError or HTTPException where the connection fails."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        endpoint = environment.get("HF_ENDPOINT") or USUAL_ENDPOINT
        self.endpoint = endpoint.rstrip("/")
        if urllib.parse.urlsplit(self.endpoint).scheme not in ("http", "https"):
            raise CommandError(
                "HF_ENDPOINT is no address.",
                f"It says {endpoint!r}.",
                f"It looks like {USUAL_ENDPOINT}.",
                code="invalid_value",
                exit_code=REFUSED,
            )
        self._token = _token(environment)
        self._opener = urllib.request.build_opener(_Redirects)

    def model(self, hub_id: str) -> HubModel:
        """What the model consists of on its main branch."""
        with self._open(f"/api/models/{hub_id}/revision/main?blobs=true", hub_id) as answer:
            content = answer.read(MOST_LISTING_BYTES)
        try:
            listing: Any = json.loads(content)
            revision = listing["sha"]
            files = tuple(_file(entry) for entry in listing["siblings"] if _PLAIN_NAME.fullmatch(entry["rfilename"]))
            if _SHA1.fullmatch(revision) is None:
                raise ValueError(revision)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise _unusable(self.endpoint) from None
        return HubModel(hub_id, revision, files)

    def open_file(self, model: HubModel, file: HubFile, offset: int) -> http.client.HTTPResponse:
        """The file's bytes from ``offset`` on, if the hub can (status 206), else all of them (status 200)."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        name = urllib.parse.quote(file.name)
        return self._open(f"/{model.hub_id}/resolve/{model.revision}/{name}", model.hub_id, headers)

    def _open(self, path: str, hub_id: str, headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
        request = urllib.request.Request(self.endpoint + path, headers={"User-Agent": "btmctl", **(headers or {})})
        # Compressed bytes would not be those that the hash is of.
        request.add_header("Accept-Encoding", "identity")
        if self._token:
            # Not sent on to another host that the hub redirects to.
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            answer: http.client.HTTPResponse = self._opener.open(request, timeout=TIMEOUT_S)
            return answer
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error, hub_id) from None

    def _refusal(self, error: urllib.error.HTTPError, hub_id: str) -> CommandError:
        code = error.headers.get("X-Error-Code", "")
        if error.code == 403 or code == "GatedRepo":
            why = "Its owner gives it only to those who accepted the terms" + (
                ", and your token does not stand for one of them." if self._token else "; no token was sent."
            )
            return CommandError(
                f"{hub_id} is gated.",
                why,
                f"Accept the terms at {self.endpoint}/{hub_id}, make a token at {self.endpoint}/settings/tokens, then: "
                f"HF_TOKEN=... btmctl models pull {hub_id}",
                code="gated_model",
                exit_code=NOT_PERMITTED,
            )
        if error.code in (401, 404):
            why = "There is none of this name, or it is private and your token does not open it."
            hint = f"Check the name at {self.endpoint}; a private model needs HF_TOKEN."
            return CommandError(
                f"The hub has no model {hub_id} for you.", why, hint, code="model_not_found", exit_code=NOT_FOUND
            )
        return BadAnswer(
            "The hub does not give the model out just now.",
            f"{self.endpoint} answered {error.code}.",
            "Try again later; what was fetched is kept.",
            code="hub_failed",
            exit_code=FAILED,
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to where the hub keeps large files, but never from an encrypted connection to a plain one."""

    def redirect_request(self, req: urllib.request.Request, *arguments: Any) -> urllib.request.Request | None:
        made = super().redirect_request(req, *arguments)
        if made is not None and made.type not in ("https", req.type):
            raise BadAnswer(
                "The hub leads to an address of another kind than its own.",
                made.host,
                "Check HF_ENDPOINT.",
                code="hub_failed",
                exit_code=FAILED,
            )
        return made


def _token(environment: Mapping[str, str]) -> str:
    """The token that the hub's own tools use, if the person has one."""
    if token := environment.get("HF_TOKEN"):
        return token.strip()
    path = environment.get("HF_TOKEN_PATH") or os.path.join(hub_cache(environment).parent, "token")
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _file(entry: Mapping[str, Any]) -> HubFile:
    lfs = entry.get("lfs") or {}
    sha256, git_sha1 = str(lfs.get("sha256", "")), str(entry.get("blobId", ""))
    size_bytes = lfs.get("size", entry.get("size"))
    if not isinstance(size_bytes, int) or size_bytes < 0:
        raise ValueError("a file without a size")
    return HubFile(
        entry["rfilename"],
        size_bytes,
        sha256 if _SHA256.fullmatch(sha256) else "",
        git_sha1 if _SHA1.fullmatch(git_sha1) else "",
    )


def _unusable(endpoint: str) -> BadAnswer:
    return BadAnswer(
        "The hub's answer cannot be used.",
        f"{endpoint} does not describe the model as a hub does.",
        "Check HF_ENDPOINT; a proxy may have answered in the hub's place.",
        code="hub_failed",
        exit_code=FAILED,
    )


def choose_files(model: HubModel, only: str | None) -> tuple[HubFile, ...]:
    """The files a training needs: small ones, and the weights in the safest form there is. Raises CommandError."""
    named = {file.name: file for file in model.files}
    if only is not None:
        if only not in named:
            raise _nothing(model, f"It has no file {only}.")
        return (named[only],)
    small = [file for file in model.files if _SMALL.fullmatch(file.name) and not file.name.endswith(".index.json")]
    for pattern in (r"model(-\d+-of-\d+)?\.safetensors", r"pytorch_model(-\d+-of-\d+)?\.bin"):
        weights = [file for file in model.files if re.fullmatch(pattern, file.name)]
        if weights and "config.json" in named:
            stem, ending = weights[0].name.partition("-0")[0].partition(".")[0], weights[0].name.rpartition(".")[2]
            index = named.get(f"{stem}.{ending}.index.json")
            return (*small, *([index] if index is not None else []), *weights)
    raise _nothing(model, "It has no config.json with safetensors or pickled weights beside it.")


def _nothing(model: HubModel, why: str) -> CommandError:
    gguf = [file.name for file in model.files if file.name.endswith(".gguf") and "-of-" not in file.name]
    hint = f"One of its GGUF files can be fetched: btmctl models pull {model.hub_id} --file {gguf[0]}" if gguf else ""
    return CommandError(
        f"{model.hub_id} holds nothing to train.",
        why,
        hint or "Look for another form of the model on the hub.",
        code="not_a_model",
        exit_code=REFUSED,
    )
