"""The first rankings that `up` prints, and the addresses of `status`: from the table of rankings."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chassis.settings import load
from contracts.rankings import RANKINGS
from deploy.native import rankings, status
from deploy.native.graph import StartError
from deploy.native.settings import NativeSettings

BRANDS = replace(RANKINGS[0], name="brand", column="brand_name", path="top-brands")
NAMES = {"top-by-city": {"city": "Recife"}, "top-salesman": {"salesmanName": "Ana"}, "top-products": {"product": "TV"}}


class Api(BaseHTTPRequestHandler):
    """Serves one entry for each ranking."""

    def do_GET(self) -> None:
        """The newest set of the ranking in the path."""
        path = self.path.split("?")[0].rsplit("/", 1)[1]
        name = NAMES.get(path, {"brandName": f"Aurora of {path}"})
        entry = {"rank": 1, "totalSales": 1234.5, "transactionCount": 3, **name}
        body = json.dumps({"window": {"start": "2026-12-01T10:00:00Z"}, "rankings": [entry]}).encode()
        self.send_response(404 if path == "empty" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[NativeSettings]:
    """Settings that lead to an API of the test's own."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("API_PORT", str(server.server_port))
        yield load(NativeSettings)
        server.shutdown()


async def test_a_further_ranking_is_printed_without_an_edit(
    settings: NativeSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each row of the table is asked for at its path and printed with its title, heading and names."""
    monkeypatch.setattr(rankings, "RANKINGS", (*RANKINGS, BRANDS))

    await rankings.show_first(settings)

    shown = capsys.readouterr().out
    for title, name in (("Top cities, 1h", "Recife"), ("Top salespeople, BR, 1h", "Ana"), ("", "Aurora of top-brands")):
        assert title in shown
        assert name in shown
    assert "1,234.50" in shown


async def test_a_ranking_that_is_never_served_ends_the_wait_with_its_reason(
    settings: NativeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the address, the answer and the logs to read."""
    monkeypatch.setattr(rankings, "RANKINGS", (replace(BRANDS, path="empty"),))

    with pytest.raises(StartError, match=r"/empty\?window=latest&limit=10 after 1 s \(404 .*task logs"):
        await rankings.show_first(settings.model_copy(update={"ready_timeout_s": 1}))


def test_status_names_the_address_of_every_ranking(settings: NativeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A further ranking is among the URLs; one per country is shown for Brazil."""
    monkeypatch.setattr(status, "RANKINGS", (*RANKINGS, replace(BRANDS, title={"en": "Top test brands"})))
    urls = status.urls(settings)
    base = f"http://127.0.0.1:{settings.ports['API_PORT']}/api/v1/sales"
    assert urls["top cities"] == f"{base}/top-by-city?window=latest&limit=10"
    assert urls["top salespeople"] == f"{base}/top-salesman?window=latest&limit=10&country=BR"
    assert urls["top test brands"] == f"{base}/top-brands?window=latest&limit=10"
