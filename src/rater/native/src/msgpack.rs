//! msgpack as msgspec writes it (each number in its fewest bytes), and a reader of registers and replies.

/// What cannot be read as what it should be.
#[derive(Debug)]
pub struct Unreadable;

/// Writes values one after the other.
#[derive(Default, Clone)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn nil(&mut self) {
        self.0.push(0xC0);
    }

    pub fn bool(&mut self, value: bool) {
        self.0.push(if value { 0xC3 } else { 0xC2 });
    }

    pub fn int(&mut self, value: i64) {
        let out = &mut self.0;
        match value {
            -32..=127 => out.push(value as u8),
            128..=0xFF => out.extend([0xCC, value as u8]),
            0x100..=0xFFFF => {
                out.push(0xCD);
                out.extend((value as u16).to_be_bytes());
            }
            0x1_0000..=0xFFFF_FFFF => {
                out.push(0xCE);
                out.extend((value as u32).to_be_bytes());
            }
            0x1_0000_0000.. => {
                out.push(0xCF);
                out.extend(value.to_be_bytes());
            }
            -128..=-33 => out.extend([0xD0, value as u8]),
            -0x8000..=-129 => {
                out.push(0xD1);
                out.extend((value as i16).to_be_bytes());
            }
            -0x8000_0000..=-0x8001 => {
                out.push(0xD2);
                out.extend((value as i32).to_be_bytes());
            }
            _ => {
                out.push(0xD3);
                out.extend(value.to_be_bytes());
            }
        }
    }

    pub fn option_int(&mut self, value: Option<i64>) {
        match value {
            Some(value) => self.int(value),
            None => self.nil(),
        }
    }

    pub fn text(&mut self, value: &str) {
        self.sized(value.len(), 0xA0, 31, Some(0xD9), 0xDA);
        self.0.extend_from_slice(value.as_bytes());
    }

    /// A text that stands in parts.
    pub fn text_of_parts(&mut self, parts: &[&str]) {
        self.sized(parts.iter().map(|part| part.len()).sum(), 0xA0, 31, Some(0xD9), 0xDA);
        parts.iter().for_each(|part| self.0.extend_from_slice(part.as_bytes()));
    }

    pub fn option_text(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.text(value),
            None => self.nil(),
        }
    }

    pub fn bytes(&mut self, value: &[u8]) {
        match value.len() {
            size @ 0..=0xFF => self.0.extend([0xC4, size as u8]),
            size @ 0x100..=0xFFFF => {
                self.0.push(0xC5);
                self.0.extend((size as u16).to_be_bytes());
            }
            size => {
                self.0.push(0xC6);
                self.0.extend((size as u32).to_be_bytes());
            }
        }
        self.0.extend_from_slice(value);
    }

    pub fn array(&mut self, size: usize) {
        self.sized(size, 0x90, 15, None, 0xDC);
    }

    /// The head of a map of at most 15 names.
    pub fn map(&mut self, size: u8) {
        self.0.push(0x80 | size);
    }

    fn sized(&mut self, size: usize, fixed: u8, fixed_max: usize, one: Option<u8>, two: u8) {
        let out = &mut self.0;
        match (size, one) {
            _ if size <= fixed_max => out.push(fixed | size as u8),
            (0..=0xFF, Some(one)) => out.extend([one, size as u8]),
            (0..=0xFFFF, _) => {
                out.push(two);
                out.extend((size as u16).to_be_bytes());
            }
            _ => {
                out.push(two + 1);
                out.extend((size as u32).to_be_bytes());
            }
        }
    }

    /// What is msgpack already.
    pub fn raw(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }
}

/// Reads values one after the other.
pub struct Reader<'a> {
    bytes: &'a [u8],
}

type Read<T> = Result<T, Unreadable>;

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn take(&mut self, size: usize) -> Read<&'a [u8]> {
        if size > self.bytes.len() {
            return Err(Unreadable);
        }
        let (found, rest) = self.bytes.split_at(size);
        self.bytes = rest;
        Ok(found)
    }

    fn byte(&mut self) -> Read<u8> {
        Ok(self.take(1)?[0])
    }

    fn unsigned(&mut self, size: usize) -> Read<u64> {
        Ok(self.take(size)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn size(&mut self, size: usize) -> Read<usize> {
        usize::try_from(self.unsigned(size)?).map_err(|_| Unreadable)
    }

    /// Whether nil stands here, which is then passed.
    pub fn nil(&mut self) -> bool {
        let found = self.bytes.first() == Some(&0xC0);
        if found {
            self.bytes = &self.bytes[1..];
        }
        found
    }

    pub fn bool(&mut self) -> Read<bool> {
        match self.byte()? {
            0xC2 => Ok(false),
            0xC3 => Ok(true),
            _ => Err(Unreadable),
        }
    }

    pub fn int(&mut self) -> Read<i64> {
        let head = self.byte()?;
        match head {
            0..=0x7F => Ok(i64::from(head)),
            0xE0.. => Ok(i64::from(head as i8)),
            0xCC..=0xCF => i64::try_from(self.unsigned(1 << (head - 0xCC))?).map_err(|_| Unreadable),
            0xD0..=0xD3 => {
                let size = 1 << (head - 0xD0);
                let shift = 64 - 8 * size as u32;
                Ok(((self.unsigned(size)? << shift) as i64) >> shift)
            }
            0xCB => {
                // Lua's msgpack writes so what is no int of 64 bits; whole ones it does not.
                let number = f64::from_bits(self.unsigned(8)?);
                let whole = number as i64;
                (whole as f64 == number).then_some(whole).ok_or(Unreadable)
            }
            _ => Err(Unreadable),
        }
    }

    pub fn option_int(&mut self) -> Read<Option<i64>> {
        if self.nil() { Ok(None) } else { self.int().map(Some) }
    }

    pub fn text(&mut self) -> Read<&'a str> {
        let size = match self.byte()? {
            head @ 0xA0..=0xBF => usize::from(head & 31),
            0xD9 => self.size(1)?,
            0xDA => self.size(2)?,
            0xDB => self.size(4)?,
            _ => return Err(Unreadable),
        };
        std::str::from_utf8(self.take(size)?).map_err(|_| Unreadable)
    }

    pub fn bytes(&mut self) -> Read<&'a [u8]> {
        let size = match self.byte()? {
            0xC4 => self.size(1)?,
            0xC5 => self.size(2)?,
            0xC6 => self.size(4)?,
            _ => return Err(Unreadable),
        };
        self.take(size)
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether nothing is left.
    pub fn is_done(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn option_text(&mut self) -> Read<Option<&'a str>> {
        if self.nil() { Ok(None) } else { self.text().map(Some) }
    }

    pub fn array(&mut self) -> Read<usize> {
        match self.byte()? {
            head @ 0x90..=0x9F => Ok(usize::from(head & 15)),
            0xDC => self.size(2),
            0xDD => self.size(4),
            _ => Err(Unreadable),
        }
    }

    /// Whether an array stands here.
    pub fn is_array(&self) -> bool {
        matches!(self.bytes.first(), Some(0x90..=0x9F | 0xDC | 0xDD))
    }

    pub fn map(&mut self) -> Read<usize> {
        match self.byte()? {
            head @ 0x80..=0x8F => Ok(usize::from(head & 15)),
            0xDE => self.size(2),
            0xDF => self.size(4),
            _ => Err(Unreadable),
        }
    }

    /// Pass over a value.
    pub fn skip(&mut self) -> Read<()> {
        let mut values = 1usize;
        while values > 0 {
            values -= 1;
            let head = self.byte()?;
            let size = match head {
                0..=0x7F | 0xE0.. | 0xC0 | 0xC2 | 0xC3 => 0,
                0x80..=0x8F => {
                    values += 2 * usize::from(head & 15);
                    0
                }
                0x90..=0x9F => {
                    values += usize::from(head & 15);
                    0
                }
                0xA0..=0xBF => usize::from(head & 31),
                0xC4 | 0xD9 => self.size(1)?,
                0xC5 | 0xDA => self.size(2)?,
                0xC6 | 0xDB => self.size(4)?,
                0xCC | 0xD0 => 1,
                0xCD | 0xD1 => 2,
                0xCA | 0xCE | 0xD2 => 4,
                0xCB | 0xCF | 0xD3 => 8,
                0xDC => {
                    values += self.size(2)?;
                    0
                }
                0xDD => {
                    values += self.size(4)?;
                    0
                }
                0xDE => {
                    values += 2 * self.size(2)?;
                    0
                }
                0xDF => {
                    values += 2 * self.size(4)?;
                    0
                }
                _ => return Err(Unreadable),
            };
            self.take(size)?;
        }
        Ok(())
    }
}
