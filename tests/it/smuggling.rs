//! SMTP smuggling (CVE-2023-51764, -51765, -51766): what ends a message, and what never does.
//!
//! A session whose first command line ends in CRLF is held to CRLF; one that begins with a bare LF
//! is a person at netcat, for good.

use crate::sandbox::Sandbox;
use crate::smtp::Smtp;

/// A second message, as it is smuggled in the text of the first.
const SECOND: &str = "MAIL FROM:<evil@localhost>\r\nRCPT TO:<fourouzan@localhost>\r\nDATA\r\n\
                      Subject: smuggled\r\n\r\nevil\r\n.\r\n";

/// Sends a message that holds a sequence and then a smuggled one, whole or octet by octet.
/// Gives the reply to the one dot that counts.
#[track_caller]
fn smuggle(sandbox: &Sandbox, sequence: &str, whole: bool) -> crate::smtp::Reply {
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    smtp.envelope("stallings@localhost", &["andrew@localhost"]);
    smtp.ask("DATA", "354 ");
    let attack = format!("Subject: first\r\n\r\ntext{sequence}{SECOND}QUIT\r\n");
    if whole {
        smtp.raw(attack);
    } else {
        smtp.trickle(attack);
    }
    let reply = smtp.reply();
    let rest = smtp.rest();
    assert!(
        rest.starts_with("221 2.0.0") && rest.lines().count() == 1,
        "{sequence:?}: commands in the text were obeyed: {reply} {rest:?}"
    );
    assert!(
        sandbox.records("Fourouzan").is_empty(),
        "{sequence:?}: smuggled"
    );
    reply
}

#[test]
fn only_crlf_dot_crlf_ends_a_message() {
    for sequence in [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r\n.\r",
        "\r.\r\n",
        "\r\n.\r\r\n",
        "\n.\r",
        "\r.\n",
        "\n\n.\n\n",
        "\r\n.\n\r\n",
    ] {
        for whole in [true, false] {
            let sandbox = Sandbox::lab();
            smuggle(&sandbox, sequence, whole).expect("550 5.6.0");
            assert!(
                sandbox.records("Andrew").is_empty(),
                "{sequence:?}: refused but stored"
            );
        }
    }
}

#[test]
fn dot_line_with_more_on_it_is_text() {
    for (sequence, line) in [
        ("\r\n\0.\r\n", "\0."),
        ("\r\n. \r\n", " "),
        ("\r\n..\r\n", "."),
        ("\r\n.\0\r\n", "\0"),
        ("\r\n.\t\r\n", "\t"),
    ] {
        let sandbox = Sandbox::lab();
        smuggle(&sandbox, sequence, true).expect("250 2.0.0");
        let records = sandbox.records("Andrew");
        assert_eq!(records.len(), 1, "{sequence:?}");
        let second = SECOND.trim_end_matches(".\r\n").replace("\r\n", "\n");
        let expected = format!("Subject: first\n\ntext\n{line}\n{second}");
        assert_eq!(String::from_utf8(records[0].message()).unwrap(), expected);
    }
}

#[test]
fn nothing_in_a_chunk_is_a_command_wherever_it_is_cut() {
    for sequence in ["\r\n.\r\n", "\n.\n", "\r\n.\n", "\r.\r", "\r\n\0.\r\n"] {
        let text = format!("Subject: first\r\n\r\ntext{sequence}{SECOND}");
        let is_clean = !text.replace("\r\n", "").contains(['\r', '\n']);
        let sandbox = Sandbox::lab();
        let server = sandbox.serve(&[]);
        for cut in 0..=text.len() {
            let mut smtp = server.hello();
            smtp.envelope("stallings@localhost", &["andrew@localhost"]);
            let (head, tail) = text.split_at(cut);
            let (first, last) = (head.len(), tail.len());
            smtp.raw(format!(
                "BDAT {first}\r\n{head}BDAT {last} LAST\r\n{tail}QUIT\r\n"
            ));
            let rest = smtp.rest();
            let codes: Vec<_> = rest.lines().map(|line| &line[..3]).collect();
            let expected: &[&[&str]] = if is_clean {
                &[&["250", "250", "221"]]
            } else {
                &[&["250", "550", "221"], &["550", "503", "221"]]
            };
            assert!(
                expected.contains(&codes.as_slice()),
                "{sequence:?} cut at {cut}: {rest}"
            );
        }
        assert!(sandbox.records("Fourouzan").is_empty(), "{sequence:?}");
        let stored = if is_clean { text.len() + 1 } else { 0 };
        let records = sandbox.records("Andrew");
        assert_eq!(records.len(), stored, "{sequence:?}");
        let lines = text.replace("\r\n", "\n");
        assert!(records.iter().all(|r| r.message() == lines.as_bytes()));
    }
}

#[test]
fn bare_cr_or_lf_anywhere_in_the_text_is_refused_after_the_true_end() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    for text in [
        "a\nb\r\n",
        "a\rb\r\n",
        "\nfirst\r\n",
        "\rfirst\r\n",
        "last\r\r\n",
        "Subject: x\n\r\nbody\r\n",
        ".\rx\r\n",
        ".\nx\r\n",
    ] {
        smtp.envelope("stallings@localhost", &["andrew@localhost"]);
        smtp.data(text).expect("550 5.6.0");
    }
    smtp.deliver("stallings@localhost", &["andrew@localhost"], "clean\n");
    assert_eq!(sandbox.records("Andrew").len(), 1);
}

#[test]
fn bare_line_ends_in_commands_of_a_crlf_session_are_refused() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    smtp.raw("NOOP\nNOOP\r\n");
    smtp.expect("500 5.5.2");
    smtp.raw("NOOP\rNOOP\r\n");
    smtp.expect("500 5.5.2");
    smtp.raw("MAIL FROM:<a@b.example>\nRCPT TO:<andrew@localhost>\nDATA\nevil\n.\n\r\n");
    smtp.expect("500 5.5.2");
    smtp.ask("QUIT", "221 2.0.0");
    smtp.expect_end();
}

#[test]
fn crlf_session_stays_one() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.connect();
    smtp.ask("NOOP", "250 2.0.0");
    smtp.raw("HELO x\nMAIL FROM:<a@b.example>\n\r\n");
    smtp.expect("500 5.5.2");
    smtp.ask("MAIL FROM:<a@b.example>", "503 5.5.1");
}

/// Plays a session from its first octet and gives all that the server says.
fn play(sandbox: &Sandbox, input: &str, whole: bool) -> String {
    let server = sandbox.serve(&[]);
    let mut smtp = Smtp::connect(server.address());
    if whole {
        smtp.raw(input);
    } else {
        smtp.trickle(input);
    }
    smtp.rest()
}

#[test]
fn lf_session_may_end_lines_and_the_message_in_lf_or_crlf() {
    for (end, dot) in [
        ("\n", "\n.\n"),
        ("\r\n", "\r\n.\r\n"),
        ("\n", "\n.\r\n"),
        ("\n", "\r\n.\n"),
    ] {
        for whole in [true, false] {
            let sandbox = Sandbox::lab();
            let input = format!(
                "HELO me\nMAIL FROM:<stallings@localhost>{end}RCPT TO:<andrew@localhost>{end}\
                 DATA{end}From: stallings@localhost{end}To: andrew@localhost{end}Subject: x{end}\
                 {end}..\n...\r\nlast{dot}QUIT{end}"
            );
            let replies = play(&sandbox, &input, whole);
            let codes: Vec<_> = replies.lines().map(|line| &line[..3]).collect();
            let expected = ["220", "250", "250", "250", "354", "250", "221"];
            assert_eq!(codes, expected, "{end:?} {dot:?}: {replies}");
            assert!(
                replies.lines().count() == replies.matches("\r\n").count(),
                "{replies:?}"
            );
            assert_eq!(
                sandbox.records("Andrew")[0].text(),
                ".\n..\nlast\n",
                "{end:?} {dot:?}"
            );
        }
    }
}

#[test]
fn lf_session_has_no_two_readings_of_a_message() {
    let sandbox = Sandbox::lab();
    let second = SECOND.replace("\r\n", "\n");
    let input = format!(
        "HELO me\nMAIL FROM:<stallings@localhost>\nRCPT TO:<andrew@localhost>\nDATA\n\
         text\n.\n{second}QUIT\n"
    );
    let replies = play(&sandbox, &input, true);
    let codes: Vec<_> = replies.lines().map(|line| &line[..3]).collect();
    // A person at netcat ends the text with a full stop; what comes then are commands.
    let expected = [
        "220", "250", "250", "250", "354", "250", "250", "250", "354", "250", "221",
    ];
    assert_eq!(codes, expected, "{replies}");
}

#[test]
fn lf_session_refuses_or_drops_a_bare_cr() {
    let sandbox = Sandbox::lab();
    let input = "HELO me\nMAIL FROM:<stallings@localhost>\nRCPT TO:<andrew@localhost>\nDATA\n\
                 Subject: x\n\na\rb\n\r.\r\n.\rMAIL FROM:<evil@localhost>\n.\nQUIT\n";
    let replies = play(&sandbox, input, true);
    let codes: Vec<_> = replies.lines().map(|line| &line[..3]).collect();
    assert!(matches!(codes[5], "250" | "550"), "{replies}");
    assert_eq!(codes[6..], ["221"], "{replies}");
    let records = sandbox.records("Andrew");
    assert_eq!(records.len(), usize::from(codes[5] == "250"));
    assert!(
        records
            .iter()
            .all(|record| !record.content.contains(&b'\r')),
        "{records:#?}"
    );
}
