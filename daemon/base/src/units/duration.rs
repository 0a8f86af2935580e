//! The text form of durations that people write in configuration.

use std::time::Duration;

/// Longest first, so that `ms` is not read as `s`.
const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a duration: write 200ms, 15s, 10m, 2h, 7d or the like")]
pub struct ParseDurationError;

/// Reads a duration: a whole number and one of the units `ms`, `s`, `m`, `h`, `d`.
///
/// # Errors
/// [`ParseDurationError`] for any other text, a bare number too.
pub fn parse_duration(text: &str) -> Result<Duration, ParseDurationError> {
    let text = text.trim();
    let (number, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|number| (number, *unit)))
        .ok_or(ParseDurationError)?;
    let number: u64 = number.trim_end().parse().map_err(|_| ParseDurationError)?;
    number
        .checked_mul(unit)
        .map(Duration::from_millis)
        .ok_or(ParseDurationError)
}

/// Writes a duration in the largest unit that loses nothing: the inverse of [`parse_duration`] for
/// whole milliseconds.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits = |unit: &&(&str, u64)| millis >= unit.1 && millis.is_multiple_of(unit.1);
    match UNITS.iter().rev().find(fits) {
        Some((suffix, unit)) => format!("{}{suffix}", millis / unit),
        None => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_every_unit_and_refuse_the_rest() {
        for (text, millis) in [
            ("0s", 0),
            ("200ms", 200),
            ("15s", 15_000),
            ("10m", 600_000),
            ("2 h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for wrong in [
            "",
            "5",
            "-1s",
            "1.5s",
            "s",
            "1 week",
            "99999999999999999999s",
        ] {
            assert_eq!(parse_duration(wrong), Err(ParseDurationError), "{wrong}");
        }
    }

    #[test]
    fn durations_print_as_they_are_read() {
        for millis in [0, 1, 999, 1_000, 61_000, 60_000, 3_600_000, 172_800_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
