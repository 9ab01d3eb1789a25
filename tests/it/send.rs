//! `minismtp send` as a script meets it, against our server and against odd peers.

use std::fs;
use std::net::TcpListener;

use crate::fake::{Fake, HANG_UP, Script, Session};
use crate::sandbox::{Output, Sandbox, run};
use crate::smtp::base64;

const NITC: &str = "From: stallings@localhost\nTo: andrew@localhost\nSubject: SMTP Experiment\n\
                    Next evaluation will be on 22 March 2021.\nPlease be ready.\n.\n";

const HEAD: &str = "From: stallings@localhost\nTo: andrew@localhost\nSubject: x\n";

const SENT: &str = "Mail sent successfully\n";

/// Sends a message to a real server; gives Andrew's mailbox, times masked.
#[track_caller]
fn mailbox_after(message: impl AsRef<[u8]>) -> String {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    sandbox
        .send(server.address(), &[], message)
        .code(0)
        .stdout(SENT)
        .silent();
    sandbox.masked_mailbox("Andrew")
}

/// Sends a message to a peer.
fn send_to(fake: &Fake, message: impl AsRef<[u8]>) -> Output {
    Sandbox::new().send(fake.address, &[], message)
}

/// Sends NITC's message to a peer that behaves so.
fn send_against(script: Script) -> (Output, Session) {
    let fake = script.start();
    let output = send_to(&fake, NITC);
    (output, fake.session())
}

// What is sent.

#[test]
fn nitc_message_is_sent_and_stored_to_the_letter() {
    let stored = "From: stallings@localhost\nTo: andrew@localhost\nSubject: SMTP Experiment\n\
                  Received: <time>\nNext evaluation will be on 22 March 2021.\nPlease be ready.\n.\n";
    assert_eq!(mailbox_after(NITC), stored);
    assert_eq!(
        mailbox_after(NITC.replace('\n', "\r\n")),
        stored,
        "CRLF in the file"
    );
    assert_eq!(
        mailbox_after(NITC.strip_suffix(".\n").unwrap()),
        stored,
        "no final full stop"
    );
    assert_eq!(
        mailbox_after(NITC.strip_suffix("\n.\n").unwrap()),
        stored,
        "no final line end"
    );
    assert_eq!(
        mailbox_after(NITC.trim_end()),
        stored,
        "no line end after the full stop"
    );
}

#[test]
fn nitc_message_goes_over_the_wire_as_it_should() {
    let (output, session) = send_against(Script::new());
    output.code(0).stdout(SENT).silent();
    let message = "From: stallings@localhost\r\nTo: andrew@localhost\r\n\
                   Subject: SMTP Experiment\r\n\r\nNext evaluation will be on 22 March 2021.\r\n\
                   Please be ready.\r\n";
    assert_eq!(session.message(), message);
    let mail = format!("MAIL FROM:<stallings@localhost> SIZE={}", message.len());
    assert_eq!(session.command("MAIL"), Some(mail.as_str()));
    assert_eq!(session.command("RCPT"), Some("RCPT TO:<andrew@localhost>"));
    assert!(session.commands[0].starts_with("EHLO "), "{session:#?}");
    assert_eq!(session.commands.last().map(String::as_str), Some("QUIT"));
    assert!(!session.bare_lf && !session.pipelined, "{session:#?}");
}

#[test]
fn body_may_be_empty() {
    let stored = format!("{HEAD}Received: <time>\n.\n");
    assert_eq!(mailbox_after(format!("{HEAD}.\n")), stored);
    assert_eq!(mailbox_after(HEAD), stored);
    assert_eq!(mailbox_after(HEAD.trim_end()), stored);
}

#[test]
fn subject_may_be_empty() {
    for subject in ["Subject:", "Subject: "] {
        let head = HEAD.replace("Subject: x", subject);
        let stored = HEAD.replace("Subject: x", "Subject: ");
        assert_eq!(
            mailbox_after(format!("{head}hi\n.\n")),
            format!("{stored}Received: <time>\nhi\n.\n")
        );
    }
}

#[test]
fn blank_line_after_the_subject_is_the_first_line_of_the_body() {
    let stored = format!("{HEAD}Received: <time>\n\nhi\n\n.\n");
    assert_eq!(mailbox_after(format!("{HEAD}\nhi\n\n.\n")), stored);
}

#[test]
fn body_lines_are_free_text() {
    for body in [
        "..\n...\n",
        ".hidden\n . \n",
        "From: root@localhost\nTo: x\n",
        "From here on\n",
        "Return-Path is a word\n",
        "a\tb \n",
        "QUIT\nDATA\n",
        "Received: 2021-03-22 : 14 : 05\n",
    ] {
        let sandbox = Sandbox::lab();
        let server = sandbox.serve(&[]);
        sandbox
            .send(server.address(), &[], format!("{HEAD}{body}.\n"))
            .code(0)
            .stdout(SENT);
        let records = sandbox.records("Andrew");
        assert_eq!((records.len(), records[0].text().as_str()), (1, body));
    }
    let body = "Return-Path: <x@y>\nhi\n";
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    sandbox
        .send(server.address(), &[], format!("{HEAD}{body}.\n"))
        .code(0)
        .stdout(SENT);
    let message = String::from_utf8(sandbox.records("Andrew")[0].message()).unwrap();
    assert_eq!(message, format!("{HEAD}\n{body}"));
}

#[test]
fn dots_are_stuffed_on_the_wire() {
    let fake = Script::new().start();
    send_to(&fake, format!("{HEAD}.a\n..\nb.\n.\n")).code(0);
    let message = fake.session().message();
    assert!(
        message.ends_with("\r\n\r\n..a\r\n...\r\nb.\r\n"),
        "{message:?}"
    );
}

#[test]
fn field_names_may_be_in_any_case() {
    let mailbox =
        mailbox_after("FROM: stallings@localhost\nto: andrew@localhost\nsubject: x\nhi\n.\n");
    assert_eq!(mailbox, format!("{HEAD}Received: <time>\nhi\n.\n"));
}

#[test]
fn more_than_the_lab_asks_for_is_fine() {
    let line = "x".repeat(998);
    let body = format!("{line}\n").repeat(60);
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    sandbox
        .send(server.address(), &[], format!("{HEAD}{body}.\n"))
        .code(0)
        .stdout(SENT);
    assert_eq!(sandbox.records("Andrew")[0].text(), body);
}

#[test]
fn odd_but_good_addresses_are_taken() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    for from in [
        "\"a b\"@c.d",
        "\"a@b\"@c.d",
        "a@[127.0.0.1]",
        "a@[IPv6:::1]",
        "a+b/c=d@e",
        "a@b",
    ] {
        let message = HEAD.replace("stallings@localhost", from);
        sandbox
            .send(server.address(), &[], message)
            .code(0)
            .stdout(SENT);
        assert_eq!(sandbox.records("Andrew").last().unwrap().from, from);
    }
}

#[test]
fn eight_bit_body_gets_mime_headers_and_arrives() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    sandbox
        .send(server.address(), &[], format!("{HEAD}schöne Grüße\n.\n"))
        .code(0)
        .stdout(SENT);
    let record = &sandbox.records("Andrew")[0];
    let message = String::from_utf8(record.message()).unwrap();
    let (fields, body) = message.split_once("\n\n").unwrap();
    let fields = fields.to_ascii_lowercase();
    assert!(fields.contains("\nmime-version: 1.0"), "{message}");
    assert!(
        fields.contains("\ncontent-type: text/plain; charset=") && fields.contains("utf-8"),
        "{message}"
    );
    assert!(
        fields.contains("\ncontent-transfer-encoding: 8bit"),
        "{message}"
    );
    assert_eq!(body, "schöne Grüße\n");

    let fake = Script::new().start();
    send_to(&fake, format!("{HEAD}schöne Grüße\n.\n")).code(0);
    let session = fake.session();
    assert!(
        session.command("MAIL").unwrap().contains(" BODY=8BITMIME"),
        "{session:#?}"
    );
}

#[test]
fn non_ascii_subject_is_encoded_and_readable() {
    let fake = Script::new().start();
    let message = HEAD.replace("Subject: x", "Subject: Grüße aus 東京");
    send_to(&fake, format!("{message}hi\n.\n")).code(0);
    let sent = fake.session().message();
    assert!(sent.is_ascii(), "{sent}");
    assert!(
        sent.to_ascii_lowercase().contains("subject: =?utf-8?"),
        "{sent}"
    );

    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    sandbox
        .send(server.address(), &[], format!("{message}hi\n.\n"))
        .code(0)
        .stdout(SENT);
    assert_eq!(sandbox.records("Andrew")[0].subject, "Grüße aus 東京");
}

#[test]
fn subject_has_at_most_50_characters_whatever_their_octets() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    for letter in ["x", "é", "漢"] {
        let good = HEAD.replace("Subject: x", &format!("Subject: {}", letter.repeat(50)));
        sandbox
            .send(server.address(), &[], format!("{good}hi\n.\n"))
            .code(0)
            .stdout(SENT);
        assert_eq!(
            sandbox.records("Andrew").last().unwrap().subject,
            letter.repeat(50)
        );
        let bad = HEAD.replace("Subject: x", &format!("Subject: {}", letter.repeat(51)));
        let output = sandbox.send(server.address(), &[], format!("{bad}hi\n.\n"));
        incorrect(output, 3);
    }
    assert_eq!(sandbox.records("Andrew").len(), 3);
}

// What is refused before it is sent.

/// Fails unless this says `Incorrect format`, a reason, and this line's number.
#[track_caller]
fn incorrect(output: Output, line: usize) {
    let output = output.code(65).stdout("").stderr_has("Incorrect format");
    output.stderr_has(&format!("line {line}"));
}

#[test]
fn incorrect_format_is_told_with_line_and_reason() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let (from, to, subject) = ("From: a@b\n", "To: andrew@localhost\n", "Subject: x\n");
    let cases = [
        (1, "empty input", String::new()),
        (1, "only the full stop", ".\n".to_owned()),
        (1, "no from", format!("{to}{subject}hi\n.\n")),
        (2, "no to", format!("{from}{subject}hi\n.\n")),
        (3, "no subject", format!("{from}{to}hi\n.\n")),
        (3, "nothing after to", format!("{from}{to}.\n")),
        (1, "another order", format!("{to}{from}{subject}hi\n.\n")),
        (2, "another order", format!("{from}{subject}{to}hi\n.\n")),
        (
            1,
            "a blank line first",
            format!("\n{from}{to}{subject}hi\n.\n"),
        ),
        (
            2,
            "a field between",
            format!("{from}Cc: c@d\n{to}{subject}hi\n.\n"),
        ),
        (1, "no colon", format!("From a@b\n{to}{subject}hi\n.\n")),
        (1, "no at", format!("From: a\n{to}{subject}hi\n.\n")),
        (1, "nothing", format!("From:\n{to}{subject}hi\n.\n")),
        (
            1,
            "no local part",
            format!("From: @b\n{to}{subject}hi\n.\n"),
        ),
        (
            2,
            "no domain",
            format!("{from}To: andrew@\n{subject}hi\n.\n"),
        ),
        (1, "two at", format!("From: a@b@c\n{to}{subject}hi\n.\n")),
        (
            2,
            "two addresses",
            format!("{from}To: a@b, c@d\n{subject}hi\n.\n"),
        ),
        (
            2,
            "two addresses",
            format!("{from}To: a@b c@d\n{subject}hi\n.\n"),
        ),
        (
            1,
            "display name",
            format!("From: A <a@b>\n{to}{subject}hi\n.\n"),
        ),
        (
            1,
            "angle brackets",
            format!("From: <a@b>\n{to}{subject}hi\n.\n"),
        ),
        (1, "dots", format!("From: a..b@c\n{to}{subject}hi\n.\n")),
        (
            1,
            "a dot first",
            format!("From: .a@c\n{to}{subject}hi\n.\n"),
        ),
        (
            1,
            "underscore in a domain",
            format!("From: a@b_c\n{to}{subject}hi\n.\n"),
        ),
        (
            1,
            "hyphen first in a domain",
            format!("From: a@-b\n{to}{subject}hi\n.\n"),
        ),
        (
            1,
            "dot last in a domain",
            format!("From: a@b.\n{to}{subject}hi\n.\n"),
        ),
        (
            1,
            "bad literal",
            format!("From: a@[300.1.1.1]\n{to}{subject}hi\n.\n"),
        ),
        (
            1,
            "unclosed quote",
            format!("From: \"a@b\n{to}{subject}hi\n.\n"),
        ),
        (
            5,
            "a line SMTP cannot carry",
            format!("{from}{to}{subject}hi\n{}\n.\n", "x".repeat(999)),
        ),
    ];
    for (line, why, message) in cases {
        let output = sandbox.send(server.address(), &[], &message);
        assert_eq!(output.code, 65, "{why}: {message:?}: {output:#?}");
        incorrect(output, line);
    }
    assert_eq!(
        sandbox.mailbox("Andrew"),
        "",
        "something was sent all the same"
    );
}

#[test]
fn cr_inside_a_line_never_reaches_the_wire() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    for message in [
        format!("{HEAD}a\rb\n.\n"),
        "From: a@b\rRCPT TO:<x@y>\nTo: andrew@localhost\nSubject: x\n.\n".to_owned(),
        "From: a@b\nTo: andrew@localhost\nSubject: x\rBcc: c@d\n.\n".to_owned(),
    ] {
        let output = sandbox.send(server.address(), &[], message).code(65);
        output.stdout("").stderr_has("Incorrect format");
    }
    assert_eq!(sandbox.mailbox("Andrew"), "");
}

// Logging in.

#[test]
fn login_comes_from_the_environment_or_a_file() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["--auth", "required"]);
    let address = server.address().to_string();
    let arguments = ["send", "--server", &address, "--user", "Stallings"];
    let mut command = sandbox.command(&arguments);
    command.env("MINISMTP_PASSWORD", "network$ecurity");
    run(&mut command, NITC).code(0).stdout(SENT).silent();

    for password in [
        "network$ecurity\n",
        "network$ecurity",
        "network$ecurity\r\n",
    ] {
        let file = sandbox.beside("password");
        fs::write(&file, password).unwrap();
        let mut command = sandbox.command(&arguments);
        command.arg("--password-file").arg(&file);
        run(&mut command, NITC).code(0).stdout(SENT).silent();
    }

    let mut command = sandbox.command(&["send"]);
    command.env("MINISMTP_SERVER", &address);
    let output = run(&mut command, NITC).stdout("");
    assert!([69, 77].contains(&output.code), "{output:#?}");
    assert!(
        output.stderr.contains("530"),
        "the server's reply is told: {output:#?}"
    );
    assert_eq!(sandbox.records("Andrew").len(), 4);

    // Set to nothing it is as if it were not set: the mail is looked at, which comes before any server.
    let mut command = sandbox.command(&["send"]);
    command.env("MINISMTP_SERVER", "");
    run(&mut command, "no mail").code(65);
}

#[test]
fn refused_login_is_77_and_sends_nothing() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut command = sandbox.command(&[
        "send",
        "--server",
        &server.address().to_string(),
        "--user",
        "Stallings",
    ]);
    command.env("MINISMTP_PASSWORD", "wrong-word");
    let output = run(&mut command, NITC).code(77).stdout("");
    assert!(!output.stderr.contains("wrong-word"), "{output:#?}");
    assert_eq!(sandbox.mailbox("Andrew"), "");
}

#[test]
fn sender_that_is_not_ones_own_is_69() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut command = sandbox.command(&[
        "send",
        "--server",
        &server.address().to_string(),
        "--user",
        "Andrew",
    ]);
    command.env("MINISMTP_PASSWORD", "@dministr@tor");
    run(&mut command, NITC)
        .code(69)
        .stdout("")
        .stderr_has("553");
}

/// Logs in to a peer as alice and sends NITC's message.
fn log_in_to(fake: &Fake) -> Output {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&[
        "send",
        "--server",
        &fake.address.to_string(),
        "--user",
        "alice",
    ]);
    command.env("MINISMTP_PASSWORD", "wonderland");
    run(&mut command, NITC)
}

#[test]
fn plain_is_used_when_offered() {
    let fake = Script::new()
        .offers(&["AUTH LOGIN PLAIN"])
        .login(&["235 2.7.0 Ok"])
        .start();
    log_in_to(&fake).code(0).stdout(SENT);
    let session = fake.session();
    assert_eq!(
        session.command("AUTH"),
        Some("AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=")
    );
    assert_eq!(session.data.len(), 1);
}

#[test]
fn login_is_used_when_nothing_else_is_offered() {
    for keyword in [
        "AUTH LOGIN",
        "AUTH CRAM-MD5 LOGIN",
        "AUTH=LOGIN",
        "auth login",
    ] {
        let replies = ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 2.7.0 Ok"];
        let fake = Script::new().offers(&[keyword]).login(&replies).start();
        log_in_to(&fake).code(0).stdout(SENT);
        let session = fake.session();
        let at = session
            .commands
            .iter()
            .position(|line| line.starts_with("AUTH"))
            .unwrap();
        let expected = [
            "AUTH LOGIN".to_owned(),
            base64("alice"),
            base64("wonderland"),
        ];
        assert_eq!(session.commands[at..at + 3], expected, "{keyword}");
    }
}

#[test]
fn server_without_a_usable_mechanism_gets_neither_password_nor_mail() {
    for keywords in [&["8BITMIME"][..], &["AUTH CRAM-MD5 GSSAPI"]] {
        let fake = Script::new().offers(keywords).start();
        let output = log_in_to(&fake).stdout("");
        assert!([69, 76, 77].contains(&output.code), "{output:#?}");
        let session = fake.session();
        assert!(
            session.data.is_empty() && session.command("AUTH").is_none(),
            "{session:#?}"
        );
    }
}

#[test]
fn login_replies_are_told_apart() {
    for (reply, code) in [
        ("535 5.7.8 no", 77),
        ("535 no", 77),
        ("454 4.7.0 later", 75),
        ("421 4.3.2 closing", 75),
        ("what is this", 76),
        (HANG_UP, 75),
    ] {
        let fake = Script::new()
            .offers(&["AUTH PLAIN"])
            .login(&[reply])
            .start();
        log_in_to(&fake).code(code).stdout("");
        assert!(fake.session().data.is_empty(), "{reply}");
    }
}

#[test]
fn challenge_that_cannot_be_read_is_cancelled() {
    let fake = Script::new()
        .offers(&["AUTH LOGIN"])
        .login(&["334 ?!", "501 5.7.0 ok"])
        .start();
    let output = log_in_to(&fake).stdout("");
    // LOGIN's challenges say nothing that matters: a client may also go by their number.
    assert_ne!(output.code, 0);
    assert!(fake.session().data.is_empty());
}

#[test]
fn no_password_goes_over_an_unprotected_connection_to_another_host() {
    let Some(address) = crate::serve::own_address().filter(std::net::IpAddr::is_ipv4) else {
        return;
    };
    let script = Script::new()
        .offers(&["AUTH PLAIN LOGIN"])
        .login(&["235 2.7.0 Ok"]);
    let fake = script.start_on(&format!("{address}:0"));
    let output = log_in_to(&fake).stdout("");
    assert_ne!(output.code, 0, "{output:#?}");
    assert!(
        output.stderr.contains("--insecure-auth"),
        "no way out is told: {output:#?}"
    );
    let session = fake.session();
    assert!(
        session.command("AUTH").is_none() && session.data.is_empty(),
        "{session:#?}"
    );

    let sandbox = Sandbox::new();
    let server = fake.address.to_string();
    let mut command = sandbox.command(&[
        "send",
        "--server",
        &server,
        "--user",
        "alice",
        "--insecure-auth",
    ]);
    command.env("MINISMTP_PASSWORD", "wonderland");
    run(&mut command, NITC).code(0).stdout(SENT);
    assert!(fake.session().command("AUTH").is_some());
}

// Replies and exit codes.

#[test]
fn unknown_recipient_is_67() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let message = NITC.replace("andrew", "nobody");
    let output = sandbox
        .send(server.address(), &[], message)
        .code(67)
        .stdout("");
    output.stderr_has("550");
}

#[test]
fn refusal_at_each_stage_is_told_with_its_own_code() {
    for stage in ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        for (reply, code) in [
            ("421 4.3.2 closing", 75),
            ("450 4.2.0 busy", 75),
            ("451 4.3.0 trouble", 75),
            ("550 5.7.1 go away", 69),
            ("554 5.0.0 never", 69),
        ] {
            let script = match stage {
                "greeting" => Script::new().greeting(reply),
                "EHLO" => Script::new().on("EHLO", reply).on("HELO", reply),
                _ => Script::new().on(stage, reply),
            };
            let (output, session) = send_against(script);
            assert_eq!(output.code, code, "{reply} at {stage}: {output:#?}");
            assert_eq!(output.stdout, "", "{reply} at {stage}");
            let text = &reply[..3];
            assert!(
                output.stderr.contains(text),
                "{reply} at {stage} is not told: {output:#?}"
            );
            let sent = session.data.len();
            assert_eq!(
                sent,
                usize::from(stage == "."),
                "{reply} at {stage}: {session:#?}"
            );
        }
    }
}

#[test]
fn unknown_recipient_of_another_server_is_67() {
    let (output, session) = send_against(Script::new().on("RCPT", "550 5.1.1 no such user"));
    output.code(67).stdout("");
    assert!(session.data.is_empty());
}

#[test]
fn hang_up_at_each_stage_is_75() {
    for stage in ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        let script = match stage {
            "greeting" => Script::new().greeting(HANG_UP),
            "EHLO" => Script::new().on("EHLO", HANG_UP).on("HELO", HANG_UP),
            _ => Script::new().on(stage, HANG_UP),
        };
        let (output, _) = send_against(script);
        assert_eq!(output.code, 75, "at {stage}: {output:#?}");
        assert_eq!(output.stdout, "", "at {stage}");
    }
}

#[test]
fn hang_up_after_the_mail_was_taken_changes_nothing() {
    for reply in [HANG_UP, "500 what", "garbage"] {
        let (output, session) = send_against(Script::new().on("QUIT", reply));
        output.code(0).stdout(SENT);
        assert_eq!(session.data.len(), 1);
    }
}

#[test]
fn peer_that_talks_nonsense_is_76() {
    for stage in ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        for nonsense in [
            "SSH-2.0-OpenSSH_9.2",
            "2x0 ok",
            "999 beyond",
            "250-a\r\n251 b",
            "",
            "ok",
        ] {
            let script = match stage {
                "greeting" => Script::new().greeting(nonsense),
                _ => Script::new().on(stage, nonsense),
            };
            let (output, _) = send_against(script);
            assert_eq!(output.code, 76, "{nonsense:?} at {stage}: {output:#?}");
            assert_eq!(output.stdout, "", "{nonsense:?} at {stage}");
        }
    }
    let (output, session) = send_against(Script::new().on("DATA", "250 2.0.0 already?"));
    output.code(76).stdout("");
    assert!(session.data.is_empty());
}

#[test]
fn endless_reply_is_76_and_costs_no_memory() {
    let endless = format!("220-{}", "x".repeat(1_000_000));
    let (output, _) = send_against(Script::new().greeting(&endless));
    output.code(76).stdout("");
    let endless = format!("{}250 ok", "250-x\r\n".repeat(100_000));
    let (output, _) = send_against(Script::new().on("MAIL", &endless));
    output.code(76).stdout("");
}

#[test]
fn reply_cannot_control_the_terminal() {
    let (output, _) = send_against(Script::new().on("MAIL", "550 5.7.1 \x1b[2Jgo\x07 away"));
    let output = output.code(69);
    assert!(!output.stderr.contains(['\x1b', '\x07']), "{output:#?}");
}

#[test]
fn bare_and_long_replies_are_understood() {
    let long = format!("220-hello\r\n220-{}\r\n220 ready", "x".repeat(2000));
    let script = Script::new()
        .greeting(&long)
        .on("MAIL", "250")
        .on("RCPT", "251 will forward");
    let (output, _) = send_against(
        script
            .on("DATA", "354")
            .on(".", "250-2.0.0 one\r\n250 2.0.0 two"),
    );
    output.code(0).stdout(SENT).silent();
}

#[test]
fn server_that_knows_only_helo_gets_no_parameters() {
    for refusal in ["500 what?", "502 not implemented"] {
        let (output, session) = send_against(Script::new().on("EHLO", refusal));
        output.code(0).stdout(SENT).silent();
        assert!(session.command("HELO").is_some(), "{session:#?}");
        assert_eq!(
            session.command("MAIL"),
            Some("MAIL FROM:<stallings@localhost>")
        );
    }
}

#[test]
fn size_is_declared_only_when_offered() {
    let (output, session) = send_against(Script::new().offers(&["8BITMIME"]));
    output.code(0);
    assert_eq!(
        session.command("MAIL"),
        Some("MAIL FROM:<stallings@localhost>")
    );
    for keyword in ["SIZE", "SIZE 0", "size 100000"] {
        let (output, session) = send_against(Script::new().offers(&[keyword]));
        output.code(0).stdout(SENT);
        assert!(
            session.command("MAIL").unwrap().contains(" SIZE="),
            "{keyword}: {session:#?}"
        );
    }
}

#[test]
fn message_over_the_offered_size_is_not_sent() {
    let (output, session) = send_against(Script::new().offers(&["SIZE 100"]));
    let output = output.stdout("");
    assert!([65, 69].contains(&output.code), "{output:#?}");
    assert!(output.stderr.contains("100"), "{output:#?}");
    assert!(session.data.is_empty(), "{session:#?}");
}

#[test]
fn eight_bit_is_never_sent_to_a_server_that_cannot_take_it() {
    let fake = Script::new().offers(&["SIZE 100000"]).start();
    let output = send_to(&fake, format!("{HEAD}schöne Grüße\n.\n"));
    let session = fake.session();
    if output.code == 0 {
        let message = session.message();
        assert!(message.is_ascii(), "{message}");
        let fields = message.to_ascii_lowercase();
        assert!(
            fields.contains("content-transfer-encoding: "),
            "mangled: {message}"
        );
    } else {
        assert!([65, 69].contains(&output.code), "{output:#?}");
        assert!(session.data.is_empty(), "{session:#?}");
        assert!(
            output.stderr.contains("8BITMIME") || output.stderr.contains("8-bit"),
            "{output:#?}"
        );
    }
}

#[test]
fn non_ascii_address_needs_smtputf8() {
    let message = HEAD.replace("stallings@localhost", "jürgen@localhost");
    let fake = Script::new().offers(&["8BITMIME"]).start();
    let output = send_to(&fake, &message).stdout("");
    assert!([65, 69].contains(&output.code), "{output:#?}");
    let session = fake.session();
    assert!(
        session.command("MAIL").is_none() && session.data.is_empty(),
        "{session:#?}"
    );

    let fake = Script::new().offers(&["8BITMIME", "SMTPUTF8"]).start();
    send_to(&fake, &message).code(0).stdout(SENT);
    let session = fake.session();
    let mail = session.command("MAIL").unwrap();
    assert!(mail.starts_with("MAIL FROM:<jürgen@localhost> "), "{mail}");
    assert!(mail.contains(" SMTPUTF8"), "{mail}");

    let sandbox = Sandbox::lab().user("jürgen", "secret");
    let server = sandbox.serve(&[]);
    let to = HEAD.replace("andrew@localhost", "Jürgen@localhost");
    sandbox.send(server.address(), &[], to).code(0).stdout(SENT);
    assert_eq!(sandbox.records("jürgen")[0].to, "Jürgen@localhost");
}

#[test]
fn smtputf8_is_not_asked_for_without_need() {
    let (output, session) =
        send_against(Script::new().offers(&["8BITMIME", "SMTPUTF8", "PIPELINING"]));
    output.code(0);
    assert!(
        !session.command("MAIL").unwrap().contains("UTF8"),
        "{session:#?}"
    );
}

#[test]
fn pipelining_is_used_when_offered() {
    let script = Script::new().offers(&["PIPELINING"]).holds_mail_reply();
    let (output, session) = send_against(script);
    output.code(0).stdout(SENT);
    assert_eq!(session.data.len(), 1);
}

#[test]
fn go_ahead_after_all_recipients_were_refused_is_answered_with_nothing() {
    // RFC 2920 §3.1: DATA may be pipelined, and this server says 354 though RCPT failed.
    let script = Script::new()
        .offers(&["PIPELINING"])
        .on("RCPT", "550 5.1.1 no such user");
    let (output, session) = send_against(script);
    output.code(67).stdout("");
    assert!(session.data.iter().all(Vec::is_empty), "{session:#?}");
}

#[test]
fn no_server_is_75_and_no_such_host_is_68() {
    let sandbox = Sandbox::new();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let output = sandbox.send(closed, &[], NITC).code(75).stdout("");
    assert!(output.stderr.contains(&closed.to_string()), "{output:#?}");
    let arguments = ["send", "--server", "no-such-host.invalid:2525"];
    let output = sandbox.run(&arguments, NITC).code(68).stdout("");
    assert!(
        output.stderr.contains("no-such-host.invalid"),
        "{output:#?}"
    );
}

#[test]
fn server_is_found_by_name() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let name = format!("localhost:{}", server.address().port());
    sandbox
        .run(&["send", "--server", &name], NITC)
        .code(0)
        .stdout(SENT)
        .silent();
}

#[test]
fn wrong_usage_is_64() {
    let sandbox = Sandbox::new();
    for arguments in [
        &["send", "--no-such-flag"][..],
        &["send", "--server", "localhost:notaport"],
    ] {
        sandbox.run(arguments, NITC).code(64).stdout("");
    }
}
