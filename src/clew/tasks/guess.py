"""What a person means who names neither task nor columns; every guess is said aloud."""

from __future__ import annotations

from collections.abc import Sequence

from clew.data import items
from clew.data.sounds import names_sounds
from clew.data.table import Table, as_numbers, column_name, filled, is_calendar, is_time_like, kind, numeric_columns
from clew.errors import DataError

LABELS = ("label", "class", "category", "target", "tag", "tags", "intent", "sentiment", "species", "y")
SAID = ("text", "transcript", "transcription", "caption", "sentence", "words")  # a column of what is said is called so
WORDS = ("form", "token", "tokens", "word", "words", "text", "1")
PAIRS = 20  # different texts on either side, for two columns to be pairs
FEW = 50  # different values that a column of labels may have, or a tenth of the rows if those are more


def task_of(table: Table, target: str, inputs: Sequence[str]) -> tuple[str, str]:
    """The task, and why.

    Raises:
        DataError: the table could be several things.
    """
    kinds = {name: kind(table, name) for name in table.columns}
    by_kind = {k: [name for name in kinds if kinds[name] == k] for k in set(kinds.values())}
    words, numbers = by_kind.get("texts", []), by_kind.get("number", [])
    series, stories = by_kind.get("numbers", []) + by_kind.get("vectors", []), by_kind.get("text", [])
    chosen = column_name(table, target) if target else ""
    if {items.ITEMS, items.ORDER} <= set(table.columns) and chosen in ("", items.ORDER):
        return "point", f"holds '{items.ITEMS}' and their '{items.ORDER}'"
    if heard := next((name for name in stories if names_sounds(table, name)), ""):
        said = [name for name in stories if name not in (heard, chosen)]
        if chosen in stories or (not chosen and said):
            name = chosen or next((n for n in said if n.strip().lower() in SAID), said[-1])
            if name.strip().lower() in SAID or _tells_its_own(table, name):
                return "transcribe", f"holds sounds and what is said in them, '{name}'"
        if chosen and is_measured(table, chosen):
            return "regress", f"holds sounds and numbers in '{chosen}'"
        return "classify", f"holds sounds and labels in '{chosen or label_column(table)}'"
    if len(words) >= 2 and (not chosen or chosen in words):
        return "tag", "holds words with tags"
    if table.columns == ["text"]:
        return "generate", "is plain text"
    if set(series) == set(kinds) and not chosen:
        return "generate", "holds nothing but sequences"
    if series or chosen in stories:
        if chosen and is_measured(table, chosen):
            return "regress", f"holds sequences, with numbers in '{chosen}'"
        if not chosen and "target" in numbers:
            return "regress", "holds sequences with a number each"
        return "classify", "holds sequences with labels" if series else f"holds labels in '{chosen}'"
    if len(table.columns) == len(stories) == 2 and all(_tells_its_own(table, name) for name in stories):
        return "translate", "holds two columns of text"
    told = [name for name in inputs if kinds.get(name) in ("text", "texts")]
    if told or (chosen and stories and not inputs):
        text = f"holds text in '{(told or stories)[0]}'"
        if chosen and is_measured(table, chosen):
            return "regress", f"{text} and numbers in '{chosen}'"
        return "classify", f"{text} and labels in '{chosen or label_column(table)}'"
    if numbers and (not stories or is_calendar(table, stories)):
        return "forecast", "holds numeric columns in time order"
    if numbers and chosen:
        return "forecast", f"holds numbers in time order in '{chosen}'"
    return "classify", f"holds text, and labels in '{label_column(table)}'"


def label_column(table: Table) -> str:
    """The column that names a class: one that is called so, or the last with few different values.

    Raises:
        DataError: there is none.
    """
    named = [name for name in table.columns if name.strip().lower() in LABELS]
    if named:
        return named[-1]
    plain = [name for name in table.columns if kind(table, name) in ("text", "number", "flags")]
    few = [name for name in plain if _are_few(table, name)]
    if not few:
        raise DataError("no column looks like labels", file=table.name, hint="name it with --target")
    return few[-1]


def text_column(table: Table, beside: Sequence[str] = ()) -> str:
    """The column of what is said or written: one that is called so, or the last that is not of sounds.

    Args:
        beside: columns that it is not.

    Raises:
        DataError: there is none.
    """
    texts = [name for name in table.columns if kind(table, name) == "text" and name not in beside]
    found = [name for name in texts if not names_sounds(table, name)]
    named = [name for name in found if name.strip().lower() in SAID]
    if not found:
        raise DataError("no column of texts", file=table.name, hint="name it with --target")
    return named[0] if named else found[-1]


def tag_columns(table: Table, inputs: Sequence[str], target: str) -> tuple[str, str]:
    """The column of words ("" where the steps are rows of numbers) and that of tags.

    Raises:
        DataError: they cannot be told.
    """
    lists = [name for name in table.columns if kind(table, name) in ("texts", "text")]
    tags = column_name(table, target) if target else ""
    words = column_name(table, inputs[0]) if inputs else ""
    if words and kind(table, words) not in ("texts", "text"):
        words = ""
    if not words and not inputs and lists:
        called = [name for name in lists if name.lower() in WORDS and name != tags]
        words = called[0] if called else next((name for name in lists if name != tags), "")
        if kind(table, words or tags) == "text" and not _looks_cut(table, words, tags):
            words = ""
    if not tags:
        by_name = [n for n in ("upos", "tags", "tag", "label", "labels", "class") if n in table.columns and n != words]
        rest = [name for name in lists if name != words]
        tags = by_name[0] if by_name else (rest[-1] if rest and words else label_column(table))
    return words, tags


def are_tags(table: Table, words: str, name: str) -> bool:
    """Whether a column holds as many labels a row as another one words."""
    if words not in table.columns or kind(table, name) not in ("text", "texts"):
        return False
    if not _looks_cut(table, words, name):
        return False
    return any(len(str(cell).split()) > 1 or isinstance(cell, list) for cell in table.column(name).head(50).to_list())


def are_letters(table: Table, words: str, tags: str) -> bool:
    """Whether two columns hold texts without blanks, of several letters and equally long row by row."""
    if any(kind(table, name) != "text" for name in (words, tags)):
        return False
    pairs = list(zip(filled(table, words)[:50], filled(table, tags)[:50], strict=False))
    alone = all(len(cell.split()) == 1 for pair in pairs for cell in pair)
    return alone and all(len(a) == len(b) for a, b in pairs) and max(len(a) for a, _ in pairs) > 1


def is_measured(table: Table, name: str) -> bool:
    """Whether a column holds numbers that are no numbers of classes."""
    return kind(table, name) == "number" and not _are_few(table, name)


def _looks_cut(table: Table, words: str, tags: str) -> bool:
    """Whether two columns of text hold the same number of blanks, row by row."""
    if not words or not tags or kind(table, tags) not in ("text", "texts"):
        return bool(words) and not tags
    first = list(zip(table.column(words).head(50).to_list(), table.column(tags).head(50).to_list(), strict=True))
    first = [pair for pair in first if all(pair)]
    sizes = [(len(str(a).split()), len(b if isinstance(b, list) else str(b).split())) for a, b in first]
    return sum(a == b for a, b in sizes) > len(sizes) / 2


def _tells_its_own(table: Table, name: str) -> bool:
    """Whether the cells of a column are mostly different from each other, and many."""
    different = len(set(filled(table, name)))
    return name.strip().lower() not in LABELS and different >= max(PAIRS, table.rows // 2)


def _are_few(table: Table, name: str) -> bool:
    if kind(table, name) == "number":
        values = as_numbers(table, name).drop_nans()
        if (values != values.round()).any():
            return False
    different = len(set(filled(table, name)))
    return 2 <= different <= max(2, min(table.rows // 2, max(FEW, table.rows // 10)))


def series_target(table: Table, chosen: str) -> str:
    """Say which column a forecast takes and what else it might have been."""
    others = [n for n in numeric_columns(table) if n != chosen and not is_time_like(as_numbers(table, n).to_numpy())]
    beside = f"; others that could be the target or an --input: {', '.join(others)}" if others else ""
    return f"target: '{chosen}', the last numeric column of {table.name}{beside}"
