//! Reading days and dates.

use chrono::{Datelike, NaiveDate, NaiveTime};

use crate::study::Day;

/// A number of days; `None` for anything but a finite number.
pub fn day(cell: &str) -> Option<Day> {
    cell.parse::<f64>().ok().filter(|day| day.is_finite()).map(Day)
}

/// A date (`2020-03-31`, `20200331`) or a date with time (`2020-03-31T14:05:00`, a blank instead of
/// the `T`), as days since 1970-01-01. Years have four digits and begin with 1000.
pub fn date(cell: &str) -> Option<Day> {
    let (date, time) = cell.split_once(['T', ' ']).map_or((cell, None), |(date, time)| (date, Some(time.trim())));
    let digits = |count: usize| date.len() == count && date.bytes().all(|byte| byte.is_ascii_digit());
    let date = match digits(8) {
        true => NaiveDate::parse_from_str(date, "%Y%m%d"),
        false if date.find('-') == Some(4) => NaiveDate::parse_from_str(date, "%Y-%m-%d"),
        false => return None,
    };
    let date = date.ok().filter(|date| date.year() >= 1000)?;
    let time = match time {
        None => NaiveTime::MIN,
        Some(time) => {
            let forms = ["%H:%M:%S%.f", "%H:%M", "%H%M%S%.f"];
            forms.iter().find_map(|form| NaiveTime::parse_from_str(time, form).ok())?
        }
    };
    Some(Day(date.and_time(time).and_utc().timestamp() as f64 / 86_400.0))
}

/// Whether a cell is a date whose year has two digits (`20-03-31`, `31.03.20`, `3/31/20`), or is of
/// the first century, as programs write what they read from such a date (`0020-03-31`).
pub fn has_short_year(cell: &str) -> bool {
    let date = cell.split(['T', ' ']).next().unwrap_or_default();
    let parts: Vec<&str> = date.split(['-', '/', '.']).collect();
    let digits = parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    match parts.as_slice() {
        [first, _, last] if digits => {
            let year = |part: &str| part.len() > 2 && !part.starts_with("00");
            !year(first) && !year(last)
        }
        [whole] => digits && whole.len() == 8 && whole.starts_with("00"),
        _ => false,
    }
}

/// DICOM's date (`21800506`) and time (`213014.531`) as MIMIC-CXR's tables write them: as numbers,
/// so that the zeros a time begins with are lost (`1234.5` is 00:12:34.5). Without a readable time,
/// the date alone.
pub fn dicom_moment(date: &str, time: Option<&str>) -> Option<Day> {
    let Day(date) = date_of_digits(date)?;
    Some(Day(date + time.and_then(time_of_day).unwrap_or(0.0)))
}

fn date_of_digits(cell: &str) -> Option<Day> {
    date(cell.strip_suffix(".0").unwrap_or(cell))
}

/// A time as a fraction of a day; `None` for anything else.
fn time_of_day(cell: &str) -> Option<f64> {
    let (whole, fraction) = cell.split_once('.').unwrap_or((cell, "0"));
    if whole.len() > 6 || !whole.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits: u32 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let (hour, minute, second) = (digits / 10_000, digits / 100 % 100, digits % 100);
    let fraction: f64 = format!("0.{fraction}").parse().ok()?;
    let valid = hour < 24 && minute < 60 && second < 61;
    valid.then(|| (f64::from(hour * 3600 + minute * 60 + second) + fraction) / 86_400.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_every_form_are_days() {
        assert_eq!(date("1970-01-02"), Some(Day(1.0)));
        assert_eq!(date("19700103"), Some(Day(2.0)));
        assert_eq!(date("1970-01-01T12:00:00"), Some(Day(0.5)));
        assert_eq!(date("1970-01-01 06:00"), Some(Day(0.25)));
        assert_eq!(date("19700101 060000.5"), Some(Day(0.25)));
        for unreadable in
            ["2020-13-40", "1970-01-01T25:00", "2001123", "202003", "+2020-03-31", "20-03-31", "0020-04-02"]
        {
            assert_eq!(date(unreadable), None, "{unreadable}");
        }
        assert_eq!((day("-3"), day("inf"), day("soon")), (Some(Day(-3.0)), None, None));
    }

    #[test]
    fn years_of_two_digits_are_recognised() {
        for short in ["20-03-31", "0020-04-02", "31.03.20", "3/31/20", "20-03-31T10:00", "00200402"] {
            assert!(has_short_year(short), "{short}");
        }
        for other in ["2020-03-31", "20200331", "31.03.2020", "3/31/2020", "soon", "12", "a-b-c", ""] {
            assert!(!has_short_year(other), "{other}");
        }
    }

    #[test]
    fn times_that_lost_their_zeros_are_read() {
        let at = |hours: f64| Some(Day(hours / 24.0));
        assert_eq!(dicom_moment("19700101", Some("120000.0")), at(12.0));
        assert_eq!(dicom_moment("19700101", Some("60000")), at(6.0));
        assert_eq!(dicom_moment("19700101.0", Some("3000.0")), at(0.5));
        assert_eq!(dicom_moment("19700101", Some("250000")), at(0.0), "no hour 25: the date alone");
        assert_eq!(dicom_moment("19700101", None), at(0.0));
        assert_eq!(dicom_moment("soon", Some("120000")), None);
        assert!(dicom_moment("21800506", Some("213014.531")) > dicom_moment("21800506", Some("213014.53")));
    }
}
