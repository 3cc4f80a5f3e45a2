//! Reading days and dates.

use chrono::{NaiveDate, NaiveDateTime};

use crate::study::Day;

/// A number of days; `None` for anything that is no finite number.
pub fn day(cell: &str) -> Option<Day> {
    cell.parse::<f64>().ok().filter(|day| day.is_finite()).map(Day)
}

/// A date (`2020-03-31`, `20200331`) or a date with time (`2020-03-31T14:05:00`, a blank instead of the `T`), as days since
/// 1970-01-01.
pub fn date(cell: &str) -> Option<Day> {
    let midnight = |date: NaiveDate| date.and_hms_opt(0, 0, 0);
    let with_time = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y%m%d %H%M%S%.f"];
    let moment =
        with_time.iter().find_map(|format| NaiveDateTime::parse_from_str(cell, format).ok()).or_else(|| {
            ["%Y-%m-%d", "%Y%m%d"].iter().find_map(|f| NaiveDate::parse_from_str(cell, f).ok()).and_then(midnight)
        })?;
    Some(Day(moment.and_utc().timestamp() as f64 / 86_400.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_every_form_are_days() {
        assert_eq!(date("1970-01-02"), Some(Day(1.0)));
        assert_eq!(date("19700103"), Some(Day(2.0)));
        assert_eq!(date("1970-01-01T12:00:00"), Some(Day(0.5)));
        assert_eq!(date("2020-13-40"), None);
        assert_eq!((day("-3"), day("inf"), day("soon")), (Some(Day(-3.0)), None, None));
    }
}
