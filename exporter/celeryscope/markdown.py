"""The Markdown that runbooks are written in, as HTML.

Headings, paragraphs, lists of one level, indented code, `code`, **strong** and [links](URL): nothing else, and no HTML.
"""

import re
from collections.abc import Iterator
from html import escape

_BLOCK = re.compile(r"\n\s*\n(?=.)")
_CODE = " " * 4
_HEADING = re.compile(r"(#{1,3}) (.+)")
_ITEM = re.compile(r"(?:- |\d+\. )")
_INLINE = re.compile(r"`(?P<code>[^`]+)`|\*\*(?P<strong>[^*]+)\*\*|\[(?P<text>[^\]]+)\]\((?P<url>[^)\s]+)\)")
_SAFE_URL = re.compile(r"https?://|/|#|[\w.-]+(?:[/#]|$)")


def html(text: str) -> str:
    """Return the text as HTML; everything in it is escaped."""
    return "\n".join(_blocks(text))


def _blocks(text: str) -> Iterator[str]:
    for block in _whole(_BLOCK.split(text.strip("\n"))):
        lines = block.splitlines()
        heading = _HEADING.fullmatch(block)
        if heading:
            level = len(heading[1])
            yield f"<h{level}>{_inline(heading[2])}</h{level}>"
        elif block.startswith(_CODE):
            yield f"<pre>{escape(_dedented(lines))}</pre>"
        elif _ITEM.match(lines[0]):
            kind = "ul" if lines[0].startswith("- ") else "ol"
            items = "".join(f"<li>{_inline(item)}</li>" for item in _items(lines))
            yield f"<{kind}>{items}</{kind}>"
        else:
            yield f"<p>{_inline(' '.join(line.strip() for line in lines))}</p>"


def _whole(blocks: list[str]) -> list[str]:
    """Join code that has blank lines."""
    found: list[str] = []
    for block in blocks:
        if found and block.startswith(_CODE) and found[-1].startswith(_CODE):
            found[-1] += f"\n\n{block}"
        else:
            found.append(block)
    return found


def _dedented(lines: list[str]) -> str:
    return "\n".join(line[4:] for line in lines)


def _items(lines: list[str]) -> Iterator[str]:
    item: list[str] = []
    for line in lines:
        if _ITEM.match(line) and item:
            yield " ".join(item)
            item = []
        item.append(_ITEM.sub("", line, count=1).strip() if _ITEM.match(line) else line.strip())
    yield " ".join(item)


def _inline(text: str) -> str:
    parts = []
    end = 0
    for found in _INLINE.finditer(text):
        parts.append(escape(text[end : found.start()]))
        end = found.end()
        if found["code"]:
            parts.append(f"<code>{escape(found['code'])}</code>")
        elif found["strong"]:
            parts.append(f"<strong>{escape(found['strong'])}</strong>")
        elif _SAFE_URL.match(found["url"]):
            parts.append(f'<a href="{escape(found["url"])}">{escape(found["text"])}</a>')
        else:
            parts.append(escape(found[0]))
    return "".join((*parts, escape(text[end:])))
