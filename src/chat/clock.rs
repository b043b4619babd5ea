//! `strftime_now(format)`: the time, UTC, in the notation of C and Python.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) fn seconds_since_epoch() -> f64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
/// The years that four digits can write; a time outside is moved to the nearer end.
const FIRST_SECOND: f64 = -62_135_596_800.0;
const LAST_SECOND: f64 = 253_402_300_799.0;

/// A moment taken apart, UTC in the Gregorian calendar.
struct Moment {
    year: i64,
    /// 1 to 12.
    month: i64,
    /// 1 to 31.
    day: i64,
    /// 1 to 366.
    day_of_year: i64,
    /// 0 is Sunday.
    weekday: i64,
    hour: i64,
    minute: i64,
    second: i64,
    microsecond: i64,
    epoch: i64,
}

impl Moment {
    fn new(seconds: f64) -> Self {
        let seconds = if seconds.is_nan() { 0.0 } else { seconds.clamp(FIRST_SECOND, LAST_SECOND) };
        let epoch = seconds.floor() as i64;
        let (days, of_day) = (epoch.div_euclid(86_400), epoch.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        Self {
            year,
            month,
            day,
            day_of_year: days - days_from_civil(year, 1, 1) + 1,
            // The epoch was a Thursday.
            weekday: (days + 4).rem_euclid(7),
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            microsecond: ((seconds - seconds.floor()) * 1e6) as i64,
            epoch,
        }
    }

    fn hour_12(&self) -> i64 {
        (self.hour + 11) % 12 + 1
    }

    /// 1 is Monday, 7 is Sunday.
    fn iso_weekday(&self) -> i64 {
        (self.weekday + 6) % 7 + 1
    }

    /// ISO 8601: a week belongs to the year that has its Thursday.
    fn iso_year_and_week(&self) -> (i64, i64) {
        let thursday = self.epoch.div_euclid(86_400) + 4 - self.iso_weekday();
        let (year, ..) = civil_from_days(thursday);
        (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
    }

    /// The week of the year when weeks begin on a weekday (0 is Sunday); days before the first such day are week 0.
    fn week_from(&self, first: i64) -> i64 {
        (self.day_of_year + 6 - (self.weekday - first).rem_euclid(7)) / 7
    }
}

/// H. Hinnant, "chrono-compatible low-level date algorithms": years begin in March, so that the leap day is the last.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

/// Formats seconds since the epoch. Directives that are not known stay as they are.
pub(super) fn strftime(seconds: f64, format: &str) -> String {
    let moment = Moment::new(seconds);
    let mut output = String::new();
    let mut rest = format.chars();
    while let Some(char) = rest.next() {
        if char != '%' {
            output.push(char);
            continue;
        }
        // `%-d` is glibc's notation for a number without padding.
        let mut ahead = rest.clone();
        let unpadded = ahead.next() == Some('-');
        if unpadded {
            rest = ahead;
        }
        let Some(directive) = rest.next() else {
            output.push_str(if unpadded { "%-" } else { "%" });
            break;
        };
        directive_text(&moment, directive, unpadded, &mut output);
    }
    output
}

fn directive_text(moment: &Moment, directive: char, unpadded: bool, output: &mut String) {
    let month = MONTHS[moment.month as usize - 1];
    let weekday = WEEKDAYS[moment.weekday as usize];
    let mut number = |value: i64, width: usize| {
        let width = if unpadded { 0 } else { width };
        // Writing to a string cannot fail.
        let _ = write!(output, "{value:0width$}");
    };
    match directive {
        'Y' => number(moment.year, 4),
        'G' => number(moment.iso_year_and_week().0, 4),
        'C' => number(moment.year / 100, 2),
        'y' => number(moment.year % 100, 2),
        'm' => number(moment.month, 2),
        'd' => number(moment.day, 2),
        'j' => number(moment.day_of_year, 3),
        'H' => number(moment.hour, 2),
        'I' => number(moment.hour_12(), 2),
        'M' => number(moment.minute, 2),
        'S' => number(moment.second, 2),
        'f' => number(moment.microsecond, 6),
        's' => number(moment.epoch, 0),
        'u' => number(moment.iso_weekday(), 0),
        'w' => number(moment.weekday, 0),
        'V' => number(moment.iso_year_and_week().1, 2),
        'U' => number(moment.week_from(0), 2),
        'W' => number(moment.week_from(1), 2),
        'e' if unpadded => number(moment.day, 0),
        'e' => output.push_str(&format!("{:2}", moment.day)),
        'B' => output.push_str(month),
        'b' | 'h' => output.push_str(&month[..3]),
        'A' => output.push_str(weekday),
        'a' => output.push_str(&weekday[..3]),
        'p' => output.push_str(if moment.hour < 12 { "AM" } else { "PM" }),
        'Z' => output.push_str("UTC"),
        'z' => output.push_str("+0000"),
        'n' => output.push('\n'),
        't' => output.push('\t'),
        '%' => output.push('%'),
        'F' => output.push_str(&strftime(moment.epoch as f64, "%Y-%m-%d")),
        'T' | 'X' => output.push_str(&strftime(moment.epoch as f64, "%H:%M:%S")),
        'R' => output.push_str(&strftime(moment.epoch as f64, "%H:%M")),
        'D' | 'x' => output.push_str(&strftime(moment.epoch as f64, "%m/%d/%y")),
        'c' => output.push_str(&strftime(moment.epoch as f64, "%a %b %e %H:%M:%S %Y")),
        unknown => {
            output.push_str(if unpadded { "%-" } else { "%" });
            output.push(unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-07-26 09:10:11.5 UTC, a Friday.
    const NOW: f64 = 1_721_985_011.5;

    #[test]
    fn directives_mean_what_they_mean_in_c() {
        for (format, expected) in [
            ("%Y-%m-%d", "2024-07-26"),
            ("%d %b %Y", "26 Jul 2024"),
            ("%B %d, %Y", "July 26, 2024"),
            ("%A %a %j %U %W %V %G %u %w", "Friday Fri 208 29 30 30 2024 5 5"),
            ("%H:%M:%S.%f", "09:10:11.500000"),
            ("%I:%M %p|%-I|%e|%-d|%y", "09:10 AM|9|26|26|24"),
            ("%F %T %R %D", "2024-07-26 09:10:11 09:10 07/26/24"),
            ("%c", "Fri Jul 26 09:10:11 2024"),
            ("%s %Z %z", "1721985011 UTC +0000"),
            ("100%% é %Q %-Q %", "100% é %Q %-Q %"),
            ("%-", "%-"),
        ] {
            assert_eq!(strftime(NOW, format), expected, "{format}");
        }
    }

    #[test]
    fn calendar_edges() {
        for (seconds, expected) in [
            (0.0, "1970-01-01 001 Thu 01"),
            (-1.0, "1969-12-31 365 Wed 01"),
            (951_782_400.0, "2000-02-29 060 Tue 09"),
            (4_107_542_400.0, "2100-03-01 060 Mon 09"),
            (1_609_459_199.0, "2020-12-31 366 Thu 53"),
            (f64::NEG_INFINITY, "0001-01-01 001 Mon 01"),
            (f64::INFINITY, "9999-12-31 365 Fri 52"),
            (f64::NAN, "1970-01-01 001 Thu 01"),
        ] {
            assert_eq!(strftime(seconds, "%Y-%m-%d %j %a %V"), expected);
        }
    }

    #[test]
    fn noon_and_midnight_on_a_clock_of_twelve_hours() {
        assert_eq!(strftime(0.0, "%I %p"), "12 AM");
        assert_eq!(strftime(43_200.0, "%I %p"), "12 PM");
    }
}
