#!/usr/bin/env python3
"""Replaces the tables of docs/scale.md by those of docs/scale/tables.md with the same heads, in the
same order.
"""
import collections
import pathlib
import sys

PAGE, TABLES = pathlib.Path("docs/scale.md"), pathlib.Path("docs/scale/tables.md")


def tables(lines):
    """First and last line, exclusive, of each table."""
    start = None
    for number, line in enumerate([*lines, ""]):
        if line.startswith("|"):
            start = number if start is None else start
        elif start is not None:
            yield start, number
            start = None


made = collections.defaultdict(list)
source = TABLES.read_text().splitlines()
for first, behind in tables(source):
    made[source[first]].append(source[first:behind])

page, out, done = PAGE.read_text().splitlines(), [], 0
for first, behind in tables(page):
    out += page[done:first]
    ours = made.get(page[first])
    out += ours.pop(0) if ours else page[first:behind]
    done = behind
PAGE.write_text("\n".join(out + page[done:]) + "\n")
heads = set(page)
left = [head for head, rest in made.items() if rest and head in heads]
if left:
    sys.exit(f"{PAGE} has fewer tables with these heads:\n" + "\n".join(left))
