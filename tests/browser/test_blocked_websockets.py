"""The dashboard of docs/live-updates.md in Chromium behind a proxy that lets no WebSockets through."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from desk import Desk, new_merchant
from playwright.async_api import Browser, Page, expect
from test_dashboard_guide import PAGE, ROOT, STREAM, opened

from callers import token
from nginx_process import typical_proxy

TELL = 'live.addEventListener("status", ({ detail }) => { document.title = detail.transport; });\n  '
BUFFERING = "proxy_ignore_headers X-Accel-Buffering;"


@asynccontextmanager
async def dashboard(
    desk: Desk, browser: Browser, folder: Path, merchant_id: str, directives: str = ""
) -> AsyncIterator[tuple[Page, list[str]]]:
    """The page, served by the proxy that the stream comes through, and the warnings in its console."""
    pages = folder / "pages"
    pages.mkdir()
    assert STREAM in PAGE
    text = PAGE.replace(STREAM, "/v1/stream").replace("live.start();", f"{TELL}live.start();")
    (pages / "index.html").write_text(text)
    (pages / "token").write_text(token(merchants=[merchant_id]))
    shutil.copy(ROOT / "clients/js/tracking-live.js", pages)
    notifier = urlsplit(desk.services["notifier"].url).port
    assert notifier is not None
    warnings: list[str] = []
    async with typical_proxy(folder, notifier, directives) as origin, opened(browser, warnings) as page:
        await page.goto(f"{origin}/index.html")
        yield page, warnings


async def test_it_is_live_by_server_sent_events_and_says_so(
    desk: Desk, browser: Browser, tmp_path: Path
) -> None:
    merchant_id = new_merchant()
    [first] = await desk.create(merchant_id, 1)
    async with dashboard(desk, browser, tmp_path, merchant_id) as (page, warnings):
        await expect(page.locator("#status")).to_contain_text("live")
        await expect(page).to_have_title("event-stream")
        await expect(page.locator("#orders")).to_contain_text(first)
        await desk.report([{"op": "update", "order_id": first, "status": "picked_up"}])
        await expect(page.locator("#orders")).to_contain_text("picked_up")
        await desk.services["notifier"].kill()
        await expect(page.locator("#status")).to_contain_text("waiting")
        await desk.report([{"op": "update", "order_id": first, "status": "in_transit"}])
        await desk.services["notifier"].start()
        await expect(page.locator("#status")).to_contain_text("live")
        await expect(page.locator("#orders")).to_contain_text("in_transit")
        await expect(page).to_have_title("event-stream")
        assert warnings == []


async def test_behind_a_proxy_that_keeps_messages_back_it_does_not_seem_live(
    desk: Desk, browser: Browser, tmp_path: Path
) -> None:
    merchant_id = new_merchant()
    async with dashboard(desk, browser, tmp_path, merchant_id, BUFFERING) as (page, _):
        await expect(page).to_have_title("event-stream")
        await expect(page.locator("#status")).to_contain_text("waiting")
        assert "live" not in await page.locator("#status").inner_text()


JUDGE = """
<!doctype html>
<ol id="seen"></ol>
<script>
  const source = new EventSource("/v1/stream?merchant_id=MERCHANT");
  for (const kind of ["snapshot", "events", "live", "resync", "problem"]) {
    source.addEventListener(kind, ({ data, lastEventId }) => {
      const message = JSON.parse(data);
      const item = document.createElement("li");
      const ids = [...(message.orders ?? []), ...(message.events ?? [])].map((one) => one.id ?? one.order_id);
      item.textContent = [kind, lastEventId === (message.cursor ?? lastEventId), ...ids].join(" ");
      document.querySelector("#seen").append(item);
    });
  }
</script>
"""


async def test_the_browsers_own_event_source_resumes_where_it_was(
    desk: Desk, browser: Browser, tmp_path: Path
) -> None:
    merchant_id = new_merchant()
    [order_id] = await desk.create(merchant_id, 1)
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "judge.html").write_text(JUDGE.replace("MERCHANT", merchant_id))
    port = urlsplit(desk.services["notifier"].url).port
    assert port is not None
    # It cannot send a token; here the proxy does.
    directives = f'proxy_set_header Authorization "Bearer {token()}"; proxy_read_timeout 2s;'
    async with typical_proxy(tmp_path, port, directives) as origin, opened(browser, []) as page:
        await page.goto(f"{origin}/judge.html")
        seen = page.locator("#seen li")
        # The proxy ends a stream on which nothing comes for 2 s.
        await expect(seen).to_have_text([f"snapshot true {order_id}", "live true", "live true"])
        await desk.report([{"op": "update", "order_id": order_id, "status": "picked_up"}])
        await expect(page.locator("#seen")).to_contain_text("events")
        texts = [text for text in await seen.all_inner_texts() if not text.startswith("live")]
        assert texts == [f"snapshot true {order_id}", f"events true {order_id}:2"]
