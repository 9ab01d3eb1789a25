//! Trace fields: where a message came from and when (RFC 5321 §4.4), and the two ways to write
//! a time.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Datelike, Local, Timelike};

use crate::address::ReversePath;
use crate::digits::{push_number, push_two};

/// What a server notes about a message that it took.
#[derive(Clone, Debug)]
pub struct Trace<'a> {
    /// The name that the client gave.
    pub client_name: &'a str,
    /// The client's address.
    pub peer: IpAddr,
    /// Our name.
    pub hostname: &'a str,
    /// `ESMTP` and its kin.
    pub protocol: &'a str,
    /// What the log calls the message.
    pub id: &'a str,
    /// The recipient's address, if there is only one: others must not learn of each other
    /// (RFC 5321 §7.2).
    pub recipient: Option<&'a str>,
    /// When it was taken ([`Arrival::internet_date`]).
    pub received: &'a str,
}

impl Trace<'_> {
    /// The two fields of final delivery, `Return-Path` and `Received`, with LF line ends.
    #[must_use]
    pub fn fields(&self, reverse_path: &ReversePath) -> String {
        let mut fields = String::with_capacity(FIELDS_OCTETS);
        write_to(&mut fields, format_args!("Return-Path: {reverse_path}"));
        fields.push_str("\nReceived: from ");
        // A name that is none could hold a comment or a clause of its own.
        let is_plain =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        if self.client_name.chars().all(is_plain) {
            fields.push_str(self.client_name);
        } else {
            let name = self.client_name.chars();
            fields.extend(name.map(|c| if is_plain(c) { c } else { '?' }));
        }
        match self.peer.to_canonical() {
            IpAddr::V4(address) => {
                for (mark, part) in [" ([", ".", ".", "."].into_iter().zip(address.octets()) {
                    fields.push_str(mark);
                    push_number::<10>(&mut fields, part.into());
                }
                fields.push_str("])");
            }
            IpAddr::V6(address) => write_to(&mut fields, format_args!(" ([IPv6:{address}])")),
        }
        let Self {
            hostname,
            protocol,
            id,
            ..
        } = self;
        fields.extend(["\n\tby ", hostname, " with ", protocol, " id ", id]);
        if let Some(recipient) = self.recipient {
            fields.extend(["\n\tfor <", recipient, ">"]);
        }
        fields.extend([";\n\t", self.received, "\n"]);
        fields
    }
}

/// When a message was taken, in the two ways in which that is written.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// As header fields have it (RFC 5322 §3.3): `Mon, 22 Mar 2021 14:05:00 +0000`.
    pub internet_date: Arc<str>,
    /// As a mailbox has it (NITC: "date : hour : minute"): `2021-03-22 : 14 : 05`.
    pub mailbox_date: Arc<str>,
}

impl Arrival {
    /// At this time.
    #[must_use]
    pub fn at(time: &DateTime<Local>) -> Self {
        Self {
            internet_date: internet_date(time).into(),
            mailbox_date: mailbox_date(time).into(),
        }
    }
}

/// As long as a date mostly is, with a sign and zone.
const DATE_OCTETS: usize = 32;
/// More than the fields mostly take.
const FIELDS_OCTETS: usize = 320;
const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A time as header fields have it (RFC 5322 §3.3): `Mon, 22 Mar 2021 14:05:00 +0000`.
#[must_use]
pub fn internet_date(time: &DateTime<Local>) -> String {
    // By hand: each plain message in a mailbox has one, and formatting takes twenty times as long.
    let mut date = String::with_capacity(DATE_OCTETS);
    let text = &mut date;
    text.push_str(WEEKDAYS[time.weekday().num_days_from_monday() as usize]);
    text.push_str(", ");
    push_two(text, time.day());
    text.push(' ');
    text.push_str(MONTHS[time.month0() as usize]);
    text.push(' ');
    push_year(text, time);
    for (mark, number) in [
        (' ', time.hour()),
        (':', time.minute()),
        (':', time.second()),
    ] {
        text.push(mark);
        push_two(text, number);
    }
    let east = time.offset().local_minus_utc() / 60;
    text.push_str(if east < 0 { " -" } else { " +" });
    push_two(text, east.unsigned_abs() / 60);
    push_two(text, east.unsigned_abs() % 60);
    date
}

fn mailbox_date(time: &DateTime<Local>) -> String {
    let mut text = String::with_capacity(DATE_OCTETS);
    push_year(&mut text, time);
    for (mark, number) in [
        ("-", time.month()),
        ("-", time.day()),
        (" : ", time.hour()),
        (" : ", time.minute()),
    ] {
        text.push_str(mark);
        push_two(&mut text, number);
    }
    text
}

fn push_year(text: &mut String, time: &DateTime<Local>) {
    match u32::try_from(time.year()) {
        Ok(year @ 0..=9999) => {
            push_two(text, year / 100);
            push_two(text, year % 100);
        }
        _ => write_to(text, format_args!("{:04}", time.year())),
    }
}

/// Appends what is formatted, where that need not be allocated first.
fn write_to(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    #[test]
    fn trace_fields_say_where_from_and_when() {
        let received = Local.with_ymd_and_hms(2021, 3, 22, 14, 5, 9).unwrap();
        let mut trace = Trace {
            client_name: "c.example",
            peer: "127.0.0.1".parse().unwrap(),
            hostname: "mx.example",
            protocol: "ESMTPA",
            id: "4AbC",
            recipient: Some("a@b"),
            received: &Arrival::at(&received).internet_date,
        };
        let date = internet_date(&received);
        assert!(date.starts_with("Mon, 22 Mar 2021 14:05:09 "), "{date}");
        assert_eq!(
            trace.fields(&ReversePath::Null),
            format!(
                "Return-Path: <>\nReceived: from c.example ([127.0.0.1])\n\
                 \tby mx.example with ESMTPA id 4AbC\n\tfor <a@b>;\n\t{date}\n"
            ),
        );
        trace.client_name = "x)(y;";
        trace.peer = "2001:db8::1".parse().unwrap();
        trace.recipient = None;
        let fields = trace.fields(&ReversePath::parse("<s@c>").unwrap().0);
        assert!(fields.starts_with(
            "Return-Path: <s@c>\nReceived: from x??y? ([IPv6:2001:db8::1])\n\tby mx.example"
        ));
        assert_eq!(mailbox_date(&received), "2021-03-22 : 14 : 05");
    }
}
