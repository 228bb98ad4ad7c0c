//! Amounts and prices as integers.
//!
//! An amount is a count of nano-dollars (10⁻⁹ US dollars) in an `i64`; a price is a count of nano-dollars per
//! **million** units of its meter. Products are formed in `i128`. A receipt is rounded once, upwards, to a whole
//! nano-dollar; nothing else rounds. Overflow is an error, never a clamp.
#![deny(clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Nano-dollars in one US dollar.
pub const NANOS_PER_DOLLAR: i64 = 1_000_000_000;
/// Every price counts nano-dollars per this many units.
pub const UNITS_PER_PRICE: i128 = 1_000_000;
/// Digits after the point of an amount.
const NANO_DIGITS: usize = 9;

/// An amount of money: integer nano-dollars, may be negative in a ledger entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub i64);

/// A price: nano-dollars per million units of its meter. Never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Price(pub i64);

/// Why an amount or a price cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoneyError {
    /// The result does not fit into an `i64` of nano-dollars (about 9.2 billion dollars).
    Overflow,
    /// The text is not a decimal number of dollars in the accepted form.
    Malformed,
    /// The text has more digits after the point than can be kept exactly.
    TooPrecise,
    /// A price or a grant below zero.
    Negative,
}

impl fmt::Display for MoneyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MoneyError::Overflow => "the amount is too large",
            MoneyError::Malformed => "not a decimal number of dollars",
            MoneyError::TooPrecise => "more digits after the point than can be kept exactly",
            MoneyError::Negative => "may not be negative",
        })
    }
}

impl Nanos {
    /// No money.
    pub const ZERO: Nanos = Nanos(0);

    /// Sum, or `Overflow`.
    pub fn plus(self, other: Nanos) -> Result<Nanos, MoneyError> {
        self.0.checked_add(other.0).map(Nanos).ok_or(MoneyError::Overflow)
    }

    /// Difference, or `Overflow`.
    pub fn minus(self, other: Nanos) -> Result<Nanos, MoneyError> {
        self.0.checked_sub(other.0).map(Nanos).ok_or(MoneyError::Overflow)
    }

    /// Dollars as a decimal string without an exponent and without trailing zeros: `0.00012345`, `12`, `-0.5`.
    /// Also valid as a JSON number.
    pub fn to_dollars(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let per_dollar = NANOS_PER_DOLLAR.unsigned_abs();
        let (whole, part) = (magnitude.checked_div(per_dollar), magnitude.checked_rem(per_dollar));
        let (whole, part) = (whole.unwrap_or(0), part.unwrap_or(0));
        if part == 0 {
            return format!("{sign}{whole}");
        }
        let digits = format!("{part:09}");
        format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
    }

    /// Parses a decimal number of dollars (`"5"`, `"0.25"`, `"-1.000000001"`), exactly.
    pub fn from_dollars(text: &str) -> Result<Nanos, MoneyError> {
        let scaled = parse_decimal(text, NANO_DIGITS)?;
        i64::try_from(scaled).map(Nanos).map_err(|_| MoneyError::Overflow)
    }
}

impl Price {
    /// A price from decimal dollars per `per` units, where `per` divides a million: `("0.15", 1_000_000)` for tokens,
    /// `("0.006", 1)` for a second. Fails where the price cannot be kept exactly.
    pub fn from_dollars(text: &str, per: u64) -> Result<Price, MoneyError> {
        if text.starts_with('-') {
            return Err(MoneyError::Negative);
        }
        // nanos per million units = dollars × 10⁹ × (10⁶ / per): parse with enough digits, then scale.
        let digits = match per {
            1_000_000 => NANO_DIGITS,
            1 => 15,
            _ => return Err(MoneyError::Malformed),
        };
        let scaled = parse_decimal(text, digits)?;
        i64::try_from(scaled).map(Price).map_err(|_| MoneyError::Overflow)
    }

    /// Decimal dollars per `per` units (1 or 1,000,000), the inverse of [`Price::from_dollars`].
    pub fn to_dollars(self, per: u64) -> String {
        if per == 1_000_000 {
            return Nanos(self.0).to_dollars();
        }
        let scale: u64 = 1_000_000_000_000_000;
        let magnitude = self.0.unsigned_abs();
        let whole = magnitude.checked_div(scale).unwrap_or(0);
        let part = magnitude.checked_rem(scale).unwrap_or(0);
        if part == 0 {
            return whole.to_string();
        }
        let digits = format!("{part:015}");
        format!("{whole}.{}", digits.trim_end_matches('0'))
    }

    /// The price times `basis_points` / 10,000, rounded up to a whole nano-dollar per million units.
    pub fn scaled(self, basis_points: u64) -> Result<Price, MoneyError> {
        let product = i128::from(self.0).checked_mul(i128::from(basis_points)).ok_or(MoneyError::Overflow)?;
        let scaled = div_up(product, 10_000)?;
        i64::try_from(scaled).map(Price).map_err(|_| MoneyError::Overflow)
    }
}

/// A sum of quantities × prices before the one rounding: nano-dollars × 10⁶.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Unrounded(i128);

impl Unrounded {
    /// Adds `quantity` units at `price`.
    pub fn with(self, quantity: u64, price: Price) -> Result<Unrounded, MoneyError> {
        let product = i128::from(quantity).checked_mul(i128::from(price.0)).ok_or(MoneyError::Overflow)?;
        self.0.checked_add(product).map(Unrounded).ok_or(MoneyError::Overflow)
    }

    /// Dollars as a decimal string, exactly.
    pub fn to_dollars(self) -> Result<String, MoneyError> {
        let nanos = self.0.checked_div_euclid(UNITS_PER_PRICE).ok_or(MoneyError::Overflow)?;
        let rest = self.0.checked_rem_euclid(UNITS_PER_PRICE).ok_or(MoneyError::Overflow)?;
        let (nanos, rest) = (i64::try_from(nanos), u32::try_from(rest));
        let (Ok(nanos), Ok(rest)) = (nanos, rest) else { return Err(MoneyError::Overflow) };
        let whole = nanos.checked_div(NANOS_PER_DOLLAR).unwrap_or(0);
        let part = nanos.checked_rem(NANOS_PER_DOLLAR).unwrap_or(0);
        if nanos < 0 {
            return Err(MoneyError::Negative);
        }
        let digits = format!("{whole}.{part:09}{rest:06}");
        Ok(digits.trim_end_matches('0').trim_end_matches('.').to_owned())
    }

    /// The one rounding: up, to a whole nano-dollar.
    pub fn round_up(self) -> Result<Nanos, MoneyError> {
        let nanos = div_up(self.0, UNITS_PER_PRICE)?;
        i64::try_from(nanos).map(Nanos).map_err(|_| MoneyError::Overflow)
    }
}

fn div_up(value: i128, by: i128) -> Result<i128, MoneyError> {
    let quotient = value.checked_div_euclid(by).ok_or(MoneyError::Overflow)?;
    let rest = value.checked_rem_euclid(by).ok_or(MoneyError::Overflow)?;
    quotient.checked_add(i128::from(rest > 0)).ok_or(MoneyError::Overflow)
}

/// A JSON number without its exponent, digit for digit: programs write small amounts as `1.1e-05`. Anything else, and
/// exponents that no amount has, stay as they are.
pub fn plain(number: &str) -> Cow<'_, str> {
    expanded(number).map_or(Cow::Borrowed(number), Cow::Owned)
}

/// The largest exponent either way that is written out.
const EXPONENT_MAX: usize = 24;

fn expanded(number: &str) -> Option<String> {
    let (mantissa, exponent) = number.split_once(['e', 'E'])?;
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (is_down, size) = match exponent.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, exponent.strip_prefix('+').unwrap_or(exponent)),
    };
    let size: usize = size.parse().ok().filter(|size| *size <= EXPONENT_MAX)?;
    if whole.is_empty() || !is_number(whole) || !is_number(part) {
        return None;
    }
    let (pad, digits) = ("0".repeat(size), format!("{whole}{part}"));
    // The point moves by `size` places among the digits, with zeros where there are none.
    let (digits, point) = match is_down {
        true => (format!("{pad}{digits}"), whole.len()),
        false => (format!("{digits}{pad}"), whole.len().checked_add(size)?),
    };
    let (left, right) = digits.split_at_checked(point)?;
    let right = right.trim_end_matches('0');
    Some(if right.is_empty() { format!("{sign}{left}") } else { format!("{sign}{left}.{right}") })
}

/// A plain decimal (`-?[0-9]+(\.[0-9]+)?`) as an integer count of 10^-`digits`.
fn parse_decimal(text: &str, digits: usize) -> Result<i128, MoneyError> {
    let (negative, body) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part) = body.split_once('.').unwrap_or((body, "0"));
    let is_number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(part) {
        return Err(MoneyError::Malformed);
    }
    let part = part.trim_end_matches('0');
    if part.len() > digits {
        return Err(MoneyError::TooPrecise);
    }
    let padded = format!("{whole}{part:0<digits$}");
    let value: i128 = padded.parse().map_err(|_| MoneyError::Overflow)?;
    if negative { value.checked_neg().ok_or(MoneyError::Overflow) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exponent_is_written_out() {
        let read = |number: &str| Nanos::from_dollars(&plain(number));
        assert_eq!(read("1.11e-05"), Ok(Nanos(11_100)));
        assert_eq!(
            (read("5e-5"), read("1E3"), read("-2.5e+1")),
            (Ok(Nanos(50_000)), Ok(Nanos(1_000_000_000_000)), Ok(Nanos(-25_000_000_000)))
        );
        assert_eq!(
            (read("0.25"), read("12.5e0"), read("125e-1")),
            (Ok(Nanos(250_000_000)), Ok(Nanos(12_500_000_000)), Ok(Nanos(12_500_000_000)))
        );
        for number in ["1e99", "e5", "1e", "1e-", "1.e-x", "--1e1", "1e1e1", "1e-30", "abc"] {
            assert!(read(number).is_err(), "{number}");
        }
    }

    #[test]
    fn dollars_are_read_and_printed_exactly() {
        for (text, nanos) in [
            ("0", 0),
            ("5", 5_000_000_000),
            ("0.25", 250_000_000),
            ("0.000000001", 1),
            ("-0.5", -500_000_000),
            ("9223372036.854775807", i64::MAX),
        ] {
            assert_eq!(Nanos::from_dollars(text), Ok(Nanos(nanos)), "{text}");
            assert_eq!(Nanos(nanos).to_dollars(), text);
        }
    }

    #[test]
    fn what_cannot_be_kept_exactly_is_refused() {
        for (text, error) in [
            ("", MoneyError::Malformed),
            (".5", MoneyError::Malformed),
            ("5.", MoneyError::Malformed),
            ("1e3", MoneyError::Malformed),
            ("+1", MoneyError::Malformed),
            ("1,5", MoneyError::Malformed),
            ("0.0000000001", MoneyError::TooPrecise),
            ("9223372036.854775808", MoneyError::Overflow),
        ] {
            assert_eq!(Nanos::from_dollars(text), Err(error), "{text}");
        }
    }

    #[test]
    fn prices_are_nanos_per_million_units() {
        assert_eq!(Price::from_dollars("0.15", 1_000_000), Ok(Price(150_000_000)));
        assert_eq!(Price::from_dollars("0.006", 1), Ok(Price(6_000_000_000_000)));
        assert_eq!(Price(6_000_000_000_000).to_dollars(1), "0.006");
        assert_eq!(Price(150_000_000).to_dollars(1_000_000), "0.15");
        assert_eq!(Price::from_dollars("-1", 1), Err(MoneyError::Negative));
    }

    #[test]
    fn a_receipt_is_rounded_once_and_upwards() {
        // Two products of a third of a nano each: one nano together, not two.
        let third = Price(333_333);
        let sum = Unrounded::default().with(1, third).unwrap().with(1, third).unwrap();
        assert_eq!(sum.round_up(), Ok(Nanos(1)));
        assert_eq!(Unrounded::default().round_up(), Ok(Nanos(0)));
        assert_eq!(sum.to_dollars(), Ok("0.000000000666666".into()));
        assert_eq!(Unrounded::default().to_dollars(), Ok("0".into()));
        assert_eq!(Unrounded::default().with(3_000_000, Price(4_000_000_000)).unwrap().to_dollars(), Ok("12".into()));
        let exact = Unrounded::default().with(2_000_000, Price(7)).unwrap();
        assert_eq!(exact.round_up(), Ok(Nanos(14)));
    }

    #[test]
    fn overflow_is_an_error() {
        assert_eq!(Nanos(i64::MAX).plus(Nanos(1)), Err(MoneyError::Overflow));
        let huge = Unrounded::default().with(u64::MAX, Price(i64::MAX)).unwrap();
        assert_eq!(huge.round_up(), Err(MoneyError::Overflow));
    }
}
