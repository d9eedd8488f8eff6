//! Quantities in the form in which the API server gives them back.

/// Finest scale that Kubernetes keeps: one thousand millionth.
const FINEST: i32 = -9;

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Binary,
    Decimal,
    Exponent,
}

/// Kubernetes' canonical form: `1000m` is `1`, `0.5` is `500m`, `1024Mi` is `1Gi`, `1.5Gi` is
/// `1536Mi`. What is no quantity, or too large to be computed, is given back as it is: the API
/// server then says what is wrong with it.
///
/// The rules are those of `Quantity.CanonicalizeBytes` in k8s.io/apimachinery.
pub fn canonical(text: &str) -> String {
    parse(text.trim())
        .and_then(|(mantissa, exponent, format)| write(mantissa, exponent, format))
        .unwrap_or_else(|| text.to_owned())
}

/// The value in thousandths, rounded up, such as 1500 for `1500m` or 1024000 for `1Ki`. `None` where it is no quantity, or
/// too large to be computed.
pub fn thousandths(text: &str) -> Option<i128> {
    let (mantissa, exponent, _) = parse(text.trim())?;
    let exponent = exponent + 3;
    match u32::try_from(exponent) {
        Ok(up) => mantissa.checked_mul(10_i128.checked_pow(up)?),
        Err(_) => {
            let unit = 10_i128.checked_pow(exponent.unsigned_abs())?;
            Some(mantissa.div_euclid(unit) + i128::from(mantissa.rem_euclid(unit) != 0))
        }
    }
}

/// The value as `mantissa × 10^exponent`, and how it was written.
fn parse(text: &str) -> Option<(i128, i32, Format)> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || number.len() > 36 {
        return None;
    }
    let mut mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let mut exponent = -i32::try_from(fraction.len()).ok()?;
    let format = match suffix {
        "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei" => {
            let power = "KMGTPE".find(&suffix[..1])? + 1;
            mantissa = mantissa.checked_mul(1024_i128.pow(u32::try_from(power).ok()?))?;
            Format::Binary
        }
        "n" | "u" | "m" | "" | "k" | "M" | "G" | "T" | "P" | "E" => {
            exponent += match suffix {
                "n" => -9,
                "u" => -6,
                "m" => -3,
                "" => 0,
                other => 3 * i32::try_from("kMGTPE".find(other)? + 1).ok()?,
            };
            Format::Decimal
        }
        _ => {
            exponent += suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok().filter(|e| e.abs() <= 18)?;
            Format::Exponent
        }
    };
    // Finer than the finest scale: rounded away from zero, as Kubernetes does.
    while exponent < FINEST {
        mantissa = mantissa / 10 + i128::from(mantissa % 10 != 0);
        exponent += 1;
    }
    Some((if negative { -mantissa } else { mantissa }, exponent, format))
}

/// `None` if that takes more digits than can be computed with.
fn write(mut mantissa: i128, mut exponent: i32, format: Format) -> Option<String> {
    if mantissa == 0 {
        return Some("0".to_owned());
    }
    while mantissa % 10 == 0 {
        mantissa /= 10;
        exponent += 1;
    }
    if format == Format::Binary
        && exponent >= 0
        && let Some(mut whole) =
            u32::try_from(exponent).ok().and_then(|e| mantissa.checked_mul(10_i128.checked_pow(e)?))
        && whole.abs() >= 1024
    {
        let mut power = 0;
        while whole % 1024 == 0 && power < 6 {
            whole /= 1024;
            power += 1;
        }
        return Some(format!("{whole}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]));
    }
    while exponent.rem_euclid(3) != 0 || exponent > 18 {
        mantissa = mantissa.checked_mul(10)?;
        exponent -= 1;
    }
    if format == Format::Exponent {
        let exponent = if exponent == 0 { String::new() } else { format!("e{exponent}") };
        return Some(format!("{mantissa}{exponent}"));
    }
    let suffix = match exponent {
        -9 => "n",
        -6 => "u",
        -3 => "m",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        18 => "E",
        _ => "",
    };
    Some(format!("{mantissa}{suffix}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_written_as_the_api_server_does() {
        for (given, canonical_form) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("512Mi", "512Mi"),
            ("512M", "512M"),
            ("1000Ki", "1000Ki"),
            ("1023", "1023"),
            ("0.5Ki", "512"),
            ("0.5Mi", "512Ki"),
            ("0.1Ki", "102400m"),
            ("1e3", "1e3"),
            ("12E2", "1200"),
            ("100e-3", "100e-3"),
            ("0", "0"),
            ("0Gi", "0"),
            ("-1500m", "-1500m"),
            ("+2", "2"),
            (".5", "500m"),
            ("2000", "2k"),
            ("1.0000000001", "1000000001n"),
            ("12345678901234567890123456789.5Ki", "12641975194864197519486419752448"),
            ("99999999999999999999.1Ei", "99999999999999999999.1Ei"),
            ("not one", "not one"),
            ("", ""),
        ] {
            assert_eq!(canonical(given), canonical_form, "{given}");
        }
    }

    #[test]
    fn a_value_in_thousandths_is_rounded_up() {
        let cases =
            [("1500m", 1500), ("2", 2000), ("1Ki", 1_024_000), ("1n", 1), ("0", 0), ("1.5e3", 1_500_000)];
        for (text, value) in cases {
            assert_eq!(thousandths(text), Some(value), "{text}");
        }
        assert_eq!((thousandths("much"), thousandths("99999999999999999999.1Ei")), (None, None));
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_canonical_and_keeps_the_value(
            text in "[0-9]{1,7}(\\.[0-9]{1,4})?(n|u|m|k|M|G|T|Ki|Mi|Gi|Ti|e[0-9]|e-[0-5])?"
        ) {
            let once = canonical(&text);
            prop_assert_eq!(canonical(&once), once.clone());
            let value = |text: &str| parse(text).map(|(m, e, _)| {
                m * 10_i128.pow(u32::try_from(e - FINEST).expect("the finest scale is the floor"))
            });
            prop_assert_eq!(value(&text), value(&once));
        }

        #[test]
        fn no_text_is_too_strange(text in ".{0,40}") {
            canonical(&text);
        }
    }
}
