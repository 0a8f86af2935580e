//! ISO 8601 moments as nanoseconds since 1970 UTC: numpy's `datetime64[ns]`, in 64 bits.
//!
//! ```text
//! 2026-03-01    2026-03-01T12:30    2026-03-01 12:30:05.25    2026-03-01T12:30:05+09:00    ...Z
//! ```
//!
//! A moment without an offset is UTC, as in pandas.

const NANOS: i64 = 1_000_000_000;

/// Reads a moment; `None` when the text is not one, or lies outside 1677 to 2262.
pub(super) fn nanoseconds(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let year = digits(&mut rest, 4)?;
    sign(&mut rest, b"-")?;
    let month = digits(&mut rest, 2)?;
    sign(&mut rest, b"-")?;
    let day = digits(&mut rest, 2)?;
    if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let mut seconds = days_from_civil(year, month, day) * 86_400;
    let mut nanos = 0;
    if !rest.is_empty() {
        sign(&mut rest, b"T ")?;
        seconds += minutes_of_day(&mut rest)? * 60;
        if sign(&mut rest, b":").is_some() {
            seconds += digits(&mut rest, 2).filter(|second| *second < 60)?;
            if sign(&mut rest, b".").is_some() {
                nanos = fraction(&mut rest)?;
            }
        }
        seconds -= offset(&mut rest)?;
    }
    if !rest.is_empty() {
        return None;
    }
    seconds.checked_mul(NANOS)?.checked_add(nanos)
}

/// Takes exactly `count` digits.
fn digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(count)?;
    let mut value = 0;
    for digit in head {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    *rest = tail;
    Some(value)
}

/// Takes one byte if it is one of `allowed`.
fn sign(rest: &mut &[u8], allowed: &[u8]) -> Option<u8> {
    let (first, tail) = rest.split_first()?;
    if !allowed.contains(first) {
        return None;
    }
    *rest = tail;
    Some(*first)
}

fn minutes_of_day(rest: &mut &[u8]) -> Option<i64> {
    let hour = digits(rest, 2).filter(|hour| *hour < 24)?;
    sign(rest, b":")?;
    let minute = digits(rest, 2).filter(|minute| *minute < 60)?;
    Some(hour * 60 + minute)
}

/// One to nine digits after the point, as nanoseconds.
fn fraction(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0;
    let mut unit = NANOS;
    while let Some(digit) = rest.first().filter(|byte| byte.is_ascii_digit()) {
        unit /= 10;
        if unit == 0 {
            return None;
        }
        value += i64::from(digit - b'0') * unit;
        *rest = rest.get(1..)?;
    }
    (unit < NANOS).then_some(value)
}

/// Seconds east of UTC.
fn offset(rest: &mut &[u8]) -> Option<i64> {
    if rest.is_empty() || sign(rest, b"Z").is_some() {
        return Some(0);
    }
    let direction = if sign(rest, b"+-")? == b'+' { 1 } else { -1 };
    Some(direction * minutes_of_day(rest)? * 60)
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (Howard Hinnant's algorithm: the year
/// starts in March, so that the leap day is its last).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_nanoseconds_since_1970_utc() {
        for (text, seconds, nanos) in [
            ("1970-01-01", 0, 0),
            ("1969-12-31T23:59:59Z", -1, 0),
            ("2000-02-29T00:00", 951_782_400, 0),
            ("2026-03-01 12:30:05.25", 1_772_368_205, 250_000_000),
            ("2026-03-01T12:30:05+09:00", 1_772_335_805, 0),
            ("2026-03-01T12:30:05.000000001-00:30", 1_772_370_005, 1),
        ] {
            assert_eq!(nanoseconds(text), Some(seconds * NANOS + nanos), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-03-01T",
            "2026-03-01T24:00",
            "2026-03-01T12:30:60",
            "2026-03-01T12:30:05.",
            "2026-03-01T12:30Q",
            "9999-01-01",
            "2026-03-01T12:30:05.0000000001",
            "tomorrow",
            "2026-03-0\u{661}",
        ] {
            assert_eq!(nanoseconds(text), None, "{text}");
        }
    }
}
