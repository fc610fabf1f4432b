"""What a state file says of itself, without the model that it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rwkvcpp.session_file import session_summary
from rwkvcpp.state_container import read_file
from rwkvcpp.state_file import summary

LAST_WORDS = 200  # characters of the text that are shown


def state_facts(path: Path) -> dict[str, Any]:
    """Flat, for --json; the file's checksums have been compared."""
    container = read_file(path)
    facts = {
        "path": str(path),
        "kind": container.header.text("kind"),
        "file_bytes": path.stat().st_size,
        **summary(container.header),
    }
    return facts | (session_summary(container) if facts["kind"] == "session" else {})


def state_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The same for people."""
    exact = "exact" if facts["exact"] else "inexact"
    lines = [
        ("file", f"{facts['path']} (saved {facts['kind']}, {facts['file_bytes'] / 2**20:.1f} MiB)"),
        ("model", f"{facts['model']}: {facts['version']}"),
        ("fingerprint", facts["fingerprint"]),
        ("state", f"after {facts['n_tokens']} tokens, {facts['dtype']}, {exact}"),
    ]
    if facts["kind"] == "session":
        lines.append(("session", f"{facts['session_tokens']} tokens; {facts['sampler']}"))
        lines.append(("text", _last_words(facts["text"])))
    return lines


def _last_words(text: str) -> str:
    shown = text if len(text) <= LAST_WORDS else f"... {text[-LAST_WORDS:]}"
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in shown)
