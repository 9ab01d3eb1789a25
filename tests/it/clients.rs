//! Real clients that know nothing of us: curl, lettre, Python, swaks, msmtp, netcat.

use std::process::Command;

use crate::sandbox::{Output, Sandbox, Server, masked, run};

const NITC: &str = "From: stallings@localhost\nTo: andrew@localhost\nSubject: SMTP Experiment\n\n\
                    Next evaluation will be on 22 March 2021.\nPlease be ready.\n";

/// Whether a client can be run. One that is missing fails the test where tests must be complete
/// (`CI` is set), unless `MINISMTP_TESTS_SKIP_MISSING_CLIENTS` allows for it.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|directory| directory.join(program).is_file()) {
        return true;
    }
    let may_skip = std::env::var_os("CI").is_none()
        || std::env::var_os("MINISMTP_TESTS_SKIP_MISSING_CLIENTS").is_some();
    assert!(may_skip, "`{program}` is not installed");
    println!("skipped: `{program}` is not installed");
    false
}

/// A client in a neutral environment.
pub(crate) fn client(
    sandbox: &Sandbox,
    program: &str,
    arguments: &[&str],
    stdin: impl AsRef<[u8]>,
) -> Output {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(sandbox.root())
        .env("LC_ALL", "C.UTF-8");
    for proxy in [
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "ALL_PROXY",
        "HTTPS_PROXY",
    ] {
        command.env_remove(proxy);
    }
    run(&mut command, stdin)
}

fn port(server: &Server) -> String {
    server.address().port().to_string()
}

#[test]
fn curl_delivers_to_several_recipients_with_and_without_a_login() {
    if !is_installed("curl") {
        return;
    }
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let url = format!("smtp://127.0.0.1:{}/client.example", port(&server));
    let mut arguments = vec!["-sS", "--url", &url, "--mail-from", "stallings@localhost"];
    arguments.extend([
        "--mail-rcpt",
        "andrew@localhost",
        "--mail-rcpt",
        "fourouzan@localhost",
    ]);
    arguments.extend(["--upload-file", "-", "--crlf"]);
    let content = format!("{NITC}.\n..\n.dots\n");
    client(&sandbox, "curl", &arguments, &content).code(0);
    for login in ["AUTH=PLAIN", "AUTH=LOGIN"] {
        let login = [
            "--user",
            "Stallings:network$ecurity",
            "--login-options",
            login,
        ];
        client(
            &sandbox,
            "curl",
            &[arguments.as_slice(), &login].concat(),
            &content,
        )
        .code(0);
    }
    let andrew = sandbox.records("Andrew");
    let body = content.split_once("\n\n").unwrap().1;
    assert_eq!(
        andrew
            .iter()
            .map(crate::sandbox::Record::text)
            .collect::<Vec<_>>(),
        [body; 3]
    );
    for record in sandbox.records("Fourouzan") {
        assert_eq!(String::from_utf8(record.message()).unwrap(), content);
    }
    let wrong = ["--user", "Stallings:wrong"];
    let output = client(
        &sandbox,
        "curl",
        &[arguments.as_slice(), &wrong].concat(),
        NITC,
    );
    assert_eq!(
        output.code, 67,
        "curl's code for a refused login: {output:#?}"
    );
}

const SMTPLIB: &str = r#"
import smtplib, sys
from email.message import EmailMessage

port, kept = int(sys.argv[1]), sys.argv[2]
message = EmailMessage()
message["From"] = "Stallings <stallings@localhost>"
message["To"] = "andrew@localhost, fourouzan@localhost"
message["Subject"] = "Grüße mit Anhang " + "lang " * 40
message["X-Long"] = "word " * 400
message.set_content("Zeile eins\n.\n..\nschön\n" * 50)
message.add_alternative("<p>schön</p>\n", subtype="html")
message.add_attachment(bytes(range(256)) * 4000, maintype="application",
                       subtype="octet-stream", filename="größe.bin")
message.add_attachment("text with\nlines\n.\n", filename="a.txt")
message.as_bytes()  # picks the boundaries, which a copy made by smtplib then keeps
with smtplib.SMTP("127.0.0.1", port, timeout=20) as smtp:
    smtp.ehlo()
    assert smtp.has_extn("size") and smtp.has_extn("8bitmime") and smtp.has_extn("smtputf8")
    smtp.login("Stallings", "network$ecurity")
    refused = smtp.send_message(message)
    assert refused == {}, refused
    refused = smtp.sendmail("stallings@localhost", ["andrew@localhost", "nobody@localhost"],
                            b"Subject: raw\r\n\r\n8-bit \xff\xfe\r\n", ["BODY=8BITMIME"])
    assert list(refused) == ["nobody@localhost"], refused
    assert refused["nobody@localhost"][0] == 550, refused
    assert smtp.verify("andrew")[0] == 252
    assert smtp.noop()[0] == 250
with open(kept, "wb") as file:
    file.write(message.as_bytes())
"#;

#[test]
fn smtplib_delivers_mime_with_attachments_octet_for_octet() {
    if !is_installed("python3") {
        return;
    }
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let kept = sandbox.beside("kept.eml");
    let arguments = ["-c", SMTPLIB, &port(&server), kept.to_str().unwrap()];
    client(&sandbox, "python3", &arguments, "").code(0);
    let sent = std::fs::read(kept).unwrap();
    for user in ["Andrew", "Fourouzan"] {
        let record = &sandbox.records(user)[0];
        assert!(
            record.message() == sent,
            "{user}: what came out is not what went in"
        );
        assert!(
            record.subject.starts_with("Grüße mit Anhang lang"),
            "{}",
            record.subject
        );
        assert_eq!(record.subject.chars().count(), 100);
    }
    assert_eq!(
        sandbox.records("Andrew")[1].message(),
        b"Subject: raw\n\n8-bit \xff\xfe\n"
    );
}

const SMTPUTF8: &str = r#"
import smtplib, sys
from email.message import EmailMessage
from email.policy import SMTPUTF8

message = EmailMessage(policy=SMTPUTF8)
message["From"] = "björn@exämple.org"
message["To"] = "jürgen@localhost"
message["Subject"] = "Smørrebrød"
message.set_content("hej\n")
with smtplib.SMTP("localhost", int(sys.argv[1]), timeout=20) as smtp:
    smtp.send_message(message)
"#;

#[test]
fn smtplib_delivers_to_non_ascii_addresses() {
    if !is_installed("python3") {
        return;
    }
    let sandbox = Sandbox::lab().user("jürgen", "secret");
    let server = sandbox.serve(&[]);
    client(&sandbox, "python3", &["-c", SMTPUTF8, &port(&server)], "").code(0);
    let record = &sandbox.records("jürgen")[0];
    assert_eq!(record.from, "björn@exämple.org");
    assert_eq!(
        (record.to.as_str(), record.subject.as_str()),
        ("jürgen@localhost", "Smørrebrød")
    );
}

#[test]
fn swaks_delivers_with_every_login_and_pipelined() {
    if !is_installed("swaks") {
        return;
    }
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let port = port(&server);
    let mut base = vec![
        "--server",
        "127.0.0.1",
        "--port",
        &port,
        "--from",
        "stallings@localhost",
    ];
    base.extend([
        "--to",
        "andrew@localhost,fourouzan@localhost",
        "--timeout",
        "20s",
    ]);
    base.extend([
        "--helo",
        "client.example",
        "--header",
        "Subject: swaks",
        "--body",
        "hi\n.\nho",
    ]);
    let login = [
        "--auth-user",
        "Stallings",
        "--auth-password",
        "network$ecurity",
        "--auth",
    ];
    for more in [&[][..], &["--pipeline"], &["--protocol", "SMTP"]] {
        client(&sandbox, "swaks", &[base.as_slice(), more].concat(), "").code(0);
    }
    for mechanism in ["PLAIN", "LOGIN"] {
        client(
            &sandbox,
            "swaks",
            &[base.as_slice(), &login, &[mechanism]].concat(),
            "",
        )
        .code(0);
    }
    let wrong = [
        "--auth",
        "PLAIN",
        "--auth-user",
        "Stallings",
        "--auth-password",
        "wrong",
    ];
    let output = client(&sandbox, "swaks", &[base.as_slice(), &wrong].concat(), "");
    assert_eq!(
        output.code, 28,
        "swaks's code for a refused login: {output:#?}"
    );
    for user in ["Andrew", "Fourouzan"] {
        let records = sandbox.records(user);
        assert_eq!(records.len(), 5, "{user}");
        for record in records {
            assert_eq!(record.subject, "swaks");
            assert!(record.text().contains("\n\nhi\n.\nho\n"), "{record:#?}");
        }
    }
}

#[test]
fn msmtp_delivers() {
    if !is_installed("msmtp") {
        return;
    }
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let port_argument = format!("--port={}", port(&server));
    let mut arguments = vec![
        "--file=/dev/null",
        "--host=127.0.0.1",
        &port_argument,
        "--tls=off",
    ];
    arguments.extend(["--from=stallings@localhost", "--timeout=20"]);
    let plain = [
        arguments.as_slice(),
        &["--auth=off", "--", "andrew@localhost"],
    ]
    .concat();
    // msmtp adds nothing to a message that is told not to get a Date or Message-ID.
    let content = format!("Date: Mon, 22 Mar 2021 14:05:00 +0530\nMessage-ID: <1@x>\n{NITC}.\n");
    client(&sandbox, "msmtp", &plain, &content).code(0);
    let evaluated = [
        "--auth=plain",
        "--user=Stallings",
        "--passwordeval=echo 'network$ecurity'",
    ];
    let to = ["--", "andrew@localhost", "fourouzan@localhost"];
    client(
        &sandbox,
        "msmtp",
        &[arguments.as_slice(), &evaluated, &to].concat(),
        &content,
    )
    .code(0);
    let unknown = [
        arguments.as_slice(),
        &["--auth=off", "--", "nobody@localhost"],
    ]
    .concat();
    let output = client(&sandbox, "msmtp", &unknown, &content);
    assert!(output.stderr.contains("550 5.1.1"), "{output:#?}");
    assert_ne!(output.code, 0);
    let records = sandbox.records("Andrew");
    assert_eq!(records.len(), 2);
    for record in records {
        let message = String::from_utf8(record.message()).unwrap();
        assert!(
            message.ends_with(&content[content.find("From:").unwrap()..]),
            "{message}"
        );
    }
}

#[test]
fn netcat_delivers_with_bare_lf_lines() {
    if !is_installed("nc") {
        return;
    }
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let typed = format!(
        "HELO me\nMAIL FROM:<stallings@localhost>\nRCPT TO:<andrew@localhost>\nDATA\n{NITC}.\n\
         MAIL FROM:<stallings@localhost>\nRCPT TO:<andrew@localhost>\nDATA\n\
         From: stallings@localhost\nTo: andrew@localhost\nSubject: no empty line\nhi\n.\nQUIT\n"
    );
    let output = client(&sandbox, "nc", &["127.0.0.1", &port(&server)], typed).code(0);
    let codes: Vec<_> = output.stdout.lines().map(|line| &line[..3]).collect();
    let expected = [
        "220", "250", "250", "250", "354", "250", "250", "250", "354", "250", "221",
    ];
    assert_eq!(codes, expected, "{}", output.stdout);
    let (head, body) = NITC.split_once("\n\n").unwrap();
    assert_eq!(
        masked(&sandbox.mailbox("Andrew")),
        format!(
            "{head}\nReceived: <time>\n{body}.\n\
             From: stallings@localhost\nTo: andrew@localhost\nSubject: no empty line\n\
             Received: <time>\nhi\n.\n"
        )
    );
}

#[test]
fn lettre_delivers_to_many_after_a_login() {
    use lettre::message::{Attachment, MultiPart, SinglePart, header::ContentType};
    use lettre::transport::smtp::authentication::{Credentials, Mechanism};
    use lettre::{Message, SmtpTransport, Transport};

    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let attachment = Attachment::new("größe.bin".to_owned());
    let octets: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let message = Message::builder()
        .from("Stallings <stallings@localhost>".parse().unwrap())
        .to("Andrew <andrew@localhost>".parse().unwrap())
        .cc("fourouzan@localhost".parse().unwrap())
        .subject("Grüße")
        .multipart(
            MultiPart::mixed()
                .singlepart(SinglePart::plain(".\n..\nschön\n".to_owned()))
                .singlepart(attachment.body(octets, ContentType::parse("a/b").unwrap())),
        )
        .unwrap();
    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        let transport = SmtpTransport::builder_dangerous("127.0.0.1")
            .port(server.address().port())
            .credentials(Credentials::new(
                "Stallings".to_owned(),
                "network$ecurity".to_owned(),
            ))
            .authentication(vec![mechanism])
            .build();
        transport.send(&message).unwrap();
    }
    let sent = String::from_utf8(message.formatted())
        .unwrap()
        .replace("\r\n", "\n");
    for name in ["Andrew", "Fourouzan"] {
        let records = sandbox.records(name);
        assert_eq!(records.len(), 2, "{name}");
        for record in records {
            assert_eq!(record.subject, "Grüße");
            // What is no line end in the message is none in the mailbox.
            let kept = String::from_utf8(record.message()).unwrap();
            assert_eq!(kept.trim_end(), sent.trim_end(), "{name}");
        }
    }
}
