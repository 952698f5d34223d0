//! Batches of records as Kafka has them on the wire and on disk (magic 2). Writing: what aiokafka's builder of batches does,
//! for records that are all there at once and of one time. Reading: values and headers. Source: https://kafka.apache.org/documentation/#recordbatch.
//! How a batch comes to the broker: `stream/batches.py` (decisions/0107-batches-written-natively.md).

use std::ops::Range;

/// Of each batch, ahead of its records.
const HEADER_BYTES: usize = 61;
/// Of a header: behind base offset and length, where what the length says begins.
const FROM_EPOCH: usize = 12;
/// Of a header: behind the sum.
const FROM_ATTRIBUTES: usize = 21;
const SUM: Range<usize> = 17..21;
const ZSTD: i16 = 4;
const TRANSACTIONAL: i16 = 16;

/// Why records cannot be written.
#[derive(Debug)]
pub enum Unwritable {
    /// Something is longer than a number of 32 bits can say.
    TooLong,
    /// Bytes that are no run of records.
    NoRun,
}

/// Append a number as a varint of Kafka: zigzag, seven bits to a byte.
fn varint(to: &mut Vec<u8>, number: i32) {
    let mut left = ((number << 1) ^ (number >> 31)) as u32;
    while left > 0x7F {
        to.push(left as u8 | 0x80);
        left >>= 7;
    }
    to.push(left as u8);
}

fn varint_bytes(number: i32) -> usize {
    let left = ((number << 1) ^ (number >> 31)) as u32;
    (38 - (left | 1).leading_zeros() as usize) / 7
}

/// Append a length and what is so long; None has the length -1.
pub fn put(to: &mut Vec<u8>, bytes: Option<&[u8]>) -> Result<(), Unwritable> {
    let Some(bytes) = bytes else {
        varint(to, -1);
        return Ok(());
    };
    varint(to, i32::try_from(bytes.len()).map_err(|_| Unwritable::TooLong)?);
    to.extend_from_slice(bytes);
    Ok(())
}

/// Append how many headers follow.
pub fn put_count(to: &mut Vec<u8>, headers: usize) -> Result<(), Unwritable> {
    varint(to, i32::try_from(headers).map_err(|_| Unwritable::TooLong)?);
    Ok(())
}

/// Append a record to a run of them: the length of each, then what `put` writes.
pub fn write(
    run: &mut Vec<u8>,
    key: &[u8],
    value: &[u8],
    headers: &[(&str, &[u8])],
) -> Result<(), Unwritable> {
    let begun = run.len();
    run.extend([0; 4]); // the length, below
    put(run, Some(key))?;
    put(run, Some(value))?;
    put_count(run, headers.len())?;
    for (name, header) in headers {
        put(run, Some(name.as_bytes()))?;
        put(run, Some(header))?;
    }
    let length = u32::try_from(run.len() - begun - 4).map_err(|_| Unwritable::TooLong)?;
    run[begun..begun + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// The records of a run.
pub fn written(mut run: &[u8]) -> impl Iterator<Item = Result<&[u8], Unwritable>> {
    std::iter::from_fn(move || {
        if run.is_empty() {
            return None;
        }
        let record = run
            .split_first_chunk()
            .and_then(|(length, rest)| rest.split_at_checked(u32::from_le_bytes(*length) as usize));
        let (body, rest) = record.map_or((Err(Unwritable::NoRun), &[][..]), |(body, rest)| (Ok(body), rest));
        run = rest;
        Some(body)
    })
}

/// Cuts records into batches, in their order: none is larger, uncompressed, than so many bytes but of one record.
/// Each goes to `full` as (bytes, how many records); the buffer is used again, for fresh memory of 1 MiB costs more.
pub struct Cutter<F: FnMut(&[u8], i32)> {
    most: usize,
    bytes: Vec<u8>,
    count: i32,
    full: F,
}

impl<F: FnMut(&[u8], i32)> Cutter<F> {
    pub fn new(most: usize, full: F) -> Self {
        Self { most, bytes: Vec::new(), count: 0, full }
    }

    /// Append a record. body: key, value and headers, as `put` writes them.
    pub fn append(&mut self, body: &[u8]) -> Result<(), Unwritable> {
        let mut length = length_of(body, self.count)?;
        let needed = varint_bytes(length) + length as usize;
        if HEADER_BYTES + self.bytes.len() + needed >= self.most {
            self.cut();
            length = length_of(body, 0)?;
        }
        varint(&mut self.bytes, length);
        self.bytes.extend_from_slice(&[0, 0]); // no attributes, of the batch's time
        varint(&mut self.bytes, self.count);
        self.bytes.extend_from_slice(body);
        self.count += 1;
        Ok(())
    }

    /// End the batch, if there are records.
    pub fn cut(&mut self) {
        if self.count > 0 {
            (self.full)(&self.bytes, self.count);
            self.bytes.clear();
            self.count = 0;
        }
    }
}

/// Of a record from its attributes on: these and the time are a byte each, for all are of one time.
fn length_of(body: &[u8], number: i32) -> Result<i32, Unwritable> {
    i32::try_from(2 + varint_bytes(number) + body.len()).map_err(|_| Unwritable::TooLong)
}

/// Who writes a batch, as Kafka tells it from those before and after it.
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    pub sequence: i32,
}

/// A finished batch of a Kafka transaction. records: compressed by zstd, also where that makes them no fewer bytes.
pub fn finished(records: &[u8], count: i32, at_ms: i64, producer: &Producer) -> Result<Vec<u8>, Unwritable> {
    let whole = HEADER_BYTES + records.len();
    let mut to = Vec::with_capacity(whole);
    to.extend(0_i64.to_be_bytes()); // base offset: the broker's
    to.extend(i32::try_from(whole - FROM_EPOCH).map_err(|_| Unwritable::TooLong)?.to_be_bytes());
    to.extend((-1_i32).to_be_bytes()); // epoch of the leader: the broker's
    to.push(2); // magic
    to.extend([0; 4]); // the sum, below
    to.extend((ZSTD | TRANSACTIONAL).to_be_bytes());
    to.extend((count - 1).to_be_bytes()); // last offset
    to.extend(at_ms.to_be_bytes()); // first time
    to.extend(at_ms.to_be_bytes()); // last time
    to.extend(producer.id.to_be_bytes());
    to.extend(producer.epoch.to_be_bytes());
    to.extend(producer.sequence.to_be_bytes());
    to.extend(count.to_be_bytes());
    to.extend_from_slice(records);
    let sum = crc32c::crc32c(&to[FROM_ATTRIBUTES..]);
    to[SUM].copy_from_slice(&sum.to_be_bytes());
    Ok(to)
}

/// Bytes that are no records of a batch.
#[derive(Debug)]
pub struct Unreadable;

type Read<T> = Result<T, Unreadable>;

/// Take a varint of Kafka: zigzag, seven bits to a byte, the lowest first.
fn take_varint(from: &mut &[u8]) -> Read<i64> {
    let mut found = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first().ok_or(Unreadable)?;
        *from = rest;
        found |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok((found >> 1) as i64 ^ -((found & 1) as i64));
        }
    }
    Err(Unreadable)
}

/// Take a length and what is so long; None: the length is below 0.
fn take<'a>(from: &mut &'a [u8]) -> Read<Option<&'a [u8]>> {
    let Ok(length) = usize::try_from(take_varint(from)?) else { return Ok(None) };
    let (found, rest) = from.split_at_checked(length).ok_or(Unreadable)?;
    *from = rest;
    Ok(Some(found))
}

/// The headers of a record: name and value.
pub struct Headers<'a> {
    bytes: &'a [u8],
    left: i64,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Read<(&'a [u8], Option<&'a [u8]>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let bytes = &mut self.bytes;
        Some(take(bytes).and_then(|name| Ok((name.ok_or(Unreadable)?, take(bytes)?))))
    }
}

/// A record of a batch: its offset behind the batch's first, its value if it has one, and its headers.
pub struct Record<'a> {
    pub number: i64,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// The records of a batch, uncompressed.
pub fn read(mut records: &[u8]) -> impl Iterator<Item = Read<Record<'_>>> {
    std::iter::from_fn(move || {
        if records.is_empty() {
            return None;
        }
        let record = take(&mut records).and_then(|record| read_one(record.ok_or(Unreadable)?));
        if record.is_err() {
            records = &[];
        }
        Some(record)
    })
}

fn read_one(record: &[u8]) -> Read<Record<'_>> {
    let (_attributes, mut from) = record.split_first().ok_or(Unreadable)?;
    take_varint(&mut from)?; // its time behind the batch's
    let number = take_varint(&mut from)?;
    take(&mut from)?; // key
    let value = take(&mut from)?;
    let left = take_varint(&mut from)?;
    Ok(Record { number, value, headers: Headers { bytes: from, left } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_is_as_long_as_told() {
        let edges = [6, 13, 20, 27].map(|bits| 1 << bits);
        for number in edges.into_iter().flat_map(|edge: i32| [edge - 1, edge, -edge, -edge - 1]).chain([
            0,
            -1,
            i32::MAX,
            i32::MIN,
        ]) {
            let mut to = Vec::new();
            varint(&mut to, number);
            assert_eq!(to.len(), varint_bytes(number), "{number}");
        }
    }

    #[test]
    fn a_run_has_the_records_that_were_written() {
        let (mut run, mut body) = (Vec::new(), Vec::new());
        for key in [b"1", b"2"] {
            write(&mut run, key, b"value", &[("e", b"effect"), ("traceparent", b"00")]).unwrap();
        }
        for part in [Some(&b"2"[..]), Some(b"value")] {
            put(&mut body, part).unwrap();
        }
        put_count(&mut body, 2).unwrap();
        for part in [&b"e"[..], b"effect", b"traceparent", b"00"] {
            put(&mut body, Some(part)).unwrap();
        }
        let found: Vec<_> = written(&run).map(Result::unwrap).collect();
        assert_eq!((found.len(), found[1]), (2, &body[..]));
        assert!(written(&run[..run.len() - 1]).any(|record| record.is_err()));
        assert!(written(&[1, 0]).any(|record| record.is_err()));
    }

    #[test]
    fn what_was_written_is_read() {
        let mut body = Vec::new();
        for part in [None, Some(&b"value"[..])] {
            put(&mut body, part).unwrap();
        }
        put_count(&mut body, 2).unwrap();
        for part in [Some(&b"e"[..]), Some(b"effect"), Some(b"x"), None] {
            put(&mut body, part).unwrap();
        }
        let mut found = Vec::new();
        let mut cutter = Cutter::new(1 << 20, |bytes, _| found = bytes.to_vec());
        for _ in 0..200 {
            cutter.append(&body).unwrap();
        }
        cutter.cut();
        let told = |bytes: &[u8]| -> Read<Vec<_>> {
            read(bytes)
                .map(|record| record.map(|of| (of.number, of.headers.filter(|of| of.is_ok()).count())))
                .collect()
        };
        assert_eq!(told(&found).unwrap(), (0..200).map(|at| (at, 2)).collect::<Vec<_>>());
        let record = read(&found).next().unwrap().unwrap();
        assert_eq!(record.value, Some(&b"value"[..]));
        let headers: Vec<_> = record.headers.map(Result::unwrap).collect();
        assert_eq!(headers, [(&b"e"[..], Some(&b"effect"[..])), (b"x", None)]);
        assert!(told(&found[..found.len() - 1]).is_err());
        assert!(told(&[0xFF; 20]).is_err());
    }

    #[test]
    fn a_batch_is_full_to_the_byte() {
        // Length, attributes, time, number and ten bytes: fourteen to a record.
        for (most, counts) in [(HEADER_BYTES + 29, vec![2, 1]), (HEADER_BYTES + 28, vec![1, 1, 1])] {
            let mut found = Vec::new();
            let mut cutter = Cutter::new(most, |_, count| found.push(count));
            for _ in 0..3 {
                cutter.append(&[7; 10]).unwrap();
            }
            cutter.cut();
            assert_eq!(found, counts);
        }
    }
}
