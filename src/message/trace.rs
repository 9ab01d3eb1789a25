//! Trace fields: where a message came from and when (RFC 5321 §4.4), and the two ways to write
//! a time.

use std::fmt::Write as _;
use std::net::IpAddr;

use chrono::{DateTime, Datelike, Local, Timelike};

use crate::address::ReversePath;

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
    /// The recipient with its brackets, if there is only one: others must not learn of each
    /// other (RFC 5321 §7.2).
    pub forward_path: Option<String>,
    /// When it was taken.
    pub received: DateTime<Local>,
}

impl Trace<'_> {
    /// The two fields of final delivery, `Return-Path` and `Received`, with LF line ends.
    #[must_use]
    pub fn fields(&self, reverse_path: &ReversePath) -> String {
        let mut fields = format!("Return-Path: {reverse_path}\nReceived: from ");
        // A name that is none could hold a comment or a clause of its own.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        fields.extend(
            self.client_name
                .chars()
                .map(|c| if is_plain(c) { c } else { '?' }),
        );
        match self.peer.to_canonical() {
            IpAddr::V4(address) => write_to(&mut fields, format_args!(" ([{address}])")),
            IpAddr::V6(address) => write_to(&mut fields, format_args!(" ([IPv6:{address}])")),
        }
        let Self {
            hostname,
            protocol,
            id,
            ..
        } = self;
        write_to(
            &mut fields,
            format_args!("\n\tby {hostname} with {protocol} id {id}"),
        );
        if let Some(path) = &self.forward_path {
            write_to(&mut fields, format_args!("\n\tfor {path}"));
        }
        write_to(
            &mut fields,
            format_args!(";\n\t{}\n", internet_date(&self.received)),
        );
        fields
    }
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A time as header fields have it (RFC 5322 §3.3): `Mon, 22 Mar 2021 14:05:00 +0000`.
#[must_use]
pub fn internet_date(time: &DateTime<Local>) -> String {
    // By hand: each message has one, and a format string is read anew each time.
    let (weekday, month) = (time.weekday(), MONTHS[time.month0() as usize]);
    let (day, year) = (time.day(), time.year());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    let east = time.offset().local_minus_utc() / 60;
    let (sign, east) = (if east < 0 { '-' } else { '+' }, east.abs());
    format!(
        "{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} \
         {sign}{:02}{:02}",
        east / 60,
        east % 60
    )
}

/// A time as a mailbox has it (NITC: "date : hour : minute"): `2021-03-22 : 14 : 05`.
#[must_use]
pub fn mailbox_date(time: &DateTime<Local>) -> String {
    let (year, month, day) = (time.year(), time.month(), time.day());
    let (hour, minute) = (time.hour(), time.minute());
    format!("{year:04}-{month:02}-{day:02} : {hour:02} : {minute:02}")
}

fn write_to(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::ForwardPath;
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
            forward_path: Some(ForwardPath::parse("<a@b>").unwrap().0.to_string()),
            received,
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
        trace.forward_path = None;
        let fields = trace.fields(&ReversePath::parse("<s@c>").unwrap().0);
        assert!(fields.starts_with(
            "Return-Path: <s@c>\nReceived: from x??y? ([IPv6:2001:db8::1])\n\tby mx.example"
        ));
        assert_eq!(mailbox_date(&received), "2021-03-22 : 14 : 05");
    }
}
