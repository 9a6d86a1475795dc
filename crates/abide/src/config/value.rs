//! Values of settings and how they are written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use abide_model::AuthMode;

/// A value that can be read from text and shown again.
pub(crate) trait Value: Sized {
    /// Reads it; an error says what would be right.
    fn parse(text: &str) -> Result<Self, String>;
    /// Shows it so that `parse` would read it.
    fn show(&self) -> String;
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u64);

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// How long to wait for somebody; never given up if `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grace(pub(crate) Option<Duration>);

/// Addresses to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hosts(pub(crate) Vec<IpAddr>);

/// A switch that only the exact text `true` turns on, as runtime-routing deployments expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exactly(pub(crate) bool);

/// How hard SQLite makes sure that a commit is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Synchronous {
    /// Survives a crash of Abide; a power failure can cost the last moments.
    Normal,
    /// Survives a power failure.
    Full,
}

/// What log lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Value for ByteSize {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a size; write for example 16MiB");
        let (number, unit) = split_unit(text.trim());
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1000,
            "k" | "kib" => 1 << 10,
            "mb" => 1_000_000,
            "m" | "mib" => 1 << 20,
            "gb" => 1_000_000_000,
            "g" | "gib" => 1 << 30,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(Self).ok_or_else(wrong)
    }

    fn show(&self) -> String {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return format!("{}{unit}", self.0 >> shift);
            }
        }
        self.0.to_string()
    }
}

impl Value for Span {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is not a length of time; write for example 500ms, 10s, 5m or 1h30m")
        };
        let mut rest = text.trim();
        let mut total = Duration::ZERO;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let (number, tail) = split_unit(rest);
            let unit_end = tail.find(|c: char| c.is_ascii_digit() || c.is_whitespace());
            let (unit, next) = tail.split_at(unit_end.unwrap_or(tail.len()));
            let number: f64 = number.parse().map_err(|_| wrong())?;
            let seconds = match unit {
                "ns" => number / 1e9,
                // Either sign for micro, as Go reads durations.
                "us" | "µs" | "μs" => number / 1e6,
                "ms" => number / 1000.0,
                "s" => number,
                "m" | "min" => number * 60.0,
                "h" => number * 3600.0,
                "d" => number * 86_400.0,
                _ => return Err(wrong()),
            };
            let part = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
            total = total.checked_add(part).ok_or_else(wrong)?;
            rest = next.trim_start();
        }
        Ok(Self(total))
    }

    fn show(&self) -> String {
        let nanos = self.0.as_nanos();
        for (unit, name) in [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")] {
            if nanos.is_multiple_of(unit) {
                return format!("{}{name}", nanos / unit);
            }
        }
        format!("{nanos}ns")
    }
}

/// A number alone is one of seconds; 0 is for ever.
impl Value for Grace {
    fn parse(text: &str) -> Result<Self, String> {
        let length = match text.trim().parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => {
                Span::parse(text)
                    .map_err(|wrong| format!("{wrong}, or a number of seconds"))?
                    .0
            }
        };
        Ok(Self(Some(length).filter(|length| !length.is_zero())))
    }

    fn show(&self) -> String {
        self.0.map_or("0".to_owned(), |length| Span(length).show())
    }
}

impl Value for Hosts {
    fn parse(text: &str) -> Result<Self, String> {
        let mut hosts = Vec::new();
        for part in list(text) {
            if part == "localhost" {
                hosts.extend([
                    IpAddr::from(Ipv4Addr::LOCALHOST),
                    Ipv6Addr::LOCALHOST.into(),
                ]);
                continue;
            }
            let address = part.trim_start_matches('[').trim_end_matches(']');
            hosts.push(address.parse().map_err(|_| {
                format!("{part:?} is not an IP address; write for example 127.0.0.1 or ::1")
            })?);
        }
        if hosts.is_empty() {
            Err("at least one address is needed".to_owned())
        } else {
            Ok(Self(hosts))
        }
    }

    fn show(&self) -> String {
        self.0
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }
}

impl Value for Vec<String> {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(list(text).map(str::to_owned).collect())
    }
    fn show(&self) -> String {
        self.join(",")
    }
}

impl Value for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Err("a path is needed".to_owned())
        } else {
            Ok(Self::from(text))
        }
    }
    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(format!("{text:?} is neither true nor false")),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for AuthMode {
    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text.trim()).ok_or_else(|| format!("{text:?} is neither enforced nor bypass"))
    }
    fn show(&self) -> String {
        self.as_str().to_owned()
    }
}

impl Value for Exactly {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(text == "true"))
    }
    fn show(&self) -> String {
        self.0.to_string()
    }
}

macro_rules! numbers {
    ($($number:ty),+) => {$(
        impl Value for $number {
            fn parse(text: &str) -> Result<Self, String> {
                text.trim()
                    .parse()
                    .map_err(|_| format!("{text:?} is not a number from 0 to {}", Self::MAX))
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}
numbers!(u16, u32);

macro_rules! words {
    ($($name:ident { $($variant:ident = $text:literal),+ })+) => {$(
        impl Value for $name {
            fn parse(text: &str) -> Result<Self, String> {
                match text.trim() {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(format!("{text:?} is none of {}", [$($text),+].join(", "))),
                }
            }
            fn show(&self) -> String {
                match self { $(Self::$variant => $text.to_owned()),+ }
            }
        }
    )+};
}
words! {
    Synchronous { Normal = "normal", Full = "full" }
    LogFormat { Text = "text", Json = "json" }
}

/// An empty text means that it is not set.
impl<T: Value> Value for Option<T> {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Ok(None)
        } else {
            T::parse(text).map(Some)
        }
    }
    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|p| !p.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes, shown) in [
            ("16MiB", 16 << 20, "16MiB"),
            ("16 mib", 16 << 20, "16MiB"),
            ("64k", 64 << 10, "64KiB"),
            ("1GB", 1_000_000_000, "1000000000"),
            ("0", 0, "0"),
            ("123", 123, "123"),
        ] {
            let size = ByteSize::parse(text).unwrap();
            assert_eq!((size.0, size.show().as_str()), (bytes, shown), "{text}");
            assert_eq!(ByteSize::parse(&size.show()), Ok(size));
        }
        for text in ["", "MiB", "1.5MiB", "-1", "1TB", "99999999999GiB"] {
            assert!(ByteSize::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans() {
        for (text, millis) in [
            ("500ms", 500),
            ("2s", 2000),
            ("1.5s", 1500),
            ("1h30m", 5_400_000),
            ("1m 1s", 61_000),
            ("1d", 86_400_000),
            ("1m30s", 90_000),
            ("1500us", 1),
            ("2000µs", 2),
            ("1000000ns", 1),
        ] {
            let span = Span::parse(text).unwrap();
            assert_eq!(span.0.as_millis(), millis, "{text}");
            assert_eq!(Span::parse(&span.show()), Ok(span));
        }
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "1y",
            "1s 2",
            "9999999999999999999999d",
            "200000000000000d 200000000000000d",
        ] {
            assert!(Span::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn graces() {
        for (text, millis, shown) in [
            ("0", None, "0"),
            ("0s", None, "0"),
            ("300", Some(300_000), "300s"),
            ("1500ms", Some(1500), "1500ms"),
            ("5m", Some(300_000), "300s"),
        ] {
            let grace = Grace::parse(text).unwrap();
            assert_eq!(grace.0.map(|length| length.as_millis()), millis, "{text}");
            assert_eq!(grace.show(), shown);
            assert_eq!(Grace::parse(&grace.show()), Ok(grace));
        }
        assert!(Grace::parse("soon").is_err() && Grace::parse("-1").is_err());
    }

    #[test]
    fn hosts() {
        assert_eq!(
            Hosts::parse("127.0.0.1, [::1]")
                .map(|h| h.show())
                .as_deref(),
            Ok("127.0.0.1,::1")
        );
        assert_eq!(Hosts::parse("localhost").map(|h| h.0.len()), Ok(2));
        assert!(Hosts::parse("example.org").is_err());
        assert!(Hosts::parse(",").is_err());
    }
}
