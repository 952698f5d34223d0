#!/usr/bin/env bash
# python-calamine 0.9.1 (calamine, Rust): cells with an error, and formulas without a value.
#
# One would expect a cell with #N/A, or a formula that was never computed, to be told apart from an empty one. What happens:
# an error comes as "", a formula without value not at all, as empty cells do. In a column of fees that is no fee, so
# whoever reads money from a workbook has to look at the sheet's XML as well.
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
[ "$odd" = "[[1.0, '']]" ]
