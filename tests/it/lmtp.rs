//! LMTP (RFC 2033), as a mail server meets it that hands mail over to us. The replies are in
//! `tests/dialogs/lmtp`.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::clients::{client, is_installed};
use crate::sandbox::{Sandbox, Server};
use crate::serve::own_address;
use crate::smtp::{Smtp, wire};

/// A connection that has said LHLO.
fn hello(server: &Server) -> Smtp {
    let mut lmtp = Smtp::connect(server.lmtp_address());
    lmtp.expect("220 ");
    lmtp.ask("LHLO mx.example", "250");
    lmtp
}

/// A server with LMTP on a port and on a Unix socket, and where that is.
fn serve_both(sandbox: &Sandbox) -> (Server, String) {
    let path = sandbox.beside("lmtp").to_str().unwrap().to_owned();
    let mut server = sandbox.serve_lmtp(&["--lmtp-socket", &path]);
    server.next_listener();
    (server, path)
}

#[test]
fn one_mailbox_that_fails_does_not_keep_the_others_from_theirs() {
    let sandbox = Sandbox::lab();
    symlink(sandbox.beside("elsewhere"), sandbox.path("Andrew")).unwrap();
    let server = sandbox.serve_lmtp(&[]);
    let mut lmtp = hello(&server);
    let to = [
        "stallings@localhost",
        "andrew@localhost",
        "fourouzan@localhost",
    ];
    lmtp.envelope("a@b.example", &to);
    lmtp.data("Subject: x\r\n\r\nhi\r\n")
        .expect("250 2.0.0 Ok: queued as ");
    lmtp.expect("451 4.3.0");
    lmtp.expect("250 2.0.0 Ok: queued as ");
    for user in ["Stallings", "Fourouzan"] {
        let records = sandbox.records(user);
        assert_eq!(records.len(), 1, "{user}");
        assert_eq!(records[0].message(), b"Subject: x\n\nhi\n");
        let (_, received) = records[0].trace();
        let recipient = format!("for <{}@localhost>;", user.to_lowercase());
        assert!(
            received.contains(" with LMTP id ") && received.contains(&recipient),
            "{received}"
        );
    }
}

#[test]
fn large_message_and_many_recipients_come_out_whole() {
    let mut sandbox = Sandbox::lab();
    for number in 0..120 {
        sandbox = sandbox.user(&format!("user{number}"), "secret");
    }
    let server = sandbox.serve_lmtp(&[]);
    let mut lmtp = hello(&server);
    let large = format!("Subject: large\n\n{}", ".0123456789\n".repeat(20_000));
    for text in [large.as_str(), "Subject: small\n\n.\n"] {
        let to: Vec<_> = (0..120).map(|n| format!("user{n}@localhost")).collect();
        let to: Vec<_> = to.iter().map(String::as_str).collect();
        lmtp.envelope("a@b.example", &to);
        lmtp.data(wire(text)).expect("250 2.0.0 Ok: queued as ");
        for _ in 1..120 {
            lmtp.expect("250 2.0.0 Ok: queued as ");
        }
    }
    lmtp.ask("NOOP", "250 2.0.0");
    for number in 0..120 {
        let records = sandbox.records(&format!("user{number}"));
        assert_eq!(records.len(), 2);
        assert!(
            records[0].message() == large.as_bytes(),
            "user{number}: what came out is not what went in"
        );
        assert_eq!(records[1].message(), b"Subject: small\n\n.\n");
    }
}

#[test]
fn other_peers_have_to_log_in_as_with_smtp() {
    let Some(address) = own_address() else { return };
    let sandbox = Sandbox::lab();
    // No network has it that was not named for it.
    let server = sandbox.serve_lmtp(&["--host", &address.to_string()]);
    assert!(server.lmtp_address().ip().is_loopback());
    let address = address.to_string();
    let at_address = ["--lmtp-host", &address];
    drop(server);
    let server = sandbox.serve_lmtp(&at_address);
    let mut lmtp = hello(&server);
    lmtp.ask("MAIL FROM:<stallings@localhost>", "530 5.7.0");
    lmtp.ask("MAIL FROM:<a@b.example>", "250 2.1.0");
    let demanding = Sandbox::lab();
    let server = demanding.serve_lmtp(&[&at_address[..], &["--auth", "required"]].concat());
    hello(&server).ask("MAIL FROM:<a@b.example>", "530 5.7.0");
}

#[test]
fn port_25_is_not_for_lmtp() {
    let sandbox = Sandbox::lab();
    sandbox
        .run(&["serve", "--port", "0", "--lmtp-port", "25"], "")
        .code(64)
        .stderr_has("port 25 is for SMTP only");
}

/// Starts a server with a Unix socket and waits until it listens there.
fn serve_at(sandbox: &Sandbox, path: &Path) -> Server {
    let path = path.to_str().unwrap();
    let mut server = sandbox.serve(&["--lmtp-socket", path]);
    assert_eq!(server.next_listener(), format!("listening lmtp {path}"));
    server
}

/// Delivers a message to Andrew over a Unix socket.
#[track_caller]
fn deliver_at(path: &Path) {
    let mut stream = UnixStream::connect(path).unwrap();
    let dialog = "LHLO mx.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<andrew@localhost>\r\n\
                  DATA\r\nSubject: x\r\n\r\nhi\r\n.\r\nQUIT\r\n";
    stream.write_all(dialog.as_bytes()).unwrap();
    let lines: Vec<_> = BufReader::new(stream).lines().map(Result::unwrap).collect();
    let [.., stored, goodbye] = lines.as_slice() else {
        panic!("{lines:?}");
    };
    assert!(stored.starts_with("250 2.0.0 Ok: queued as "), "{lines:?}");
    assert!(goodbye.starts_with("221 2.0.0"), "{lines:?}");
}

#[test]
fn unix_socket_is_for_owner_and_group_and_goes_with_the_server() {
    let sandbox = Sandbox::lab();
    let path = sandbox.beside("lmtp");
    let server = serve_at(&sandbox, &path);
    let status = fs::symlink_metadata(&path).unwrap();
    assert!(status.file_type().is_socket());
    assert_eq!(status.permissions().mode() & 0o777, 0o660);
    deliver_at(&path);
    assert_eq!(sandbox.records("Andrew").len(), 1);
    assert_eq!(server.terminate().code, 0);
    assert!(fs::symlink_metadata(&path).is_err());
}

#[test]
fn unix_socket_of_a_killed_server_makes_way_and_nothing_else_does() {
    let sandbox = Sandbox::lab();
    let path = sandbox.beside("lmtp");
    serve_at(&sandbox, &path).kill();
    assert!(fs::symlink_metadata(&path).is_ok());
    let server = serve_at(&sandbox, &path);
    deliver_at(&path);

    let arguments = ["serve", "--port", "0", "--lmtp-socket"];
    let other = Sandbox::lab();
    let at = |path: &Path| {
        [&arguments[..], &[path.to_str().unwrap()]]
            .concat()
            .join(" ")
    };
    let run = |path: &Path| {
        let command = at(path);
        let words: Vec<_> = command.split(' ').collect();
        other.run(&words, "")
    };
    run(&path).code(73).stderr_has("cannot listen on ");
    deliver_at(&path);
    drop(server);

    let file = sandbox.beside("file");
    fs::write(&file, "precious").unwrap();
    run(&file)
        .code(73)
        .stderr_has("something that is no socket");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

const SMTPLIB: &str = r#"
import smtplib, sys

with smtplib.LMTP(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0) as lmtp:
    # It reads one reply, however many recipients there are.
    for to in ["andrew@localhost", "fourouzan@localhost"]:
        lmtp.sendmail("a@b.example", [to], "Subject: smtplib\r\n\r\n.hi\r\n")
"#;

#[test]
fn smtplib_hands_mail_over() {
    if !is_installed("python3") {
        return;
    }
    let sandbox = Sandbox::lab();
    let (server, path) = serve_both(&sandbox);
    let path = path.as_str();
    let port = server.lmtp_address().port().to_string();
    client(
        &sandbox,
        "python3",
        &["-c", SMTPLIB, "127.0.0.1", &port],
        "",
    )
    .code(0);
    client(&sandbox, "python3", &["-c", SMTPLIB, path], "").code(0);
    for user in ["Andrew", "Fourouzan"] {
        let records = sandbox.records(user);
        assert_eq!(records.len(), 2, "{user}");
        assert!(
            records
                .iter()
                .all(|r| r.message() == b"Subject: smtplib\n\n.hi\n")
        );
    }
}

#[test]
fn swaks_hands_mail_over() {
    if !is_installed("swaks") {
        return;
    }
    let sandbox = Sandbox::lab();
    let (server, path) = serve_both(&sandbox);
    let path = path.as_str();
    let port = server.lmtp_address().port().to_string();
    let base = [
        "--protocol",
        "LMTP",
        "--from",
        "a@b.example",
        "--to",
        "andrew@localhost,fourouzan@localhost",
        "--timeout",
        "20s",
        "--helo",
        "mx.example",
    ];
    for place in [
        &["--server", "127.0.0.1", "--port", &port][..],
        &["--socket", path],
    ] {
        client(&sandbox, "swaks", &[&base[..], place].concat(), "").code(0);
    }
    assert_eq!(sandbox.records("Andrew").len(), 2);
    assert_eq!(sandbox.records("Fourouzan").len(), 2);
}

#[test]
fn send_is_told_that_the_port_is_for_something_else() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve_lmtp(&[]);
    sandbox
        .send(
            server.lmtp_address(),
            &[],
            "From: a@b\nTo: c@d\nSubject: x\n",
        )
        .code(69)
        .stderr_has("hint: `--server HOST:PORT` names the server; is that its SMTP port, and not");
}
