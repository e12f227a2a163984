"""btmctl consent against a real daemon."""

import json
import os
import pwd

import pytest

from btmctl.__main__ import main
from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import SmallServer
from tests.fixtures.daemon import ThreadedDaemon, config_of, rows
from tests.fixtures.short_folder import short_folder


def test_consent_is_granted_listed_and_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as daemon:
        daemon.client.add_dataset(rows(10), "letters", consent=False)

        def run(*arguments: str) -> tuple[int, str, str]:
            code = main([*arguments, "--socket", str(daemon.config.socket_path)])
            captured = capsys.readouterr()
            return code, captured.out, captured.err

        assert "nothing" in run("consent", "list")[1]
        code, _, err = run("consent", "grant", "letters", "--purpose", "our library", "--scope", "train,backup")
        assert (code, "train, backup for 'our library'" in err) == (0, True)
        assert json.loads(run("consent", "list", "--json")[1])[0]["scopes"] == ["train", "backup"]
        code, _, err = run("consent", "revoke", "letters")
        assert (code, "--yes" in err) == (6, True)
        assert "Nothing is allowed with letters any more." in run("consent", "revoke", "letters", "--yes")[2]
        assert json.loads(run("consent", "list", "--json")[1])[0]["scopes"] == []
        assert run("consent", "grant", "letters", "--scope", "sell")[0] == 2
        assert run("consent", "grant", "none")[0] == 5


def test_a_list_names_who_allowed_it(btmctl: Btmctl, server: SmallServer) -> None:
    shared = {"dataset_id": "rows", "name": "rows", "purpose": "", "consent_at": "2026-11-22T14:00:00Z"}
    allowed = {**shared, "scopes": ["train"], "consent_by_uid": os.getuid()}
    found = [allowed, {**shared, "scopes": [], "consent_by_uid": None}]
    server.answers("GET", "/consents", found)
    _, out, _ = btmctl("consent", "list")
    assert pwd.getpwuid(os.getuid()).pw_name in out
    assert "None" not in out
