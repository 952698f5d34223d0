"""Workbooks as tests need them: written by hand, so that each says exactly what its cells hold."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
DAY_0 = date(1899, 12, 30)
TYPES = (
    f'{HEAD}<Types xmlns="{PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/></Types>'
)


class Zeros(NamedTuple):
    """A number that is shown with zeros in front, by the format 000."""

    number: int


class Raw(NamedTuple):
    """A number as a workbook writes it, such as 7.0000000000000007E-2."""

    text: str


class Error(NamedTuple):
    """An error, such as #N/A."""

    text: str


class Formula(NamedTuple):
    """A formula that was never computed."""

    text: str


Value = str | bool | float | date | Zeros | Raw | Error | Formula | None


def column(place: int) -> str:
    """Return the letters of a column, from 0."""
    return chr(65 + place) if place < 26 else chr(64 + place // 26) + chr(65 + place % 26)


def cell(at: str, value: Value) -> str:
    """Return a cell's XML."""
    kind, inside = _written(value)
    return f'<c r="{at}"{kind}>{inside}</c>' if inside else ""


def _written(value: Value) -> tuple[str, str]:  # noqa: PLR0911 - one for each type
    """Return a cell's attributes and what stands in it."""
    if value is True or value is False:
        return ' t="b"', f"<v>{int(value)}</v>"
    match value:
        case None:
            return "", ""
        case str():
            return ' t="inlineStr"', f'<is><t xml:space="preserve">{escape(value)}</t></is>'
        case date():
            return ' s="1"', f"<v>{(value - DAY_0).days}</v>"
        case Zeros():
            return ' s="2" t="n"', f"<v>{value.number}</v>"
        case Raw():
            return "", f"<v>{value.text}</v>"
        case Error():
            return ' t="e"', f"<v>{value.text}</v>"
        case Formula():
            return "", f"<f>{escape(value.text)}</f>"
        case _:
            return "", f"<v>{value!r}</v>"


def sheet(rows: Iterable[Sequence[Value]]) -> str:
    """Return a sheet's XML."""
    lines = (
        f'<row r="{number}">{"".join(cell(f"{column(at)}{number}", of) for at, of in enumerate(row))}</row>'
        for number, row in enumerate(rows, 1)
    )
    return f'{HEAD}<worksheet xmlns="{MAIN}"><sheetData>{"".join(lines)}</sheetData></worksheet>'


def workbook(
    sheets: Mapping[str, Iterable[Sequence[Value]]],
    hidden: Iterable[str] = (),
    extra: str = "",
    first: bytes | None = None,
) -> bytes:
    """Return a workbook's bytes. extra: XML of more rows for the first sheet; first: all XML of it."""
    listed, related = [], []
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as parts:
        parts.writestr("[Content_Types].xml", TYPES)
        for number, (name, rows) in enumerate(sheets.items(), 1):
            state = ' state="hidden"' if name in hidden else ""
            listed.append(f'<sheet name={quoteattr(name)} sheetId="{number}"{state} r:id="rId{number}"/>')
            related.append(
                f'<Relationship Id="rId{number}" Type="{OFFICE}/worksheet" '
                f'Target="worksheets/sheet{number}.xml"/>'
            )
            text = sheet(rows)
            if number == 1:
                text = text.replace("</sheetData>", f"{extra}</sheetData>")
            raw = first if first is not None and number == 1 else text.encode()
            parts.writestr(f"xl/worksheets/sheet{number}.xml", raw)
        parts.writestr(
            "xl/workbook.xml",
            f'{HEAD}<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}">'
            f"<sheets>{''.join(listed)}</sheets></workbook>",
        )
        related.append(f'<Relationship Id="rId99" Type="{OFFICE}/styles" Target="styles.xml"/>')
        parts.writestr(
            "xl/_rels/workbook.xml.rels",
            f'{HEAD}<Relationships xmlns="{PACKAGE}/relationships">{"".join(related)}</Relationships>',
        )
        parts.writestr(
            "_rels/.rels",
            f'{HEAD}<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="rId1" '
            f'Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        parts.writestr(
            "xl/styles.xml",
            f'{HEAD}<styleSheet xmlns="{MAIN}">'
            '<numFmts count="1"><numFmt formatCode="000" numFmtId="164"/></numFmts>'
            '<cellXfs count="4"><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/><xf numFmtId="10"/>'
            "</cellXfs>"
            "</styleSheet>",
        )
    return out.getvalue()
