//! SCRAM-SHA-256 (RFC 5802, RFC 7677): the password is proved and never sent, and the server
//! proves that it knew it too.
//!
//! ```text
//! C: n,,n=user,r=CNONCE                            client-first-message
//! S: r=CNONCE SNONCE,s=SALT,i=4096                 server-first-message
//! C: c=biws,r=CNONCE SNONCE,p=PROOF                client-final-message
//! S: v=SIGNATURE                                   server-final-message
//! ```
//!
//! Channel binding (`-PLUS`) is not offered, so `n` and `y` are taken and `p=…` is refused.

use std::fmt;
use std::hint::black_box;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::secret::Secret;

/// Random octets in either side's part of the nonce. They are written as base64: no comma.
pub const NONCE_OCTETS: usize = 18;
/// The fewest iterations that a client goes through with (RFC 7677 §4): with fewer, whoever
/// pretends to be the server could try passwords at leisure.
pub const ITERATIONS_MIN: u32 = 4096;
/// The most iterations, for a client and in a verifier: they are somebody's processor time.
pub const ITERATIONS_MAX: u32 = 1_000_000;
/// What a verifier begins with.
pub const VERIFIER_PREFIX: &str = "SCRAM-SHA-256$";

/// The longest salt in a verifier, in octets.
const SALT_OCTETS_MAX: usize = 64;
/// The longest nonce of a client, in octets.
const CLIENT_NONCE_OCTETS_MAX: usize = 512;
/// What our client begins with: no channel binding, and nobody's identity but its own.
const GS2_HEADER: &str = "n,,";

type Key = [u8; 32];

/// What a server keeps instead of a password (RFC 5802 §3), or makes from it.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// Told to every client.
    pub salt: Vec<u8>,
    /// Told to every client.
    pub iterations: u32,
    /// Checks a client's proof.
    pub stored_key: Key,
    /// Makes the server's own proof.
    pub server_key: Key,
}

impl Keys {
    /// Makes the keys of a password: the work of `iterations` double hashes.
    #[must_use]
    pub fn derive(password: &Secret, salt: &[u8], iterations: u32) -> Self {
        let mut salted = salted_password(password, salt, iterations);
        let keys = Self {
            salt: salt.to_vec(),
            iterations,
            stored_key: sha256(&hmac(&salted, b"Client Key")),
            server_key: hmac(&salted, b"Server Key"),
        };
        salted.zeroize();
        keys
    }

    /// Reads a verifier as RFC 5803 and PostgreSQL write it:
    /// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, the last three in base64.
    #[must_use]
    pub fn parse(verifier: &str) -> Option<Self> {
        let rest = verifier.strip_prefix(VERIFIER_PREFIX)?;
        let (shape, keys) = rest.split_once('$')?;
        let (iterations, salt) = shape.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let salt = STANDARD.decode(salt).ok()?;
        if salt.is_empty() || salt.len() > SALT_OCTETS_MAX {
            return None;
        }
        Some(Self {
            salt,
            iterations: number(iterations)?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    /// Whether they are this password's. As much work as to make them.
    #[must_use]
    pub fn are_of(&self, password: &Secret) -> bool {
        let derived = Self::derive(password, &self.salt, self.iterations);
        equal(&derived.stored_key, &self.stored_key)
    }

    /// The verifier, as [`Keys::parse`] reads it.
    #[must_use]
    pub fn verifier(&self) -> String {
        format!(
            "{VERIFIER_PREFIX}{}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key),
            STANDARD.encode(self.server_key)
        )
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stored_key.zeroize();
        self.server_key.zeroize();
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// The client's first message, as a server takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who wants to log in.
    pub user: String,
    gs2_header: String,
    bare: String,
    nonce: String,
}

impl Hello {
    /// Reads a client-first-message. `None` for what is none, asks for channel binding, or wants
    /// to act as somebody else.
    // client-first-message = gs2-header client-first-message-bare
    // gs2-header           = ("n" / "y" / "p=" cb-name) "," ["a=" saslname] ","
    // client-first-message-bare = ["m=" …] "n=" saslname ",r=" c-nonce ["," extensions]
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let message = std::str::from_utf8(message).ok()?;
        let mut parts = message.splitn(3, ',');
        let (binding, identity, bare) = (parts.next()?, parts.next()?, parts.next()?);
        if !matches!(binding, "n" | "y") {
            return None;
        }
        let gs2_header = format!("{binding},{identity},");
        let mut attributes = bare.split(',');
        let user = name(attributes.next()?.strip_prefix("n=")?)?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        let is_nonce = (1..=CLIENT_NONCE_OCTETS_MAX).contains(&nonce.len())
            && nonce.bytes().all(|octet| octet.is_ascii_graphic());
        let is_own = match identity.strip_prefix("a=") {
            Some(identity) => name(identity)? == user,
            None => identity.is_empty(),
        };
        (is_nonce && is_own && user.len() <= super::WORD_OCTETS_MAX).then(|| Self {
            user,
            gs2_header,
            nonce: nonce.to_owned(),
            bare: bare.to_owned(),
        })
    }

    /// Goes on with the user's keys; also gives the server-first-message.
    #[must_use]
    pub fn offer(self, offer: &Offer) -> (Server, Vec<u8>) {
        let nonce = format!("{}{}", self.nonce, STANDARD.encode(offer.nonce));
        let salt = STANDARD.encode(&offer.keys.salt);
        let first = format!("r={nonce},s={salt},i={}", offer.keys.iterations);
        let server = Server {
            user: self.user,
            binding: STANDARD.encode(&self.gs2_header),
            auth_message: format!("{},{first},", self.bare),
            nonce,
            keys: offer.keys.clone(),
        };
        (server, first.into_bytes())
    }
}

/// What a server needs to go on after the client's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The user's keys; made up where there is nothing to make them from.
    pub keys: Keys,
    /// Random, for this exchange alone.
    pub nonce: [u8; NONCE_OCTETS],
}

/// The server's side, waiting for the proof.
#[derive(Debug)]
pub struct Server {
    user: String,
    binding: String,
    nonce: String,
    auth_message: String,
    keys: Keys,
}

impl Server {
    /// Who wants to log in.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Checks a client-final-message; gives the server-final-message if the proof is right.
    // client-final-message = "c=" base64 ",r=" nonce ["," extensions] ",p=" base64
    #[must_use]
    pub fn verify(&self, message: &Secret) -> Option<Vec<u8>> {
        let message = std::str::from_utf8(message.expose()).ok()?;
        let (without_proof, proof) = message.rsplit_once(",p=")?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next()?.strip_prefix("c=")?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        if binding != self.binding || nonce != self.nonce {
            return None;
        }
        let auth_message = format!("{}{without_proof}", self.auth_message);
        let signature = hmac(&self.keys.stored_key, auth_message.as_bytes());
        let client_key = xor(&key(proof)?, &signature);
        equal(&sha256(&client_key), &self.keys.stored_key).then(|| {
            let signature = hmac(&self.keys.server_key, auth_message.as_bytes());
            format!("v={}", STANDARD.encode(signature)).into_bytes()
        })
    }
}

/// The client's side, waiting for the salt.
#[derive(Clone, Debug)]
pub struct Client {
    bare: String,
    nonce: String,
}

impl Client {
    /// Begins; also gives the client-first-message.
    #[must_use]
    pub fn start(user: &str, nonce: &[u8; NONCE_OCTETS]) -> (Self, Secret) {
        Self::with_nonce(user, STANDARD.encode(nonce))
    }

    fn with_nonce(user: &str, nonce: String) -> (Self, Secret) {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={user},r={nonce}");
        let first = Secret::new(format!("{GS2_HEADER}{bare}"));
        (Self { bare, nonce }, first)
    }

    /// Takes the server-first-message and gives the client-final-message, after the work that the
    /// server asks for. `None` if the message is none, answers another client, or asks for less
    /// than [`ITERATIONS_MIN`] or more than [`ITERATIONS_MAX`].
    // server-first-message = ["m=" …] "r=" nonce ",s=" base64 ",i=" number ["," extensions]
    #[must_use]
    pub fn prove(&self, password: &Secret, message: &[u8]) -> Option<(Expected, Secret)> {
        let first = std::str::from_utf8(message).ok()?;
        let mut attributes = first.split(',');
        let nonce = attributes.next()?.strip_prefix("r=")?;
        let salt = STANDARD
            .decode(attributes.next()?.strip_prefix("s=")?)
            .ok()?;
        let iterations = number(attributes.next()?.strip_prefix("i=")?)?;
        // A nonce that adds nothing to ours would let an old exchange be played again.
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return None;
        }
        if salt.is_empty() || iterations < ITERATIONS_MIN {
            return None;
        }
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(GS2_HEADER));
        let auth_message = format!("{},{first},{without_proof}", self.bare);
        let mut salted = salted_password(password, &salt, iterations);
        let client_key = hmac(&salted, b"Client Key");
        let server_key = hmac(&salted, b"Server Key");
        salted.zeroize();
        let signature = hmac(&sha256(&client_key), auth_message.as_bytes());
        let proof = STANDARD.encode(xor(&client_key, &signature));
        let expected = Expected(hmac(&server_key, auth_message.as_bytes()));
        Some((expected, Secret::new(format!("{without_proof},p={proof}"))))
    }
}

/// The signature that only a server which knows the password's keys can give.
#[derive(Clone, Debug)]
pub struct Expected(Key);

impl Expected {
    /// Whether a server-final-message has it.
    // server-final-message = ("e=" error / "v=" base64) ["," extensions]
    #[must_use]
    pub fn is_in(&self, message: &[u8]) -> bool {
        let signature = std::str::from_utf8(message)
            .ok()
            .and_then(|message| message.split(',').next()?.strip_prefix("v="))
            .and_then(key);
        signature.is_some_and(|signature| equal(&signature, &self.0))
    }
}

/// HMAC-SHA-256 (RFC 2104).
#[must_use]
pub fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    // Keys are filled up with zeros to the size of a block.
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let mut mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
    block.zeroize();
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// Hi(Normalize(password), salt, i) (RFC 5802 §2.2).
fn salted_password(password: &Secret, salt: &[u8], iterations: u32) -> Key {
    // What SASLprep forbids, or what is no text, is taken as it is, as PostgreSQL does: the other
    // choice would be a password that one mechanism takes and the other does not.
    let prepared = std::str::from_utf8(password.expose())
        .ok()
        .and_then(|text| stringprep::saslprep(text).ok())
        .map(|text| Secret::new(text.as_bytes()));
    let octets = prepared.as_ref().unwrap_or(password).expose();
    pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(octets, salt, iterations)
}

fn sha256(octets: &[u8]) -> Key {
    Sha256::digest(octets).into()
}

fn xor(one: &Key, other: &Key) -> Key {
    std::array::from_fn(|index| one[index] ^ other[index])
}

/// Compares in a time that does not depend on where they differ.
fn equal(one: &Key, other: &Key) -> bool {
    let pairs = one.iter().zip(other);
    let different = pairs.fold(0, |different, (a, b)| black_box(different | (a ^ b)));
    black_box(different) == 0
}

fn key(base64: &str) -> Option<Key> {
    STANDARD.decode(base64).ok()?.try_into().ok()
}

/// A number of iterations: digits only, and no more than anybody should go through.
fn number(digits: &str) -> Option<u32> {
    let is_number = digits.bytes().all(|octet| octet.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| is_number)?;
    (1..=ITERATIONS_MAX).contains(&number).then_some(number)
}

/// A saslname: `=2C` is a comma and `=3D` an equals sign (RFC 5802 §5.1).
fn name(saslname: &str) -> Option<String> {
    let mut parts = saslname.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        name.push(match code {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        name.push_str(rest);
    }
    (!name.is_empty() && !name.contains('\0')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677 §3.
    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &[u8] = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn keys() -> Keys {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        Keys::derive(&Secret::new("pencil"), &salt, 4096)
    }

    /// The server of RFC 7677's example, which has a nonce that is not base64.
    fn server() -> Server {
        let hello = Hello::parse(FIRST).unwrap();
        assert_eq!(hello.user, "user");
        Server {
            user: hello.user,
            binding: STANDARD.encode(&hello.gs2_header),
            nonce: "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned(),
            auth_message: format!("{},{},", hello.bare, String::from_utf8_lossy(SERVER_FIRST)),
            keys: keys(),
        }
    }

    #[test]
    fn the_servers_side_of_rfc_7677s_example() {
        let signature = server().verify(&Secret::new(FINAL));
        assert_eq!(signature.as_deref(), Some(SERVER_FINAL));
    }

    #[test]
    fn the_clients_side_of_rfc_7677s_example() {
        let (client, first) = Client::with_nonce("user", "rOprNGfwEbeRWgbNEkqO".to_owned());
        assert_eq!(first.expose(), FIRST);
        let (expected, last) = client.prove(&Secret::new("pencil"), SERVER_FIRST).unwrap();
        assert_eq!(last.expose(), FINAL.as_bytes());
        assert!(expected.is_in(SERVER_FINAL));
        let false_one = &b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="[..];
        for wrong in [false_one, b"", b"v=", b"e=other-error"] {
            assert!(!expected.is_in(wrong), "{wrong:?}");
        }
        let other = client.prove(&Secret::new("pencil "), SERVER_FIRST).unwrap();
        assert_ne!(other.1, last);
    }

    #[test]
    fn every_octet_of_the_proof_counts() {
        let change = |from: &str, to: &str| FINAL.replace(from, to);
        let nonce_end = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let proof = ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        for (what, message) in [
            ("another proof", change("p=dHzb", "p=eHzb")),
            ("the proof's end", change("ndVQ=", "ndVU=")),
            ("half a proof", change("qmmiz7AndVQ=", "")),
            ("no proof", change(proof, "")),
            ("another nonce", change("k0,", "k1,")),
            ("the client's nonce alone", change(nonce_end, "")),
            ("another header", change("biws", "eSws")),
            ("an extension that was not signed", change(",p=", ",x=y,p=")),
            ("nothing", String::new()),
        ] {
            assert_eq!(server().verify(&Secret::new(message)), None, "{what}");
        }
    }

    #[test]
    fn client_first_messages() {
        let user = |message: &str| Hello::parse(message.as_bytes()).map(|hello| hello.user);
        let long = "n".repeat(CLIENT_NONCE_OCTETS_MAX + 1);
        for (what, message, expected) in [
            ("plain", "n,,n=user,r=abc", Some("user")),
            ("would have bound", "y,,n=user,r=abc", Some("user")),
            ("own identity", "n,a=user,n=user,r=abc", Some("user")),
            ("escapes", "n,,n=a=2Cb=3Dc,r=abc", Some("a,b=c")),
            ("an extension", "n,,n=user,r=abc,x=y", Some("user")),
            ("channel binding", "p=tls-unique,,n=user,r=abc", None),
            ("another identity", "n,a=root,n=user,r=abc", None),
            ("no identity letter", "n,user,n=user,r=abc", None),
            ("a mandatory extension", "n,,m=x,n=user,r=abc", None),
            ("bad escape", "n,,n=a=2cb,r=abc", None),
            ("cut escape", "n,,n=a=2,r=abc", None),
            ("no user", "n,,n=,r=abc", None),
            ("no nonce", "n,,n=user,r=", None),
            ("a nonce with a space", "n,,n=user,r=a b", None),
            ("a long nonce", &format!("n,,n=user,r={long}"), None),
            ("no header", "n=user,r=abc", None),
            ("nothing", "", None),
        ] {
            assert_eq!(user(message).as_deref(), expected, "{what}");
        }
        assert_eq!(Hello::parse(b"n,,n=\xff,r=abc"), None);
    }

    #[test]
    fn both_sides_agree_whatever_the_name_and_password() {
        for (user, password) in [
            ("user", "pencil"),
            ("a,b=c", "p,=w"),
            ("ключ", "I\u{ad}X\u{2168}"),
        ] {
            let secret = Secret::new(password);
            let (client, first) = Client::start(user, &[7; NONCE_OCTETS]);
            let hello = Hello::parse(first.expose()).unwrap();
            assert_eq!(hello.user, user);
            let keys = Keys::derive(&secret, b"salt", 4096);
            let nonce = [9; NONCE_OCTETS];
            let (server, server_first) = hello.offer(&Offer { keys, nonce });
            let (expected, last) = client.prove(&secret, &server_first).unwrap();
            assert!(expected.is_in(&server.verify(&last).unwrap()), "{user}");
        }
        // RFC 4013 §3: the same password, typed in two ways.
        let keys = Keys::derive(&Secret::new("I\u{ad}X\u{2168}"), b"salt", 4096);
        assert!(keys.are_of(&Secret::new("IXIX")));
        assert!(!keys.are_of(&Secret::new("ixix")));
    }

    #[test]
    fn a_client_does_not_work_for_everybody() {
        let (client, _) = Client::with_nonce("user", "abc".to_owned());
        for (what, message, is_good) in [
            ("good", "r=abcd,s=QSXCR+Q6sek8bf92,i=4096", true),
            ("an extension", "r=abcd,s=QSXCR+Q6sek8bf92,i=4096,x=y", true),
            ("too easy", "r=abcd,s=QSXCR+Q6sek8bf92,i=4095", false),
            ("too hard", "r=abcd,s=QSXCR+Q6sek8bf92,i=1000001", false),
            ("a sign", "r=abcd,s=QSXCR+Q6sek8bf92,i=+4096", false),
            ("another nonce", "r=xbcd,s=QSXCR+Q6sek8bf92,i=4096", false),
            ("our nonce alone", "r=abc,s=QSXCR+Q6sek8bf92,i=4096", false),
            ("no salt", "r=abcd,s=,i=4096", false),
            ("a mandatory extension", "m=x,r=abcd,s=QSXC,i=4096", false),
            ("an error", "e=other-error", false),
            ("nothing", "", false),
        ] {
            let proved = client.prove(&Secret::new("pencil"), message.as_bytes());
            assert_eq!(proved.is_some(), is_good, "{what}");
        }
    }

    #[test]
    fn verifiers_are_written_as_postgresql_does() {
        // RFC 7677's password and salt.
        let verifier = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
            WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
            wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert_eq!(keys().verifier(), verifier);
        assert_eq!(Keys::parse(verifier), Some(keys()));
        assert!(keys().are_of(&Secret::new("pencil")));
        assert!(!keys().are_of(&Secret::new("Pencil")));
        let change = |from: &str, to: &str| verifier.replace(from, to);
        for (what, bad) in [
            ("SHA-1", change("256", "1")),
            ("no iterations", change("4096", "0")),
            ("for ever", change("4096", "4294967295")),
            ("no salt", change("W22ZaJ0SNY7soEsUEjb6gQ==", "")),
            ("a short key", change("WG5d8oPm", "")),
            ("one key", verifier.rsplit_once(':').unwrap().0.to_owned()),
            ("more after it", format!("{verifier}$x")),
        ] {
            assert_eq!(Keys::parse(&bad), None, "{what}");
        }
    }
}
