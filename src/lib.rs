//! minismtp: a mail server, a mail client, the user administration and a mailbox reader.
//!
//! # Bird's-eye view
//!
//! A message walks through the rooms once; its reply is what comes back:
//!
//! ```text
//! octets -> line -> command -> session -> question -> store   -> verdict -> reply -> octets
//! net       wire    smtp,pop3  smtp,pop3  server      mailbox    server     smtp,..  net
//! ```
//!
//! Protocol engines do no input or output: they are given octets, the time and answers, and say
//! what to send, what to ask and how long to wait ([`wire::Machine`]). One loop drives them all,
//! the server's side and the client's ([`net::drive`]). Their questions (is this user ours, store
//! this message) go to an owner, for the server the [`server::delivery::Clerk`] where mail comes in
//! and the [`server::retrieval::Clerk`] where it is read. Storage is a
//! trait ([`mailbox::Store`]); the store in text files commits many messages with one sync of a
//! journal ([`mailbox::commit`], [`mailbox::journal`]).
//!
//! # The map
//!
//! `[..]` names the rooms that a room may use; where it is empty, none.
//!
//! ```text
//! main.rs         arguments in, exit code out                                          [cli]
//! address.rs      Address, ReversePath, ForwardPath: parse and Display                    []
//! clock.rs        the wall clock, for what people read                                    []
//! digits.rs       numbers as text, for what every message has                             []
//! user.rs         UserName: one word, safe as a directory name                            []
//! secret.rs       Secret: prints as <redacted>                                            []
//! sasl/           SCRAM-SHA-256, PLAIN and LOGIN as steps                           [secret]
//! disk.rs         the one place that writes files: the real one, and its twin in memory
//!                 that loses, tears and refuses on demand                                 []
//! maillog.rs      one typed function and one line for each event
//!                                                             [address clock digits user]
//!
//! wire/           Machine and Step, lines, the lone full stop                             []
//! message/        header fields, trace fields, envelope, draft (what a person types)
//!                                                                    [address digits wire]
//! smtp/           the engines: Session (server), Submission (client), and what both speak:
//!                 Command, Reply, Extensions, limits
//!                                                [address message sasl secret user wire]
//! pop3/           the engines of mailbox access, POP3 and the verbs of Teena's lab: Session
//!                 (server), Conversation (client); Command, Reply, limits
//!                                                                [sasl secret user wire]
//! credentials/    trait Credentials; the text file `logincred.txt`  [disk sasl secret user]
//! mailbox/        trait Store; text files, their format and index, journal, group commit,
//!                 checkpoints, recovery, deletion
//!                                                [address clock disk message user wire]
//! net/            listening, connections, TLS, the loop that drives a Machine         [wire]
//! server/         listeners and limits; answers an engine's questions  [all but cli, client]
//! client/         dial, drive Submission; carry on a Conversation
//!                                                     [all but cli, server, and the stores]
//! cli/            a file a subcommand; prints                                          [all]
//! ```
//!
//! # Invariants, as what is absent
//!
//! - `wire`, `smtp`, `pop3`, `sasl`, `message` and `address` have no socket, file, clock, thread,
//!   async or log.
//! - `smtp` and `pop3` know neither each other nor a store, the stores know no protocol.
//! - Only `net`, `server`, `client` and the commands that start them name the async runtime.
//! - Only `disk` touches what is in the mail root.
//! - Only `cli` prints.
//! - A 250 after DATA means that the message is on disk for every recipient: see
//!   [`mailbox::commit`] for the order of steps that makes it so.
//!
//! # Where does it go?
//!
//! A reply's digits and text: [`smtp::reply`], [`pop3::reply`]. Whether a recipient is ours:
//! [`server::delivery`]. What a session of POP3 may see of a mailbox: [`server::retrieval`].
//! How long to wait, how much to take: [`smtp::limits`], [`pop3::limits`], [`server::limits`].
//! What a record looks like: [`mailbox::format`]. What a typed mail must look like:
//! [`message::draft`]. What a flag is called: the file of its command in [`cli`].

pub mod address;
pub mod cli;
pub mod client;
pub mod clock;
pub mod credentials;
mod digits;
pub mod disk;
pub mod mailbox;
pub mod maillog;
pub mod message;
pub mod net;
pub mod pop3;
pub mod sasl;
pub mod secret;
pub mod server;
pub mod smtp;
pub mod user;
pub mod wire;
