//! What nobody may have too much of, met through real sockets.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::pop::Pop;
use crate::sandbox::{PATIENCE, Sandbox, until};
use crate::serve::own_address;
use crate::smtp::Smtp;

#[test]
fn connections_of_one_address_are_limited_but_for_this_machine() {
    let Some(address) = own_address() else { return };
    let sandbox = Sandbox::lab();
    let flags = ["--host", "127.0.0.1", "--host", &address.to_string()];
    let one = ["--max-connections-per-address", "1"];
    let mut server = sandbox.serve(&[&flags[..], &one].concat());
    let other = server.next_listener();
    let other = other
        .strip_prefix("listening smtp ")
        .unwrap()
        .parse()
        .unwrap();
    let mut first = Smtp::connect(other);
    first.expect("220 ");
    let mut second = Smtp::connect(other);
    second.expect("421 4.7.0 Too many connections from your address");
    second.expect_end();
    // Those inside and those of this machine are served on.
    first.ask("EHLO client.example", "250");
    let (_one, _two) = (server.hello(), server.hello());
    drop(first);
    until("the place is free again", || {
        Smtp::connect(other).reply().code() == 220
    });
    let told = "reason=\"too many connections from this address\"\n";
    let log = server.terminate().log;
    assert!(log.contains(told), "{log}");
}

#[test]
fn who_has_not_logged_in_leaves_room_for_those_who_will() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve_pop3(&["--max-connections", "4"]);
    let (_one, mut two) = (server.pop3(), server.pop3());
    let mut third = Pop::connect(server.pop3_address());
    third.expect("-ERR [SYS/TEMP] too many connections");
    // A login makes room at the entrance, and mail still comes in.
    two.login("Andrew", "@dministr@tor");
    let _three = server.pop3();
    server.deliver("a@b.example", &["andrew@localhost"], "hi\n");
}

#[test]
fn commands_without_a_message_or_a_login_come_to_an_end() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve_pop3(&[]);
    let mut smtp = server.hello();
    smtp.try_raw("NOOP\r\n".repeat(20_000));
    let said = smtp.rest();
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("421 4.7.0 Too many commands"), "{last}");

    let mut pop = server.pop3();
    pop.try_raw("USER Andrew\r\n".repeat(200));
    let said = pop.rest();
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("-ERR too many commands"), "{last}");
}

#[test]
fn a_hundred_thousand_recipients_are_not_looked_up() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    for (recipient, expected) in [
        ("nobody@localhost", "421 4.7.0 Too many refused recipients"),
        ("andrew@localhost", "421 4.7.0 Too many commands"),
    ] {
        let mut smtp = server.hello();
        smtp.ask("MAIL FROM:<a@b.example>", "250");
        let stream = smtp.stream();
        let feed = std::thread::spawn(move || {
            let mut stream = stream;
            let lines = format!("RCPT TO:<{recipient}>\r\n").repeat(1000);
            (0..100).all(|_| stream.write_all(lines.as_bytes()).is_ok());
        });
        let said = smtp.rest();
        let last = said.lines().last().unwrap();
        assert!(last.starts_with(expected), "{last}");
        feed.join().unwrap();
    }
}

#[test]
fn a_message_that_trickles_in_is_cut_off() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["--timeout", "1"]);
    let mut smtp = server.hello();
    smtp.envelope("a@b.example", &["andrew@localhost"]);
    smtp.ask("DATA", "354");
    let said = trickle(&mut smtp.stream());
    assert!(
        said.starts_with("421 4.4.2 Message comes too slowly"),
        "{said}"
    );
    assert!(sandbox.records("Andrew").is_empty());
}

/// Says an octet now and then until something comes back.
fn trickle(stream: &mut TcpStream) -> String {
    let start = Instant::now();
    let mut buffer = [0; 512];
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    while start.elapsed() < PATIENCE {
        stream.write_all(b"x").unwrap();
        match stream.read(&mut buffer) {
            Ok(octets) => return String::from_utf8_lossy(&buffer[..octets]).into_owned(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("nobody minds");
}

/// 10,000 of them have to fit into 100 MB.
#[test]
fn idle_connections_take_little_memory() {
    const CONNECTIONS: u64 = 400;
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["-q"]);
    // What is made once is there by then.
    let mut idle: Vec<_> = (0..50).map(|_| server.hello()).collect();
    let before = server.memory_peak();
    idle.extend((0..CONNECTIONS).map(|_| server.hello()));
    let each = (server.memory_peak() - before) / CONNECTIONS;
    assert!(each < 9_000, "an idle connection takes {each} octets");
}
