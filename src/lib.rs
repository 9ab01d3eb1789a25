//! minismtp (being written).

pub mod address;
pub mod cli;
pub mod client;
pub mod clock;
pub mod credentials;
pub mod disk;
pub mod mailbox;
pub mod maillog;
pub mod message;
pub mod net;
pub mod sasl;
pub mod secret;
pub mod server;
pub mod smtp;
pub mod user;
pub mod wire;
