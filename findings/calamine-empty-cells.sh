#!/usr/bin/env bash
# python-calamine 0.9.1 (calamine, Rust): a workbook with a stray cell, an error and a formula without value.
#
# One would expect a sheet of two cells, A1 and XFD1048576, to take the room of two cells, or an exception; and a cell
# with #N/A, or a formula that was never computed, to be told apart from an empty one. What happens: the whole
# rectangle is made at once, 32 bytes a cell, 550 GB: Rust's allocator ends the process (SIGABRT), no `except` sees it.
# And an error comes as "", a formula without value not at all, as empty cells do: in a column of fees that is no fee.
#
# Installs pinned public packages in a temporary folder. Exit code 0: seen again; 1: it behaves otherwise now.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check "python-calamine==0.9.1"

cat > "$folder/write.py" <<'EOF'
import sys
import zipfile

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
with zipfile.ZipFile(sys.argv[1], "w") as parts:
    parts.writestr("[Content_Types].xml", f'<Types xmlns="{PACKAGE}/content-types"/>')
    parts.writestr(
        "_rels/.rels",
        f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1" Type="{OFFICE}/officeDocument" '
        'Target="xl/workbook.xml"/></Relationships>',
    )
    parts.writestr(
        "xl/_rels/workbook.xml.rels",
        f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1" Type="{OFFICE}/worksheet" '
        'Target="worksheets/sheet1.xml"/></Relationships>',
    )
    parts.writestr(
        "xl/workbook.xml",
        f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
    )
    parts.writestr(
        "xl/worksheets/sheet1.xml", f'<worksheet xmlns="{MAIN}"><sheetData>{sys.argv[2]}</sheetData></worksheet>'
    )
EOF
cat > "$folder/read.py" <<'EOF'
import sys

import python_calamine

print(python_calamine.load_workbook(sys.argv[1]).get_sheet_by_index(0).to_python())
EOF
row='<row r="1"><c r="A1"><v>1</v></c><c r="B1" t="e"><v>#N/A</v></c><c r="C1"><f>1+1</f></c></row>'
"$python" "$folder/write.py" "$folder/odd.xlsx" "$row"
odd=$("$python" "$folder/read.py" "$folder/odd.xlsx")
echo "1, #N/A and a formula without value are read as $odd"
"$python" "$folder/write.py" "$folder/stray.xlsx" "$row<row r=\"1048576\"><c r=\"XFD1048576\"><v>1</v></c></row>"
# Bounded: where memory is promised freely, the machine would be filled before the process ends.
code=0
{ (ulimit -v 4000000 && "$python" "$folder/read.py" "$folder/stray.xlsx" > /dev/null) || code=$?; } 2> "$folder/error"
echo "a stray cell at XFD1048576: exit code $code, $(grep -m 1 -o 'memory allocation of .*' "$folder/error" || echo no abort)"
[ "$odd" = "[[1.0, '']]" ] && [ "$code" -eq 134 ]
