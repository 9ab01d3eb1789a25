//! Who leaves in the middle of something, in whatever way, leaves nothing behind: each dialog here is
//! broken off behind each of its lines.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::sandbox::{PATIENCE, Sandbox, Server, until};

/// What a client does next.
#[derive(Clone, Copy)]
enum Line {
    /// Says this, and waits for a line that begins so; for none if that is empty.
    Says(&'static [u8], &'static str),
    /// Says the first word of a handshake and hears the server's, or does not.
    Greets,
    /// Goes through with a handshake.
    Secures,
}
use Line::{Greets, Says, Secures};

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Says that nothing more will come and listens to the end.
    HalfCloses,
    /// The same in the words of TLS, on a connection that stays open.
    Notifies,
    Closes,
    /// With all that the server has not read yet.
    Resets,
}

const WAYS: [Way; 4] = [Way::HalfCloses, Way::Notifies, Way::Closes, Way::Resets];

const HELLO: Line = Says(b"EHLO c.example\r\n", "250 ");
const MAIL: Line = Says(b"MAIL FROM:<a@b.example>\r\n", "250 ");
const RCPT: Line = Says(b"RCPT TO:<andrew@localhost>\r\n", "250 ");
const DATA: Line = Says(b"DATA\r\n", "354 ");
const QUEUED: &str = "250 2.0.0 Ok: queued";
const DELIVERED: &str = "+OK delivered";
/// More than is held in memory.
const LARGE: Line = Says(&[b'x'; 300_000], "");

const SMTP: &[Line] = &[
    Says(b"", "220 "),
    Says(b"EHLO c.ex", ""),
    Says(b"ample\r\n", "250 "),
    MAIL,
    RCPT,
    DATA,
    Says(b"Subject: x\r\n", ""),
    Says(b"\r\nhalf", ""),
    Says(b"\r\n.", ""),
    Says(b"\r", ""),
    Says(b"\n", QUEUED),
    MAIL,
    RCPT,
    DATA,
    LARGE,
    Says(b"\r\n.", ""),
    Says(b"\r\n", QUEUED),
    Says(b"QUI", ""),
    Says(b"T\r\n", "221 "),
];

const CHUNKS: &[Line] = &[
    Says(b"", "220 "),
    HELLO,
    MAIL,
    RCPT,
    Says(b"BDAT 18\r\n", ""),
    Says(b"Subject: x", ""),
    Says(b"\r\n\r\nhalf", "250 "),
    Says(b"BDAT 300002 LAST\r\n", ""),
    LARGE,
    Says(b"\r", ""),
    Says(b"\n", QUEUED),
    MAIL,
    RCPT,
    // The last chunk is one even if it is empty.
    Says(b"BDAT 300000\r\n", ""),
    Says(&[b'x'; 300_000], "250 "),
    Says(b"BDAT 0 LAST", ""),
    Says(b"\r\n", QUEUED),
];

const LMTP: &[Line] = &[
    Says(b"", "220 "),
    Says(b"LHLO c.example\r\n", "250 "),
    MAIL,
    RCPT,
    Says(b"RCPT TO:<fourouzan@localhost>\r\n", "250 "),
    DATA,
    LARGE,
    Says(b"\r\n.", ""),
    Says(b"\r\n", QUEUED),
    // The second recipient's.
    Says(b"", "250 2.0.0 Ok"),
    MAIL,
    RCPT,
    Says(b"BDAT 4\r\n", ""),
    Says(b"ha", ""),
    Says(b"lf", "250 "),
    Says(b"BDAT 2 LAST\r\n", ""),
    Says(b"\r", ""),
    Says(b"\n", QUEUED),
];

const LOGINS: &[Line] = &[
    Says(b"", "220 "),
    HELLO,
    Says(b"AUTH LOGIN\r\n", "334 "),
    Says(b"QW5kcmV3\r\n", "334 "),
    Says(b"QGRt", ""),
    Says(b"*\r\n", "501 "),
    // `n,,n=Andrew,r=abc`
    Says(b"AUTH SCRAM-SHA-256 biwsbj1BbmRyZXcscj1hYmM=\r\n", "334 "),
    Says(b"Yz1iaXdz", ""),
    Says(b"*\r\n", "501 "),
    Says(b"AUTH PLAIN\r\n", "334 "),
    Says(b"AEFuZHJldwBAZG1pbmlzdHJAdG9y", ""),
    Says(b"\r\n", "235 "),
    Says(b"MAIL FROM:<andrew@localhost>\r\n", "250 "),
];

const STARTTLS: &[Line] = &[
    Says(b"", "220 "),
    HELLO,
    Says(b"STARTTLS\r\n", "220 "),
    Secures,
    HELLO,
    MAIL,
    RCPT,
    DATA,
    LARGE,
    Says(b"\r\n.\r\n", QUEUED),
];

const HALF_A_STARTTLS: &[Line] = &[
    Says(b"", "220 "),
    HELLO,
    Says(b"STARTTLS\r\n", "220 "),
    Says(b"\x16", ""),
    Says(b"\x03\x01\x02\x00\x01\x00", ""),
];

const GREETED_AFTER_STARTTLS: &[Line] = &[
    Says(b"", "220 "),
    HELLO,
    Says(b"STARTTLS\r\n", "220 "),
    Greets,
];

const HALF_A_HANDSHAKE: &[Line] = &[Says(b"\x16", ""), Says(b"\x03\x01\x02\x00\x01\x00", "")];

const POP3: &[Line] = &[
    Says(b"", "+OK"),
    Says(b"USER Stallings", ""),
    Says(b"\r\n", "+OK"),
    Says(b"PASS network$ecurity\r\n", "+OK"),
    Says(b"STAT\r\n", "+OK"),
    Says(b"DELE 1\r\n", "+OK"),
    Says(b"SEND andrew\r\n", "+OK"),
    Says(b"half", ""),
    Says(b"\r\n###", ""),
    Says(b"\r\n", DELIVERED),
    // Nothing is deleted before this is whole.
    Says(b"QUIT", ""),
];

/// Nobody reads what comes, before they leave.
const RETRIEVAL: &[Line] = &[
    Says(b"", "+OK"),
    Says(b"USER Stallings\r\nPASS network$ecurity\r\n", "+OK"),
    Says(b"", "+OK"),
    Says(b"DELE 1\r\nRETR 2\r\n", "+OK"),
    Says(b"", "+OK"),
    Says(b"RETR 2\r\nTOP 2 1\r\n", ""),
];

const POP3_LOGINS: &[Line] = &[
    Says(b"", "+OK"),
    Says(b"AUTH PLAIN\r\n", "+ "),
    Says(b"AEFuZHJldwBA", ""),
    Says(b"*\r\n", "-ERR"),
    Says(b"AUTH SCRAM-SHA-256 biwsbj1BbmRyZXcscj1hYmM=\r\n", "+ "),
    Says(b"Yz1iaXdz", ""),
];

const STLS: &[Line] = &[
    Says(b"", "+OK"),
    Says(b"STLS\r\n", "+OK"),
    Secures,
    Says(b"USER Stallings\r\n", "+OK"),
];

const GREETED_AFTER_STLS: &[Line] = &[Says(b"", "+OK"), Says(b"STLS\r\n", "+OK"), Greets];

/// A connection from the client's side, in clear or under TLS.
enum Client {
    Clear(TcpStream),
    Secure(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        // What nobody reads should soon be more than the system keeps.
        sockopt::set_socket_recv_buffer_size(&socket, 16 * 1024).unwrap();
        Self::Clear(socket)
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Clear(socket) => socket,
            Self::Secure(stream) => &stream.sock,
        }
    }

    fn does(&mut self, line: Line, tls: &Arc<ClientConfig>) {
        let begun = || ClientConnection::new(Arc::clone(tls), "localhost".try_into().unwrap());
        match line {
            Says(octets, answer) => {
                let said = match self {
                    Self::Clear(socket) => socket.write_all(octets),
                    Self::Secure(stream) => stream.write_all(octets),
                };
                said.unwrap();
                if !answer.is_empty() {
                    self.hears(answer);
                }
            }
            Greets => {
                let mut flight = Vec::new();
                begun().unwrap().write_tls(&mut flight).unwrap();
                let mut socket = self.socket();
                socket.write_all(&flight).unwrap();
            }
            Secures => {
                let mut stream =
                    StreamOwned::new(begun().unwrap(), self.socket().try_clone().unwrap());
                while stream.conn.is_handshaking() {
                    stream.conn.complete_io(&mut stream.sock).unwrap();
                }
                *self = Self::Secure(Box::new(stream));
            }
        }
    }

    /// Reads a reply, which has to begin so in its last line.
    fn hears(&mut self, answer: &str) {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut octet = [0];
            let read = match self {
                Self::Clear(socket) => socket.read_exact(&mut octet),
                Self::Secure(stream) => stream.read_exact(&mut octet),
            };
            let heard = String::from_utf8_lossy(&line);
            read.unwrap_or_else(|error| panic!("{error} after {heard:?}, wanted {answer:?}"));
            line.extend(octet);
            if line.ends_with(b"\r\n") && line.get(3) == Some(&b'-') {
                line.clear();
            }
        }
        let heard = String::from_utf8_lossy(&line);
        assert!(
            heard.starts_with(answer),
            "wanted {answer:?}, got {heard:?}"
        );
    }

    /// Goes. Who goes on listening hears all that is said, and the end.
    fn leaves(mut self, way: Way) {
        match (way, &mut self) {
            (Way::HalfCloses, _) => {
                // The server may have closed by now.
                self.socket().shutdown(Shutdown::Write).ok();
            }
            (Way::Notifies, Self::Secure(stream)) => {
                stream.conn.send_close_notify();
                stream.conn.complete_io(&mut stream.sock).ok();
            }
            (Way::Resets, _) => {
                sockopt::set_socket_linger(self.socket(), Some(Duration::ZERO)).unwrap();
                return;
            }
            _ => return,
        }
        match io::copy(&mut self.socket(), &mut io::sink()) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
                panic!("the server does not close: {error}")
            }
            _ => {}
        }
    }
}

/// Whom the clients leave, and what must come of it.
struct Place {
    sandbox: Sandbox,
    server: Server,
    tls: Arc<ClientConfig>,
    sessions: usize,
}

impl Place {
    fn new() -> Self {
        let sandbox = Sandbox::lab();
        let flags = "--lmtp-port 0 --tls self-signed --smtps-port 0 --pop3s-port 0";
        let flags: Vec<_> = flags.split(' ').collect();
        let mut server = sandbox.serve_pop3(&flags);
        for _ in ["smtps", "pop3s", "lmtp"] {
            server.next_listener();
        }
        let pem = sandbox.octets(".minismtp.tls.crt");
        let mut trusted = RootCertStore::empty();
        trusted
            .add(CertificateDer::from_pem_slice(&pem).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(trusted)
            .with_no_client_auth();
        let tls = Arc::new(tls);
        Self {
            sandbox,
            server,
            tls,
            sessions: 0,
        }
    }

    /// Has each line of a dialog be the last, in each way; gives how many messages the server said it
    /// took.
    fn is_left(&mut self, listener: &str, dialog: &[Line]) -> usize {
        let mut taken = 0;
        for way in WAYS {
            for end in 0..=dialog.len() {
                let said = &dialog[..end];
                if way == Way::Notifies && !said.iter().any(|line| matches!(line, Secures)) {
                    continue;
                }
                let mut client = Client::connect(self.server.listener(listener));
                for line in said {
                    client.does(*line, &self.tls);
                    taken += usize::from(matches!(line, Says(_, QUEUED | DELIVERED)));
                }
                client.leaves(way);
                self.server.hello().ask("QUIT", "221 ");
                self.sessions += 2;
                self.expect_nothing_left(&format!("{listener}: {way:?} at line {end}"));
            }
        }
        taken
    }

    /// Waits for the end of all sessions, and fails if any of them left a text.
    fn expect_nothing_left(&self, what: &str) {
        until(&format!("the session is over ({what})"), || {
            self.server.log().matches(" closed").count() == self.sessions
        });
        // One that has no name any more goes with its session.
        let open = format!("/proc/{}/fd", self.server.process_id());
        until(&format!("no text is open ({what})"), || {
            let open = fs::read_dir(&open).unwrap();
            let mut files = open.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
            !files.any(|file| file.to_string_lossy().contains(".minismtp.spool."))
        });
        let files = fs::read_dir(self.sandbox.root()).unwrap();
        let mut names = files.map(|file| file.unwrap().file_name());
        assert!(
            !names.any(|name| name.to_string_lossy().contains(".spool.")),
            "{what}"
        );
    }
}

#[test]
fn smtp_and_lmtp_may_be_left_at_any_time() {
    let mut place = Place::new();
    let taken = place.is_left("smtp", SMTP)
        + place.is_left("smtp", CHUNKS)
        + place.is_left("smtp", LOGINS)
        + place.is_left("lmtp", LMTP);
    assert_eq!(place.sandbox.records("Andrew").len(), taken);
    assert_eq!(place.server.terminate().code, 0);
}

#[test]
fn smtp_under_tls_may_be_left_at_any_time() {
    let mut place = Place::new();
    let taken = place.is_left("smtps", &[&[Secures], SMTP].concat())
        + place.is_left("smtps", &[&[Secures], CHUNKS].concat())
        + place.is_left("smtps", &[&[Secures], LOGINS].concat())
        + place.is_left("smtp", STARTTLS)
        + place.is_left("smtp", HALF_A_STARTTLS)
        + place.is_left("smtp", GREETED_AFTER_STARTTLS)
        + place.is_left("smtps", HALF_A_HANDSHAKE)
        + place.is_left("smtps", &[Greets]);
    assert_eq!(place.sandbox.records("Andrew").len(), taken);
    assert_eq!(place.server.terminate().code, 0);
}

/// Stallings has two messages, and keeps them whoever leaves.
fn pop3_is_left(dialogs: &[(&str, &[&[Line]])]) {
    let mut place = Place::new();
    // The second is more than the system keeps on its way.
    let large = format!("{}\n", "x".repeat(900)).repeat(7_000);
    for text in ["small\n", &large] {
        place
            .server
            .deliver("a@b.example", &["stallings@localhost"], text);
        place.sessions += 1;
    }
    let mut taken = 0;
    for (listener, lines) in dialogs {
        taken += place.is_left(listener, &lines.concat());
    }
    assert_eq!(place.sandbox.records("Andrew").len(), taken);
    assert_eq!(place.sandbox.records("Stallings").len(), 2);
    assert_eq!(place.server.terminate().code, 0);
}

#[test]
fn pop3_may_be_left_at_any_time_and_deletes_nothing() {
    pop3_is_left(&[
        ("pop3", &[POP3]),
        ("pop3", &[RETRIEVAL]),
        ("pop3", &[POP3_LOGINS]),
    ]);
}

#[test]
fn pop3_under_tls_may_be_left_at_any_time_and_deletes_nothing() {
    pop3_is_left(&[
        ("pop3s", &[&[Secures], POP3]),
        ("pop3s", &[&[Secures], RETRIEVAL]),
        ("pop3", &[STLS]),
        ("pop3", &[GREETED_AFTER_STLS]),
        ("pop3s", &[HALF_A_HANDSHAKE]),
    ]);
}
