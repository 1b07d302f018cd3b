//! Dollars as integers. Floats drift, and a budget that drifts is no budget.

use std::{fmt, ops, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of money in pico-USD (10⁻¹² USD), never negative. In JSON and on screens a decimal string in USD.
///
/// The largest amount is `i64::MAX` pico-USD (9.2 million USD), so that it fits PostgreSQL's `BIGINT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PicoUsd(u64);

/// Why a text or number is no amount of money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUsd {
    /// Not a decimal number without sign and exponent.
    #[error("not an amount in USD (want a decimal like \"0.25\"): {0:?}")]
    Malformed(String),
    /// More than twelve decimals: it could not be kept exactly.
    #[error("more than 12 decimals in {0:?}")]
    TooFine(String),
    /// Above 9.2 million USD.
    #[error("amount too large: {0:?}")]
    TooLarge(String),
}

impl PicoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount.
    pub const MAX: Self = Self(i64::MAX.unsigned_abs());

    /// From pico-USD; amounts above [`Self::MAX`] become it.
    pub fn from_pico(pico: u64) -> Self {
        Self(pico.min(Self::MAX.0))
    }

    /// In pico-USD.
    pub fn pico(self) -> u64 {
        self.0
    }

    /// For a `BIGINT` column.
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// From a `BIGINT` column; negative values become zero.
    pub fn from_i64(pico: i64) -> Self {
        Self(u64::try_from(pico).unwrap_or(0))
    }

    /// A JSON number in USD as services write it, with exponents and float noise, rounded up. `None` when it is
    /// negative, not finite or too large.
    pub fn from_json_number(number: &str) -> Option<Self> {
        if let Ok(exact) = number.parse() {
            return Some(exact);
        }
        let usd: f64 = number.parse().ok()?;
        let pico = (usd * 1e12).ceil();
        if !(0.0..=9e18).contains(&pico) {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole, not negative and below 2^63, checked above"
        )]
        Some(Self::from_pico(pico as u64))
    }

    /// `None` when the sum is above [`Self::MAX`].
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0
            .checked_add(other.0)
            .filter(|sum| *sum <= Self::MAX.0)
            .map(Self)
    }

    /// The difference, or zero.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `count` times this price, at most [`Self::MAX`].
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self::from_pico(self.0.saturating_mul(count))
    }

    /// True for zero.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl ops::Add for PicoUsd {
    type Output = Self;

    /// Saturates at [`Self::MAX`]: too much booked is safe, a wrap to zero would not be.
    fn add(self, other: Self) -> Self {
        Self::from_pico(self.0.saturating_add(other.0))
    }
}

impl ops::AddAssign for PicoUsd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for PicoUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, ops::Add::add)
    }
}

impl fmt::Display for PicoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / PICO_PER_USD, self.0 % PICO_PER_USD);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{fraction:012}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl FromStr for PicoUsd {
    type Err = InvalidUsd;

    fn from_str(text: &str) -> Result<Self, InvalidUsd> {
        let malformed = || InvalidUsd::Malformed(text.to_owned());
        let too_large = || InvalidUsd::TooLarge(text.to_owned());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(malformed());
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > DECIMALS {
            return Err(InvalidUsd::TooFine(text.to_owned()));
        }
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        let fraction: u64 = format!("{fraction:0<DECIMALS$}")
            .parse()
            .map_err(|_| malformed())?;
        let pico = whole
            .checked_mul(PICO_PER_USD)
            .and_then(|pico| pico.checked_add(fraction))
            .ok_or_else(too_large)?;
        if pico > Self::MAX.0 {
            Err(too_large())
        } else {
            Ok(Self(pico))
        }
    }
}

impl Serialize for PicoUsd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PicoUsd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

const DECIMALS: usize = 12;
const PICO_PER_USD: u64 = 1_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimal_strings_are_exact() {
        assert_eq!("0.25".parse(), Ok(PicoUsd(250_000_000_000)));
        assert_eq!("12".parse(), Ok(PicoUsd(12 * PICO_PER_USD)));
        assert_eq!("0.000000000001".parse(), Ok(PicoUsd(1)));
        assert_eq!("0.0000000000010".parse(), Ok(PicoUsd(1)));
        assert_eq!(PicoUsd(1).to_string(), "0.000000000001");
        assert_eq!(PicoUsd(250_000_000_000).to_string(), "0.25");
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "-1", "+1", "1e3", ".5", "1.", "NaN", "1,5", " 1"] {
            assert!(
                matches!(text.parse::<PicoUsd>(), Err(InvalidUsd::Malformed(_))),
                "{text}"
            );
        }
        assert!(matches!(
            "0.0000000000001".parse::<PicoUsd>(),
            Err(InvalidUsd::TooFine(_))
        ));
        assert!(matches!(
            "9223373".parse::<PicoUsd>(),
            Err(InvalidUsd::TooLarge(_))
        ));
    }

    #[test]
    fn json_numbers_are_rounded_up_and_never_negative() {
        let pico = |text| PicoUsd::from_json_number(text).map(PicoUsd::pico);
        assert_eq!(pico("0.00014"), Some(140_000_000));
        assert_eq!(pico("1.4e-13"), Some(1));
        assert_eq!(
            (pico("0"), pico("1e30"), pico("-1"), pico("null"), pico("\"1\"")),
            (Some(0), None, None, None, None)
        );
        // Ten dimes are a dollar, but not in binary fractions.
        let (exact, floating): (PicoUsd, f64) = (
            ["0.1"; 10]
                .iter()
                .map(|dime| dime.parse::<PicoUsd>().unwrap())
                .sum(),
            [0.1; 10].iter().sum(),
        );
        assert_eq!(exact.to_string(), "1");
        assert!(floating < 1.0);
    }

    proptest! {
        #[test]
        fn every_amount_prints_and_parses_back(pico in 0..=PicoUsd::MAX.0) {
            let amount = PicoUsd(pico);
            prop_assert_eq!(amount.to_string().parse::<PicoUsd>(), Ok(amount));
        }

        #[test]
        fn sums_never_wrap(a in 0..=PicoUsd::MAX.0, b in 0..=PicoUsd::MAX.0) {
            let sum = PicoUsd(a) + PicoUsd(b);
            prop_assert!(sum >= PicoUsd(a) && sum >= PicoUsd(b) && sum <= PicoUsd::MAX);
        }
    }
}
