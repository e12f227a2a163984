"""Figures in Prometheus' text format."""

import re
from pathlib import Path

import pytest

from btmd import own_program
from tests.fixtures.daemon import Client

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\\]|\\\\.)*",?)*)\})? (-?[0-9.]+(?:e[+-]?[0-9]+)?)')


def figures(client: Client) -> dict[str, float]:
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    described: set[str] = set()
    found: dict[str, float] = {}
    for line in answer.body.decode().splitlines():
        if line.startswith("# HELP "):
            name = line.split()[2]
            assert name not in described
            described.add(name)
        elif not line.startswith("# TYPE "):
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            assert re.sub("_(bucket|sum|count)$", "", match[1]) in described
            found[match[1] + (f"{{{match[2]}}}" if match[2] else "")] = float(match[3])
    return found


def test_every_line_has_the_form_and_the_figures_are_those_of_now(client: Client) -> None:
    before = figures(client)
    client.patch("/settings", {"changes": {"training.seed": 17}}).ok()
    client.get("/jobs/nobody").refused(404, "job_not_found")
    after = figures(client)
    assert after["btmd_events_total"] == before["btmd_events_total"] + 1
    assert (
        after['btmd_http_requests_total{status="404"}'] == before.get('btmd_http_requests_total{status="404"}', 0) + 1
    )
    assert after["btmd_http_requests_under_way"] == 1
    assert after['btmd_jobs{state="training"}'] == 0
    assert after["btmd_log_writable"] == 1
    assert after["btmd_log_append_seconds_count"] == before["btmd_log_append_seconds_count"] + 1
    assert after['btmd_log_append_seconds_bucket{le="+Inf"}'] == after["btmd_log_append_seconds_count"]
    assert after["btmd_log_append_seconds_sum"] > before["btmd_log_append_seconds_sum"]
    assert 2e7 < after["process_resident_memory_bytes"] < 2e9
    assert after["process_cpu_seconds_total"] >= before["process_cpu_seconds_total"] > 0
    assert abs(after["process_start_time_seconds"] - before["process_start_time_seconds"]) < 0.1
    assert after["btmd_problems"] == sum(1 for name in after if name.startswith("btmd_problem{"))


def test_a_program_that_was_replaced_beneath_its_daemon_is_told_with_the_remedy(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "program" not in client.get("/status").ok()["problems"]
    monkeypatch.setattr(own_program, "_FIRST_FILE", tmp_path / "__init__.py")
    for put_there in (False, True):
        if put_there:
            (tmp_path / "__init__.py").touch()
        assert "btmctl daemon restart" in client.get("/status").ok()["problems"]["program"]
    assert 'btmd_problem{about="program"}' in figures(client)
