//! What nobody sends who means well, through real sockets: it gets an answer or an end, costs no
//! memory to speak of, and harms no one else.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr};
use std::thread;

use crate::pop::Pop;
use crate::sandbox::Sandbox;
use crate::smtp::Smtp;

const HELLO: &[u8] = b"EHLO c\r\n";
const ENVELOPE: &[u8] = b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<andrew@b>\r\n";
const QUIT: &[u8] = b"\r\nQUIT\r\n";

/// Says all of it at once, whether anybody listens or not, and gives all that is answered.
fn tell(address: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut smtp = Smtp::connect(address);
    let (mut stream, said) = (smtp.stream(), pieces.concat());
    let writer = thread::spawn(move || {
        // A server that has heard enough hangs up.
        stream.write_all(&said).ok();
        stream.shutdown(Shutdown::Write).ok();
    });
    let answers = smtp.rest();
    writer.join().unwrap();
    answers
}

#[test]
fn what_makes_no_sense_gets_its_answer() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["-q"]);
    let megabyte = vec![b'x'; 1_000_000];
    let recipients = b"RCPT TO:<andrew@b>\r\n".repeat(100_000);
    let strangers = b"RCPT TO:<nobody@b>\r\n".repeat(100_000);
    let high: Vec<u8> = (128..=255).collect();
    let cases: [(&str, &[&[u8]], &str); 14] = [
        (
            "a line without an end",
            &[HELLO, &megabyte],
            "\r\n250 HELP\r\n",
        ),
        (
            "a line of 10 MB",
            &[HELLO, &megabyte.repeat(10), QUIT],
            "500 5.5.2 Line too long\r\n221 ",
        ),
        (
            "a SIZE of 20 digits",
            &[HELLO, b"MAIL FROM:<a@b> SIZE=99999999999999999999", QUIT],
            "552 5.3.4 ",
        ),
        (
            "a SIZE of 21 digits",
            &[HELLO, b"MAIL FROM:<a@b> SIZE=999999999999999999999", QUIT],
            "501 5.5.4 ",
        ),
        (
            "a chunk of 2^63",
            &[ENVELOPE, b"BDAT 9223372036854775808\r\nQUIT", QUIT],
            "421 4.7.0 Message never ends",
        ),
        (
            "a chunk of -1",
            &[ENVELOPE, b"BDAT -1\r\nQUIT", QUIT],
            "421 4.7.0 No telling where that chunk ends",
        ),
        (
            "100,000 recipients",
            &[ENVELOPE, &recipients, QUIT],
            "421 4.7.0 Too many commands",
        ),
        (
            "100,000 names to try",
            &[ENVELOPE, &strangers, QUIT],
            "421 4.7.0 Too many refused recipients",
        ),
        (
            "NUL",
            &[HELLO, b"NO\0OP", QUIT],
            "500 5.5.2 Syntax error, a character",
        ),
        (
            "octets above 127",
            &[&high, QUIT],
            "500 5.5.2 Syntax error, a character",
        ),
        (
            "garbage behind a message",
            &[
                ENVELOPE,
                b"DATA\r\nhi\r\n.\r\n\0\xff\r\n\r\n\r\nHTTP/1.1",
                QUIT,
            ],
            "500 5.5.2 ",
        ),
        (
            "a text whose DATA was refused",
            &[
                HELLO,
                b"MAIL FROM:<a@b>\r\nRCPT TO:<nobody@b>\r\nDATA\r\nFrom: a\r\n\r\n\xff\0\r\n.",
                QUIT,
            ],
            "500 5.5.2 Command not recognised, HELP lists what there is\r\n221 ",
        ),
        (
            "garbage behind a DATA that was refused",
            &[ENVELOPE, b"DATA \0\r\n", &high, b"\r\n.", QUIT],
            "221 ",
        ),
        (
            "half a message",
            &[ENVELOPE, b"DATA\r\nhalf"],
            "354 End data with <CR><LF>.<CR><LF>\r\n",
        ),
    ];
    for (what, said, expected) in cases {
        let answers = tell(server.address(), said);
        let last: String = answers
            .chars()
            .rev()
            .take(200)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        assert!(answers.contains(expected), "{what}: …{last}");
    }
    // One message of all of these is one: what stood behind its end was no part of it.
    assert_eq!(sandbox.records("Andrew").len(), 1);
    assert!(
        server.memory_peak() < 40_000_000,
        "{}",
        server.memory_peak()
    );
    server.deliver("a@b.example", &["andrew@localhost"], "hi\n");
    assert_eq!(server.terminate().code, 0);
}

/// A command with each octet that no command may hold, in each place.
fn spoiled(command: &str) -> impl Iterator<Item = Vec<u8>> {
    let octets = [b'\0', b'\x1b', b'\xff'];
    (0..=command.len()).flat_map(move |place| {
        octets.map(|octet| {
            let (head, tail) = command.as_bytes().split_at(place);
            [head, &[octet], tail, b"\r\n"].concat()
        })
    })
}

#[test]
fn octets_that_no_command_may_hold_are_refused_in_each_place() {
    let sandbox = Sandbox::lab();
    let mut server = sandbox.serve_pop3(&["-q", "--lmtp-port", "0"]);
    server.next_listener();
    let (mail, rcpt) = ("MAIL FROM:<a@b.example>", "RCPT TO:<andrew@localhost>");
    let cases: [(&str, &[&str]); 13] = [
        ("smtp", &["EHLO c"]),
        ("smtp", &["HELO c"]),
        ("smtp", &["EHLO c", "MAIL FROM:<\"a b\"@c> SIZE=1"]),
        ("smtp", &["EHLO c", mail, "RCPT TO:<andrew@[127.0.0.1]>"]),
        ("smtp", &["EHLO c", mail, rcpt, "DATA"]),
        ("smtp", &["EHLO c", mail, rcpt, "BDAT 0 LAST"]),
        ("smtp", &["EHLO c", "VRFY a"]),
        ("smtp", &["EHLO c", "NOOP a"]),
        (
            "smtp",
            &["EHLO c", "AUTH PLAIN AEFuZHJldwBAZG1pbmlzdHJAdG9y"],
        ),
        ("smtp", &["EHLO c", "AUTH LOGIN", "QW5kcmV3"]),
        (
            "smtp",
            &["EHLO c", "AUTH LOGIN", "QW5kcmV3", "QGRtaW5pc3RyQHRvcg=="],
        ),
        ("lmtp", &["LHLO c"]),
        ("lmtp", &["LHLO c", mail, rcpt, "QUIT"]),
    ];
    for (listener, lines) in cases {
        let (command, before) = lines.split_last().unwrap();
        for said in spoiled(command) {
            let mut smtp = Smtp::connect(server.listener(listener));
            smtp.expect("220 ");
            for line in before {
                smtp.line(line);
                assert!(smtp.reply().code() < 400, "{line}");
            }
            smtp.raw(&said);
            let code = smtp.reply().code();
            let said = said.escape_ascii();
            assert!(code == 421 || code >= 500, "{said}: {code}");
        }
    }
    server.deliver("a@b.example", &["stallings@localhost"], "hi\n");
    let (user, pass) = ("USER Stallings", "PASS network$ecurity");
    // Not PASS, where they are a wrong password, which takes its time.
    let cases: [&[&str]; 11] = [
        &[user],
        &["APOP a b"],
        &["AUTH PLAIN", "AEFuZHJldwBAZG1pbmlzdHJAdG9y"],
        &[user, pass, "STAT"],
        &[user, pass, "LIST 1"],
        &[user, pass, "RETR 1"],
        &[user, pass, "DELE 1"],
        &[user, pass, "TOP 1 0"],
        &[user, pass, "UIDL 1"],
        &[user, pass, "SEND andrew"],
        &[user, pass, "QUIT"],
    ];
    for lines in cases {
        let (command, before) = lines.split_last().unwrap();
        for said in spoiled(command) {
            let mut pop = server.pop3();
            for line in before {
                pop.ask(line, "+");
            }
            pop.raw(&said);
            let answer = pop.answer();
            let said = said.escape_ascii();
            assert!(answer.starts_with("-ERR"), "{said}: {answer}");
            pop.try_raw("*\r\nQUIT\r\n");
            pop.rest();
        }
    }
    assert!(sandbox.records("Andrew").is_empty());
    assert_eq!(sandbox.records("Stallings").len(), 1);
    assert_eq!(server.terminate().code, 0);
}

#[test]
fn octets_of_all_kinds_are_kept_in_a_message() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["-q"]);
    let mut text: Vec<u8> = (0..=255).filter(|octet| !b"\r\n".contains(octet)).collect();
    text.extend(vec![b'y'; 1_000_000]);
    let answers = tell(
        server.address(),
        &[ENVELOPE, b"DATA\r\n\r\n", &text, b"\r\n.", QUIT],
    );
    assert!(answers.contains("250 2.0.0 Ok: queued"), "{answers}");
    let kept = sandbox.octets("Andrew/mymailbox.mail");
    assert!(memchr::memmem::find(&kept, &text).is_some());
}

#[test]
fn resets_in_the_middle_of_anything_leave_nothing_behind() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve_pop3(&["-q"]);
    let dialog = [ENVELOPE, b"DATA\r\nabc\r\n.\r"].concat();
    for end in 0..=dialog.len() {
        let smtp = Smtp::connect(server.address());
        let mut stream = smtp.stream();
        rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
        stream.write_all(&dialog[..end]).unwrap();
    }
    let mut pop = Pop::connect(server.pop3_address());
    pop.raw(
        "USER ".to_owned() + &"x".repeat(1_000_000) + "\r\nRETR 99999999999999999999\r\nQUIT\r\n",
    );
    let answers = pop.rest();
    assert!(answers.ends_with("+OK goodbye\r\n"), "{answers}");
    server.deliver("a@b.example", &["andrew@localhost"], "hi\n");
    assert_eq!(sandbox.records("Andrew").len(), 1);
    assert_eq!(server.terminate().code, 0);
}
