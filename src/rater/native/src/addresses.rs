//! IP addresses and networks in the forms that switches and people write them: one address is one value.
//! States what `core/addresses.py` does, and what Python's `ipaddress` takes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ADDRESS_CHARS_MAX: usize = 64;
const MAPPED_BITS: u32 = 96;

/// A text without blanks around it, as Python sees blanks.
pub fn strip(text: &str) -> &str {
    text.trim_matches(|char: char| char.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&char))
}

/// An address, with or without brackets, a port, a zone and blanks around; None: it is none.
pub fn address_of(text: &str) -> Option<IpAddr> {
    if text.chars().count() > ADDRESS_CHARS_MAX {
        return None;
    }
    let text = strip(text);
    let found = parse(without_port(text))?;
    Some(match found {
        IpAddr::V6(address) => address.to_ipv4_mapped().map_or(found, IpAddr::V4),
        IpAddr::V4(_) => found,
    })
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn without_port(text: &str) -> &str {
    if let Some((inside, behind)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port = behind.strip_prefix(':');
        let whole = behind.is_empty() || port.is_some_and(is_port);
        return if whole && !inside.is_empty() && !inside.contains('[') { inside } else { text };
    }
    match text.split_once(':') {
        Some((host, port))
            if is_port(port)
                && !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') =>
        {
            host
        }
        _ => text,
    }
}

fn parse(text: &str) -> Option<IpAddr> {
    if text.contains('/') {
        return None;
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(IpAddr::V4(address));
    }
    let host = match text.split_once('%') {
        Some((_, zone)) if zone.is_empty() || zone.contains('%') => return None,
        Some((host, _)) => host,
        None => text,
    };
    host.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// (version, bits of the prefix, the prefix) of a network or of an address alone.
pub fn network_of(text: &str) -> Result<(u8, u32, u128), String> {
    let fault = || format!("no network: {text}");
    let (first, bits) = match strip(text).split_once('/') {
        Some((first, bits)) => (first, Some(bits.parse::<u32>().map_err(|_| fault())?)),
        None => (strip(text), None),
    };
    match parse(first).ok_or_else(fault)? {
        IpAddr::V4(address) => {
            let bits = bits.unwrap_or(32);
            (bits <= 32).then(|| (4, bits, prefix(u32::from(address).into(), 32, bits))).ok_or_else(fault)
        }
        IpAddr::V6(address) => {
            let bits = bits.unwrap_or(128);
            match address.to_ipv4_mapped() {
                _ if bits > 128 => Err(fault()),
                Some(mapped) if bits >= MAPPED_BITS => {
                    let bits = bits - MAPPED_BITS;
                    Ok((4, bits, prefix(u32::from(mapped).into(), 32, bits)))
                }
                _ => Ok((6, bits, prefix(address.into(), 128, bits))),
            }
        }
    }
}

/// The first bits of an address of so many.
pub fn prefix(address: u128, of: u32, bits: u32) -> u128 {
    address.checked_shr(of - bits).unwrap_or(0)
}
