"""A page of its own: one HTML file with its style and its pictures inside, and nothing from elsewhere.

It is read in light and in dark, on a phone and without colour; it runs no script.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5b6875; --line: #d9dfe5; --paper: #ffffff; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaee; --soft: #9fabb7; --line: #3a444e; --paper: #161b21; --card: #1f262e; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin: 2.6rem 0 .4rem; }
p { margin: .4rem 0 .8rem; white-space: pre-line; } .soft { color: var(--soft); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td.number { text-align: right; white-space: nowrap; }
figure { margin: 1rem 0; padding: .6rem; background: #ffffff; border: 1px solid var(--line); border-radius: 6px; }
figure svg { display: block; width: 100%; height: auto; }
a { color: inherit; }
"""


class Section(NamedTuple):
    title: str
    text: str = ""
    head: Sequence[str] = ()  # of a table
    rows: Sequence[Sequence[object]] = ()
    svg: str = ""


def page(title: str, text: str, sections: Sequence[Section]) -> str:
    """The whole file; what it is given is shown as it stands, and none of it as markup, but for pictures."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1><p>{escape(text)}</p>",
    ]
    for section in sections:
        parts.append(f"<section><h2>{escape(section.title)}</h2>")
        if section.text:
            parts.append(f"<p>{escape(section.text)}</p>")
        if section.svg:
            parts.append(f'<figure role="img" aria-label="{escape(section.title, quote=True)}">{section.svg}</figure>')
        if section.rows:
            head = "".join(f"<th>{escape(name)}</th>" for name in section.head)
            rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in section.rows)
            parts.append(f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>')
        parts.append("</section>")
    return "\n".join([*parts, "</body></html>\n"])


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
    if isinstance(value, int | float):
        return f'<td class="number">{value:.5g}</td>'
    return f"<td>{escape(str(value))}</td>"
