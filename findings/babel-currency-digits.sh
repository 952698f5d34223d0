#!/usr/bin/env bash
# Babel 2.19.0: how many digits money has follows CLDR, not ISO 4217, and a half is rounded to even.
#
# format_currency rounds to "the currency's digits". Who sells by ISO 4217, as payment files and tax offices do, would expect
# two for COP, HUF and IDR, and three for IQD. What happens: CLDR says how money is written in everyday life, so these come
# with none: 0.75 IDR is 1, 1.250 IQD is 1. And what lies between two digits goes to the even one: $0.125 is $0.12 and
# $0.135 is $0.14, where invoices round a half up. Amounts that were rounded before, or decimal_quantization=False, are shown
# as they are; the digits of ISO 4217 have to come from elsewhere.
#
# Installs pinned public packages in a temporary folder. Exit code 0: seen again; 1: it behaves otherwise now.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check "babel==2.19.0"

cat > "$folder/look.py" <<'EOF'
import sys
from decimal import Decimal

from babel.numbers import format_currency, get_currency_precision

digits = {name: get_currency_precision(name) for name in ("USD", "COP", "HUF", "IDR", "IQD")}
shown = {
    f"{amount} {name}": format_currency(Decimal(amount), name, locale="en_US")
    for amount, name in (("0.75", "IDR"), ("1.250", "IQD"), ("0.125", "USD"), ("0.135", "USD"))
}
whole = format_currency(Decimal("0.125"), "USD", locale="en_US", decimal_quantization=False)
print(f"digits: {digits}; shown: {shown}; not rounded: {whole}")
is_seen = (
    digits == {"USD": 2, "COP": 0, "HUF": 0, "IDR": 0, "IQD": 0}
    and [text[-4:] for text in shown.values()][2:] == ["0.12", "0.14"]
    and whole == "$0.125"
)
sys.exit(not is_seen)
EOF
"$python" "$folder/look.py" || { echo "it behaves otherwise now"; exit 1; }
echo "seen again: CLDR's digits, half to even"
