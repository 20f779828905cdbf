"""Who may see the pages, what nobody can do with them, and what one client cannot do to the others."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import ssl
import string
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings, strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tests.rig import Rig, wait_until
from tests.web.viewing import Viewed, viewed

PAGES = ("/", "/?span=week", "/jobs", "/arrays", "/batches", "/workers", "/failures")
ODD = "<img src=x onerror=alert(1)>'\"&{{7*7}}.0"
WRITTEN = "\x1b[31mred\x1b[0m\x07 </pre><script>alert(2)</script> {{7*7}}"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


def fill(rig: Rig) -> None:
    """Jobs of every kind, some of them odd, that have ended."""
    rig.drop(ODD, f"#!/bin/sh\nprintf '%s' '{WRITTEN}'\n")
    rig.submit("--id", "good", "true")
    for number in range(3):
        rig.submit("sh", "-c", f"'echo no file {number}; exit 3'")
    rig.run("jobjar", "submit", "--array", "1-40", "sh", "-c", "echo $JJ_ARRAY_INDEX; test $JJ_ARRAY_INDEX != 7")
    rig.run_until_idle()


def tree_of(home: Path) -> dict[str, tuple[int, int]]:
    """All files of a jar with their sizes and times, but for this node's index and its clock."""
    return {
        str(path.relative_to(home)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in home.rglob("*")
        if path.is_file() and path.parent != home / "ledger"
    }


def test_only_who_has_the_token_gets_in_by_the_server_s_own_name_and_nothing_is_written(rig: Rig) -> None:
    fill(rig)
    before = tree_of(rig.home)
    with viewed(rig) as view:
        assert view.host == "127.0.0.1" and len(view.token) >= 40
        listening = [
            each.laddr.ip for each in psutil.Process(view.process.pid).net_connections() if each.status == "LISTEN"
        ]
        assert listening == ["127.0.0.1"]
        for path in (*PAGES, "/metrics", "/events", "/output?id=good", "/follow?id=good", "/nix", "/assets/style.css"):
            assert view.ask(path, {}).status == 401, path
            assert view.ask(path, {**view.bearer, "Host": f"evil.example:{view.port}"}).status == 403
        assert view.ask(f"/?token={view.token[:-1]}", {}).status == 403
        first = view.ask(f"/jobs?token={view.token}&state=ended", {})
        assert (first.status, first.headers["Location"]) == (303, "/jobs?state=ended")
        cookie = first.headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; ")) and view.token not in cookie
        own = {"Cookie": cookie.partition(";")[0]}
        assert view.ask("/jobs", own).status == 200
        assert view.ask("/jobs", {"Cookie": f"{own['Cookie'][:-1]}x"}).status == 401
        refused = (
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
        )
        assert [view.ask("/", {**own, **each}).status for each in refused] == [403] * len(refused)
        assert view.ask("/", {**own, "Origin": f"http://127.0.0.1:{view.port}"}).status == 200
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            assert view.ask("/job?id=good", method=method).status == 405
        for path in (*PAGES, "/job?id=good", "/job?id=nix", "/output?id=good", "/assets/live.js", "/nix", "/metrics"):
            answer = view.ask(path)
            assert {name: answer.headers[name] for name in _HEADERS} == _HEADERS, path
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
            # Nothing is asked of another machine, and nothing is inline.
            assert not re.search(r"(?:src|href|action)=\"?(?:https?:)?//", answer.text), path
            assert "style=" not in answer.text and not re.search(r"<script(?! src=)|\son\w+=\"", answer.text)
        assert view.ask("/job?id=nix").status == 404 and view.ask("/jobs?state=nix").status == 400
        names = {family.name for family in text_string_to_metric_families(view.ask("/metrics").text)}
        assert "jobjar_jobs" in names
        said = {arg for arg in psutil.Process(view.process.pid).cmdline() if view.token in arg}
        assert said == set()
    assert tree_of(rig.home) == before


def test_what_a_job_is_called_and_writes_is_text_on_every_page(rig: Rig) -> None:
    fill(rig)
    with viewed(rig) as view:
        listed = view.ask("/jobs?search=img").text
        assert "&lt;img src=x onerror=alert(1)&gt;" in listed
        (uid,) = re.findall(r"/job\?id=(\w{12})\"", listed)
        array = re.findall(r"/array\?id=(\w{12})\"", view.ask("/arrays").text)[0]
        paths = (
            f"/job?id={uid}",
            f"/array?id={array}",
            f"/task?id={array}&number=7",
            "/jobs?search=<script>&category=<b>",
        )
        for path in (*PAGES, *paths, "/batch?name=<script>alert(3)</script>", "/failures?since=<script>"):
            answer = view.ask(path.replace("<", "%3C").replace(">", "%3E"))
            for word in ("<img", "<script>", "\x1b", "\x07"):
                assert word not in answer.text, (path, word)
        page = view.ask(f"/job?id={uid}").text
        assert "\\x1b[31mred\\x1b[0m\\x07 &lt;/pre&gt;&lt;script&gt;alert(2)" in page and "{{7*7}}" in page
        output = view.ask(f"/output?id={uid}")
        assert output.text == WRITTEN and output.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert "sandbox" in output.headers["Content-Security-Policy"]
        # The map of the array, and its failures, are those of the ledger.
        shown = view.ask(f"/array?id={array}").text
        assert shown.count('class="succeeded" x=') == 39 and shown.count('class="failed" x=') == 1
        assert "task 7" in shown and "no file" in view.ask("/failures").text
        assert "<b>3</b></td><td>failed, exit status 3" in view.ask("/failures").text
    report = rig.home.parent / "report.html"
    rig.run("jobjar", "report", "--html", str(report), "--since", "1h")
    text = report.read_text()
    assert "<script" not in text and "http" not in text.replace('http-equiv="', "") and "no file" in text
    assert rig.run("jobjar", "report", "--html", str(report), "--batch", "nix", check=False).returncode == 1


def resident(view: Viewed) -> int:
    return int(psutil.Process(view.process.pid).memory_info().rss)


def test_a_slow_reader_of_ten_gigabytes_a_hundred_listeners_and_half_a_request_hold_up_nobody(rig: Rig) -> None:
    name = rig.submit("--id", "large", "sh", "-c", "'echo begun; sleep 100'")
    rig.start_worker()
    uid = wait_until(lambda: (rig.show(name)["attempts"] or [{}])[0].get("output_path") and rig.show(name)["id"])
    path = Path(rig.show(name)["attempts"][0]["output_path"])
    with viewed(rig) as view, contextlib.ExitStack() as stack:
        assert "begun" in view.ask(f"/job?id={uid}").text
        os.truncate(path, 10 * 2**30)
        with path.open("ab") as file:
            file.write(b"\nthe end\n")
        before = resident(view)
        assert "the end" in view.ask(f"/job?id={uid}").text
        slow = stack.enter_context(contextlib.closing(view.connect()))
        slow.request("GET", f"/output?id={uid}", headers=view.bearer)
        assert slow.getresponse().read(10) == b"begun\n\0\0\0\0"
        for _ in range(20):
            half = stack.enter_context(socket.create_connection((view.host, view.port)))
            half.sendall(b"GET / HTTP/1.1\r\nHost: ")
        listeners: list[http.client.HTTPResponse] = []
        for _ in range(100):
            connection = stack.enter_context(contextlib.closing(view.connect()))
            connection.request("GET", "/events", headers=view.bearer)
            listeners.append(connection.getresponse())
        assert all(each.readline() == b"event: look\n" for each in listeners)
        follower = stack.enter_context(contextlib.closing(view.connect()))
        follower.request("GET", f"/follow?id={uid}&from={path.stat().st_size}", headers=view.bearer)
        followed = follower.getresponse()
        with path.open("ab") as file:
            file.write(b"later <b>\n")
        assert followed.readline() == b"event: output\n" and followed.readline() == b"data: later <b>\n"
        # Something changes, and all of them hear of it.
        rig.submit("true")
        for each in listeners:
            while each.readline() != b"event: look\n":
                pass
        assert view.ask("/").status == 200
        assert resident(view) < before + 100 * 2**20
        rig.run("jobjar", "kill", name)


_ADDRESSES = st.sampled_from(
    [
        "/",
        "/jobs",
        "/job",
        "/arrays",
        "/array",
        "/task",
        "/batches",
        "/batch",
        "/workers",
        "/failures",
        "/output",
        "/metrics",
    ]
)
_FIELDS = st.sampled_from(
    (
        *(
            "id",
            "name",
            "search",
            "state",
            "outcome",
            "category",
            "batch",
            "since",
            "until",
            "order",
            "after",
            "exit_status",
        ),
        *("variable", "first", "number", "attempt", "span", "chunks", "token", "node", "worker", "submitter"),
    )
)
_VALUES = st.one_of(
    st.sampled_from(
        ["good", "ended", "failed", "newest", "-1", "9" * 30, "%00", "%FF%FE", "1e308", "*", "[", "@1", "../..", "-"]
    ),
    st.text(string.ascii_letters + string.digits + "%<>'\"{}[]*?;/.~-_+@", max_size=40),
    st.sampled_from(
        ["WyJlbmRlZCIsWzFlOTk5LCJ4IiwieCJdXQ", "WyJ3YWl0aW5nIixbXV0", "W10", "bnVsbA", "WyJsaW1ibyIsWzEsMl1d"]
    ),
)


@pytest.mark.timeout(120)
def test_no_address_makes_the_server_fail(rig: Rig) -> None:
    fill(rig)
    with viewed(rig) as view:

        @settings(max_examples=150, deadline=None)
        @given(_ADDRESSES, st.lists(st.tuples(_FIELDS, _VALUES), max_size=3))
        def ask(path: str, fields: list[tuple[str, str]]) -> None:
            query = "&".join(f"{name}={value}" for name, value in fields)
            answer = view.ask(f"{path}?{query}" if query else path)
            assert answer.status in (200, 400, 403, 404), (answer.status, path, query)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"

        ask()
        for path in (
            "/job?id=%00",
            "/jobs?search=%00&category=%00",
            "/output?id=x%00",
            "/batch?name=%00",
            "/follow?id=%00",
        ):
            assert view.ask(path).status == 400, path
        for raw in (b"\0\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n"):
            with socket.create_connection((view.host, view.port)) as odd:
                odd.sendall(raw)
                assert odd.recv(100).startswith((b"HTTP/1.", b""))
        assert view.ask("/").status == 200


def test_other_hosts_are_served_only_if_that_is_said(rig: Rig) -> None:
    refused = rig.run("jobjar", "web", "--host", "0.0.0.0", "--port", "0", check=False)
    assert refused.returncode == 2 and "--yes-to-everybody-on-this-network" in refused.stderr
    assert rig.run("jobjar", "web", "--tls-key", "/nix", check=False).returncode == 2
    certificate = rig.home.parent / "both.pem"
    rig.shell(
        f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {certificate}.key -out {certificate} -subj /CN=localhost -days 1"
    )
    with viewed(
        rig, "--host", "0.0.0.0", "--tls-certificate", str(certificate), "--tls-key", f"{certificate}.key"
    ) as view:
        assert view.address.startswith("https://")
        connection = http.client.HTTPSConnection("127.0.0.1", view.port, timeout=30, context=_trust_anybody())
        connection.request("GET", f"/?token={view.token}", headers={"Host": f"127.0.0.1:{view.port}"})
        answer = connection.getresponse()
        assert answer.status == 303 and "Secure" in answer.headers["Set-Cookie"]
        connection.close()


def _trust_anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
