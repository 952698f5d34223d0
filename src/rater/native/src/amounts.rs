//! Exact numbers: money in micros, prices in units of 10^-10, the rounded linear form of a cost. No float.
//! Source of the rules: RULES.md 2.2; states what `core/amounts.py` does.

use num_bigint::{BigInt, Sign};
use num_integer::Integer;
use std::fmt::Write;

pub const MICRO: i128 = 1_000_000;
pub const E10: i128 = 10_000_000_000;
/// Amounts and counters stay within ±LIMIT: what doubles hold exactly.
pub const LIMIT: i64 = 1 << 53;
pub const COUNT_MAX: i64 = (1 << 31) - 1;
const WHOLE_DIGITS_MAX: usize = 20;
const FRACTION_DIGITS_MAX: usize = 20;
/// Wire form: below this bound every intermediate of Lua's double arithmetic is exact.
pub const PLAIN_MAX: i128 = 1 << 52;
const LIMB: u32 = 10_000_000;

/// A price, setup fee or currency rate in 10^-10; None: it is no decimal, or has more than 10 decimals.
pub fn parse_e10(text: &str) -> Option<i128> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (unsigned, ""),
    };
    let digits =
        |part: &str, most: usize| part.len() <= most && part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole, WHOLE_DIGITS_MAX) || !digits(fraction, FRACTION_DIGITS_MAX) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 10 {
        return None;
    }
    let number: i128 = format!("{whole}{fraction:0<10}").parse().ok()?;
    Some(if unsigned.len() < text.len() { -number } else { number })
}

/// Write an int of 10^-decimals as a decimal without exponent and without trailing zeros.
pub fn write_decimal(value: i128, decimals: u32, out: &mut String) {
    let unit = 10u128.pow(decimals);
    let size = value.unsigned_abs();
    if value < 0 {
        out.push('-');
    }
    let (whole, rest) = (size / unit, size % unit);
    let _ = write!(out, "{whole}");
    if rest > 0 {
        out.push('.');
        let from = out.len();
        let _ = write!(out, "{rest:0width$}", width = decimals as usize);
        let kept = out[from..].trim_end_matches('0').len();
        out.truncate(from + kept);
    }
}

pub fn write_micros(value: i64, out: &mut String) {
    const UNIT: u64 = 1_000_000;
    let size = value.unsigned_abs();
    if value < 0 {
        out.push('-');
    }
    write_count((size / UNIT) as i64, out);
    let mut rest = size % UNIT;
    if rest > 0 {
        let mut digits = *b".000000";
        for place in (1..7).rev() {
            digits[place] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let text = std::str::from_utf8(&digits).unwrap_or("");
        out.push_str(text.trim_end_matches('0'));
    }
}

pub fn write_count(value: i64, out: &mut String) {
    let mut digits = [0u8; 20];
    let mut place = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        place -= 1;
        digits[place] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push('-');
    }
    out.push_str(std::str::from_utf8(&digits[place..]).unwrap_or(""));
}

pub fn format_e10(value: i128) -> String {
    let mut out = String::new();
    write_decimal(value, 10, &mut out);
    out
}

/// n / d rounded to the nearest int, halves away from zero; d > 0. By magnitude.
pub fn half_up(n: &BigInt, d: &BigInt) -> BigInt {
    let found = (n.magnitude() * 2u32 + d.magnitude()) / (d.magnitude() * 2u32);
    BigInt::from_biguint(if n.sign() == Sign::Minus { Sign::Minus } else { Sign::Plus }, found)
}

/// The same of numbers that are small enough.
pub fn half_up_small(n: i128, d: i128) -> Option<i128> {
    let size = n.checked_abs()?.checked_mul(2)?.checked_add(d)? / d.checked_mul(2)?;
    Some(if n < 0 { -size } else { size })
}

/// A rounded linear form: the value at x is half_up(a * x + s, d). Its three numbers have no common divisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// So small that |a| and |s| and d are below 2^52: nearly every price.
    Small {
        a: i64,
        s: i64,
        d: i64,
    },
    Large(Box<[BigInt; 3]>),
}

pub const NOTHING: Form = Form::Small { a: 0, s: 0, d: 1 };

fn small(number: i128) -> Option<i64> {
    (-PLAIN_MAX < number && number < PLAIN_MAX).then_some(number as i64)
}

impl Form {
    /// The form of three numbers; d > 0.
    pub fn of(a: i128, s: i128, d: i128) -> Form {
        let divisor = gcd(gcd(a, s), d).max(1);
        match (small(a / divisor), small(s / divisor), small(d / divisor)) {
            (Some(a), Some(s), Some(d)) => Form::Small { a, s, d },
            _ => Form::Large(Box::new([a, s, d].map(|number| BigInt::from(number / divisor)))),
        }
    }

    pub fn of_large(a: BigInt, s: BigInt, d: BigInt) -> Form {
        let divisor = a.gcd(&s).gcd(&d).max(BigInt::from(1));
        let numbers = [a / &divisor, s / &divisor, d / &divisor];
        let mut found = [0i64; 3];
        for (place, number) in numbers.iter().enumerate() {
            match i128::try_from(number).ok().and_then(small) {
                Some(number) => found[place] = number,
                None => return Form::Large(Box::new(numbers)),
            }
        }
        let [a, s, d] = found;
        Form::Small { a, s, d }
    }

    fn numbers(&self) -> [BigInt; 3] {
        match self {
            Form::Small { a, s, d } => [*a, *s, *d].map(BigInt::from),
            Form::Large(numbers) => (**numbers).clone(),
        }
    }

    /// The size of the value at x, rounded once.
    pub fn size_at(&self, x: i64) -> BigInt {
        let [a, s, d] = self.numbers();
        let found = half_up(&(a * x + s), &d);
        if found.sign() == Sign::Minus { -found } else { found }
    }

    /// The three numbers as Lua reads them, exact for |x| <= x_max; None: they need limbs.
    pub fn plain(&self, x_max: i64) -> Option<(i64, i64, i64)> {
        match *self {
            Form::Small { a, s, d } => {
                let most = i128::from(a).abs() * i128::from(x_max) + i128::from(s).abs();
                (most < PLAIN_MAX).then_some((a, s, d))
            }
            Form::Large(_) => None,
        }
    }

    /// The three numbers as limbs: [sign, l0, l1, …] of each.
    pub fn limbs(&self) -> [Vec<i64>; 3] {
        self.numbers().map(|number| limbs(&number))
    }
}

/// [sign, l0, l1, …]: the limbs of 10^7 of a number, least significant first.
pub fn limbs(number: &BigInt) -> Vec<i64> {
    let mut out = vec![if number.sign() == Sign::Minus { -1 } else { 1 }];
    let mut rest = number.magnitude().clone();
    loop {
        let (next, low) = rest.div_rem(&LIMB.into());
        out.push(i64::try_from(low).unwrap_or(0));
        rest = next;
        if rest == 0u32.into() {
            return out;
        }
    }
}

pub fn gcd(a: i128, b: i128) -> i128 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    // 64 bits divide several times as fast as 128, and nearly all fit.
    while b != 0 {
        if let (Ok(x), Ok(y)) = (u64::try_from(a), u64::try_from(b)) {
            return i128::from(gcd_small(x, y));
        }
        (a, b) = (b, a % b);
    }
    i128::try_from(a).unwrap_or(1)
}

fn gcd_small(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
