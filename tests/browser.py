"""A page in a real browser without a display: what it shows, and what went wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_LOOK = """<script>
const wrong = [];
const failed = event => wrong.push("error: " + (event.message || event.target.src || event.target.href));
addEventListener("error", failed, true);
addEventListener("securitypolicyviolation", event => wrong.push("fetch: " + event.blockedURI));
addEventListener("load", () => {
  const boxes = [...document.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect());
  const found = {
    wrong,
    images: [...document.images].map(image => [image.naturalWidth, image.naturalHeight, image.width, image.height]),
    charts: boxes.map(box => [box.width, box.height]),
    fetched: performance.getEntriesByType("resource").map(entry => entry.name).filter(name => !/^data:/.test(name)),
    width: innerWidth,
    scrolls: document.documentElement.scrollWidth,
    height: document.documentElement.scrollHeight,
    scripts: document.scripts.length - 1,
    sections: [...document.querySelectorAll("h2")].map(heading => heading.textContent),
    dead: [...document.querySelectorAll("nav a")].filter(link => !document.querySelector(link.hash)).length,
  };
  document.documentElement.dataset.found = JSON.stringify(found);
});
</script>"""


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    command += ["--disable-dev-shm-usage", "--disable-extensions", "--enable-logging=stderr"]
    command += [f"--user-data-dir={folder / 'profile'}", "--proxy-server=127.0.0.1:9", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def examine(page: Path, width: int = 1200) -> dict[str, Any]:
    """What the browser finds on a page: sizes of images and charts, errors, addresses fetched."""
    text = page.read_text(encoding="utf-8")
    assert "<head>" in text
    copy = page.with_name(f"examined-{page.name}")
    text = text.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'")
    policy = re.search(r"<meta http-equiv=.Content-Security-Policy.[^>]*>", text)
    at = policy.end() if policy else text.index("<head>") + len("<head>")
    copy.write_text(text[:at] + _LOOK + text[at:], encoding="utf-8")
    done = _run(page.parent, f"--window-size={width},900", "--dump-dom", copy.as_uri())
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found is not None, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(unescape(found[1]))
    result["console"] = re.findall(r"CONSOLE.*", done.stderr)
    return result


def photograph(page: Path, dark: bool, width: int = 1200, height: int = 2000) -> np.ndarray:
    """What a page looks like, (H, W, 3) uint8."""
    from PIL import Image

    picture = page.with_name("dark.png" if dark else "light.png")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    _run(page.parent, f"--window-size={width},{height}", scheme, f"--screenshot={picture}", page.as_uri())
    with Image.open(picture) as image:
        return np.asarray(image.convert("RGB"))
