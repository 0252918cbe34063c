"""A page of its own: one HTML file with its style and its pictures inside, and nothing from elsewhere.

It is read in light and in dark, on a phone and without colour; it runs no script.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5b6875; --line: #d9dfe5; --paper: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaee; --soft: #9fabb7; --line: #3a444e; --paper: #161b21; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin: 2.6rem 0 .4rem; }
p { margin: .4rem 0 .8rem; white-space: pre-line; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: break-word; }
th { white-space: nowrap; } td { min-width: 4.5rem; max-width: 32rem; } li { margin: .5rem 0; }
td.number { text-align: right; white-space: nowrap; }
figure { margin: 1rem 0; padding: .6rem; background: #ffffff; border: 1px solid var(--line); border-radius: 6px; }
figure svg { display: block; width: 100%; height: auto; }
pre { overflow-x: auto; font-size: .85rem; } summary { cursor: pointer; color: var(--soft); }
"""


class Section(NamedTuple):
    title: str
    text: str = ""
    head: Sequence[str] = ()  # of a table
    rows: Sequence[Sequence[object]] = ()
    svg: str = ""
    code: str = ""  # shown on demand
    items: Sequence[tuple[str, str]] = ()  # of a numbered list: what is said, and what to type


def page(title: str, text: str, sections: Sequence[Section]) -> str:
    """The whole file; what it is given is shown as it stands, and none of it as markup, but for pictures."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<main><h1>{escape(title)}</h1><p>{escape(text)}</p>",
    ]
    for section in sections:
        parts.append(f"<section><h2>{escape(section.title)}</h2>")
        if section.text:
            parts.append(f"<p>{escape(section.text)}</p>")
        if section.items:
            said = (
                f"<li>{escape(text)}{f'<br><code>{escape(typed)}</code>' if typed else ''}</li>"
                for text, typed in section.items
            )
            parts.append(f"<ol>{''.join(said)}</ol>")
        if section.code:
            parts.append(f"<details><summary>show</summary><pre>{escape(section.code)}</pre></details>")
        if section.svg:
            says = escape(" ".join([section.title, section.text]).strip(), quote=True)
            parts.append(f'<figure role="img" aria-label="{says}">{_own_names(section.svg, len(parts))}</figure>')
        if section.rows:
            head = "".join(f'<th scope="col">{escape(name)}</th>' for name in section.head)
            head = f"<thead><tr>{head}</tr></thead>" if any(section.head) else ""
            rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in section.rows)
            parts.append(f'<div class="wide"><table>{head}<tbody>{rows}</tbody></table></div>')
        parts.append("</section>")
    return "\n".join([*parts, "</main></body></html>\n"])


def _own_names(svg: str, number: int) -> str:
    """The same picture with names that no other picture of the page has."""
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>p{number}-", svg)


def picture(draw: Callable[[Figure], None], width: float = 8.4, height: float = 3.6) -> str:
    """An SVG element of what `draw` draws; sizes in inches."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    drawn = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "clew", "font.size": 9}):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    text = drawn.getvalue()
    return text[text.index("<svg") :]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'NO'}</td>"
    if isinstance(value, int):
        return f'<td class="number">{value:,}</td>'
    if isinstance(value, float):
        return f'<td class="number">{value:.5g}</td>'
    return f"<td>{escape(str(value))}</td>"
