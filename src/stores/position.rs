//! A position in the write-ahead log of PostgreSQL. Pure.

use std::fmt;
use std::str::FromStr;

/// A position (LSN): so many bytes from the beginning of the log. Positions of two servers can be compared only where one
/// follows the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// How many bytes lie between; none if it is not ahead.
    pub fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// It is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position must be two hexadecimal numbers with a slash between, such as 0/3000148")]
pub struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let part = |part: &str| {
            let is_hex = !part.is_empty() && part.len() <= 8 && part.bytes().all(|b| b.is_ascii_hexdigit());
            if is_hex { u64::from_str_radix(part, 16).map_err(|_| NoPosition) } else { Err(NoPosition) }
        };
        let (high, low) = text.split_once('/').ok_or(NoPosition)?;
        Ok(Self(part(high)? << 32 | part(low)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_written_as_postgresql_writes_them() {
        for text in ["0/0", "0/3000148", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Position>().map(|position| position.to_string()), Ok(text.to_owned()));
        }
        for wrong in ["", "/", "1", "1/", "+1/2", "1/123456789", "g/1", "1/2/3"] {
            assert_eq!(wrong.parse::<Position>(), Err(NoPosition), "{wrong}");
        }
        assert!(Position(1 << 32) > "0/FFFFFFFF".parse().expect("a position"));
    }
}
