"""A trained model as C99: a header, a source, and a `main` that reads lines of numbers.

No allocation, no library beyond <math.h>; weights are constants, in float32 or, at a quarter of the bytes, int8.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clew.errors import ConfigError
from clew.stream.export.c_program import BYTES, CProgram, Memory, number, values
from clew.stream.recorder import take_down
from clew.tasks.plain import Plain
from clew.training.files import write_atomic

WEIGHTS = ("float32", "int8")
NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
TAKEN = re.compile(
    "auto|break|case|char|const|continue|default|do|double|else|enum|extern|float|for|goto|if|inline|int|long|register"
    "|restrict|return|short|signed|sizeof|static|struct|switch|typedef|union|unsigned|void|volatile|while"
    "|main|larger|sigmoid|smaller"
)

HEADER = """/* {title}
 * inputs:  {inputs}
 * outputs: {outputs}
 */
#ifndef {NAME}_H
#define {NAME}_H

#define {NAME}_INPUTS {I}
#define {NAME}_OUTPUTS {O}

/* The state of one stream. */
typedef struct {{
{members}
}} {name};

/* Before the first step, and to begin anew. */
void {name}_init({name} *s);

/* One step: reads x, writes y, moves the state on. */
void {name}_step({name} *s, const float x[{NAME}_INPUTS], float y[{NAME}_OUTPUTS]);

#endif
"""

SOURCE = """/* {title} */
#include "{name}.h"

#include <math.h>

{helpers}{constants}

void {name}_init({name} *s) {{
{first}
}}

void {name}_step({name} *s, const float x[{NAME}_INPUTS], float y[{NAME}_OUTPUTS]) {{
{body}
}}
"""

HELPERS = {
    "sigmoid": "static inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }",
    "larger": "static inline float larger(float a, float b) { return a > b ? a : b; }",
    "smaller": "static inline float smaller(float a, float b) { return a < b ? a : b; }",
}

MAIN = """/* {title}
 * Reads a comma-separated line of {I} numbers a step from stdin, and writes a line of {O} for each.
 */
#include "{name}.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char line[{room}];

int main(void) {{
  static {name} s;
  float x[{NAME}_INPUTS], y[{NAME}_OUTPUTS];
  unsigned long row = 0;
  {name}_init(&s);
  while (fgets(line, sizeof line, stdin)) {{
    char *at = line;
    ++row;
    for (int i = 0; i < {NAME}_INPUTS; ++i) {{
      char *end = at;
      const int last = i + 1 == {NAME}_INPUTS;
      const double v = strtod(at, &end);
      const size_t blank = strspn(end, last ? " \\t\\r\\n" : " \\t");
      if (end == at || memchr("nNiI", at[strspn(at, " \\t+-")], 4) || v > FLT_MAX || v < -FLT_MAX ||
          end[blank] != (last ? '\\0' : ',')) {{
        fprintf(stderr, "line %lu, number %d: %d finite numbers with commas between them are expected\\n", row, i + 1,
                {NAME}_INPUTS);
        return 2;
      }}
      x[i] = (float)v;
      at = end + blank + 1;
    }}
    {name}_step(&s, x, y);
    for (int i = 0; i < {NAME}_OUTPUTS; ++i) printf(i ? ",%.9g" : "%.9g", (double)y[i]);
    printf("\\n");
    fflush(stdout);
  }}
  return 0;
}}
"""


@dataclass(frozen=True)
class CSource:
    """The three files by name, and what they weigh in bytes."""

    files: dict[str, str]
    weights: int
    state: int
    stack: int

    def save(self, out: Path) -> None:
        """Raises RunError where a file cannot be written."""
        for file, text in self.files.items():
            write_atomic(out / file, text)


def to_c(plain: Plain, name: str = "model", title: str = "", weights: str = "float32") -> CSource:
    """Write a model as C.

    Args:
        name: of the type, its functions and files: NAME_init, NAME_step.
        title: of what it is made.
        weights: "float32" or "int8", with one scale to a row of a matrix.

    Raises:
        ConfigError: a name that C does not take.
        NotCausalError: the model needs the future.
        ClewError: its step has an operation that there is no C for.
    """
    if not NAME.fullmatch(name) or TAKEN.fullmatch(name):
        raise ConfigError(
            f"'{name}' is no name for C", hint="small letters, digits and _, a letter first, and no word of C's own"
        )
    program = CProgram(weights)
    taken = take_down(plain, 1, program)
    program.write(taken)
    body = "\n".join(program.lines)
    if plain.reads_units:  # what is no unit is the unknown one
        known = plain.units
        unit = f"const int unit[1] = {{x[0] >= 0.0f && x[0] < {known}.0f ? (int)x[0] : 1}};"
        body = f"  {unit}\n{body}"
    passing = [f"  {each.kind} {each.name}[{each.first.size}];" for each in program.passing]
    code = "\n".join([*program.constants, body])
    common = {
        "name": name,
        "NAME": name.upper(),
        "title": _comment([title or "A recurrent model, one step at a time."]),
        "I": len(plain.inputs),
        "O": len(plain.outputs),
    }
    header = HEADER.format(
        **common,
        inputs=_comment(plain.inputs),
        outputs=_comment(plain.outputs),
        members="\n".join(f"  {m.kind} {m.name}[{m.first.size}];" for m in program.carried) or "  char nothing;",
    )
    source = SOURCE.format(
        **common,
        helpers="".join(f"{text}\n" for called, text in HELPERS.items() if f"{called}(" in code) + "\n",
        constants="\n".join(program.constants),
        first="\n".join(map(_first, program.carried)) or "  s->nothing = 0;",
        body="\n".join([*passing, body, *([] if program.carried else ["  (void)s;"])]),
    )
    main = MAIN.format(**common, room=max(256, 64 * len(plain.inputs)))
    files = {f"{name}.h": header, f"{name}.c": source, "main.c": main}
    state, stack = (sum(m.first.size * BYTES[m.kind] for m in some) for some in (program.carried, program.passing))
    stack += 4 * program.sums
    return CSource(files, program.weight_bytes, state, stack)


def _first(memory: Memory) -> str:
    flat = memory.first.reshape(-1)
    if (flat == flat[0]).all() or (flat.dtype.kind == "f" and np.isnan(flat).all()):
        value = number(float(flat[0])) if flat.dtype.kind == "f" else str(int(flat[0]))
        return f"  for (int i = 0; i < {flat.size}; ++i) s->{memory.name}[i] = {value};"
    table = f"  static const {memory.kind} f{memory.name}[{flat.size}] = {{{values(flat)}}};"
    return f"{table}\n  for (int i = 0; i < {flat.size}; ++i) s->{memory.name}[i] = f{memory.name}[i];"


def _comment(names: Sequence[str], most: int = 40) -> str:
    """Names as a comment can hold them."""
    shown = ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")
    plain = "".join(c if c.isprintable() and c.isascii() else "_" for c in shown)
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("?", "? ").rstrip()  # ??/ is a character of C's own
