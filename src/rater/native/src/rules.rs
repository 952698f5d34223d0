//! The identification rules: which client a side is of when its record names none. Source of the rule: RULES.md 2,
//! step 2; states what `core/catalog/rules.py` does.

use crate::addresses::{address_of, network_of, prefix, strip};
use crate::catalog::IdentificationRule;
use rustc_hash::FxHashMap;
use std::net::IpAddr;

/// What a side says of itself.
pub struct Asked<'a> {
    pub gateway: Option<&'a str>,
    pub ip: Option<&'a str>,
    pub login: Option<&'a str>,
    pub caller: Option<&'a str>,
}

/// Which fields rules of one shape give, and how long their prefixes are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    gateway: bool,
    /// 0: none.
    version: u8,
    bits: u32,
    login: bool,
    /// Of the caller's prefix, in characters.
    digits: usize,
}

type Key = (Option<Box<str>>, u128, Option<Box<str>>, Box<str>);

/// A rule's position in the file, client and account.
type Place = (usize, Box<str>, Option<Box<str>>);

struct Group {
    shape: Shape,
    first: usize,
    places: FxHashMap<Key, Place>,
}

/// The rules in file order, by side; the first whose given fields all hold counts.
pub struct Rules {
    groups: [Vec<Group>; 2],
}

impl Rules {
    pub fn new(rules: &[IdentificationRule]) -> Result<Self, String> {
        let mut groups: [Vec<Group>; 2] = [Vec::new(), Vec::new()];
        for (position, rule) in rules.iter().enumerate() {
            let of = &mut groups[usize::from(rule.side == "term")];
            let (shape, key) = shape_of(rule)?;
            let place = of.iter().position(|group| group.shape == shape).unwrap_or_else(|| {
                of.push(Group { shape, first: position, places: FxHashMap::default() });
                of.len() - 1
            });
            let found = (position, rule.client.as_str().into(), rule.account.as_deref().map(Into::into));
            of[place].places.entry(key).or_insert(found);
        }
        Ok(Self { groups }) // each side's in the order of their first rules
    }

    /// (client, account) of the first rule that holds; None: no rule does.
    pub fn find(&self, side: usize, asked: &Asked<'_>) -> Option<(&str, Option<&str>)> {
        let groups = &self.groups[side];
        if groups.is_empty() {
            return None;
        }
        let address = asked.ip.and_then(address_of);
        let caller = asked.caller.map_or(String::new(), digits_of);
        let mut best: Option<&Place> = None;
        for group in groups {
            if best.is_some_and(|found| found.0 < group.first) {
                break;
            }
            let place = group.key(asked, address, &caller).and_then(|key| group.places.get(&key));
            if let Some(place) = place.filter(|place| best.is_none_or(|found| place.0 < found.0)) {
                best = Some(place);
            }
        }
        best.map(|(_, client, account)| (&**client, account.as_deref()))
    }
}

impl Group {
    fn key(&self, asked: &Asked<'_>, address: Option<IpAddr>, caller: &str) -> Option<Key> {
        let Shape { gateway, version, bits, login, digits } = self.shape;
        let network = match (version, address) {
            (0, _) => 0,
            (4, Some(IpAddr::V4(address))) => prefix(u32::from(address).into(), 32, bits),
            (6, Some(IpAddr::V6(address))) => prefix(address.into(), 128, bits),
            _ => return None,
        };
        let given = |wanted: bool, text: Option<&str>| -> Option<Option<Box<str>>> {
            if wanted { text.map(|text| Some(strip(text).into())) } else { Some(None) }
        };
        let end = caller.char_indices().nth(digits).map_or(caller.len(), |(end, _)| end);
        Some((given(gateway, asked.gateway)?, network, given(login, asked.login)?, caller[..end].into()))
    }
}

fn shape_of(rule: &IdentificationRule) -> Result<(Shape, Key), String> {
    let (version, bits, network) = match &rule.ip {
        Some(ip) => network_of(ip)?,
        None => (0, 0, 0),
    };
    let caller: Box<str> = rule.caller_prefix.as_deref().unwrap_or("").into();
    let gateway = rule.gateway.as_deref().map(|text| strip(text).into());
    let login = rule.login.as_deref().map(|text| strip(text).into());
    let digits = caller.chars().count();
    let shape = Shape { gateway: gateway.is_some(), version, bits, login: login.is_some(), digits };
    Ok((shape, (gateway, network, login, caller)))
}

/// A caller's number without a `+` in front and what sets its digits apart; else as it is.
fn digits_of(caller: &str) -> String {
    let stripped = strip(caller);
    if !stripped.starts_with(|first: char| "+(".contains(first) || first.is_ascii_digit()) {
        return caller.strip_prefix('+').unwrap_or(caller).to_string();
    }
    let kept: String = stripped.chars().filter(|char| !" -.()\t\u{a0}".contains(*char)).collect();
    match kept.strip_prefix('+') {
        Some(digits) => digits.to_string(),
        None => kept,
    }
}
