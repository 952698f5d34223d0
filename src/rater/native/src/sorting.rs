//! Entries of a re-rate sorted: runs of bounded size in memory, and many runs merged, of which Python keeps the files
//! (`jobs/spooling.py`). Of sorted entries the last of each call, as `core/rerating/sorting.py` (`latest`) states it.

use crate::border::fault;
use crate::msgpack::Writer;
use crate::told::{self, CALL, KEPT_NOWHERE};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::cmp::Ordering;

/// Ahead of a call in a part.
const LENGTH: usize = 4;
/// Ahead of an entry in a run: how long its key is, and what is kept under it.
const LENGTHS: usize = 2 * LENGTH;
/// Bytes at a key's end: the revision, and whether it was reversed.
const REVISION: usize = 9;
/// Read of a run at once.
const READ_BYTES: usize = 1 << 16;
/// Revision 0 as it stands in a key: of a call that was never rated.
const NONE: [u8; 8] = (1_u64 << 63).to_be_bytes();
const HEAD: usize = 16;

/// The first bytes of a key as a number that sorts as they do: two of one client rarely begin alike.
fn head_of(key: &[u8]) -> u128 {
    let mut head = [0; HEAD];
    let size = key.len().min(HEAD);
    head[..size].copy_from_slice(&key[..size]);
    u128::from_be_bytes(head)
}

fn put_entry(key: &[u8], raw: &[u8], out: &mut Vec<u8>) -> PyResult<()> {
    for bytes in [key, raw] {
        put_length(bytes, out)?;
    }
    out.extend_from_slice(key);
    out.extend_from_slice(raw);
    Ok(())
}

fn put_length(bytes: &[u8], out: &mut Vec<u8>) -> PyResult<()> {
    let size = u32::try_from(bytes.len()).map_err(|_| fault("an entry of 4 GiB"))?;
    out.extend(size.to_le_bytes());
    Ok(())
}

struct Place {
    head: u128,
    /// Where its key ends and what is kept ends, in their bytes; they begin where those before them end.
    key: (usize, usize),
    raw: (usize, usize),
}

/// Entries that are sorted in memory.
#[pyclass(module = "rater.native.engine")]
#[derive(Default)]
pub struct Sorting {
    keys: Vec<u8>,
    raws: Writer,
    places: Vec<Place>,
    /// How many of them are to stay: what came behind them was not taken to its end.
    kept: usize,
    /// How many were given, once they are sorted.
    given: usize,
    out: Vec<u8>,
}

impl Sorting {
    /// Let go of what was added since it was last told to be kept.
    pub fn begin(&mut self) {
        self.places.truncate(self.kept);
        let (keys, raws) = self.places.last().map_or((0, 0), |last| (last.key.1, last.raw.1));
        self.keys.truncate(keys);
        self.raws.0.truncate(raws);
    }

    pub fn keep(&mut self) {
        self.kept = self.places.len();
    }

    /// Add an entry: what writes its key, and what is kept under it.
    pub fn put(&mut self, key: impl FnOnce(&mut Vec<u8>), kept: impl FnOnce(&mut Writer)) {
        let (from, kept_from) = (self.keys.len(), self.raws.0.len());
        key(&mut self.keys);
        kept(&mut self.raws);
        self.places.push(Place {
            head: head_of(&self.keys[from..]),
            key: (from, self.keys.len()),
            raw: (kept_from, self.raws.0.len()),
        });
    }

    fn entry(&self, place: &Place) -> (&[u8], &[u8]) {
        (&self.keys[place.key.0..place.key.1], &self.raws.0[place.raw.0..place.raw.1])
    }
}

#[pymethods]
impl Sorting {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn add(&mut self, key: &[u8], raw: &[u8]) {
        self.begin();
        self.put(|out| out.extend_from_slice(key), |out| out.raw(raw));
        self.keep();
    }

    /// Bytes of the entries.
    fn size(&self) -> usize {
        self.keys.len() + self.raws.0.len()
    }

    /// The next entries in order, so many bytes or somewhat more; b"": there are none left, and it begins anew.
    fn run<'py>(&mut self, py: Python<'py>, size: usize) -> PyResult<Bound<'py, PyBytes>> {
        if self.given == 0 {
            self.begin();
            let mut places = std::mem::take(&mut self.places);
            places
                .sort_unstable_by(|a, b| a.head.cmp(&b.head).then_with(|| self.entry(a).cmp(&self.entry(b))));
            self.places = places;
        }
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        while let (Some(place), true) = (self.places.get(self.given), out.len() < size) {
            let (key, raw) = self.entry(place);
            put_entry(key, raw, &mut out)?;
            self.given += 1;
        }
        if out.is_empty() {
            (self.given, self.kept) = (0, 0);
            self.begin(); // the room is used again
        }
        let found = PyBytes::new(py, &out);
        self.out = out;
        Ok(found)
    }
}

/// A sorted run as it is gone through: from a file, or all of it in memory.
struct Source {
    /// None: nothing is left to be read.
    file: Option<Py<PyAny>>,
    bytes: Vec<u8>,
    /// Of the entry that is at hand: where its lengths stand, its key and what is kept end.
    at: usize,
    key: usize,
    end: usize,
    head: u128,
}

impl Source {
    fn new(file: Option<Py<PyAny>>, bytes: Vec<u8>) -> Self {
        Self { file, bytes, at: 0, key: 0, end: 0, head: 0 }
    }

    fn key(&self) -> &[u8] {
        &self.bytes[self.at + LENGTHS..self.key]
    }

    fn raw(&self) -> &[u8] {
        &self.bytes[self.key..self.end]
    }

    /// Have so many bytes behind `at`; false: there are fewer.
    fn fill(&mut self, py: Python<'_>, size: usize) -> PyResult<bool> {
        while self.bytes.len() - self.at < size {
            let Some(file) = &self.file else { return Ok(false) };
            self.bytes.drain(..self.at);
            self.at = 0;
            let more = file.bind(py).call_method1("read", (READ_BYTES.max(size - self.bytes.len()),))?;
            let more = more.cast_into::<PyBytes>()?;
            if more.as_bytes().is_empty() {
                self.file = None;
            }
            self.bytes.extend_from_slice(more.as_bytes());
        }
        Ok(true)
    }

    /// Go to the next entry; false: there is none.
    fn next(&mut self, py: Python<'_>) -> PyResult<bool> {
        self.at = self.end;
        (self.key, self.end) = (self.at, self.at);
        if !self.fill(py, LENGTHS)? {
            return if self.bytes.len() == self.at { Ok(false) } else { Err(cut_off()) };
        }
        let length = |at: usize| {
            let bytes = self.bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, |bytes| u32::from_le_bytes(bytes) as usize)
        };
        let (key, raw) = (length(self.at), length(self.at + 4));
        if !self.fill(py, LENGTHS + key + raw)? {
            return Err(cut_off());
        }
        self.key = self.at + LENGTHS + key;
        self.end = self.key + raw;
        self.head = head_of(self.key());
        Ok(true)
    }

    fn order(&self, other: &Self) -> Ordering {
        self.head
            .cmp(&other.head)
            .then_with(|| self.key().cmp(other.key()))
            .then_with(|| self.raw().cmp(other.raw()))
    }
}

fn cut_off() -> PyErr {
    fault("a file of sorted entries is cut off")
}

/// An entry that is held while those behind it are looked at.
#[derive(Default)]
struct Held {
    key: Vec<u8>,
    raw: Vec<u8>,
}

impl Held {
    fn hold(&mut self, key: &[u8], raw: &[u8]) {
        self.key.clear();
        self.key.extend_from_slice(key);
        self.raw.clear();
        self.raw.extend_from_slice(raw);
    }
}

/// Of a client: its id, the entries of its fees, its next calls together, and which of them Python looks at.
type Calls<'py> = (String, Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>, Bound<'py, PyBytes>, Vec<usize>);

/// Sorted runs, gone through once.
#[pyclass(module = "rater.native.engine")]
pub struct Merged {
    /// A heap: the least of them first. Each has an entry at hand.
    sources: Vec<Source>,
    begun: Vec<Source>,
    /// What the code of a call's last transaction begins with.
    code: String,
    /// Of the call that was written last.
    key: Vec<u8>,
    others: Vec<Held>,
    /// A part, or a run, in the making.
    out: Vec<u8>,
}

impl Merged {
    /// Have the least entry first.
    fn begin(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.begun.is_empty() {
            return Ok(());
        }
        for mut source in self.begun.drain(..) {
            if source.next(py)? {
                self.sources.push(source);
            }
        }
        for at in (0..self.sources.len() / 2).rev() {
            self.sink(at);
        }
        Ok(())
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let mut least = at;
            for child in [left, right] {
                if child < self.sources.len() && self.sources[child].order(&self.sources[least]).is_lt() {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.sources.swap(at, least);
            at = least;
        }
    }

    /// Pass over the first entry.
    fn pass(&mut self, py: Python<'_>) -> PyResult<()> {
        let Some(first) = self.sources.first_mut() else { return Ok(()) };
        if !first.next(py)? {
            self.sources.swap_remove(0);
        }
        self.sink(0);
        Ok(())
    }

    /// Write what was published last of the first call as one of a part; false: nothing but reversals was.
    fn take(&mut self, py: Python<'_>) -> PyResult<bool> {
        let Some(first) = self.sources.first() else { return Ok(false) };
        let begin = self.out.len();
        self.key.clear();
        self.key.extend_from_slice(first.key());
        put_length(first.raw(), &mut self.out)?;
        self.out.extend_from_slice(first.raw());
        self.pass(py)?;
        let mut others = 0;
        while let Some(next) = self.sources.first().filter(|next| is_of(next.key(), &self.key)) {
            if self.others.len() <= others {
                self.others.push(Held::default());
            }
            self.others[others].hold(next.key(), next.raw());
            others += 1;
            self.pass(py)?;
        }
        let raw = &self.out[begin + LENGTH..];
        if others == 0 && !raw.is_empty() {
            return Ok(true); // nearly always
        }
        let Some((key, raw)) = folded(&self.key, raw, &self.others[..others])? else {
            self.out.truncate(begin);
            return Ok(false);
        };
        self.key = key;
        self.out.truncate(begin);
        put_length(&raw, &mut self.out)?;
        self.out.extend_from_slice(&raw);
        Ok(true)
    }

    /// Whether the call that was written last, from a place on, is among those asked for; None: Python says so.
    fn is_asked_for(&self, begin: usize) -> Option<bool> {
        if *revision_of(&self.key) == NONE {
            return None;
        }
        if self.code.is_empty() {
            return Some(true);
        }
        let code = told::kept_code(&self.out[begin + LENGTH..]).ok()?;
        Some(code.unwrap_or_default().starts_with(&self.code))
    }
}

/// Whether a key is of the side or fee that another is of.
fn is_of(key: &[u8], other: &[u8]) -> bool {
    key.len() == other.len() && key[..key.len() - REVISION] == other[..key.len() - REVISION]
}

fn revision_of(key: &[u8]) -> &[u8] {
    &key[key.len() - REVISION..key.len() - 1]
}

/// What was published last of a side, with its key; None: nothing but reversals.
fn folded(key: &[u8], raw: &[u8], others: &[Held]) -> PyResult<Option<(Vec<u8>, Vec<u8>)>> {
    let every = others.iter().map(|other| (&*other.key, &*other.raw));
    let mut last: Option<(&[u8], &[u8])> = None;
    let (mut stands, mut place): (bool, &[u8]) = (false, &[]);
    for (key, raw) in std::iter::once((key, raw)).chain(every) {
        if raw.is_empty() {
            stands &= last.is_none_or(|(last, _)| revision_of(last) != revision_of(key));
            continue;
        }
        let seams = told::seams(raw).map_err(|_| unreadable())?;
        let own = &raw[seams.place];
        if last.is_none() || *own != KEPT_NOWHERE {
            place = own; // else a successor came in with no record of its own
        }
        (last, stands) = (Some((key, raw)), seams.stands);
    }
    let Some((key, raw)) = last else { return Ok(None) };
    let raw = told::kept_again(raw, stands, place).map_err(|_| unreadable())?;
    Ok(Some((key.to_vec(), raw)))
}

fn unreadable() -> PyErr {
    fault("a call that cannot be read")
}

/// What all keys of a client begin with, up to and with its end.
fn client_of(key: &[u8]) -> PyResult<&[u8]> {
    let end = key.windows(2).position(|two| two == [0, 0]).ok_or_else(unreadable)?;
    Ok(&key[..end + 2])
}

/// A client's id, as keys begin with it.
fn id_of(begin: &[u8]) -> PyResult<String> {
    let escaped = std::str::from_utf8(&begin[..begin.len() - 2]);
    // No UTF-8 has the byte 0xFF that stands behind a zero.
    match escaped {
        Ok(plain) => Ok(plain.into()),
        Err(_) => {
            let mut raw = Vec::with_capacity(begin.len());
            for (at, byte) in begin[..begin.len() - 2].iter().enumerate() {
                if *byte != 0xFF || at == 0 || begin[at - 1] != 0 {
                    raw.push(*byte);
                }
            }
            String::from_utf8(raw).map_err(|_| unreadable())
        }
    }
}

#[pymethods]
impl Merged {
    #[new]
    fn new(files: Vec<Py<PyAny>>, run: Vec<u8>, code: String) -> Self {
        let mut begun: Vec<_> = files.into_iter().map(|file| Source::new(Some(file), Vec::new())).collect();
        begun.push(Source::new(None, run));
        Self { sources: Vec::new(), begun, code, key: Vec::new(), others: Vec::new(), out: Vec::new() }
    }

    /// The next entries as a run of so many bytes or somewhat more; b"": there are none.
    fn run<'py>(&mut self, py: Python<'py>, size: usize) -> PyResult<Bound<'py, PyBytes>> {
        self.begin(py)?;
        self.out.clear();
        while let (Some(first), true) = (self.sources.first(), self.out.len() < size) {
            self.out.extend_from_slice(&first.bytes[first.at..first.end]);
            self.pass(py)?;
        }
        Ok(PyBytes::new(py, &self.out))
    }

    /// The next calls of a client, so many at most; None: nothing is left.
    fn calls<'py>(&mut self, py: Python<'py>, most: usize) -> PyResult<Option<Calls<'py>>> {
        self.begin(py)?;
        let Some(first) = self.sources.first() else { return Ok(None) };
        let client = client_of(first.key())?.to_vec();
        let (mut fees, mut count, mut doubtful) = (Vec::new(), 0, Vec::new());
        let bytes = |raw: &[u8]| PyBytes::new(py, raw);
        self.out.clear();
        while let Some(first) = self.sources.first() {
            if count == most || !first.key().starts_with(&client) {
                break;
            }
            if first.key()[client.len()] != CALL {
                fees.push((bytes(first.key()), bytes(first.raw())));
                self.pass(py)?;
                continue;
            }
            let begin = self.out.len();
            if !self.take(py)? {
                continue;
            }
            match self.is_asked_for(begin) {
                Some(false) => {
                    self.out.truncate(begin);
                    continue;
                }
                Some(true) => {}
                None => doubtful.push(count),
            }
            count += 1;
        }
        Ok(Some((id_of(&client)?, fees, bytes(&self.out), doubtful)))
    }
}
