//! POP3 and Teena's verbs on the wire, as a peer meets them.

use std::fs;
use std::io::Write as _;
use std::time::Instant;

use crate::pop::Pop;
use crate::sandbox::{Sandbox, Server, masked, until};
use crate::smtp::plain;

const PASSWORD: &str = "@dministr@tor";
const NITC: &str = "From: stallings@localhost\nTo: andrew@localhost\nSubject: SMTP Experiment\n\n\
                    Next evaluation will be on 22 March 2021.\nPlease be ready.\n";

/// A server, and these messages in Andrew's mailbox, from Stallings.
fn andrew(messages: &[&str]) -> (Sandbox, Server) {
    served(&[], messages)
}

/// The same without passwords.
fn lab(messages: &[&str]) -> (Sandbox, Server) {
    served(&["--lab"], messages)
}

fn served(flags: &[&str], messages: &[&str]) -> (Sandbox, Server) {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve_pop3(flags);
    for message in messages {
        deliver(&server, message);
    }
    (sandbox, server)
}

fn deliver(server: &Server, message: &str) {
    server.deliver("stallings@localhost", &["andrew@localhost"], message);
}

fn login(server: &Server) -> Pop {
    server.maildrop("Andrew", PASSWORD)
}

/// A plain message with this body.
fn note(body: &str) -> String {
    format!("From: stallings@localhost\nTo: andrew@localhost\nSubject: x\n\n{body}")
}

fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

/// The unique-ids in order.
fn unique_ids(pop: &mut Pop) -> Vec<String> {
    let lines = pop.ask_lines("UIDL");
    let ids: Vec<_> = lines
        .iter()
        .map(|line| line.split_once(' ').unwrap().1.to_owned())
        .collect();
    for id in &ids {
        let is_sound =
            (1..=70).contains(&id.len()) && id.bytes().all(|o| (0x21..=0x7e).contains(&o));
        assert!(is_sound, "no unique-id: {id:?}");
    }
    ids
}

// The session.

#[test]
fn every_command_works_in_one_session() {
    let (sandbox, server) = andrew(&[NITC, &note("two\n"), &note("three\n")]);
    let mut pop = login(&server);
    let sizes = pop.ask_lines("LIST");
    let total: u64 = sizes
        .iter()
        .map(|l| l.split_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum();
    assert_eq!(pop.ask("STAT", "+OK"), format!("+OK 3 {total}"));
    assert_eq!(pop.ask("LIST 2", "+OK"), format!("+OK {}", sizes[1]));
    let ids = pop.ask_lines("UIDL");
    assert_eq!(pop.ask("UIDL 3", "+OK"), format!("+OK {}", ids[2]));
    let whole = pop.ask_text("RETR 1");
    assert_eq!(pop.ask_text("TOP 1 1000"), whole);
    pop.ask("NOOP", "+OK");
    pop.ask("DELE 1", "+OK");
    pop.ask("DELE 1", "-ERR");
    pop.ask("RETR 1", "-ERR");
    pop.ask("LIST 1", "-ERR");
    pop.ask("UIDL 1", "-ERR");
    pop.ask("TOP 1 0", "-ERR");
    assert!(pop.ask("STAT", "+OK 2 ").starts_with("+OK 2 "));
    pop.ask("RSET", "+OK");
    assert_eq!(pop.ask("STAT", "+OK"), format!("+OK 3 {total}"));
    pop.ask("DELE 2", "+OK");
    assert_eq!(
        sandbox.records("Andrew").len(),
        3,
        "deletions wait for QUIT"
    );
    pop.quit();
    assert_eq!(sandbox.records("Andrew").len(), 2);
}

#[test]
fn capabilities_are_announced_before_and_after_the_login() {
    let (_sandbox, server) = andrew(&[]);
    let mut pop = server.pop3();
    let before = pop.ask_lines("CAPA");
    for tag in [
        "TOP",
        "UIDL",
        "USER",
        "RESP-CODES",
        "AUTH-RESP-CODE",
        "PIPELINING",
    ] {
        assert!(before.iter().any(|line| line == tag), "{tag} in {before:?}");
    }
    let begins = |tag: &str| {
        before
            .iter()
            .any(|line| line.split(' ').next() == Some(tag))
    };
    assert!(begins("UTF8"), "{before:?}");
    let sasl = before
        .iter()
        .find(|line| line.starts_with("SASL "))
        .unwrap();
    assert!(
        sasl.split(' ').any(|mechanism| mechanism == "PLAIN"),
        "{sasl}"
    );
    pop.login("Andrew", PASSWORD);
    let after = pop.ask_lines("CAPA");
    for tag in &before {
        assert!(after.contains(tag), "{tag:?} in {after:?}");
    }
    assert!(
        !before.iter().any(|line| line.starts_with("STLS")),
        "not without a certificate"
    );
}

#[test]
fn commands_may_come_in_any_case_and_all_at_once() {
    let (_sandbox, server) = andrew(&[NITC]);
    let mut pop = Pop::connect(server.pop3_address());
    pop.raw(format!(
        "user Andrew\r\nPass {PASSWORD}\r\nsTaT\r\nretr 1\r\ndele 1\r\nQuit\r\n"
    ));
    for _ in 0..3 {
        pop.expect("+OK");
    }
    pop.expect("+OK 1 ");
    pop.expect("+OK");
    assert!(pop.text().ends_with(b"Please be ready.\r\n"));
    pop.expect("+OK");
    pop.expect("+OK");
    pop.expect_end();
}

#[test]
fn auth_plain_logs_in() {
    let (_sandbox, server) = andrew(&[]);
    let response = plain("andrew", PASSWORD);
    server.pop3().ask(&format!("AUTH PLAIN {response}"), "+OK");
    let mut pop = server.pop3();
    pop.ask("AUTH PLAIN", "+ ");
    pop.ask(&response, "+OK");
    pop.ask("STAT", "+OK 0 0");
    let mut pop = server.pop3();
    pop.ask("AUTH PLAIN", "+ ");
    pop.ask("*", "-ERR");
    pop.ask("AUTH PLAIN !!", "-ERR");
    pop.ask("AUTH CRAM-MD5", "-ERR");
    pop.ask(
        &format!("AUTH PLAIN {}", plain("Andrew", "wrong")),
        "-ERR [AUTH]",
    );
    pop.ask("STAT", "-ERR");
}

#[test]
fn session_in_lf_is_answered_in_crlf() {
    let (_sandbox, server) = andrew(&[NITC]);
    let mut pop = Pop::connect(server.pop3_address());
    pop.expect("+OK");
    pop.raw(format!("USER Andrew\nPASS {PASSWORD}\nLIST\nQUIT\n"));
    pop.expect("+OK");
    pop.expect("+OK");
    pop.expect("+OK");
    assert!(pop.text().starts_with(b"1 "));
    pop.expect("+OK");
    pop.expect_end();
}

#[test]
fn wrong_passwords_and_users_look_the_same() {
    let (_sandbox, server) = andrew(&[]);
    let mut replies = Vec::new();
    for (user, password) in [("Andrew", "wrong"), ("nobody", "wrong")] {
        let mut pop = server.pop3();
        replies.push((
            pop.ask(&format!("USER {user}"), "+OK").replace(user, "X"),
            pop.ask(&format!("PASS {password}"), "-ERR [AUTH]"),
        ));
    }
    assert_eq!(replies[0], replies[1]);
}

#[test]
fn guessing_is_slowed_down_ended_and_logged() {
    let (_sandbox, server) = andrew(&[]);
    let mut pop = server.pop3();
    let mut times = Vec::new();
    for attempt in 0..20 {
        pop.try_raw("USER Andrew\r\n");
        pop.try_raw(format!("PASS guess{attempt}\r\n"));
        let begin = Instant::now();
        pop.expect("+OK");
        let answer = pop.expect("-ERR");
        times.push(begin.elapsed());
        if answer.contains("closing") {
            break;
        }
    }
    assert!(
        (3..20).contains(&times.len()),
        "the server hangs up at some time: {times:?}"
    );
    pop.expect_end();
    let slowest = times.iter().max().unwrap().as_millis();
    assert!(slowest >= 100, "answers come at once: {times:?}");
    until("the failures are in the log", || {
        let log = server.log();
        let lines = log
            .lines()
            .filter(|line| line.contains("login") && line.contains("Andrew"));
        lines.count() >= times.len()
    });
    assert!(
        !server.log().contains("guess"),
        "passwords are in the log: {}",
        server.log()
    );
}

// What is shown.

#[test]
fn sizes_are_octets_with_crlf_and_the_same_everywhere() {
    let dots = ".\n..\n...\n.a\n";
    let html = "Subject: x\nContent-Type: text/html\n\n<p>é</p>\n".to_owned();
    let messages = [
        NITC.to_owned(),
        note(dots),
        note(""),
        html,
        note(&"long line ".repeat(500)),
    ];
    let (_sandbox, server) = andrew(&messages.each_ref().map(String::as_str));
    let mut pop = login(&server);
    let list = pop.ask_lines("LIST");
    assert_eq!(list.len(), messages.len());
    let mut total = 0;
    for (number, line) in (1..).zip(&list) {
        let octets = pop.ask_text(&format!("RETR {number}")).len();
        assert_eq!(*line, format!("{number} {octets}"));
        total += octets;
    }
    assert_eq!(
        pop.ask("STAT", "+OK"),
        format!("+OK {} {total}", messages.len())
    );
}

#[test]
fn lines_of_dots_arrive_as_they_were() {
    let body = ".\n..\n...\n....\n.hidden\n. \na.\n.\n";
    let (_sandbox, server) = andrew(&[&note(body)]);
    let mut pop = login(&server);
    let text = String::from_utf8(pop.ask_text("RETR 1")).unwrap();
    assert_eq!(text.split_once("\r\n\r\n").unwrap().1, crlf(body));
    let top = String::from_utf8(pop.ask_text("TOP 1 3")).unwrap();
    assert_eq!(top.split_once("\r\n\r\n").unwrap().1, ".\r\n..\r\n...\r\n");
    pop.ask("NOOP", "+OK");
}

#[test]
fn top_gives_the_header_and_as_many_lines() {
    let (_sandbox, server) = andrew(&["Subject: a\nX-B: c\n d\n\none\n\ntwo\nthree\n"]);
    let mut pop = login(&server);
    let whole = String::from_utf8(pop.ask_text("RETR 1")).unwrap();
    let (header, _) = whole.split_once("\r\n\r\n").unwrap();
    for (lines, body) in [(0, ""), (1, "one\r\n"), (3, "one\r\n\r\ntwo\r\n")] {
        let top = String::from_utf8(pop.ask_text(&format!("TOP 1 {lines}"))).unwrap();
        assert_eq!(top, format!("{header}\r\n\r\n{body}"), "{lines}");
    }
    for wrong in ["TOP", "TOP 1", "TOP 1 -1", "TOP 0 1", "TOP 2 1", "TOP 1 x"] {
        pop.ask(wrong, "-ERR");
    }
}

#[test]
fn plain_record_comes_as_a_message() {
    let (_sandbox, server) = andrew(&[NITC]);
    let text = String::from_utf8(login(&server).ask_text("RETR 1")).unwrap();
    let (header, body) = text.split_once("\r\n\r\n").unwrap();
    let mut fields: Vec<_> = masked(header).lines().map(str::to_owned).collect();
    fields.sort_unstable();
    let expected = [
        "Date: <date>",
        "From: stallings@localhost",
        "Subject: SMTP Experiment",
        "To: andrew@localhost",
    ];
    assert_eq!(fields, expected, "{header}");
    assert_eq!(body, crlf(NITC.split_once("\n\n").unwrap().1));
}

#[test]
fn full_record_comes_octet_for_octet_after_its_trace() {
    let content = "From: Stallings <stallings@localhost>\nTo: andrew@localhost\n\
                   Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n folded\nX-Odd:no space\n\
                   MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n\
                   .\n..\nschön\n\n\ttab \n\n";
    let (_sandbox, server) = andrew(&[content]);
    let text = String::from_utf8(login(&server).ask_text("RETR 1")).unwrap();
    let rest = text
        .strip_prefix("Return-Path: <stallings@localhost>\r\nReceived: ")
        .unwrap();
    let mut lines = rest
        .split_inclusive("\r\n")
        .skip(1)
        .skip_while(|l| l.starts_with('\t'));
    let first = lines.next().unwrap().to_owned();
    assert_eq!(first + &lines.collect::<String>(), crlf(content));
}

#[test]
fn empty_mailbox_has_nothing() {
    let (_sandbox, server) = andrew(&[]);
    let mut pop = login(&server);
    pop.ask("STAT", "+OK 0 0");
    assert!(pop.ask_text("LIST").is_empty() && pop.ask_text("UIDL").is_empty());
    for wrong in ["LIST 1", "UIDL 1", "RETR 1", "DELE 1", "TOP 1 0"] {
        pop.ask(wrong, "-ERR");
    }
    pop.ask("READM", "-ERR No More Mail");
    pop.ask("DELM", "-ERR");
    pop.quit();
}

#[test]
fn numbers_that_are_none_are_refused() {
    let (_sandbox, server) = andrew(&[NITC]);
    let mut pop = login(&server);
    for number in [
        "0",
        "-1",
        "+1",
        "2",
        "x",
        "1x",
        "18446744073709551617",
        "",
        "1 1",
    ] {
        for verb in ["RETR", "DELE"] {
            pop.ask(&format!("{verb} {number}"), "-ERR");
        }
    }
    pop.ask("STAT", "+OK 1 ");
}

#[test]
fn unique_ids_outlast_sessions_deletions_and_servers() {
    let same = note("the same\n");
    let (sandbox, server) = andrew(&[&same, NITC, &same, &same]);
    let mut pop = login(&server);
    let before = unique_ids(&mut pop);
    let distinct: std::collections::BTreeSet<_> = before.iter().collect();
    assert_eq!(
        distinct.len(),
        4,
        "identical messages are told apart: {before:?}"
    );
    pop.quit();
    let mut pop = login(&server);
    assert_eq!(unique_ids(&mut pop), before);
    pop.ask("DELE 1", "+OK");
    pop.ask("DELE 2", "+OK");
    assert_eq!(unique_ids(&mut pop), before[2..]);
    pop.quit();
    deliver(&server, &same);
    assert_eq!(server.terminate().code, 0);
    let server = sandbox.serve_pop3(&[]);
    let after = unique_ids(&mut login(&server));
    assert_eq!(after[..2], before[2..]);
    assert_eq!(after.len(), 3);
    assert!(
        !before.contains(&after[2]),
        "an id is used again: {before:?} {after:?}"
    );
}

// What is deleted.

#[test]
fn lost_connection_deletes_nothing() {
    let (sandbox, server) = andrew(&[NITC, NITC]);
    let mut pop = login(&server);
    pop.ask("DELE 1", "+OK");
    drop(pop);
    // The lock is gone with the connection.
    until("the mailbox is free again", || {
        let mut pop = server.pop3();
        pop.ask("USER Andrew", "+OK");
        pop.line(&format!("PASS {PASSWORD}"));
        pop.answer().starts_with("+OK")
    });
    assert_eq!(sandbox.records("Andrew").len(), 2);
}

#[test]
fn numbers_stay_after_a_deletion_and_shift_in_the_next_session() {
    let (_sandbox, server) = andrew(&[&note("1\n"), &note("2\n"), &note("3\n")]);
    let mut pop = login(&server);
    pop.ask("DELE 2", "+OK");
    let numbers: Vec<_> = pop
        .ask_lines("LIST")
        .iter()
        .map(|line| line[..1].to_owned())
        .collect();
    assert_eq!(numbers, ["1", "3"]);
    assert!(pop.ask_text("RETR 3").ends_with(b"\r\n3\r\n"));
    pop.quit();
    let mut pop = login(&server);
    assert!(pop.ask_text("RETR 2").ends_with(b"\r\n3\r\n"));
}

#[test]
fn delivery_goes_on_during_a_session_and_survives_its_deletions() {
    let (sandbox, server) = andrew(&[&note("1\n"), &note("2\n")]);
    let mut pop = login(&server);
    pop.ask("DELE 1", "+OK");
    deliver(&server, &note("3\n"));
    assert!(
        pop.ask("STAT", "+OK 1 ").starts_with("+OK 1 "),
        "a session is a snapshot"
    );
    pop.ask("RETR 3", "-ERR");
    pop.quit();
    let bodies: Vec<_> = sandbox
        .records("Andrew")
        .iter()
        .map(crate::sandbox::Record::text)
        .collect();
    assert_eq!(bodies, ["2\n", "3\n"]);
}

#[test]
fn second_session_finds_the_mailbox_in_use() {
    let (_sandbox, server) = andrew(&[NITC]);
    let first = login(&server);
    let mut second = server.pop3();
    second.ask("USER andrew", "+OK");
    second.ask(&format!("PASS {PASSWORD}"), "-ERR [IN-USE]");
    second.ask(
        &format!("AUTH PLAIN {}", plain("Andrew", PASSWORD)),
        "-ERR [IN-USE]",
    );
    // Somebody else's is free.
    second.ask("USER Stallings", "+OK");
    second.ask("PASS network$ecurity", "+OK");
    first.quit();
    second.quit();
    login(&server).quit();
}

#[test]
fn mailbox_edited_by_hand_between_sessions_is_read_as_it_is() {
    let (sandbox, server) = andrew(&[&note("1\n"), &note("2\n"), &note("3\n")]);
    let before = unique_ids(&mut login_and(&server));
    let path = sandbox.path("Andrew/mymailbox.mail");
    let file = fs::read_to_string(&path).unwrap();
    let records: Vec<_> = file.split_inclusive("\n.\n").collect();
    assert_eq!(records.len(), 3);
    fs::write(&path, format!("{}{}", records[0], records[2])).unwrap();
    let mut pop = login_and(&server);
    pop.ask("STAT", "+OK 2 ");
    assert!(pop.ask_text("RETR 2").ends_with(b"\r\n3\r\n"));
    let after = unique_ids(&mut pop);
    assert!(
        !after.contains(&before[1]),
        "the id of what is gone: {before:?} {after:?}"
    );
    pop.quit();
    // And one written in an editor.
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(
        b"From: a@b\nTo: andrew@localhost\nSubject: by hand\nReceived: 2021-03-22 : 14 : 05\n\
          typed\n.\n",
    )
    .unwrap();
    let mut pop = login_and(&server);
    let text = String::from_utf8(pop.ask_text("RETR 3")).unwrap();
    assert!(
        text.contains("Subject: by hand\r\n") && text.ends_with("\r\n\r\ntyped\r\n"),
        "{text}"
    );
}

/// A login that waits for an earlier session's end to be noticed.
fn login_and(server: &Server) -> Pop {
    let mut found = None;
    until("the mailbox is free", || {
        let mut pop = server.pop3();
        pop.ask("USER Andrew", "+OK");
        pop.line(&format!("PASS {PASSWORD}"));
        let is_open = pop.answer().starts_with("+OK");
        found = Some(pop);
        is_open
    });
    found.unwrap()
}

#[test]
fn large_message_is_streamed() {
    const OCTETS: usize = 50 * 1024 * 1024;
    let (_sandbox, server) = served(&["--max-message-size", "60M"], &[]);
    let line = format!("{}\n", "x".repeat(99));
    let body = line.repeat(OCTETS / line.len());
    server.deliver(
        "a@b.example",
        &["andrew@localhost"],
        format!("Subject: big\n\n{body}"),
    );
    let mut pop = login(&server);
    // The login took its 19 MiB.
    let before = server.memory_peak();
    let size: u64 = pop.ask("LIST 1", "+OK 1 ")["+OK 1 ".len()..]
        .parse()
        .unwrap();
    assert!(size > OCTETS as u64);
    pop.ask("RETR 1", "+OK");
    assert_eq!(pop.count_text(), size);
    pop.ask_text("TOP 1 0");
    pop.quit();
    let grown = server.memory_peak() - before;
    assert!(grown < 8 * 1024 * 1024, "RETR took {grown} octets more");
}

// Teena's verbs.

#[test]
fn lab_users_are_added_and_listed() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve_pop3(&["--lab"]);
    let mut pop = server.pop3();
    assert!(pop.ask("LSTU", "+OK 0 users").len() <= "+OK 0 users: ".len());
    pop.ask("ADDU alice", "+OK alice added");
    assert!(sandbox.path("alice").is_dir(), "the spool is there");
    pop.ask("ADDU bob", "+OK bob added");
    pop.ask("LSTU", "+OK 2 users: alice bob");
    pop.ask("LSTU alice", "+OK 2 users: alice bob");
    for again in ["alice", "ALICE"] {
        let answer = pop.ask(&format!("ADDU {again}"), "-ERR ");
        assert!(answer.contains("already present"), "{answer}");
    }
    for wrong in [
        "ADDU", "ADDU a b", "ADDU ..", "ADDU a/b", "ADDU -x", "ADDU .x", "ADDU a,b",
    ] {
        pop.ask(wrong, "-ERR");
    }
    pop.ask(&format!("ADDU {}", "a".repeat(65)), "-ERR");
    pop.ask("LSTU", "+OK 2 users: alice bob");
    pop.ask("USER alice", "+OK alice has 0 messages");
}

#[test]
fn mail_is_sent_read_and_deleted() {
    let (sandbox, server) = lab(&[&note("by SMTP\n")]);
    let mut pop = server.pop3();
    pop.ask("USER Stallings", "+OK Stallings has 0 messages");
    let answer = pop.send("Andrew", "Subject: hello\r\nfirst line\r\n###\r\n");
    assert_eq!(answer, "+OK delivered");
    let answer = pop.send("andrew", "no subject, ends here###\r\n");
    assert_eq!(answer, "+OK delivered");
    pop.ask("DONEU", "+OK");
    pop.ask("READM", "-ERR");
    let answer = pop.ask("USER Andrew", "+OK Andrew has 3 messages");
    assert_eq!(answer, "+OK Andrew has 3 messages");
    pop.ask("DELM", "-ERR");
    let read = |pop: &mut Pop| String::from_utf8(pop.ask_text("READM")).unwrap();
    assert!(read(&mut pop).ends_with("\r\n\r\nby SMTP\r\n"));
    let second = read(&mut pop);
    assert!(second.contains("Subject: hello\r\n"), "{second}");
    assert!(second.ends_with("\r\n\r\nfirst line\r\n"), "{second}");
    pop.ask("DELM", "+OK");
    assert_eq!(sandbox.records("Andrew").len(), 2, "at once");
    pop.ask("DELM", "-ERR");
    let third = read(&mut pop);
    assert!(
        third.ends_with("\r\n\r\nno subject, ends here\r\n"),
        "{third}"
    );
    pop.ask("READM", "-ERR No More Mail");
    assert!(read(&mut pop).ends_with("by SMTP\r\n"), "back to the first");
    pop.quit();
    assert_eq!(sandbox.records("Andrew").len(), 2);
}

#[test]
fn mail_that_comes_while_the_mailbox_is_open_is_shown_behind_the_rest() {
    let (sandbox, server) = lab(&[&note("1\n"), &note("2\n"), &note("3\n")]);
    let mut pop = server.pop3();
    pop.ask("USER Andrew", "+OK");
    let read = |pop: &mut Pop| String::from_utf8(pop.ask_text("READM")).unwrap();
    read(&mut pop);
    read(&mut pop);
    pop.ask("DELM", "+OK");
    read(&mut pop);
    assert_eq!(pop.send("Andrew", "to myself\r\n###\r\n"), "+OK delivered");
    server.deliver("a@b.example", &["andrew@localhost"], note("by SMTP\n"));
    assert!(read(&mut pop).ends_with("\r\nto myself\r\n"));
    assert!(read(&mut pop).ends_with("\r\nby SMTP\r\n"));
    pop.ask("DELM", "+OK");
    pop.ask("READM", "-ERR No More Mail");
    for text in ["1", "3", "to myself"] {
        assert!(
            read(&mut pop).ends_with(&format!("\r\n{text}\r\n")),
            "{text}"
        );
    }
    pop.ask("STAT", "+OK 3 ");
    pop.ask("DELE 1", "+OK");
    pop.quit();
    let left: Vec<String> = sandbox
        .records("Andrew")
        .iter()
        .map(|record| record.text())
        .collect();
    assert_eq!(left, ["3\n", "to myself\n"]);
}

#[test]
fn verbs_wait_for_a_mailbox() {
    let (_sandbox, server) = lab(&[]);
    let mut pop = server.pop3();
    for verb in [
        "READM",
        "DELM",
        "SEND Andrew",
        "DONEU",
        "STAT",
        "LIST",
        "RETR 1",
    ] {
        pop.ask(verb, "-ERR");
    }
    pop.ask("USER nobody", "-ERR");
    pop.ask("READM", "-ERR");
    pop.ask("USER Andrew", "+OK Andrew has 0 messages");
    pop.ask("READM", "-ERR No More Mail");
}

#[test]
fn without_the_lab_everything_needs_a_login() {
    let (_sandbox, server) = andrew(&[NITC]);
    let mut pop = server.pop3();
    for verb in ["LSTU", "READM", "DELM", "SEND Stallings", "DONEU"] {
        pop.ask(verb, "-ERR");
    }
    let answer = pop.ask("ADDU eve", "-ERR");
    assert!(
        answer.contains("--lab") || answer.contains("users add"),
        "says what to do: {answer}"
    );
    assert!(!pop.ask("USER Andrew", "+OK").contains("messages"));
    pop.ask("READM", "-ERR");
    pop.login("Andrew", PASSWORD);
    assert_eq!(
        pop.ask("LSTU", "+OK"),
        "+OK 3 users: Andrew Fourouzan Stallings"
    );
    pop.ask("ADDU eve", "-ERR");
    assert!(pop.ask_text("READM").ends_with(b"Please be ready.\r\n"));
    assert_eq!(pop.send("Stallings", "hi\r\n###\r\n"), "+OK delivered");
    pop.quit();
}

#[test]
fn sent_mail_is_a_record_like_any_other() {
    let (sandbox, server) = lab(&[]);
    let mut pop = server.pop3();
    pop.ask("USER Andrew", "+OK");
    pop.send(
        "Stallings",
        "Subject: Re: x\r\n.\r\n..\r\na ### b\r\n####x\r\n\r\nend ###\r\n",
    );
    pop.quit();
    let record = &sandbox.records("Stallings")[0];
    assert_eq!(
        (record.subject.as_str(), record.is_full()),
        ("Re: x", false),
        "{record:?}"
    );
    assert!(
        record.from.starts_with("Andrew@") && record.to.starts_with("Stallings@"),
        "{record:?}"
    );
    assert_eq!(record.text(), ".\n..\na ### b\n####x\n\nend \n");
}

#[test]
fn send_to_nobody_stores_nothing_and_stays_in_step() {
    let (sandbox, server) = lab(&[]);
    let mut pop = server.pop3();
    pop.ask("USER Andrew", "+OK");
    for receiver in ["nobody", "", "../Stallings", "nobody@localhost"] {
        pop.ask(&format!("SEND {receiver}"), "-ERR");
        pop.ask("READM", "-ERR No More Mail");
    }
    assert_eq!(pop.send("Stallings", "###\r\n"), "+OK delivered");
    pop.quit();
    assert_eq!(sandbox.records("Stallings").len(), 1);
}

#[test]
fn message_without_its_end_is_not_delivered() {
    let (sandbox, server) = lab(&[]);
    let mut pop = server.pop3();
    pop.ask("USER Andrew", "+OK");
    pop.ask("SEND Stallings", "+OK");
    pop.raw("half a message\r\n");
    drop(pop);
    until("the mailbox is free", || {
        server.pop3().ask("USER Andrew", "").starts_with("+OK")
    });
    assert_eq!(sandbox.mailbox("Stallings"), "");
}

#[test]
fn delm_during_another_session_is_refused() {
    let (sandbox, server) = lab(&[NITC, NITC]);
    let mut first = server.pop3();
    first.ask("USER Andrew", "+OK");
    first.ask("STAT", "+OK 2 ");
    let mut second = server.pop3();
    second.line("USER Andrew");
    let opened = second.answer();
    if opened.starts_with("+OK") {
        second.ask_text("READM");
        second.ask("DELM", "-ERR [IN-USE]");
    } else {
        assert!(opened.starts_with("-ERR [IN-USE]"), "{opened}");
    }
    first.ask_text("RETR 2");
    assert_eq!(sandbox.records("Andrew").len(), 2);
    first.quit();
}

#[test]
fn dele_and_delm_in_one_session_do_not_get_mixed_up() {
    let (sandbox, server) = lab(&[&note("1\n"), &note("2\n"), &note("3\n")]);
    let mut pop = server.pop3();
    pop.ask("USER Andrew", "+OK");
    pop.ask_text("READM");
    pop.ask("DELE 3", "+OK");
    pop.ask("DELM", "+OK");
    pop.ask("RETR 1", "-ERR");
    assert!(pop.ask_text("RETR 2").ends_with(b"\r\n2\r\n"));
    assert_eq!(sandbox.records("Andrew").len(), 2);
    pop.quit();
    let left = sandbox.records("Andrew");
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].text(), "2\n");
}

#[test]
fn ten_thousand_users_are_listed_in_one_answer() {
    let sandbox = Sandbox::new();
    let names: Vec<_> = (0..10_000)
        .map(|number| format!("user{number:05}"))
        .collect();
    let file: String = names
        .iter()
        .map(|name| format!("{name},secret\n"))
        .collect();
    fs::write(sandbox.path("logincred.txt"), file).unwrap();
    let server = sandbox.serve_pop3(&["--lab"]);
    let answer = server.pop3().ask("LSTU", "+OK 10000 users: ");
    let listed: Vec<_> = answer["+OK 10000 users: ".len()..].split(' ').collect();
    assert_eq!(listed, names);
}

#[test]
fn lab_is_announced_by_a_warning_and_port() {
    let (_sandbox, server) = lab(&[]);
    assert!(server.pop3_address().ip().is_loopback());
    let sandbox = Sandbox::lab();
    let server = sandbox.serve_pop3(&["--lab", "--host", "0.0.0.0"]);
    until("a warning is in the log", || {
        server.log().to_lowercase().contains("password")
    });
}

/// A number may come to another message: by hand, or where one was seen that could not be stored for
/// all its recipients.
#[test]
fn only_a_message_that_was_seen_is_deleted() {
    let (sandbox, server) = andrew(&[&note("one\n")]);
    let other = sandbox.mailbox("Andrew").replace("one", "two");
    let mut pop = login(&server);
    pop.ask("DELE 1", "+OK");
    fs::write(sandbox.path("Andrew/mymailbox.mail"), &other).unwrap();
    pop.ask("QUIT", "-ERR");
    assert_eq!(sandbox.mailbox("Andrew"), other);
}

/// Numbers of an open session must stay what they are.
#[test]
fn mailbox_delete_waits_until_the_session_is_over() {
    let (sandbox, server) = served(&[], &[]);
    server.deliver("a@b.example", &["andrew@localhost"], "Subject: x\n\nhi\n");
    let mut pop = login(&server);
    for refused in [
        &["mailbox", "delete", "Andrew", "1"],
        &["users", "remove", "Andrew", "--with-mail"],
    ] {
        let output = sandbox.run(refused, "").code(75).stdout("");
        assert!(output.stderr.contains("mail client"), "{output:?}");
    }
    pop.ask("RETR 1", "+OK");
    pop.text();
    pop.quit();
    sandbox
        .run(&["mailbox", "delete", "Andrew", "1"], "")
        .code(0);
    assert!(sandbox.records("Andrew").is_empty());
}
