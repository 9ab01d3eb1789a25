//! `minismtp serve` as a peer and an operator meet it: what is taken, refused, stored and logged.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::sandbox::{LAB, Sandbox, Server, masked, run, until};
use crate::smtp::{Smtp, plain};

const NITC: &str = "From: stallings@localhost\nTo: andrew@localhost\nSubject: SMTP Experiment\n\n\
                    Next evaluation will be on 22 March 2021.\nPlease be ready.\n";

/// Delivers content from stallings to andrew on a fresh server; gives the mailbox, times masked.
#[track_caller]
fn stored(content: impl AsRef<[u8]>) -> String {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    server.deliver("stallings@localhost", &["andrew@localhost"], content);
    sandbox.masked_mailbox("Andrew")
}

/// Delivers content from stallings to andrew; gives the only record.
#[track_caller]
fn record(content: impl AsRef<[u8]>) -> crate::sandbox::Record {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    server.deliver("stallings@localhost", &["andrew@localhost"], content);
    let records = sandbox.records("Andrew");
    assert_eq!(records.len(), 1);
    records[0].clone()
}

// What is stored: plain records.

#[test]
fn nitc_message_is_stored_to_the_letter() {
    assert_eq!(
        stored(NITC),
        "From: stallings@localhost\n\
         To: andrew@localhost\n\
         Subject: SMTP Experiment\n\
         Received: <time>\n\
         Next evaluation will be on 22 March 2021.\n\
         Please be ready.\n\
         .\n"
    );
}

#[test]
fn plain_record_keeps_the_spelling_of_the_message() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let content = "From: Stallings@LocalHost\nTo: ANDREW@localhost\nSubject: x\n\nhi\n";
    server.deliver("STALLINGS@localhost", &["andrew@LOCALHOST"], content);
    assert_eq!(
        sandbox.masked_mailbox("Andrew"),
        "From: Stallings@LocalHost\nTo: ANDREW@localhost\nSubject: x\nReceived: <time>\nhi\n.\n"
    );
}

#[test]
fn empty_subject_and_empty_body_are_kept_empty() {
    let head = "From: stallings@localhost\nTo: andrew@localhost\nSubject: ";
    let expected = format!("{head}\nReceived: <time>\n.\n");
    assert_eq!(stored(format!("{head}\n\n")), expected, "an empty body");
    assert_eq!(
        stored(format!("{head}\n")),
        expected,
        "a header section and nothing after it"
    );
    let no_space = head.trim_end();
    assert_eq!(
        stored(format!("{no_space}\n\n")),
        expected,
        "no space after the colon"
    );
}

#[test]
fn blank_lines_of_the_body_are_kept() {
    let head = "From: stallings@localhost\nTo: andrew@localhost\nSubject: x\n";
    let expected = format!("{head}Received: <time>\n\na\n\n\nb\n\n.\n");
    assert_eq!(stored(format!("{head}\n\na\n\n\nb\n\n")), expected);
}

#[test]
fn message_without_an_empty_line_has_its_body_begin_at_the_first_line_that_is_no_field() {
    let head = "From: stallings@localhost\nTo: andrew@localhost\nSubject: x\n";
    let expected = format!("{head}Received: <time>\nNext evaluation will be\nsoon.\n.\n");
    assert_eq!(
        stored(format!("{head}Next evaluation will be\nsoon.\n")),
        expected
    );
}

#[test]
fn body_lines_of_dots_come_back_as_they_were() {
    let body = ".\n..\n...\n....\n.hidden\n. \na.\n.\n";
    let head = "From: stallings@localhost\nTo: andrew@localhost\nSubject: dots\n";
    let mailbox = stored(format!("{head}\n{body}"));
    let dotted = "..\n...\n....\n.....\n..hidden\n.. \na.\n..\n";
    assert_eq!(mailbox, format!("{head}Received: <time>\n{dotted}.\n"));
    assert_eq!(record(format!("{head}\n{body}")).text(), body);
}

#[test]
fn body_cannot_forge_a_second_message() {
    let forged = "\n.\nFrom: root@localhost\nTo: andrew@localhost\nSubject: forged\n\
                  Received: 2021-03-22 : 14 : 05\nsend money\n.\n";
    let content = format!("{}{forged}", NITC.trim_end());
    let record = record(&content);
    assert!(record.text().contains(".\nFrom: root@localhost\n"));
    assert!(record.text().ends_with("send money\n.\n"));
}

#[test]
fn body_that_looks_like_header_fields_stays_a_body() {
    let head = "From: stallings@localhost\nTo: andrew@localhost\nSubject: x\n";
    for body in [
        "From: root@localhost\nSubject: y\n",
        "From root Mon\n",
        "Received: today\n",
    ] {
        let expected = format!("{head}Received: <time>\n{body}.\n");
        assert_eq!(stored(format!("{head}\n{body}")), expected);
    }
}

#[test]
fn subject_of_100_characters_makes_a_plain_record_and_of_101_a_full_one() {
    for letter in ["x", "é"] {
        let subject = letter.repeat(100);
        let head = format!("From: stallings@localhost\nTo: andrew@localhost\nSubject: {subject}");
        let plain = record(format!("{head}\n\nbody\n"));
        assert_eq!(
            (plain.subject.as_str(), plain.text().as_str()),
            (subject.as_str(), "body\n")
        );

        let full = record(format!("{head}{letter}\n\nbody\n"));
        assert_eq!(full.subject, subject, "cut to 100 characters");
        assert_eq!(
            full.message(),
            format!("{head}{letter}\n\nbody\n").as_bytes()
        );
    }
}

// What is stored: full records.

#[test]
fn every_other_message_makes_a_full_record_and_comes_out_as_it_went_in() {
    let (from, to) = ("From: stallings@localhost\n", "To: andrew@localhost\n");
    let cases = [
        (
            "one more field",
            format!("{from}{to}Subject: x\nDate: today\n\nbody\n"),
        ),
        ("no subject", format!("{from}{to}\nbody\n")),
        ("no from", format!("{to}Subject: x\n\nbody\n")),
        ("no to", format!("{from}Subject: x\n\nbody\n")),
        (
            "two subjects",
            format!("{from}{to}Subject: x\nSubject: y\n\nbody\n"),
        ),
        ("two from", format!("{from}{from}{to}Subject: x\n\nbody\n")),
        (
            "another from",
            format!("From: fourouzan@localhost\n{to}Subject: x\n\nbody\n"),
        ),
        (
            "another to",
            format!("{from}To: fourouzan@localhost\nSubject: x\n\nbody\n"),
        ),
        (
            "display name",
            format!("From: S <stallings@localhost>\n{to}Subject: x\n\nbody\n"),
        ),
        (
            "return path",
            format!("{from}{to}Subject: x\n\nReturn-Path: <a@b>\nbody\n"),
        ),
        (
            "own trace",
            format!("Return-Path: <x@y>\nReceived: by z; w\n{from}{to}\nbody\n"),
        ),
        (
            "encoded",
            format!("{from}{to}Subject: =?utf-8?q?caf=C3=A9?=\n\nbody\n"),
        ),
        ("no header at all", "\nbody\n".to_owned()),
        ("no field in the first line", "hello\nthere\n".to_owned()),
        ("nothing", String::new()),
        (
            "odd spaces",
            format!("{from}{to}Subject: x\nX-A:  b \t\nX-C:\n\n body \t\n"),
        ),
    ];
    for (why, content) in cases {
        let record = record(&content);
        assert!(record.is_full(), "{why}: not a full record: {record:#?}");
        assert_eq!(
            String::from_utf8(record.message()).unwrap(),
            content,
            "{why}"
        );
        assert_eq!(record.from, "stallings@localhost", "{why}");
        assert_eq!(record.to, "andrew@localhost", "{why}");
    }
}

#[test]
fn encoded_subject_is_readable_in_the_summary() {
    let fields = "From: stallings@localhost\nTo: andrew@localhost\n";
    for (encoded, readable) in [
        ("=?utf-8?q?caf=C3=A9_cr=C3=A8me?=", "café crème"),
        ("=?UTF-8?B?0J/RgNC40LLQtdGC?=", "Привет"),
        ("=?iso-8859-1?Q?na=EFve?=", "naïve"),
        ("=?utf-8?q?two?=\n =?utf-8?q?_words?=", "two words"),
    ] {
        let content = format!("{fields}Subject: {encoded}\n\nbody\n");
        let record = record(&content);
        assert_eq!(record.subject, readable);
        assert_eq!(String::from_utf8(record.message()).unwrap(), content);
    }
}

#[test]
fn encoded_subject_cannot_break_out_of_its_line() {
    let fields = "From: stallings@localhost\nTo: andrew@localhost\n";
    let record = record(format!(
        "{fields}Subject: =?utf-8?q?x=0A=2E=0D=0AFrom:_root?=\n\nbody\n"
    ));
    assert!(record.subject.starts_with('x'), "{record:#?}");
    assert!(!record.subject.contains(['\r', '\n']));
}

#[test]
fn folded_subject_is_one_line_in_the_summary() {
    let fields = "From: stallings@localhost\nTo: andrew@localhost\n";
    let content = format!("{fields}Subject: one\n two\n\tthree\nX-Long: a\n b\n\nbody\n");
    let record = record(&content);
    assert_eq!(record.subject.replace('\t', " "), "one two three");
    assert_eq!(String::from_utf8(record.message()).unwrap(), content);
}

#[test]
fn full_record_carries_return_path_and_trace() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["--hostname", "mx.example"]);
    let mut smtp = server.hello();
    let id = smtp.deliver(
        "Stallings@localhost",
        &["andrew@localhost"],
        "Subject: x\n\nhi\n",
    );
    let record = &sandbox.records("Andrew")[0];
    let (path, received) = record.trace();
    assert_eq!(path, "Return-Path: <Stallings@localhost>");
    assert!(
        received.starts_with("Received: from client.example ("),
        "{received}"
    );
    assert!(received.contains("[127.0.0.1])"), "{received}");
    let by = format!("by mx.example with ESMTP id {id}");
    assert!(received.contains(&by), "no {by:?} in {received}");
    assert!(received.contains("for <andrew@localhost>"), "{received}");
    assert!(masked(&received).ends_with("; <date>"), "{received}");
    let order: Vec<_> = ["from ", "by ", "with ", " id ", "for ", ";"]
        .iter()
        .map(|clause| received.find(clause).unwrap())
        .collect();
    assert!(order.is_sorted(), "clauses out of order: {received}");
}

#[test]
fn trace_says_how_the_message_came() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let content = "Subject: x\n\nhi\n";

    let mut helo = server.connect();
    helo.ask("HELO old.example", "250 ");
    helo.deliver("stallings@localhost", &["andrew@localhost"], content);
    let mut login = server.hello();
    login
        .login("Stallings", "network$ecurity")
        .expect("235 2.7.0");
    login.deliver("stallings@localhost", &["andrew@localhost"], content);
    let mut utf8 = server.hello();
    utf8.ask("MAIL FROM:<stallings@localhost> SMTPUTF8", "250 2.1.0");
    utf8.ask("RCPT TO:<andrew@localhost>", "250 2.1.5");
    utf8.data(crate::smtp::wire(content)).expect("250 2.0.0");

    let with: Vec<_> = sandbox
        .records("Andrew")
        .iter()
        .map(|record| record.trace().1)
        .collect();
    assert!(with[0].contains(" with SMTP id "), "{}", with[0]);
    assert!(with[1].contains(" with ESMTPA id "), "{}", with[1]);
    assert!(with[2].contains(" with UTF8SMTP id "), "{}", with[2]);
}

#[test]
fn trace_names_no_recipient_when_there_are_several() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let to = ["andrew@localhost", "fourouzan@localhost"];
    server.deliver("stallings@localhost", &to, "Subject: x\n\nhi\n");
    for user in ["Andrew", "Fourouzan"] {
        let (_, received) = sandbox.records(user)[0].trace();
        assert!(!received.contains(" for <"), "{received}");
    }
}

#[test]
fn null_sender_is_shown_as_such() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    server.deliver("", &["andrew@localhost"], "Subject: bounce\n\nsorry\n");
    let record = &sandbox.records("Andrew")[0];
    assert_eq!(record.from, "<>");
    assert_eq!(record.trace().0, "Return-Path: <>");
}

#[test]
fn octets_of_the_body_are_kept_one_by_one() {
    let all: Vec<u8> = (0..=255).filter(|octet| !b"\r\n".contains(octet)).collect();
    for head in ["", "X-More: yes\n"] {
        let mut content =
            format!("From: stallings@localhost\nTo: andrew@localhost\nSubject: x\n{head}\n")
                .into_bytes();
        content.extend_from_slice(&all);
        content.extend_from_slice(b"\n\t tab and trailing space \t \n");
        let record = record(&content);
        if record.is_full() {
            assert_eq!(record.message(), content);
        } else {
            let body = [all.as_slice(), b"\n\t tab and trailing space \t \n"].concat();
            assert_eq!(record.content, body);
        }
    }
}

#[test]
fn long_lines_are_neither_wrapped_nor_cut() {
    let long = "x".repeat(100_000);
    let content = format!(
        "{}{long}\n.{long}\n",
        NITC.replace("Please be ready.", "See:")
    );
    let text = record(content).text();
    assert!(text.ends_with(&format!("See:\n{long}\n.{long}\n")));
}

#[test]
fn large_message_comes_out_whole() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut content = b"Subject: large\n\n".to_vec();
    for number in 0..100_000 {
        writeln!(
            content,
            ".line {number} of a message of several megabytes, for the spool"
        )
        .unwrap();
    }
    let to = ["andrew@localhost", "fourouzan@localhost"];
    server.deliver("stallings@localhost", &to, &content);
    for user in ["Andrew", "Fourouzan"] {
        assert!(
            sandbox.records(user)[0].message() == content,
            "{user}'s copy differs"
        );
    }
}

/// A small generator of numbers: the same every time.
struct Dice(u32);

impl Dice {
    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        from[(self.0 >> 16) as usize % from.len()]
    }
}

#[test]
fn nothing_is_ever_dropped_whatever_record_is_chosen() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    let mut dice = Dice(2021);
    let mut sent = Vec::new();
    for _ in 0..400 {
        let from = dice.pick(&[
            "stallings@localhost",
            "<stallings@localhost>",
            "stallings@localhost (S)",
        ]);
        let to = dice.pick(&["andrew@localhost", "andrew@localhost, b@c"]);
        let mut subject = String::new();
        for _ in 0..4 {
            subject += dice.pick(&[
                "a",
                " ",
                "\t",
                ".",
                "é",
                "=?utf-8?q?=41?=",
                "\n b",
                "x: y",
                "",
            ]);
        }
        let field = dice.pick(&["", "", "X-Y: z\n"]);
        // White space at its ends and folding have a test of their own.
        let subject = subject
            .trim()
            .replace("\n", if field.is_empty() { "" } else { "\n" });
        let mut body = String::new();
        for _ in 0..3 {
            body += dice.pick(&[
                "",
                "\n",
                ".\n",
                "Return-Path: x\n",
                "a: b\n",
                " c\n",
                "..d \n",
            ]);
        }
        let content = format!("From: {from}\nTo: {to}\nSubject: {subject}\n{field}\n{body}");
        smtp.deliver("stallings@localhost", &["andrew@localhost"], &content);
        sent.push(content);
    }
    let records = sandbox.records("Andrew");
    assert_eq!(records.len(), sent.len());
    for (record, content) in records.iter().zip(sent) {
        let kept = if record.is_full() {
            String::from_utf8(record.message()).unwrap()
        } else {
            let (from, to, subject) = (&record.from, &record.to, &record.subject);
            format!(
                "From: {from}\nTo: {to}\nSubject: {subject}\n\n{}",
                record.text()
            )
        };
        assert_eq!(kept, content, "{record:#?}");
    }
}

/// The four lines say what these say, so the records are plain: white space around a value and
/// folding mean nothing (RFC 5322 §2.2.3).
#[test]
fn white_space_around_a_value_does_not_count() {
    let (from, to) = ("From: stallings@localhost", "To: andrew@localhost");
    for (content, subject) in [
        (
            format!("{from}\n{to}\nSubject:  two spaces\n\nhi\n"),
            "two spaces",
        ),
        (format!("{from}\n{to}\nSubject:x\n\nhi\n"), "x"),
        (format!("{from}\n{to}\t\nSubject: x\n\nhi\n"), "x"),
        (format!("{from} \n{to}\nSubject: x\n\nhi\n"), "x"),
        (format!("{from}\n{to}\nSubject: x\n y\n\nhi\n"), "x y"),
    ] {
        let record = record(&content);
        assert!(!record.is_full(), "{content}");
        assert_eq!(
            (record.subject.as_str(), record.text().as_str()),
            (subject, "hi\n")
        );
    }
}

#[test]
fn subject_that_is_no_utf_8_leaves_the_file_readable_and_loses_nothing() {
    let mut content = b"From: stallings@localhost\nTo: andrew@localhost\nSubject: caf\xe9".to_vec();
    content.extend_from_slice(b"\n\nbody\n");
    let record = record(&content);
    assert!(record.subject.starts_with("caf"), "{record:#?}");
    assert_eq!(record.message(), content);
}

#[test]
fn name_of_the_client_cannot_spoil_the_trace() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    for name in ["a;b", "a(b", "a)b", "x\\", "\"q", "<x>", "[1;2]"] {
        let mut smtp = server.connect();
        smtp.line(&format!("EHLO {name}"));
        if smtp.reply().code() == 250 {
            smtp.deliver("a@b.example", &["andrew@localhost"], "Subject: x\n\nhi\n");
            let (_, received) = sandbox.records("Andrew").last().unwrap().trace();
            let from = received.strip_prefix("Received: from ").unwrap();
            let shown = from.split(' ').next().unwrap();
            let spoils = |c: char| ";()<>\"\\".contains(c);
            assert!(!shown.contains(spoils), "{name}: {received}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_message() {
    const MEBIBYTE: usize = 1024 * 1024;
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["--max-message-size", "100M"]);
    server.deliver("stallings@localhost", &["andrew@localhost"], NITC);
    let before = server.memory_peak();
    let mut smtp = server.hello();
    smtp.envelope(
        "stallings@localhost",
        &["andrew@localhost", "fourouzan@localhost"],
    );
    smtp.ask("DATA", "354 ");
    let block = format!("{}\r\n", "x".repeat(62)).repeat(MEBIBYTE / 64);
    for _ in 0..60 {
        smtp.raw(&block);
    }
    smtp.raw(".\r\n");
    smtp.expect("250 2.0.0");
    let grown = server.memory_peak() - before;
    assert!(
        grown < 20 * MEBIBYTE as u64,
        "60 MiB of mail cost {grown} octets of memory"
    );
    let stored = fs::metadata(sandbox.path("Fourouzan/mymailbox.mail"))
        .unwrap()
        .len();
    assert!(stored > 59 * MEBIBYTE as u64, "{stored} octets stored");
}

#[test]
fn message_that_goes_in_circles_is_refused() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    let trace = "Received: from a by b; Tue, 23 Mar 2021 09:00:00 +0000\r\n";
    smtp.envelope("stallings@localhost", &["andrew@localhost"]);
    smtp.data(format!("{}\r\nhi\r\n", trace.repeat(40)))
        .expect("250 2.0.0");
    smtp.envelope("stallings@localhost", &["andrew@localhost"]);
    smtp.data(format!("{}\r\nhi\r\n", trace.repeat(150)))
        .expect("554 5.4.6");
    // Below the header section it is only text.
    smtp.envelope("stallings@localhost", &["andrew@localhost"]);
    smtp.data(format!("Subject: x\r\n\r\n{}", trace.repeat(150)))
        .expect("250 2.0.0");
    assert_eq!(sandbox.records("Andrew").len(), 2);
}

// Who gets it.

#[test]
fn user_is_found_in_any_case_and_with_a_tag() {
    let sandbox = Sandbox::lab()
        .user("J.Doe2", "secret")
        .user("b+c", "secret");
    let server = sandbox.serve(&[]);
    let to = [
        "aNDREW@localhost",
        "j.doe2+news@localhost",
        "\"Fourouzan\"@localhost",
        "b+c@x",
    ];
    server.deliver("stallings@localhost", &to, "Subject: x\n\nhi\n");
    for (user, to) in ["Andrew", "J.Doe2", "Fourouzan", "b+c"].into_iter().zip(to) {
        let records = sandbox.records(user);
        assert_eq!(records.len(), 1, "{user}");
        assert!(
            records[0].to.eq_ignore_ascii_case(&to.replace('"', "")),
            "{}",
            records[0].to
        );
    }
}

#[test]
fn every_recipient_gets_one_copy_with_its_own_address() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let to = [
        "andrew@localhost",
        "Andrew@localhost",
        "fourouzan@localhost",
        "andrew@localhost",
    ];
    server.deliver("stallings@localhost", &to, NITC);
    let andrew = sandbox.records("Andrew");
    assert_eq!(andrew.len(), 1, "RCPT twice to the same user");
    assert_eq!(
        andrew[0].text(),
        "Next evaluation will be on 22 March 2021.\nPlease be ready.\n"
    );
    let bcc = &sandbox.records("Fourouzan")[0];
    assert_eq!(
        (bcc.to.as_str(), bcc.is_full()),
        ("fourouzan@localhost", true)
    );
    assert_eq!(bcc.message(), NITC.as_bytes());
}

#[test]
fn messages_of_one_connection_are_stored_in_order_and_apart() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    let ids: Vec<_> = (1..=3)
        .map(|n| {
            let content = NITC.replace("SMTP Experiment", &format!("number {n}"));
            smtp.deliver("stallings@localhost", &["andrew@localhost"], content)
        })
        .collect();
    assert!(
        ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2],
        "{ids:?}"
    );
    let subjects: Vec<_> = sandbox
        .records("Andrew")
        .into_iter()
        .map(|r| r.subject)
        .collect();
    assert_eq!(subjects, ["number 1", "number 2", "number 3"]);
}

#[test]
fn refused_recipient_does_not_harm_the_others() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    smtp.ask("MAIL FROM:<stallings@localhost>", "250 2.1.0");
    smtp.ask("RCPT TO:<nobody@localhost>", "550 5.1.1");
    smtp.ask("RCPT TO:<andrew@localhost>", "250 2.1.5");
    smtp.data("hi\r\n").expect("250 2.0.0");
    assert_eq!(sandbox.records("Andrew").len(), 1);
    assert!(!sandbox.path("nobody").exists());
}

#[test]
fn local_part_is_never_taken_for_a_path() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    smtp.ask("MAIL FROM:<stallings@localhost>", "250 2.1.0");
    for path in [
        "\"../Andrew\"",
        "a/b",
        "\"..\"",
        "\".\"",
        "\"Andrew/\"",
        "/etc/passwd",
    ] {
        smtp.ask(&format!("RCPT TO:<{path}@localhost>"), "550 5.1.1");
    }
    smtp.ask("RCPT TO:<logincred.txt@localhost>", "550 5.1.1");
}

#[test]
fn postmaster_goes_to_the_first_user_or_the_catch_all_or_its_own_mailbox() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    server.deliver("a@b.example", &["postmaster"], "Subject: 1\n\nhi\n");
    server.deliver(
        "a@b.example",
        &["PostMaster@localhost"],
        "Subject: 2\n\nhi\n",
    );
    assert_eq!(sandbox.records("Stallings").len(), 2);
    drop(server);

    let server = sandbox.serve(&["--catch-all", "Fourouzan"]);
    server.deliver("a@b.example", &["postmaster"], "Subject: 3\n\nhi\n");
    assert_eq!(sandbox.records("Fourouzan").len(), 1);
    drop(server);

    let sandbox = sandbox.user("Postmaster", "secret");
    let server = sandbox.serve(&["--catch-all", "Fourouzan"]);
    server.deliver("a@b.example", &["postmaster"], "Subject: 4\n\nhi\n");
    assert_eq!(sandbox.records("Postmaster").len(), 1);
}

#[test]
fn catch_all_takes_mail_for_unknown_users() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["--catch-all", "fourouzan"]);
    server.deliver("a@b.example", &["nobody@localhost"], "Subject: x\n\nhi\n");
    assert_eq!(sandbox.records("Fourouzan")[0].to, "nobody@localhost");
}

#[test]
fn other_domains_are_refused_when_ours_are_named() {
    let sandbox = Sandbox::lab();
    let flags = ["--domain", "our.example", "--domain", "ours.example"];
    let server = sandbox.serve(&[&flags[..], &["--hostname", "mail.our.example"]].concat());
    let mut smtp = server.hello();
    smtp.ask("MAIL FROM:<x@elsewhere.example>", "250 2.1.0");
    smtp.ask("RCPT TO:<andrew@elsewhere.example>", "550 5.7.1");
    smtp.ask("RCPT TO:<andrew@sub.our.example>", "550 5.7.1");
    smtp.ask("RCPT TO:<nobody@our.example>", "550 5.1.1");
    smtp.ask("RCPT TO:<andrew@OUR.example>", "250 2.1.5");
    smtp.ask("RCPT TO:<fourouzan@ours.example>", "250 2.1.5");
    smtp.ask("RCPT TO:<postmaster>", "250 2.1.5");
    smtp.ask("RCPT TO:<postmaster@our.example>", "250 2.1.5");
    // The host has a postmaster, and is no domain of ours for all that.
    smtp.ask("RCPT TO:<PostMaster@Mail.Our.Example>", "250 2.1.5");
    smtp.ask("RCPT TO:<andrew@mail.our.example>", "550 5.7.1");
    smtp.ask("RCPT TO:<postmaster@elsewhere.example>", "550 5.7.1");
}

#[test]
fn a_refused_mail_has_one_line_in_the_log() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["--domain", "our.example", "--auth", "required"]);
    let mail = "MAIL FROM:<andrew@our.example>\r\nRCPT TO:<stallings@our.example>\r\nDATA\r\n";
    let mut smtp = server.hello();
    smtp.raw(mail);
    for _ in 0..3 {
        smtp.expect("530 5.7.0");
    }
    smtp.login("Stallings", "network$ecurity").expect("235");
    smtp.raw(mail);
    for reply in ["553 5.7.1", "503 5.5.1", "503 5.5.1"] {
        smtp.expect(reply);
    }
    smtp.raw("MAIL FROM:<stallings@our.example>\r\nRCPT TO:<x@our.example>\r\nDATA\r\n");
    for reply in ["250", "550 5.1.1", "554 5.5.1"] {
        smtp.expect(reply);
    }
    // Nothing was refused before: this is a mistake.
    smtp.ask("RSET", "250");
    smtp.ask("DATA", "503 5.5.1");
    smtp.ask("QUIT", "221");
    let log = server.terminate().log;
    let refused = log
        .lines()
        .filter_map(|line| Some(line.split_once("refused command=")?.1));
    assert_eq!(
        refused.collect::<Vec<_>>(),
        [
            "\"MAIL FROM:<andrew@our.example>\" reply=\"530 5.7.0 Authentication required\"",
            "\"MAIL FROM:<andrew@our.example>\" reply=\"553 5.7.1 Sender is not the address of \
             the user who logged in\"",
            "\"RCPT TO:<x@our.example>\" reply=\"550 5.1.1 No such user here\"",
            "DATA reply=\"503 5.5.1 Send MAIL first\"",
        ],
        "{log}"
    );
}

#[test]
fn user_added_while_the_server_runs_gets_mail_and_may_log_in() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    smtp.ask("MAIL FROM:<stallings@localhost>", "250 2.1.0");
    smtp.ask("RCPT TO:<newcomer@localhost>", "550 5.1.1");
    sandbox
        .run(&["users", "add", "newcomer", "--password-stdin"], "pass\n")
        .code(0);
    smtp.ask("RCPT TO:<newcomer@localhost>", "250 2.1.5");
    smtp.data("hi\r\n").expect("250 2.0.0");
    assert_eq!(sandbox.records("newcomer").len(), 1);
    smtp.login("newcomer", "pass").expect("235 2.7.0");

    sandbox.run(&["users", "remove", "newcomer"], "").code(0);
    let mut smtp = server.hello();
    smtp.ask("MAIL FROM:<stallings@localhost>", "250 2.1.0");
    smtp.ask("RCPT TO:<newcomer@localhost>", "550 5.1.1");
}

#[test]
fn directory_and_mailbox_are_made_private() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    server.deliver("stallings@localhost", &["andrew@localhost"], NITC);
    let mode = |name: &str| {
        fs::metadata(sandbox.path(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(format!("{:o}", mode("Andrew")), "700");
    assert_eq!(format!("{:o}", mode("Andrew/mymailbox.mail")), "600");
}

#[test]
fn directory_that_is_a_symlink_is_refused() {
    let sandbox = Sandbox::lab();
    let target = sandbox.beside("target");
    fs::create_dir(&target).unwrap();
    symlink(&target, sandbox.path("Andrew")).unwrap();
    refuses_with_451(&sandbox);
    assert_eq!(
        fs::read_dir(&target).unwrap().count(),
        0,
        "written through the link"
    );
}

#[test]
fn mailbox_that_is_no_regular_file_is_refused() {
    for kind in ["symlink", "dangling", "fifo", "directory"] {
        let sandbox = Sandbox::lab();
        fs::create_dir(sandbox.path("Andrew")).unwrap();
        let mailbox = sandbox.path("Andrew/mymailbox.mail");
        let target = sandbox.beside("target");
        match kind {
            "symlink" => {
                fs::write(&target, "").unwrap();
                symlink(&target, &mailbox).unwrap();
            }
            "dangling" => symlink(&target, &mailbox).unwrap(),
            "fifo" => assert!(
                Command::new("mkfifo")
                    .arg(&mailbox)
                    .status()
                    .unwrap()
                    .success()
            ),
            _ => fs::create_dir(&mailbox).unwrap(),
        }
        refuses_with_451(&sandbox);
        assert!(
            fs::read(&target).unwrap_or_default().is_empty(),
            "{kind}: written through"
        );
        assert_eq!(
            target.exists(),
            kind == "symlink",
            "{kind}: made the link's target"
        );
    }
}

/// Mail to Andrew gets a 451, at RCPT or after the dot; others still get theirs.
#[track_caller]
fn refuses_with_451(sandbox: &Sandbox) {
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    smtp.ask("MAIL FROM:<stallings@localhost>", "250 2.1.0");
    smtp.line("RCPT TO:<andrew@localhost>");
    let rcpt = smtp.reply();
    if rcpt.code() == 250 {
        smtp.data("hi\r\n").expect("451 4.");
    } else {
        rcpt.expect("451 4.");
    }
    server.deliver("stallings@localhost", &["fourouzan@localhost"], NITC);
    assert_eq!(sandbox.records("Fourouzan").len(), 1);
}

// Sessions.

#[test]
fn ehlo_lists_what_is_offered() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["--hostname", "mx.example"]);
    let mut smtp = Smtp::connect(server.address());
    let greeting = smtp.expect("220 mx.example ESMTP minismtp");
    assert_eq!(greeting.lines.len(), 1);
    let reply = smtp.ask("EHLO client.example", "250 ");
    assert!(reply.lines[0].starts_with("250-mx.example"), "{reply}");
    let mut keywords: Vec<_> = reply.lines[1..].iter().map(|line| &line[4..]).collect();
    keywords.sort_unstable();
    assert_eq!(
        keywords,
        [
            "8BITMIME",
            "AUTH SCRAM-SHA-256 PLAIN LOGIN",
            "CHUNKING",
            "ENHANCEDSTATUSCODES",
            "HELP",
            "PIPELINING",
            "SIZE 26214400",
            "SMTPUTF8"
        ]
    );
    let helo = smtp.ask("HELO client.example", "250 mx.example");
    assert_eq!(helo.lines.len(), 1);
    smtp.ask("QUIT", "221 2.0.0 mx.example");
    smtp.expect_end();
}

#[test]
fn whole_dialog_may_come_in_one_segment() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.connect();
    let mut all = String::from("EHLO client.example\r\n");
    for n in 1..=20 {
        all += "MAIL FROM:<stallings@localhost>\r\nRCPT TO:<andrew@localhost>\r\n\
                RCPT TO:<nobody@localhost>\r\nDATA\r\n";
        all += &format!("Subject: {n}\r\n\r\n..x\r\n.\r\nRSET\r\n");
    }
    all += "QUIT\r\n";
    smtp.raw(all);
    smtp.expect("250");
    for _ in 1..=20 {
        for reply in [
            "250 2.1.0",
            "250 2.1.5",
            "550 5.1.1",
            "354 ",
            "250 2.0.0 Ok: queued as",
        ] {
            smtp.expect(reply);
        }
        smtp.expect("250 2.0.0");
    }
    smtp.expect("221 2.0.0");
    smtp.expect_end();
    let subjects: Vec<_> = sandbox
        .records("Andrew")
        .into_iter()
        .map(|r| r.subject)
        .collect();
    assert_eq!(
        subjects,
        (1..=20).map(|n| n.to_string()).collect::<Vec<_>>()
    );
}

#[test]
fn client_that_closes_its_side_early_is_still_answered() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = Smtp::connect(server.address());
    smtp.raw(
        "HELO x\r\nMAIL FROM:<stallings@localhost>\r\nRCPT TO:<andrew@localhost>\r\nDATA\r\n\
         hi\r\n.\r\n",
    );
    smtp.half_close();
    for reply in [
        "220 ",
        "250 ",
        "250 2.1.0",
        "250 2.1.5",
        "354 ",
        "250 2.0.0 Ok: queued",
    ] {
        smtp.expect(reply);
    }
    assert_eq!(sandbox.records("Andrew").len(), 1);
}

#[test]
fn one_sender_may_use_only_its_own_address_when_logged_in() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    smtp.login("stallings", "network$ecurity")
        .expect("235 2.7.0");
    smtp.ask("MAIL FROM:<andrew@localhost>", "553 5.7.1");
    smtp.ask("MAIL FROM:<stranger@elsewhere.example>", "553 5.7.1");
    smtp.ask("MAIL FROM:<>", "250 2.1.0");
    smtp.ask("RSET", "250 2.0.0");
    smtp.ask("MAIL FROM:<stallings@localhost>", "250 2.1.0");
}

#[test]
fn loopback_peer_may_send_as_anyone_without_a_login() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    server.deliver("fourouzan@localhost", &["andrew@localhost"], NITC);
    server.deliver("stranger@elsewhere.example", &["andrew@localhost"], NITC);
    assert_eq!(sandbox.records("Andrew").len(), 2);
}

#[test]
fn other_peers_may_not_use_the_address_of_a_user() {
    let Some(address) = own_address() else { return };
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["--host", &address.to_string(), "--insecure-auth"]);
    assert_eq!(server.address().ip(), address);
    let mut smtp = server.hello();
    smtp.ask("MAIL FROM:<stallings@localhost>", "530 5.7.0");
    smtp.ask("MAIL FROM:<STALLINGS@anywhere.example>", "530 5.7.0");
    smtp.ask("MAIL FROM:<stranger@elsewhere.example>", "250 2.1.0");
    smtp.ask("RSET", "250 2.0.0");
    smtp.login("Stallings", "network$ecurity")
        .expect("235 2.7.0");
    smtp.ask("MAIL FROM:<stallings@localhost>", "250 2.1.0");
}

/// An address of this machine that is not loopback, if it has one.
pub(crate) fn own_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Connecting a UDP socket sends nothing; it only picks the way out.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[test]
fn what_a_network_may_do_or_cannot_is_told_at_the_start() {
    let sandbox = Sandbox::lab();
    let no_login = "nobody can log in to 0.0.0.0:";
    let clear = "`--insecure-auth` on 0.0.0.0:";
    let open = ["--host", "127.0.0.1", "--host", "0.0.0.0"];
    for (hosts, flags, expected) in [
        // Mail from other servers needs no login.
        (&open[2..], &[][..], None),
        (&open[2..], &["--auth", "required"], Some(no_login)),
        (&open[..2], &["--auth", "required"], None),
        (&open[2..], &["--pop3-port", "0"], Some(no_login)),
        (&open[..2], &["--pop3-port", "0"], None),
        (&open[2..], &["--insecure-auth"], Some(clear)),
        (&open[..2], &["--insecure-auth"], None),
        (
            &open,
            &["--tls", "self-signed", "--insecure-auth"],
            Some(clear),
        ),
        (
            &open[2..],
            &["--tls", "self-signed", "--auth", "required"],
            None,
        ),
        (
            &open[2..],
            &["--lmtp-port", "0", "--auth", "required"],
            Some(no_login),
        ),
    ] {
        let log = sandbox.serve(&[hosts, flags].concat()).terminate().log;
        let warnings = log
            .lines()
            .filter_map(|line| line.split_once(" warning \""));
        let warnings: Vec<&str> = warnings
            .map(|(_, warning)| warning)
            .filter(|warning| !warning.starts_with("running as root"))
            .collect();
        match expected {
            None => assert!(warnings.is_empty(), "{hosts:?} {flags:?}: {log}"),
            Some(expected) => {
                assert_eq!(warnings.len(), 1, "{hosts:?} {flags:?}: {log}");
                assert!(warnings[0].starts_with(expected), "{log}");
            }
        }
    }
}

#[test]
fn fewer_connections_than_there_should_be_are_told_of() {
    let sandbox = Sandbox::lab();
    let log = sandbox.serve_under("ulimit -n 100").terminate().log;
    assert!(
        log.contains("33 at once is all the connections there can be, not 10000"),
        "{log}"
    );
}

/// Also when there are more of them than are seen out at once.
#[test]
fn everybody_who_is_turned_away_is_told() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["--max-connections", "1"]);
    let _inside = server.hello();
    let mut outside: Vec<Smtp> = (0..300).map(|_| Smtp::connect(server.address())).collect();
    for smtp in &mut outside {
        smtp.expect("421 4.3.2");
    }
}

/// More large messages at once than there are files for: the small ones and their readers have theirs.
#[test]
fn many_large_messages_at_once_starve_nobody() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve_under("ulimit -n 200");
    let half = format!("{}\r\n", "x".repeat(78)).repeat(4000);
    let mut senders: Vec<Smtp> = (0..30).map(|_| server.hello()).collect();
    for sender in &mut senders {
        sender.envelope("a@b.example", &["andrew@localhost"]);
        sender.line("DATA");
        sender.expect("354");
        sender.raw(&half);
    }
    server.deliver(
        "a@b.example",
        &["andrew@localhost"],
        "Subject: small\n\nx\n",
    );
    let codes = senders.iter_mut().map(|sender| {
        sender.raw(".\r\n");
        sender.reply().code()
    });
    let codes: Vec<u16> = codes.collect();
    let taken = codes.iter().filter(|&&code| code == 250).count();
    assert!(taken > 0 && taken < codes.len(), "{codes:?}");
    assert!(
        codes.iter().all(|code| [250, 451].contains(code)),
        "{codes:?}"
    );
    assert_eq!(sandbox.records("Andrew").len(), taken + 1);
    let mut sender = server.hello();
    sender.envelope("a@b.example", &["andrew@localhost"]);
    sender.data(&half).expect("250");
    let log = server.terminate().log;
    assert!(log.contains("too many large messages at once"), "{log}");
}

#[test]
fn lines_of_the_credentials_that_are_skipped_are_told_of_once_for_each_change() {
    let sandbox = Sandbox::lab();
    let file = sandbox.path("logincred.txt");
    fs::write(&file, format!("{LAB}no comma\n")).unwrap();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    smtp.ask("MAIL FROM:<a@b.example>", "250");
    smtp.ask("RCPT TO:<andrew@localhost>", "250");
    fs::write(&file, format!("{LAB}no comma\nNobody,two words\n")).unwrap();
    for _ in 0..3 {
        smtp.ask("RCPT TO:<andrew@localhost>", "250");
        smtp.ask("RCPT TO:<nobody@localhost>", "550 5.1.1");
    }
    fs::write(&file, LAB).unwrap();
    smtp.ask("RCPT TO:<andrew@localhost>", "250");
    let log = server.terminate().log;
    let told = |line| {
        log.matches(&format!("logincred.txt`: line {line} "))
            .count()
    };
    assert_eq!((told(4), told(5)), (2, 1), "{log}");
}

#[test]
fn required_login_is_required_for_mail_only() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["--auth", "required"]);
    let mut smtp = server.hello();
    smtp.ask("MAIL FROM:<stallings@localhost>", "530 5.7.0");
    smtp.ask("NOOP", "250 2.0.0");
    smtp.ask("RSET", "250 2.0.0");
    smtp.login("Stallings", "network$ecurity")
        .expect("235 2.7.0");
    smtp.deliver("stallings@localhost", &["andrew@localhost"], NITC);
    assert_eq!(sandbox.records("Andrew").len(), 1);
}

#[test]
fn unknown_user_and_wrong_password_get_the_same_answer() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let wrong = server.hello().login("Stallings", "wrong");
    let unknown = server.hello().login("nobody", "wrong");
    assert_eq!(wrong, unknown);
    wrong.expect("535 5.7.8");
}

#[test]
fn guessing_is_ended_by_the_third_wrong_password_or_later() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    smtp.login("Stallings", "wrong").expect("535 5.7.8");
    smtp.login("Stallings", "wrong").expect("535 5.7.8");
    smtp.login("Stallings", "network$ecurity")
        .expect("235 2.7.0");
}

#[test]
fn argon2_secret_and_plain_password_both_log_in() {
    let sandbox = Sandbox::lab();
    sandbox
        .run(
            &["users", "add", "hashed", "--password-stdin"],
            "p@ss,word;x\n",
        )
        .code(0);
    let sandbox = sandbox.user("plain", "a,b");
    let server = sandbox.serve(&[]);
    server
        .hello()
        .login("hashed", "p@ss,word;x")
        .expect("235 2.7.0");
    server.hello().login("plain", "a,b").expect("235 2.7.0");
    server.hello().login("plain", "a").expect("535 5.7.8");
    let secret = sandbox.read("logincred.txt");
    let hash = secret
        .lines()
        .find_map(|line| line.strip_prefix("hashed,"))
        .unwrap();
    server.hello().login("hashed", hash).expect("535 5.7.8");
}

#[test]
fn size_over_the_limit_is_refused_at_mail_and_after_data() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["--max-message-size", "2K"]);
    let mut smtp = server.connect();
    let reply = smtp.ask("EHLO x", "250");
    assert!(
        reply.lines.iter().any(|line| &line[4..] == "SIZE 2048"),
        "{reply}"
    );
    smtp.ask("MAIL FROM:<a@b.example> SIZE=2049", "552 5.3.4");
    smtp.ask(
        "MAIL FROM:<a@b.example> SIZE=99999999999999999999",
        "552 5.3.4",
    );

    // The limit counts CRLF line ends and neither the stuffed dots nor the final one.
    let line = format!(".{}\r\n", "x".repeat(61));
    assert_eq!(line.len(), 64);
    let stuffed = format!(".{line}").repeat(32);
    smtp.ask("MAIL FROM:<a@b.example> SIZE=2048", "250 2.1.0");
    smtp.ask("RCPT TO:<andrew@localhost>", "250 2.1.5");
    smtp.data(&stuffed).expect("250 2.0.0");
    smtp.envelope("a@b.example", &["andrew@localhost"]);
    smtp.data(format!("{stuffed}\r\n")).expect("552 5.3.4");
    smtp.envelope("a@b.example", &["andrew@localhost"]);
    smtp.data("small\r\n").expect("250 2.0.0");
    assert_eq!(sandbox.records("Andrew").len(), 2);
}

#[test]
fn message_far_over_the_limit_is_read_to_its_end_or_cut_off() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["--max-message-size", "1K"]);
    let mut smtp = server.hello();
    smtp.envelope("a@b.example", &["andrew@localhost"]);
    smtp.ask("DATA", "354 ");
    smtp.try_raw("MAIL FROM:<a@b.example>\r\n".repeat(100_000));
    smtp.try_raw(".\r\nNOOP\r\nQUIT\r\n");
    let replies = smtp.rest();
    let kept_in_step = replies.starts_with("552 5.3.4")
        && replies.contains("\r\n250 2.0.0")
        && replies.contains("\r\n221 2.0.0")
        && replies.lines().count() == 3;
    let cut_off =
        replies.is_empty() || (replies.starts_with("421 4.7.0") && replies.lines().count() == 1);
    assert!(kept_in_step || cut_off, "{replies}");
    assert!(sandbox.records("Andrew").is_empty());
}

#[test]
fn recipients_over_the_limit_are_refused_and_the_others_kept() {
    let mut sandbox = Sandbox::lab();
    for number in 0..100 {
        sandbox = sandbox.user(&format!("user{number}"), "secret");
    }
    // RFC 5321 §4.5.3.1.8 allows no smaller limit.
    let server = sandbox.serve(&["--max-recipients", "100"]);
    let to: Vec<_> = (0..100)
        .map(|number| format!("user{number}@localhost"))
        .collect();
    let to: Vec<_> = to.iter().map(String::as_str).collect();
    let mut smtp = server.hello();
    smtp.envelope("a@b.example", &to);
    smtp.ask("RCPT TO:<stallings@localhost>", "452 4.5.3");
    smtp.ask("RCPT TO:<andrew@localhost>", "452 4.5.3");
    smtp.data("hi\r\n").expect("250 2.0.0");
    for (user, expected) in [("user0", 1), ("user99", 1), ("Stallings", 0), ("Andrew", 0)] {
        assert_eq!(sandbox.records(user).len(), expected, "{user}");
    }
}

#[test]
fn a_hundred_recipients_are_taken_all_or_none() {
    let mut sandbox = Sandbox::lab();
    for number in 0..100 {
        sandbox = sandbox.user(&format!("user{number}"), "secret");
    }
    let to: Vec<_> = (0..100)
        .map(|number| format!("user{number}@localhost"))
        .collect();
    let to: Vec<_> = to.iter().map(String::as_str).collect();
    let server = sandbox.serve(&[]);
    server.deliver("a@b.example", &to, NITC);
    for number in 0..100 {
        assert_eq!(sandbox.records(&format!("user{number}")).len(), 1);
    }

    // One mailbox that cannot be written: nobody gets anything, or RCPT already says so.
    fs::remove_file(sandbox.path("user57/mymailbox.mail")).unwrap();
    fs::create_dir(sandbox.path("user57/mymailbox.mail")).unwrap();
    let mut smtp = server.hello();
    smtp.ask("MAIL FROM:<a@b.example>", "250 2.1.0");
    let mut refused = 0;
    for to in &to {
        smtp.line(&format!("RCPT TO:<{to}>"));
        refused += usize::from(smtp.reply().code() == 451);
    }
    let (code, more) = (smtp.data("hi\r\n").code(), usize::from(refused == 1));
    assert_eq!(code, if refused == 1 { 250 } else { 451 });
    for number in (0..100).filter(|&number| number != 57) {
        assert_eq!(
            sandbox.records(&format!("user{number}")).len(),
            1 + more,
            "user{number}"
        );
    }
}

#[test]
fn connections_over_the_limit_are_told_to_come_later() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["--max-connections", "2"]);
    let (first, _second) = (server.hello(), server.hello());
    let mut third = Smtp::connect(server.address());
    third.expect("421 4.");
    third.expect_end();
    drop(first);
    until("a place is free again", || {
        Smtp::connect(server.address()).reply().code() == 220
    });
}

#[test]
fn idle_connection_is_closed_with_a_421() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["--timeout", "1"]);
    let mut smtp = server.hello();
    smtp.expect("421 4.4.2");
    smtp.expect_end();
}

// Starting and stopping.

#[test]
fn bare_port_is_the_labs_argument() {
    let sandbox = Sandbox::lab();
    let mut command = sandbox.command(&["serve", "0"]);
    command
        .current_dir(sandbox.root())
        .env_remove("MINISMTP_ROOT");
    let server = Server::start(command);
    assert!(server.address().ip().is_loopback());
    server.deliver("stallings@localhost", &["andrew@localhost"], NITC);
    assert_eq!(
        sandbox.records("Andrew").len(),
        1,
        "the current directory is the root"
    );
}

#[test]
fn every_host_gets_a_listener() {
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    if TcpListener::bind(v6).is_err() {
        return;
    }
    let sandbox = Sandbox::lab();
    let mut server = sandbox.serve(&["--host", "127.0.0.1", "--host", "::1"]);
    let second = server.next_listener();
    let address: SocketAddr = second
        .strip_prefix("listening smtp ")
        .unwrap()
        .parse()
        .unwrap();
    assert!(address.is_ipv6(), "{second}");
    let mut smtp = Smtp::connect(address);
    smtp.expect("220 ");
    smtp.ask("EHLO x", "250");
    smtp.deliver(
        "stallings@localhost",
        &["andrew@localhost"],
        "Subject: x\n\nhi\n",
    );
    let (_, received) = sandbox.records("Andrew")[0].trace();
    assert!(received.contains("[IPv6:::1]"), "{received}");
}

#[test]
fn root_is_made_when_it_is_missing() {
    let sandbox = Sandbox::new();
    fs::remove_dir(sandbox.root()).unwrap();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    smtp.ask("MAIL FROM:<a@b.example>", "250 2.1.0");
    smtp.ask("RCPT TO:<andrew@localhost>", "550 5.1.1");
    let mode = fs::metadata(sandbox.root()).unwrap().permissions().mode() & 0o777;
    assert_eq!(format!("{mode:o}"), "700");
}

#[test]
fn terminate_ends_idle_sessions_with_a_421_and_exits_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let sandbox = Sandbox::lab();
        let server = sandbox.serve(&[]);
        let (mut idle, mut greeted) = (server.hello(), server.connect());
        server.signal(signal);
        for smtp in [&mut idle, &mut greeted] {
            smtp.expect("421 4.3.2");
            smtp.expect_end();
        }
        let stopped = server.wait();
        assert_eq!(stopped.code, 0, "{signal:?}: {}", stopped.log);
    }
}

#[test]
fn terminate_lets_a_message_in_flight_finish() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    let mut idle = server.hello();
    smtp.envelope("stallings@localhost", &["andrew@localhost"]);
    smtp.ask("DATA", "354 ");
    smtp.raw("Subject: x\r\n\r\nfirst half\r\n");
    server.signal(Signal::TERM);
    idle.expect("421 4.3.2");
    smtp.raw("second half\r\n.\r\n");
    smtp.expect("250 2.0.0");
    smtp.expect("421 4.3.2");
    smtp.expect_end();
    assert_eq!(server.wait().code, 0);
    assert_eq!(
        sandbox.records("Andrew")[0].message(),
        b"Subject: x\n\nfirst half\nsecond half\n"
    );
}

#[test]
fn hangup_signal_is_harmless() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    server.signal(Signal::HUP);
    smtp.ask("NOOP", "250 2.0.0");
    server.deliver("stallings@localhost", &["andrew@localhost"], NITC);
    assert_eq!(server.terminate().code, 0);
}

#[test]
fn log_holds_neither_passwords_nor_bodies() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["-vv"]);
    let mut smtp = server.hello();
    smtp.login("Stallings", "wr0ng-password").expect("535");
    smtp.login("Stallings", "network$ecurity").expect("235");
    smtp.deliver(
        "stallings@localhost",
        &["andrew@localhost"],
        "Subject: x\n\nbody-of-mail\n",
    );
    let mut login = server.hello();
    login.ask("AUTH LOGIN", "334 VXNlcm5hbWU6");
    login.ask(&crate::smtp::base64("Andrew"), "334 UGFzc3dvcmQ6");
    login.ask(&crate::smtp::base64("@dministr@tor"), "235 2.7.0");
    let log = server.terminate().log;
    assert!(log.contains("andrew@localhost"), "{log}");
    for secret in [
        "wr0ng-password",
        "network$ecurity",
        "@dministr@tor",
        "body-of-mail",
        &plain("Stallings", "network$ecurity"),
        &plain("Stallings", "wr0ng-password"),
        &crate::smtp::base64("@dministr@tor"),
    ] {
        assert!(!log.contains(secret), "{secret:?} is in the log:\n{log}");
    }
}

/// Clients go on with their passwords whatever AUTH was answered.
#[test]
fn log_holds_no_password_of_an_auth_that_was_refused() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["-vv"]);
    let secret = crate::smtp::base64("@dministr@tor");
    let mut early = server.connect();
    early.ask("AUTH LOGIN", "503");
    early.ask(&secret, "500");
    let mut forgetful = server.hello();
    forgetful.ask(&format!("AUTH {secret}"), "504");
    forgetful.ask(&format!("AUTH PLAIN {secret} {secret}"), "501");
    forgetful.ask("MAIL FROM:<stallings@localhost>", "250");
    forgetful.ask(&format!("AUTH PLAIN {secret}"), "503");
    forgetful.ask(&secret, "500");
    let log = server.terminate().log;
    assert!(!log.contains(&secret), "{log}");
}

/// Two threads serve everybody: nobody may keep one to themselves.
#[test]
fn clients_that_never_pause_keep_nobody_waiting() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["-q"]);
    let is_over = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..8)
        .map(|_| {
            let mut flood = server.hello();
            let mut answers = flood.stream();
            thread::spawn(move || {
                let mut buffer = [0; 65536];
                while answers.read(&mut buffer).is_ok_and(|octets| octets > 0) {}
            });
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                let commands = "NOOP\r\n".repeat(10_000);
                while !is_over.load(Ordering::Relaxed) {
                    flood.try_raw(&commands);
                }
            })
        })
        .collect();
    for _ in 0..5 {
        server.deliver("stallings@localhost", &["andrew@localhost"], NITC);
    }
    is_over.store(true, Ordering::Relaxed);
    for flood in floods {
        flood.join().unwrap();
    }
    assert_eq!(sandbox.records("Andrew").len(), 5);
}

#[test]
fn log_that_nobody_reads_keeps_neither_mail_nor_the_end() {
    let sandbox = Sandbox::lab();
    let mut child = sandbox
        .command(&["serve", "--port", "0", "-vv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line
        .trim_end()
        .strip_prefix("listening smtp ")
        .unwrap()
        .parse()
        .unwrap();
    let mut smtp = Smtp::connect(address);
    smtp.expect("220");
    // Far more than a pipe holds.
    for _ in 0..3000 {
        smtp.ask("NOOP", "250");
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    until("the server ends", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn both_halves_of_the_internet_are_listened_on_at_one_port() {
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let sandbox = Sandbox::lab();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let hosts = ["--host", "0.0.0.0", "--host", "::"];
    let mut command = sandbox.command(&["serve", "--port", &port]);
    let mut server = Server::start({
        command.args(hosts);
        command
    });
    server.next_listener();
    for host in ["127.0.0.1", "[::1]"] {
        let address = format!("{host}:{port}").parse().unwrap();
        Smtp::connect(address).expect("220");
    }
}

#[test]
fn log_line_cannot_be_forged_or_control_the_terminal() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["-vv"]);
    let mut smtp = server.connect();
    smtp.raw("EHLO \x1b[2J\x07evil\r\nNOOP \x1b[31mred\r\n");
    smtp.reply();
    smtp.reply();
    smtp.ask("MAIL FROM:<\x1b[31m@x>", "5");
    let log = server.terminate().log;
    assert!(!log.contains('\x1b') && !log.contains('\x07'), "{log:?}");
}

#[test]
fn port_in_use_is_73() {
    let sandbox = Sandbox::lab();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (arguments, flag) in [
        (&["--port", &port][..], "--port"),
        (&["--pop3-port", &port], "--pop3-port"),
        (&["--lmtp-port", &port], "--lmtp-port"),
        (
            &["--tls", "self-signed", "--smtps-port", &port],
            "--smtps-port",
        ),
        (
            &["--tls", "self-signed", "--pop3s-port", &port],
            "--pop3s-port",
        ),
    ] {
        let smtp = if flag == "--port" {
            &[][..]
        } else {
            &["--port", "0"]
        };
        let output = sandbox
            .run(&[&["serve"], smtp, arguments].concat(), "")
            .code(73)
            .stdout("");
        one_clear_error(&output.stderr, &port);
        let hint = format!("take another with `{flag} N`");
        assert!(output.stderr.contains(&hint), "{output:?}");
    }
}

#[test]
fn one_port_for_two_protocols_is_64() {
    let sandbox = Sandbox::lab();
    for (flags, both) in [
        (
            &["--port", "4711", "--pop3-port", "4711"][..],
            "`--port` and `--pop3-port` both take 127.0.0.1:4711",
        ),
        (
            &["--lmtp-port", "4711", "--port", "4711"],
            "`--port` and `--lmtp-port` both take 127.0.0.1:4711",
        ),
        (
            &["--host", "0.0.0.0", "--port", "4711", "--lmtp-port", "4711"],
            "`--port` and `--lmtp-port` both take 0.0.0.0:4711",
        ),
    ] {
        let arguments = [&["serve"], flags].concat();
        let output = sandbox.run(&arguments, "").code(64).stdout("");
        one_clear_error(&output.stderr, both);
    }
}

#[test]
fn place_that_cannot_be_listened_at_has_a_hint() {
    let sandbox = Sandbox::lab();
    let missing = sandbox.beside("missing");
    let socket = missing.join("lmtp");
    let output = sandbox
        .run(
            &[
                "serve",
                "--port",
                "0",
                "--lmtp-socket",
                socket.to_str().unwrap(),
            ],
            "",
        )
        .code(73)
        .stdout("");
    one_clear_error(&output.stderr, socket.to_str().unwrap());
    let hint = format!(
        "hint: the directory `{}` has to be there",
        missing.display()
    );
    assert!(output.stderr.contains(&hint), "{output:?}");
    let output = sandbox
        .run(&["serve", "--port", "0", "--host", "host.invalid"], "")
        .code(68)
        .stdout("");
    one_clear_error(&output.stderr, "host.invalid");
    output.stderr_has("hint: `--host` takes an address of this machine");
}

#[test]
fn root_that_cannot_be_read_is_74() {
    let sandbox = Sandbox::lab();
    let mut command = Command::new(sandbox.copied_binary());
    command
        .args(["serve", "--port", "0", "--root"])
        .arg(sandbox.root());
    command.current_dir("/").env_clear();
    if rustix::process::getuid().is_root() {
        command.uid(65534).gid(65534);
        fs::set_permissions(sandbox.root(), fs::Permissions::from_mode(0o700)).unwrap();
    } else {
        fs::set_permissions(sandbox.root(), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let output = run(&mut command, "");
    fs::set_permissions(sandbox.root(), fs::Permissions::from_mode(0o700)).unwrap();
    one_clear_error(&output.code(74).stdout("").stderr, "root");
}

#[test]
fn names_that_differ_only_in_case_are_78() {
    let sandbox = Sandbox::lab().user("ANDREW", "x");
    let output = sandbox
        .run(&["serve", "--port", "0"], "")
        .code(78)
        .stdout("");
    one_clear_error(&output.stderr, "logincred.txt");
}

#[test]
fn bad_line_in_the_credentials_is_reported_and_skipped() {
    let sandbox = Sandbox::lab();
    let file = format!("no comma here\r\n\r\n{LAB}bad name,x\n../x,y\nlast,word");
    sandbox.write_users(&file);
    let server = sandbox.serve(&[]);
    server.deliver(
        "stallings@localhost",
        &["andrew@localhost", "last@localhost"],
        NITC,
    );
    server.hello().login("last", "word").expect("235 2.7.0");
    let log = server.terminate().log;
    assert!(log.contains("line 1"), "{log}");
    assert!(
        !log.contains("no comma here"),
        "it could be a password: {log}"
    );
}

#[test]
fn credentials_with_crlf_line_ends_are_read() {
    let sandbox = Sandbox::lab();
    let file = LAB.replace('\n', "\r\n");
    fs::write(sandbox.path("logincred.txt"), file).unwrap();
    let server = sandbox.serve(&[]);
    server
        .hello()
        .login("Fourouzan", "d@t@comm")
        .expect("235 2.7.0");
}

#[test]
fn wrong_usage_is_64() {
    let sandbox = Sandbox::lab();
    for arguments in [
        &["serve", "--no-such-flag"][..],
        &["serve", "--port", "99999"],
        &["serve", "notaport"],
        &["serve", "--auth", "perhaps"],
        &["serve", "--max-message-size", "many"],
        &["nonsense"],
        &[],
    ] {
        let output = sandbox.run(arguments, "").code(64).stdout("");
        assert!(!output.stderr.is_empty(), "{arguments:?} says nothing");
    }
    let help = sandbox.run(&["serve", "--help"], "").code(0).silent();
    assert!(help.stdout.contains("--max-recipients"), "{}", help.stdout);
    let version = sandbox.run(&["--version"], "").code(0).silent();
    assert!(
        version.stdout.starts_with("minismtp "),
        "{}",
        version.stdout
    );
}

#[test]
fn full_disk_gets_a_4xx_and_leaves_nothing_in_part() {
    let sandbox = Sandbox::lab();
    // No file may grow over 4 MiB: the disk is full in the middle of a message.
    let server = sandbox.serve_under("ulimit -f 8192");
    server.deliver("stallings@localhost", &["andrew@localhost"], NITC);

    let mut smtp = server.hello();
    let to = ["andrew@localhost", "fourouzan@localhost"];
    smtp.envelope("stallings@localhost", &to);
    let line = format!("{}\r\n", "x".repeat(1000));
    let reply = smtp.data(line.repeat(9_000));
    assert!(matches!(reply.code(), 451 | 452), "{reply}");
    assert_eq!(sandbox.records("Andrew").len(), 1);
    assert!(sandbox.records("Fourouzan").is_empty());

    server.deliver("stallings@localhost", &["andrew@localhost"], NITC);
    let andrew = sandbox.records("Andrew");
    assert_eq!(andrew.len(), 2);
    assert_eq!(andrew[0].content, andrew[1].content);
}

#[test]
fn time_of_arrival_is_local_time() {
    let sandbox = Sandbox::lab();
    let mut command = sandbox.command(&["serve", "--port", "0"]);
    // Half past, so that neither UTC nor any whole hour can be taken for it.
    command.env("TZ", "IST-5:30");
    let server = Server::start(command);
    let now = || {
        let zone = chrono::FixedOffset::east_opt(5 * 3600 + 1800).unwrap();
        chrono::Utc::now()
            .with_timezone(&zone)
            .format("%Y-%m-%d : %H : %M")
            .to_string()
    };
    let before = now();
    server.deliver("stallings@localhost", &["andrew@localhost"], NITC);
    let received = sandbox.records("Andrew")[0].received.clone();
    assert!(
        before <= received && received <= now(),
        "{received}, not {before}"
    );
}

/// One sentence that begins with `error:` and names the thing; no backtrace, no panic.
#[track_caller]
fn one_clear_error(stderr: &str, thing: &str) {
    let errors: Vec<_> = stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "not one error line: {stderr}");
    assert!(
        errors[0].contains(thing),
        "{thing:?} is not named: {stderr}"
    );
    assert!(!errors[0].ends_with('.'), "a full stop ends it: {stderr}");
    assert!(
        !stderr.contains("panicked") && stderr.lines().count() <= 3,
        "too much: {stderr}"
    );
}

#[test]
fn empty_challenge_keeps_its_space_and_hello_gets_no_enhanced_code() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.connect();
    let refused = smtp.ask("EHLO", "501 ");
    assert!(!refused.lines[0].starts_with("501 5."), "{refused}");
    smtp.ask("EHLO x", "250 ");
    assert_eq!(smtp.ask("AUTH PLAIN", "334").lines, ["334 "]);
}

#[test]
fn client_that_says_nothing_sensible_is_sent_away() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    let mut patience = 0;
    loop {
        smtp.line("XYZZY");
        let reply = smtp.reply();
        if reply.code() == 421 {
            reply.expect("421 4.7.0");
            break;
        }
        reply.expect("500 5.5.2");
        patience += 1;
        assert!(patience <= 20, "twenty are enough");
    }
    assert!(patience >= 9, "a person may mistype {patience} times");
    smtp.expect_end();
}
