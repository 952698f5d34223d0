//! Telephone numbers as records have them: digits, blanks and hyphens of all scripts. States what
//! `core/number_text.py` does (RULES.md 2, step 1).

use rustc_hash::FxHashMap;
use std::borrow::Cow;

/// A number of 64 digits with marks between them all; what is longer is none, and is not looked at.
const CHARS_MAX: usize = 256;

/// Characters that are not what they look like, as this Python's Unicode database has them.
#[derive(Default)]
pub struct Characters(pub FxHashMap<char, Box<str>>);

impl Characters {
    fn ascii_form<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if text.bytes().all(|byte| (0x20..0x7F).contains(&byte)) {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        for char in text.chars() {
            match self.0.get(&char) {
                _ if matches!(char, '\t' | '\n' | '\r') => out.push(' '),
                Some(found) if !char.is_ascii() => out.push_str(found),
                _ => out.push(char),
            }
        }
        Cow::Owned(out)
    }

    /// The digits of a number with `+` in front, and blanks, hyphens or parentheses between them; what has
    /// anything else as it was.
    pub fn digits_of<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Cow::Borrowed(text); // nearly always
        }
        if text.len() > CHARS_MAX && text.chars().count() > CHARS_MAX {
            return Cow::Borrowed(text);
        }
        let ascii = self.ascii_form(text);
        let plain = without_trunk_zero(&ascii);
        if !separated(plain.as_bytes()) {
            return Cow::Borrowed(text);
        }
        Cow::Owned(plain.chars().filter(|char| !" +-()".contains(*char)).collect())
    }
}

/// `+44 (0)20 …` as it is dialled: without the zero that is for callers in the country.
fn without_trunk_zero(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'(') {
        return Cow::Borrowed(text);
    }
    for start in 0..bytes.len() {
        let mut at = match &bytes[start..] {
            [b'+', ..] => start + 1,
            [b'0', b'0', ..] => start + 2,
            _ => continue,
        };
        at += blanks(&bytes[at..]);
        let kept: [&[u8]; 5] = [b"39", b"378", b"225", b"241", b"242"];
        if kept.iter().any(|code| bytes[at..].starts_with(code)) {
            continue;
        }
        let run = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit() || b" -".contains(byte)).count();
        let open = at + run;
        if !bytes[at..open].trim_ascii_end().last().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let mut end = open;
        for expected in [b'(', b'0', b')'] {
            if end > open {
                end += blanks(&bytes[end..]);
            }
            if bytes.get(end) != Some(&expected) {
                end = 0;
                break;
            }
            end += 1;
        }
        if end > 0 {
            return Cow::Owned([&text[..open], &text[end..]].concat());
        }
    }
    Cow::Borrowed(text)
}

fn blanks(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| **byte == b' ').count()
}

fn separated(bytes: &[u8]) -> bool {
    let mut at = blanks(bytes);
    for mark in [b'+', b'('] {
        if bytes.get(at) == Some(&mark) {
            at += 1;
        }
        at += blanks(&bytes[at..]);
    }
    let rest = &bytes[at..];
    let Some(last) = rest.iter().rposition(u8::is_ascii_digit) else { return false };
    rest[0].is_ascii_digit()
        && rest[..last].iter().all(|byte| byte.is_ascii_digit() || b" ()-".contains(byte))
        && rest[last + 1..].iter().all(|byte| b" )".contains(byte))
}
