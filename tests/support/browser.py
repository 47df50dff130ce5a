"""A real browser: Debian's Chromium, driven by Playwright, and what a person would notice in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

# Without the services by which it talks to its maker, and without a sandbox, which root has none of.
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
HEIGHT = 800  # pixels
LOAD_TIMEOUT = 30_000  # milliseconds

# Contrast of every text with what lies behind it, as WCAG 2 has it; `large` is what needs only 3.
CONTRASTS = """
() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const channel = (value) => {
    const share = value / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  };
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (element) => {
    for (let found = element; found; found = found.parentElement) {
      const colour = parse(getComputedStyle(found).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!node.textContent.trim()) continue;
    const style = getComputedStyle(node.parentElement);
    const levels = [luminance(parse(style.color)), luminance(behind(node.parentElement))].sort((a, b) => b - a);
    found.push({
      text: node.textContent.trim().slice(0, 40),
      contrast: (levels[0] + 0.05) / (levels[1] + 0.05),
      pixels: parseFloat(style.fontSize),
    });
  }
  return found;
}
"""


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser for the length of a block."""
    program = shutil.which("chromium")
    assert program is not None, "chromium is not installed: script/test --full --install-system"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        try:
            yield started
        finally:
            started.close()


class View:
    """A page as somebody sees it."""

    def __init__(self, page: Page, complaints: list[str]) -> None:
        self.page = page
        self.complaints = complaints  # of its console: errors, warnings and what its policy forbade

    @property
    def text(self) -> str:
        """What is to be read, in one line."""
        return " ".join(self.page.inner_text("body").split())

    @property
    def overflow(self) -> int:
        """By how many pixels it is wider than its window."""
        found: int = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        return found

    @property
    def cut_off(self) -> list[str]:
        """Texts that reach beyond the window's sides."""
        script = """() => [...document.querySelectorAll("body *")]
            .filter((element) => !element.closest("thead") && element.children.length === 0)
            .filter((element) => {
              const box = element.getBoundingClientRect();
              return box.width > 0 && (box.right > window.innerWidth + 1 || box.left < -1);
            }).map((element) => element.textContent)"""
        found: list[str] = self.page.evaluate(script)
        return found

    @property
    def faint(self) -> list[dict[str, Any]]:
        """Texts with less contrast than small text needs."""
        found: list[dict[str, Any]] = self.page.evaluate(CONTRASTS)
        assert found
        return [text for text in found if text["contrast"] < 4.5]


@contextmanager
def view(chromium: Browser, url: str, *, scheme: str, width: int, scripts: bool = True) -> Iterator[View]:
    """A page in a window of this width, in a light or dark scheme, for the length of a block."""
    complaints: list[str] = []
    context = chromium.new_context(
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": HEIGHT},
        java_script_enabled=scripts,
    )
    try:
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("requestfailed", lambda request: complaints.append(f"not loaded: {request.url}"))
        page.goto(url, timeout=LOAD_TIMEOUT)
        yield View(page, complaints)
    finally:
        context.close()
