//! Shares and amounts of evidence as people read them.

use std::fmt;

/// A share of requests, printed in per cent with as many places as it needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(
    /// The share.
    pub f64,
);

impl fmt::Display for Percent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0 * 100.0;
        let places = match value.abs() {
            size if size >= 10.0 => 1,
            size if size >= 1.0 => 2,
            size if size >= 0.1 => 3,
            _ => 4,
        };
        write!(out, "{value:.places$} %")
    }
}

/// An amount of evidence: what is beyond any doubt is not printed digit by digit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Amount(
    /// The e-value.
    pub f64,
);

impl fmt::Display for Amount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            size if size >= 1e6 => out.write_str("over a million"),
            size if size >= 100.0 => write!(out, "{size:.0}"),
            size => write!(out, "{size:.2}"),
        }
    }
}
