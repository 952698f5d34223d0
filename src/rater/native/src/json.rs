//! JSON as msgspec reads and writes it: what one of the two refuses, the other refuses too.
//!
//! Reading goes over text that is UTF-8 already. Source of the rule: CONTRACTS.md "CDR".

use std::borrow::Cow;

/// Lists and objects inside of each other, the record itself included (CONTRACTS.md "CDR").
pub const DEPTH_MAX: u32 = 100;

/// Characters of an int that msgspec reads at most, its sign included.
const INT_CHARS_MAX: usize = 4300;

/// Why a text is no JSON, or is not read here.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable;

pub type Read<T> = Result<T, Unreadable>;

/// A value of an object's field, as far as CDRs ask.
#[derive(Debug)]
pub enum Value<'a> {
    Null,
    /// Of at most 64 bits.
    Int(i128),
    Text(Cow<'a, str>),
    /// True or false; a number of more bits, or with a point or an exponent; a list or an object, passed over.
    Other,
}

/// Reads one text from its beginning.
pub struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: u32,
    /// Whether there was a number that msgspec does not read.
    pub strange_number: bool,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0, depth: 0, strange_number: false }
    }

    fn peek(&mut self) -> Read<u8> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(Unreadable)
    }

    fn expect(&mut self, byte: u8) -> Read<()> {
        if self.peek()? != byte {
            return Err(Unreadable);
        }
        self.at += 1;
        Ok(())
    }

    /// Nothing but blanks is left.
    pub fn end(&mut self) -> Read<()> {
        match self.peek() {
            Ok(_) => Err(Unreadable),
            Err(Unreadable) => Ok(()),
        }
    }

    /// Begin an object; false: something else stands here. Its end is told by `name`.
    pub fn begin(&mut self) -> Read<bool> {
        if self.peek()? != b'{' {
            return Ok(false);
        }
        self.at += 1;
        self.depth += 1;
        Ok(true)
    }

    /// The next field's name, with its colon; None: the object is over. first: no field was read yet.
    pub fn name(&mut self, first: &mut bool) -> Read<Option<Cow<'a, str>>> {
        match self.peek()? {
            b'}' => {
                self.at += 1;
                self.depth -= 1;
                return Ok(None);
            }
            b',' if !*first => {
                self.at += 1;
                self.peek()?;
            }
            _ if *first => {}
            _ => return Err(Unreadable),
        }
        *first = false;
        if self.peek()? != b'"' {
            return Err(Unreadable);
        }
        let name = self.string()?;
        self.expect(b':')?;
        Ok(Some(name))
    }

    /// Begin a list; false: something else stands here. Its end is told by `item`.
    pub fn begin_list(&mut self) -> Read<bool> {
        let found = self.peek()? == b'[';
        self.at += usize::from(found);
        Ok(found)
    }

    /// Whether one more item stands here; false: the list is over. first: none was read yet.
    pub fn item(&mut self, first: &mut bool) -> Read<bool> {
        match self.peek()? {
            b']' => {
                self.at += 1;
                return Ok(false);
            }
            b',' if !*first => self.at += 1,
            _ if *first => {}
            _ => return Err(Unreadable),
        }
        *first = false;
        Ok(true)
    }

    /// True or false, which stands here.
    pub fn truth(&mut self) -> Read<bool> {
        if self.peek()? == b't' {
            return self.word("true").map(|()| true);
        }
        self.word("false").map(|()| false)
    }

    /// The value that stands here.
    pub fn value(&mut self) -> Read<Value<'a>> {
        match self.peek()? {
            b'"' => Ok(Value::Text(self.string()?)),
            b'{' | b'[' => self.skip(self.depth).map(|()| Value::Other),
            b'n' => self.word("null").map(|()| Value::Null),
            b't' => self.word("true").map(|()| Value::Other),
            b'f' => self.word("false").map(|()| Value::Other),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str) -> Read<()> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(Unreadable);
        }
        self.at += word.len();
        Ok(())
    }

    /// Pass over the value that stands here.
    pub fn pass(&mut self) -> Read<()> {
        self.skip(self.depth)
    }

    /// The same; depth: of lists and objects around it.
    fn skip(&mut self, depth: u32) -> Read<()> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b'{' if depth < DEPTH_MAX => {
                self.begin()?;
                let mut first = true;
                while self.name(&mut first)?.is_some() {
                    self.skip(depth + 1)?;
                }
                Ok(())
            }
            b'[' if depth < DEPTH_MAX => {
                self.at += 1;
                let mut first = true;
                loop {
                    match self.peek()? {
                        b']' => {
                            self.at += 1;
                            return Ok(());
                        }
                        b',' if !first => {
                            self.at += 1;
                            if self.peek()? == b']' {
                                return Err(Unreadable);
                            }
                        }
                        _ if first => {}
                        _ => return Err(Unreadable),
                    }
                    first = false;
                    self.skip(depth + 1)?;
                }
            }
            b'{' | b'[' => Err(Unreadable),
            b'n' => self.word("null"),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            _ => self.number().map(|_| ()),
        }
    }

    fn digits(&mut self) -> usize {
        let from = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        self.at - from
    }

    fn number(&mut self) -> Read<Value<'a>> {
        let from = self.at;
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        let zero = self.bytes.get(self.at) == Some(&b'0');
        let whole = self.digits();
        if whole == 0 || (zero && whole > 1) {
            return Err(Unreadable);
        }
        let mut float = false;
        if self.bytes.get(self.at) == Some(&b'.') {
            float = true;
            self.at += 1;
            if self.digits() == 0 {
                return Err(Unreadable);
            }
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            float = true;
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(Unreadable);
            }
        }
        let text = &self.text[from..self.at];
        if float {
            self.strange_number |= !text.parse::<f64>().is_ok_and(f64::is_finite);
            return Ok(Value::Other);
        }
        match text.parse::<i128>() {
            Ok(number) if (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number) => {
                Ok(Value::Int(number))
            }
            _ => {
                self.strange_number |= text.len() > INT_CHARS_MAX;
                Ok(Value::Other)
            }
        }
    }

    /// The text that begins here with a quotation mark.
    fn string(&mut self) -> Read<Cow<'a, str>> {
        self.at += 1;
        let from = self.at;
        self.at += plain(&self.bytes[from..]);
        match self.bytes.get(self.at) {
            Some(b'"') => {
                let found = &self.text[from..self.at];
                self.at += 1;
                Ok(Cow::Borrowed(found))
            }
            Some(b'\\') => self.escaped(from).map(Cow::Owned),
            _ => Err(Unreadable),
        }
    }

    fn escaped(&mut self, from: usize) -> Read<String> {
        let mut out = String::from(&self.text[from..self.at]);
        loop {
            let next = self.at;
            self.at += plain(&self.bytes[next..]);
            out.push_str(&self.text[next..self.at]);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => self.at += 1,
                _ => return Err(Unreadable),
            }
            let code = *self.bytes.get(self.at).ok_or(Unreadable)?;
            self.at += 1;
            out.push(match code {
                b'"' | b'\\' | b'/' => char::from(code),
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => self.code_point()?,
                _ => return Err(Unreadable),
            });
        }
    }

    fn code_point(&mut self) -> Read<char> {
        let first = self.hex()?;
        let code = if (0xD800..0xDC00).contains(&first) {
            if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
                return Err(Unreadable);
            }
            self.at += 2;
            let second = self.hex()?;
            if !(0xDC00..0xE000).contains(&second) {
                return Err(Unreadable);
            }
            0x10000 + ((first - 0xD800) << 10 | (second - 0xDC00))
        } else {
            first
        };
        char::from_u32(code).ok_or(Unreadable)
    }

    fn hex(&mut self) -> Read<u32> {
        let text = self.bytes.get(self.at..self.at + 4).ok_or(Unreadable)?;
        self.at += 4;
        text.iter()
            .try_fold(0, |sum, &digit| Ok(sum << 4 | char::from(digit).to_digit(16).ok_or(Unreadable)?))
    }
}

/// How many bytes stand ahead of the first that no text has as it is: a quotation mark, a backslash, a control
/// character. Eight are looked at together, each by its top bit: what lies behind the first that is found may be wrong.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xFF;
    const TOPS: u64 = ONES << 7;
    let below = |word: u64, least: u64| word.wrapping_sub(ONES * least) & !word & TOPS;
    let is = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let mut rest = bytes;
    while let Some((eight, behind)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*eight);
        let found = below(word, 0x20) | is(word, b'"') | is(word, b'\\');
        if found != 0 {
            return bytes.len() - rest.len() + found.trailing_zeros() as usize / 8;
        }
        rest = behind;
    }
    let odd = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    bytes.len() - rest.len() + rest.iter().position(odd).unwrap_or(rest.len())
}

/// Whether a text stands between quotation marks as it is.
pub fn is_plain(text: &str) -> bool {
    plain(text.as_bytes()) == text.len()
}

/// Write a text as JSON has it between quotation marks.
pub fn write_escaped(text: &str, out: &mut String) {
    if is_plain(text) {
        return out.push_str(text); // nearly always
    }
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0x8 => "\\b",
            0xC => "\\f",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        from = at + 1;
        if short.is_empty() {
            out.push_str("\\u00");
            for half in [byte >> 4, byte & 15] {
                out.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
            }
        } else {
            out.push_str(short);
        }
    }
    out.push_str(&text[from..]);
}

/// Write a text as JSON, quotation marks included.
pub fn write_quoted(text: &str, out: &mut String) {
    out.push('"');
    write_escaped(text, out);
    out.push('"');
}

/// A text as JSON, quotation marks included.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_quoted(text, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_plain_or_not_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for at in 0..20 {
                let mut bytes = [0xFF; 20];
                bytes[at] = byte;
                let odd = byte < 0x20 || byte == b'"' || byte == b'\\';
                assert_eq!(plain(&bytes), if odd { at } else { 20 }, "{byte} at {at}");
                bytes[at..].fill(byte);
                assert_eq!(plain(&bytes), if odd { at } else { 20 }, "{byte} from {at} on");
            }
        }
    }
}
