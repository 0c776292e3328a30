//! Owns the one text of a number: a server has two, that of a query in a copy, and its own of what
//! stands in the binary log. A key that is written in two ways is two keys. It does not own the columns.
//!
//! | column | a copy says | the binary log, as Vitess writes it | text |
//! | --- | --- | --- | --- |
//! | `DECIMAL(4,2)` | `0.50` | `.50`, and for 0 without a scale once nothing at all | `0.50` |
//! | `DOUBLE` | `0.1`, `1e20` | `1E-01`, `1E+20` | `0.1`, `1e20` |
//! | `DOUBLE(5,2)` | `0.50` | `5E-01` | `0.5` |
//! | `FLOAT` | `16777200`: six digits | `1.6777216E+07` | `16777200` |
//!
//! A `DOUBLE` is the shortest decimal of its value, a `FLOAT` has six significant digits: a copy sends no
//! more of it. Both are written as MySQL's queries do. The facts are those of vitess
//! go/mysql/binlog/rbr.go (`CellValue`) and of mysql-server strings/dtoa.cc (`my_gcvt`, `FLT_DIG`).

/// Appends an integer; `None` if it is none. `ZEROFILL` writes zeros that JSON does not allow.
pub(super) fn integer(text: &str, out: &mut String) -> Option<()> {
    let (minus, digits) = split_sign(text);
    if digits.is_empty() || !is_digits(digits) {
        return None;
    }
    match digits.trim_start_matches('0') {
        "" => out.push('0'),
        digits => {
            out.push_str(minus);
            out.push_str(digits);
        }
    }
    Some(())
}

/// Appends a `DECIMAL`; `None` if it is none. Its scale stays.
pub(super) fn decimal(text: &str, out: &mut String) -> Option<()> {
    let (minus, rest) = split_sign(text);
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    if !whole.is_empty() || fraction.bytes().any(|digit| digit != b'0') {
        out.push_str(minus);
    }
    out.push_str(if whole.is_empty() { "0" } else { whole });
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    Some(())
}

/// Appends a `DOUBLE`; `None` if it is none that JSON has.
pub(super) fn double(text: &str, out: &mut String) -> Option<()> {
    let value: f64 = is_number(text).then(|| text.parse().ok())??;
    value.is_finite().then(|| layout(&format!("{value:e}"), out))?
}

/// Appends a `FLOAT`; `None` if it is none that JSON has.
pub(super) fn float(text: &str, out: &mut String) -> Option<()> {
    let value: f32 = is_number(text).then(|| text.parse().ok())??;
    value.is_finite().then(|| layout(&format!("{value:.5e}"), out))?
}

/// Writes `-1.50e-1` as `-0.15`, and with an exponent what would be all zeros.
fn layout(scientific: &str, out: &mut String) -> Option<()> {
    let (minus, rest) = split_sign(scientific);
    let (mantissa, exponent) = rest.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        digits => digits,
    };
    out.push_str(minus);
    // Where the point stands: before the first digit it is 0.
    let point = exponent + 1;
    let length = digits.len() as i32;
    if point < -14 || (point > 15 && length <= point) {
        let (first, others) = digits.split_at(1);
        out.push_str(first);
        if !others.is_empty() {
            out.push('.');
            out.push_str(others);
        }
        out.push_str(&format!("e{exponent}"));
    } else if point <= 0 {
        out.push_str("0.");
        (point..0).for_each(|_| out.push('0'));
        out.push_str(digits);
    } else if length <= point {
        out.push_str(digits);
        (length..point).for_each(|_| out.push('0'));
    } else {
        let (whole, fraction) = digits.split_at(point as usize);
        out.push_str(whole);
        out.push('.');
        out.push_str(fraction);
    }
    Some(())
}

/// Digits with a point among them or not, and an exponent or none.
fn is_number(text: &str) -> bool {
    let (_, rest) = split_sign(text);
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let power = exponent.map(|power| power.strip_prefix(['+', '-']).unwrap_or(power));
    let fits = power.is_none_or(|power| !power.is_empty() && is_digits(power));
    whole.len() + fraction.len() > 0 && is_digits(whole) && is_digits(fraction) && fits
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn split_sign(text: &str) -> (&str, &str) {
    if text.starts_with('-') { text.split_at(1) } else { ("", text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Writer = fn(&str, &mut String) -> Option<()>;

    fn all_are(write: Writer, expected: &str, texts: &[&str]) {
        for text in texts {
            let mut out = String::new();
            assert!(write(text, &mut out).is_some(), "{text}");
            assert_eq!(out, expected, "{text}");
        }
    }

    fn refuses(write: Writer, texts: &[&str]) {
        for text in texts {
            assert!(write(text, &mut String::new()).is_none(), "{text}");
        }
    }

    #[test]
    fn integers_have_no_zeros_in_front() {
        all_are(integer, "18446744073709551615", &["18446744073709551615"]);
        all_are(integer, "42", &["42", "00042"]);
        all_are(integer, "-7", &["-7", "-07"]);
        all_are(integer, "0", &["0", "-0", "0000"]);
        refuses(integer, &["", "-", "+1", "1x", "NaN", "1.5", "--1", " 1"]);
    }

    #[test]
    fn decimals_are_those_of_a_query() {
        all_are(decimal, "0.50", &["0.50", ".50", "000.50"]);
        all_are(decimal, "-0.05", &["-0.05", "-.05"]);
        all_are(decimal, "0.00", &["0.00", ".00", "-0.00", "-.00"]);
        all_are(decimal, "0", &["0", "", "000", "-0"]);
        all_are(decimal, "12", &["12", "12.", "000000012"]);
        let long = "12345678901234567890123456789012345.123456789012345678901234567890";
        all_are(decimal, long, &[long]);
        refuses(decimal, &["1e5", "1.2.3", "x", "--1", "+1", " 1"]);
    }

    #[test]
    fn doubles_are_the_shortest_of_their_value() {
        all_are(double, "0.1", &["0.1", "1E-01", "0.10", ".1", "1e-1", "0.1000000000000000055"]);
        all_are(double, "0.5", &["0.50", "5E-01"]);
        all_are(double, "-1234.5", &["-1234.5", "-1.2345E+03", "-1234.50"]);
        all_are(double, "5", &["5", "5.", "5E+00", "5.00", "005"]);
        all_are(double, "0", &["0", "0E+00", "0.00", "1e-400"]);
        all_are(double, "-0", &["-0", "-0E+00"]);
        all_are(double, "100000000000000", &["1E+14", "100000000000000"]);
        all_are(double, "1e15", &["1E+15", "1000000000000000"]);
        all_are(double, "1234567890123456.5", &["1.2345678901234565E+15"]);
        all_are(double, "1.5e-16", &["1.5E-16", "0.00000000000000015"]);
        all_are(double, "0.000000000000001", &["1E-15"]);
        all_are(double, "1.7976931348623157e308", &["1.7976931348623157E+308"]);
        all_are(double, "5e-324", &["5E-324", "4.9406564584124654e-324"]);
        refuses(
            double,
            &["", "-", ".", "NaN", "inf", "1e", "1e+", "1.2.3", "0x1", "1e5.0", "1e999"],
        );
    }

    #[test]
    fn floats_have_the_six_digits_that_a_copy_sends() {
        all_are(float, "0.1", &["0.1", "1E-01"]);
        all_are(float, "16777200", &["16777200", "1.6777216E+07", "16777216"]);
        all_are(float, "3.40282e38", &["3.40282e38", "3.4028235E+38"]);
        all_are(float, "1.17549e-38", &["1.17549e-38", "1.1754944E-38"]);
        all_are(float, "0.333333", &["0.333333", "3.3333334E-01"]);
        // Half way: to the even one, as in MySQL.
        all_are(float, "100000", &["100000", "1.000005E+05"]);
        all_are(float, "100002", &["100002", "1.000015E+05"]);
        refuses(float, &["", "1e39", "NaN"]);
    }

    /// Whatever the value, a copy's text and the log's come to the same.
    #[test]
    fn the_texts_of_one_value_are_one() {
        let seed = std::env::var("PLANETSCALE_SEED").ok().and_then(|seed| seed.parse().ok());
        let mut random = fastrand::Rng::with_seed(seed.unwrap_or(7));
        for _ in 0..20_000 {
            let value = f64::from_bits(random.u64(..));
            if value.is_finite() {
                let (mut shortest, mut log) = (String::new(), String::new());
                double(&format!("{value}"), &mut shortest).unwrap();
                double(&format!("{value:E}"), &mut log).unwrap();
                assert_eq!(shortest, log);
                assert_eq!(shortest.parse::<f64>().unwrap().to_bits(), value.to_bits());
            }
            let value = f32::from_bits(random.u32(..));
            if value.is_finite() {
                let (mut copy, mut log) = (String::new(), String::new());
                // Of the value as a double, with six digits, is what a query writes.
                float(&format!("{:.5e}", f64::from(value)), &mut copy).unwrap();
                float(&format!("{value:E}"), &mut log).unwrap();
                assert_eq!(copy, log, "{value:E}");
            }
        }
    }
}
