//! SASL exchanges as steps, for every protocol that logs in: SCRAM-SHA-256 ([`scram`]), PLAIN
//! (RFC 4616) and LOGIN (no RFC; every mail client has it).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::secret::Secret;

pub mod scram;

/// The longest user name or password, in octets (RFC 4616 §2 wants at least 255).
const WORD_OCTETS_MAX: usize = 1024;

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// User name, user name and prompt, password.
    Login,
    /// Everything in one message.
    Plain,
    /// A proof, and one in return (RFC 7677).
    ScramSha256,
}

impl Mechanism {
    /// Every mechanism there is, the better one first.
    pub const ALL: [Self; 3] = [Self::ScramSha256, Self::Plain, Self::Login];
    /// Those that carry the password itself.
    pub const WITH_PASSWORD: [Self; 2] = [Self::Plain, Self::Login];

    /// Takes a name in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }

    /// The registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "LOGIN",
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
        }
    }
}

/// Who somebody says they are, and the proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// Who proved, or failed to prove, that they know a password which they did not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The user name.
    pub user: String,
    /// Whether they do.
    pub is_right: bool,
}

/// The server's side of an exchange that is not finished.
#[derive(Debug)]
pub enum Exchange {
    /// LOGIN waits for the password of this user.
    LoginPassword(String),
    /// LOGIN waits for the user name.
    LoginUser,
    /// PLAIN waits for its one message.
    Plain,
    /// SCRAM waits for the client's first message.
    ScramHello,
    /// SCRAM waits for the client's proof.
    ScramProof(scram::Server),
    /// SCRAM has proved this user; the client has to say, with an empty response, that it is
    /// content with the server's proof.
    ScramProved(String),
}

/// What an exchange came to.
#[derive(Debug)]
pub enum Progress {
    /// The client has to answer this challenge; it may be empty.
    Challenge(Exchange, Vec<u8>),
    /// The user's keys are needed for [`Exchange::offer`].
    Keys(scram::Hello),
    /// The client has said all; whether it is true is not known here.
    Finished(Login),
    /// The client has said all, and it is known whether it is true.
    Proved(Proof),
    /// The message is not what the mechanism prescribes, or asks to act as somebody else.
    Refused,
}

impl Exchange {
    /// Begins; `initial` is the initial response, if there was one.
    #[must_use]
    pub fn start(mechanism: Mechanism, initial: Option<Secret>) -> Progress {
        match (mechanism, initial) {
            (Mechanism::Plain, None) => Progress::Challenge(Self::Plain, Vec::new()),
            (Mechanism::Plain, Some(message)) => Self::Plain.respond(&message),
            (Mechanism::Login, None) => Progress::Challenge(Self::LoginUser, b"Username:".to_vec()),
            (Mechanism::Login, Some(user)) => Self::LoginUser.respond(&user),
            (Mechanism::ScramSha256, None) => Progress::Challenge(Self::ScramHello, Vec::new()),
            (Mechanism::ScramSha256, Some(message)) => Self::ScramHello.respond(&message),
        }
    }

    /// Goes on with SCRAM: gives the next challenge.
    #[must_use]
    pub fn offer(hello: scram::Hello, offer: &scram::Offer) -> Progress {
        let (server, first) = hello.offer(offer);
        Progress::Challenge(Self::ScramProof(server), first)
    }

    /// Takes the client's decoded response.
    #[must_use]
    pub fn respond(self, response: &Secret) -> Progress {
        match self {
            Self::Plain => plain(response),
            Self::LoginUser => match word(response.expose()) {
                Some(user) => Progress::Challenge(Self::LoginPassword(user), b"Password:".to_vec()),
                None => Progress::Refused,
            },
            Self::LoginPassword(user) => finish(user, response.expose()),
            Self::ScramHello => {
                scram::Hello::parse(response.expose()).map_or(Progress::Refused, Progress::Keys)
            }
            Self::ScramProof(server) => {
                let user = server.user().to_owned();
                match server.verify(response) {
                    Some(last) => Progress::Challenge(Self::ScramProved(user), last),
                    None => proved(user, false),
                }
            }
            Self::ScramProved(user) => proved(user, response.expose().is_empty()),
        }
    }

    /// Whether its challenges, with the responses, would help somebody to guess the password.
    #[must_use]
    pub fn is_private(&self) -> bool {
        matches!(self, Self::ScramProof(_) | Self::ScramProved(_))
    }
}

fn proved(user: String, is_right: bool) -> Progress {
    Progress::Proved(Proof { user, is_right })
}

/// The client's one message in PLAIN.
#[must_use]
pub fn plain_message(login: &Login) -> Secret {
    let mut message = vec![0];
    message.extend_from_slice(login.user.as_bytes());
    message.push(0);
    message.extend_from_slice(login.password.expose());
    Secret::new(message)
}

/// Octets as base64 (RFC 4648 §4).
#[must_use]
pub fn encode(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

/// Base64 as octets; `None` for anything alien: a space, missing or early padding, the URL
/// alphabet (RFC 4954 §4 demands a refusal, not a guess).
#[must_use]
pub fn decode(text: &[u8]) -> Option<Secret> {
    STANDARD.decode(text).ok().map(Secret::new)
}

// message = [authzid] NUL authcid NUL passwd
fn plain(message: &Secret) -> Progress {
    let mut parts = message.expose().split(|&octet| octet == 0);
    let (Some(identity), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Progress::Refused;
    };
    // Nobody may act as somebody else here.
    match word(user) {
        Some(name) if identity.is_empty() || identity == user => finish(name, password),
        _ => Progress::Refused,
    }
}

fn finish(user: String, password: &[u8]) -> Progress {
    if password.is_empty() || password.len() > WORD_OCTETS_MAX {
        return Progress::Refused;
    }
    Progress::Finished(Login {
        user,
        password: Secret::new(password),
    })
}

fn word(octets: &[u8]) -> Option<String> {
    let word = std::str::from_utf8(octets).ok()?;
    (!word.is_empty() && word.len() <= WORD_OCTETS_MAX).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(progress: Progress) -> Option<(String, Vec<u8>)> {
        match progress {
            Progress::Finished(login) => Some((login.user, login.password.expose().to_vec())),
            _ => None,
        }
    }

    #[test]
    fn plain_takes_one_message() {
        type Case = (
            &'static str,
            &'static [u8],
            Option<(&'static str, &'static str)>,
        );
        let cases: [Case; 8] = [
            (
                "no identity",
                b"\0alice\0wonderland",
                Some(("alice", "wonderland")),
            ),
            (
                "own identity",
                b"test\0test\x001234",
                Some(("test", "1234")),
            ),
            ("another identity", b"bob\0alice\0x", None),
            ("one NUL", b"alice\0x", None),
            ("three NULs", b"\0alice\0x\0y", None),
            ("no user", b"\0\0x", None),
            ("no password", b"\0alice\0", None),
            ("not UTF-8", b"\0\xff\0x", None),
        ];
        for (what, message, expected) in cases {
            let got = finished(Exchange::start(
                Mechanism::Plain,
                Some(Secret::new(message)),
            ));
            let expected = expected.map(|(u, p)| (u.to_owned(), p.as_bytes().to_vec()));
            assert_eq!(got, expected, "{what}");
        }
        let login = Login {
            user: "alice".into(),
            password: Secret::new("wonderland"),
        };
        assert_eq!(
            encode(plain_message(&login).expose()),
            "AGFsaWNlAHdvbmRlcmxhbmQ="
        );
    }

    #[test]
    fn login_asks_twice() {
        let Progress::Challenge(exchange, asked) = Exchange::start(Mechanism::Login, None) else {
            panic!("no user name asked")
        };
        assert_eq!(asked, b"Username:");
        let Progress::Challenge(exchange, asked) = exchange.respond(&Secret::new("alice")) else {
            panic!("no password asked")
        };
        assert_eq!(asked, b"Password:");
        let got = finished(exchange.respond(&Secret::new("wonderland")));
        assert_eq!(got, Some(("alice".to_owned(), b"wonderland".to_vec())));
    }

    #[test]
    fn scram_proves_without_the_password() {
        let offer = scram::Offer {
            keys: scram::Keys::derive(&Secret::new("pencil"), b"salt", 4096),
            nonce: [1; scram::NONCE_OCTETS],
        };
        for (what, typed, content, expected) in [
            ("right", "pencil", "", true),
            ("wrong", "Pencil", "", false),
            ("more than content", "pencil", "x", false),
        ] {
            let (client, first) = scram::Client::start("alice", &[2; scram::NONCE_OCTETS]);
            let begun = Exchange::start(Mechanism::ScramSha256, None);
            let Progress::Challenge(exchange, asked) = begun else {
                panic!("{what}: nothing asked")
            };
            assert!(asked.is_empty() && !exchange.is_private());
            let Progress::Keys(hello) = exchange.respond(&first) else {
                panic!("{what}: no keys wanted")
            };
            let Progress::Challenge(exchange, first) = Exchange::offer(hello, &offer) else {
                panic!("{what}: no salt")
            };
            let (signature, last) = client.prove(&Secret::new(typed), &first).unwrap();
            let progress = match exchange.respond(&last) {
                Progress::Challenge(exchange, last) => {
                    assert!(signature.is_in(&last), "{what}");
                    exchange.respond(&Secret::new(content))
                }
                progress => progress,
            };
            let Progress::Proved(proof) = progress else {
                panic!("{what}: not proved")
            };
            assert_eq!(proof.user, "alice");
            assert_eq!(proof.is_right, expected, "{what}");
        }
        let refused = Exchange::start(Mechanism::ScramSha256, Some(Secret::new("p=x,,n=a,r=b")));
        assert!(matches!(refused, Progress::Refused));
    }

    #[test]
    fn only_strict_base64_is_base64() {
        assert_eq!(decode(b"AGFsaWNl").unwrap().expose(), b"\0alice");
        for alien in ["=AAA", "AAA=BBB", "AAA", "A A=", "AA\r\n", "ab-_", "A"] {
            assert!(decode(alien.as_bytes()).is_none(), "{alien:?}");
        }
    }
}
