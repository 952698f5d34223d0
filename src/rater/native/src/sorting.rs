//! Entries of a re-rate sorted: runs of bounded size in memory, and many runs merged, of which Python keeps the files
//! (`jobs/spooling.py`). Of sorted entries the last of each call, as `core/rerating/sorting.py` (`latest`) states it.

use crate::border::fault;
use crate::msgpack::Writer;
use crate::told::{self, CALL, KEPT_NOWHERE};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::cmp::Ordering;
use std::io::Write;

/// Ahead of an entry in a run: how long its key is, and what is kept under it.
const LENGTHS: usize = 8;
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

fn put_entry(key: &[u8], raw: &[u8], out: &mut impl Write) -> PyResult<()> {
    for bytes in [key, raw] {
        let size = u32::try_from(bytes.len()).map_err(|_| fault("an entry of 4 GiB"))?;
        out.write_all(&size.to_le_bytes())?;
    }
    out.write_all(key)?;
    out.write_all(raw)?;
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

    /// All entries, sorted; it begins anew.
    fn sorted<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.begin();
        let mut places = std::mem::take(&mut self.places);
        places.sort_unstable_by(|a, b| a.head.cmp(&b.head).then_with(|| self.entry(a).cmp(&self.entry(b))));
        let found = PyBytes::new_with(py, self.size() + LENGTHS * places.len(), |mut out| {
            places
                .iter()
                .map(|place| self.entry(place))
                .try_for_each(|(key, raw)| put_entry(key, raw, &mut out))
        })?;
        (self.kept, self.places) = (0, places); // the room is used again
        self.begin();
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
    /// What all entries of this side or fee begin with.
    fn name(&self) -> &[u8] {
        &self.key[..self.key.len().saturating_sub(REVISION)]
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
    held: Held,
    others: Vec<Held>,
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

    /// Take the first entry, which is held, and all others of the same side or fee; returns how many these are.
    fn take(&mut self, py: Python<'_>) -> PyResult<usize> {
        let mut others = 0;
        let Some(first) = self.sources.first() else { return Ok(0) };
        hold(&mut self.held, first);
        self.pass(py)?;
        while let Some(first) = self.sources.first() {
            let name = self.held.name();
            if first.key().len() != self.held.key.len() || !first.key().starts_with(name) {
                break;
            }
            if self.others.len() == others {
                self.others.push(Held::default());
            }
            hold(&mut self.others[others], first);
            others += 1;
            self.pass(py)?;
        }
        Ok(others)
    }

    /// Leave in `held` what was published last of a side; false: nothing but reversals.
    fn fold(&mut self, others: usize) -> PyResult<bool> {
        if others == 0 {
            return Ok(!self.held.raw.is_empty());
        }
        let entries = || std::iter::once(&self.held).chain(&self.others[..others]);
        let revision = |of: &Held| of.key[of.key.len() - REVISION..of.key.len() - 1].to_vec();
        let (mut last, mut stands, mut place): (Option<&Held>, bool, &[u8]) = (None, false, &KEPT_NOWHERE);
        for entry in entries() {
            if entry.raw.is_empty() {
                stands &= last.is_none_or(|last| revision(last) != revision(entry));
                continue;
            }
            let seams = told::seams(&entry.raw).map_err(|_| unreadable())?;
            let own = &entry.raw[seams.place];
            if last.is_none() || *own != KEPT_NOWHERE {
                place = own; // else a successor came in with no record of its own
            }
            (last, stands) = (Some(entry), seams.stands);
        }
        let Some(last) = last else { return Ok(false) };
        let raw = told::kept_again(&last.raw, stands, place).map_err(|_| unreadable())?;
        let key = last.key.clone();
        self.held = Held { key, raw };
        Ok(true)
    }

    /// Whether the call that is held is among those asked for; None: Python says so.
    fn is_asked_for(&self) -> Option<bool> {
        let key = &self.held.key;
        if key[key.len() - REVISION..key.len() - 1] == NONE {
            return None;
        }
        if self.code.is_empty() {
            return Some(true);
        }
        let code = told::kept_code(&self.held.raw).ok()?;
        Some(code.unwrap_or_default().starts_with(&self.code))
    }
}

fn hold(held: &mut Held, from: &Source) {
    held.key.clear();
    held.key.extend_from_slice(from.key());
    held.raw.clear();
    held.raw.extend_from_slice(from.raw());
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
        Self { sources: Vec::new(), begun, code, held: Held::default(), others: Vec::new() }
    }

    /// The next entries as a run of so many bytes or somewhat more; b"": there are none.
    fn run<'py>(&mut self, py: Python<'py>, size: usize) -> PyResult<Bound<'py, PyBytes>> {
        self.begin(py)?;
        let mut out = Vec::with_capacity(size);
        while let (Some(first), true) = (self.sources.first(), out.len() < size) {
            out.extend_from_slice(&first.bytes[first.at..first.end]);
            self.pass(py)?;
        }
        Ok(PyBytes::new(py, &out))
    }

    /// The next calls of a client, so many at most; None: nothing is left.
    fn calls<'py>(&mut self, py: Python<'py>, most: usize) -> PyResult<Option<Calls<'py>>> {
        self.begin(py)?;
        let Some(first) = self.sources.first() else { return Ok(None) };
        let client = client_of(first.key())?.to_vec();
        let (mut fees, mut calls, mut count, mut doubtful) = (Vec::new(), Vec::new(), 0, Vec::new());
        let bytes = |raw: &[u8]| PyBytes::new(py, raw);
        while let Some(first) = self.sources.first() {
            if count == most || !first.key().starts_with(&client) {
                break;
            }
            if first.key()[client.len()] != CALL {
                fees.push((bytes(first.key()), bytes(first.raw())));
                self.pass(py)?;
                continue;
            }
            let others = self.take(py)?;
            if !self.fold(others)? {
                continue;
            }
            match self.is_asked_for() {
                Some(false) => continue,
                Some(true) => {}
                None => doubtful.push(count),
            }
            let size = u32::try_from(self.held.raw.len()).map_err(|_| unreadable())?;
            calls.extend(size.to_le_bytes());
            calls.extend_from_slice(&self.held.raw);
            count += 1;
        }
        Ok(Some((id_of(&client)?, fees, bytes(&calls), doubtful)))
    }
}
