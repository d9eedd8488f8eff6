//! How what is kept of stable's dispersion is written down: each `f64` as its bits, in base64.
//!
//! Decimal text does not promise to be read back to the last bit, and eleven characters a number are shorter than
//! decimals are.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Eleven characters: 66 bits for 64, the highest six bits first.
fn push(out: &mut String, value: f64) {
    let bits = value.to_bits();
    for digit in (0..11).rev() {
        out.push(ALPHABET[(bits >> (6 * digit) & 63) as usize] as char);
    }
}

fn pull(text: &[u8]) -> Option<f64> {
    let mut bits: u64 = 0;
    for (place, letter) in text.iter().enumerate() {
        let digit = ALPHABET.iter().position(|known| known == letter)? as u64;
        if place == 0 && digit > 15 {
            return None;
        }
        bits = bits << 6 | digit;
    }
    Some(f64::from_bits(bits)).filter(|value| value.is_finite())
}

/// Serialises a fixed array of finite numbers as one string.
pub mod floats {
    use super::*;

    /// Writes the numbers one after the other.
    pub fn serialize<const N: usize, S: Serializer>(
        values: &[f64; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(N * 11);
        values.iter().for_each(|value| push(&mut text, *value));
        serializer.serialize_str(&text)
    }

    /// Reads the numbers back; a wrong length, a foreign letter, an infinity or a NaN is an error.
    pub fn deserialize<'de, const N: usize, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[f64; N], D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() != N * 11 {
            return Err(D::Error::custom(format!(
                "evidence: {} characters where {} numbers need {}",
                text.len(),
                N,
                N * 11
            )));
        }
        let mut values = [0.0; N];
        for (value, chunk) in values.iter_mut().zip(text.as_bytes().chunks_exact(11)) {
            *value = pull(chunk).ok_or_else(|| D::Error::custom("evidence: a number that cannot be read"))?;
        }
        Ok(values)
    }
}

/// Serialises one finite number as a string.
pub mod float {
    use super::*;

    /// Writes the number.
    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        floats::serialize(&[*value], serializer)
    }

    /// Reads the number back; what is not a finite number is an error.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        floats::deserialize::<1, D>(deserializer).map(|[value]| value)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Held {
        #[serde(with = "super::floats")]
        many: [f64; 4],
        #[serde(with = "super::float")]
        one: f64,
    }

    #[test]
    fn every_bit_comes_back() {
        let held = Held { many: [0.1 + 0.2, f64::MIN_POSITIVE, -1e300, f64::MAX], one: std::f64::consts::PI };
        let text = serde_json::to_string(&held).unwrap();
        assert_eq!(serde_json::from_str::<Held>(&text).unwrap(), held);
    }

    #[test]
    fn what_is_not_a_finite_number_is_refused() {
        let mut infinite = String::new();
        super::push(&mut infinite, f64::INFINITY);
        for bad in ["", "AAAA", "!!!!!!!!!!!", "zAAAAAAAAAA", infinite.as_str()] {
            let text = format!(r#"{{"many":"{}","one":"{bad}"}}"#, "A".repeat(44));
            assert!(serde_json::from_str::<Held>(&text).is_err(), "{bad}");
        }
    }
}
