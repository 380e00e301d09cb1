"""Undo ``format=flowed`` (RFC 3676): soft line breaks, space-stuffing, DelSp. Quote depth and signatures stay."""

from __future__ import annotations


def unflow(text: str, *, delete_space: bool) -> str:
    """Return ``text`` (``\\n`` line ends) with paragraphs joined. ``> `` marks come back normalised."""
    out: list[str] = []
    paragraph: list[str] = []
    depth = 0

    def finish() -> None:
        if paragraph:
            mark = ">" * depth + " " if depth else ""
            out.append(mark + "".join(paragraph) if any(paragraph) else ">" * depth)
            paragraph.clear()

    for line in text.split("\n"):
        bare = line.lstrip(">")
        line_depth = len(line) - len(bare)
        if bare.startswith(" "):
            bare = bare[1:]
        if line_depth != depth:
            finish()
            depth = line_depth
        if bare == "-- ":
            finish()
            out.append(">" * depth + " -- " if depth else "-- ")
            continue
        if not bare:
            finish()  # an empty line is meant, even when a stray blank ends the line before it
        is_soft = bare.endswith(" ")
        paragraph.append(bare[:-1] if is_soft and delete_space else bare)
        if not is_soft:
            finish()
    finish()
    return "\n".join(out)
