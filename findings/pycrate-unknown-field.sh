#!/usr/bin/env bash
# pycrate 0.8.1: a field of a newer release in the middle of an extensible SEQUENCE.
#
# TAP 3 (pycrate_asn1dir.TAP3) lets releases add fields, so its SEQUENCEs end in "...". A call event is decoded that has
# one more field, of a tag that TAP 3.12 does not know. One would expect the known fields, and the new one beside them.
# What happens: where the new field stands last it is so; where it stands before others, all fields behind it are given
# as unknown octets too (_ext_…), without an error. A reader that asks for the called number or the duration finds none.
# In a SET without "..." (all of TS 32.298, pycrate_asn1dir.CDR) one unknown field refuses the record as a whole.
#
# Installs the pinned public package in a temporary folder. Exit code 0: seen again; 1: it behaves otherwise now.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check --no-compile "pycrate==0.8.1"

cat > "$folder/look.py" <<'EOF2'
import sys

from pycrate_asn1dir import CDR
from pycrate_asn1dir.TAP3 import TAP_0312

NEW = b"\x7f\x8f\x7f\x03\x02\x01\x05"  # [APPLICATION 2047] constructed, one INTEGER in it


def element(head, contents):
    return head + b"\x82" + len(contents).to_bytes(2, "big") + contents


def decoded(kind, octets):
    kind.from_ber(octets)
    return list(kind.get_val()[1])


event = TAP_0312.CallEventDetail
event.set_val(("gprsCall", {
    "gprsBasicCallInformation": {"totalCallEventDuration": 600},
    "gprsServiceUsed": {"dataVolumeIncoming": 1000, "dataVolumeOutgoing": 1000},
}))
octets = event.to_ber()
contents = octets[2:]
last = decoded(event, element(octets[:1], contents + NEW))
first = decoded(event, element(octets[:1], NEW + contents))
print(f"the new field last:  {last}")
print(f"the new field first: {first}")

message = CDR.CSChargingDataTypes.CSRecord
message.set_val(("ssActionRecord", {
    "recordType": 10, "servedIMSI": bytes(8), "msClassmark": bytes(3), "recordingEntity": bytes(5),
    "ssActionTime": bytes(9), "callReference": b"\1",
}))
octets = message.to_ber()
try:
    found = decoded(message, element(octets[:1], octets[2:] + b"\x9f\x83\x00\x01\x05"))
    refused = False
except Exception as error:
    found, refused = f"{type(error).__name__}: {error}", True
print(f"a SET with a new field: {found}")
known = {"gprsBasicCallInformation", "gprsServiceUsed"}
sys.exit(0 if known <= set(last) and not known & set(first) and refused else 1)
EOF2
"$python" "$folder/look.py"
