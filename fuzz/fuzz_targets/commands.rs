//! A line that is a command of SMTP or POP3 is written so that it is read as the same one, on one
//! line; any other gets a reply that says no, on one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use minismtp::smtp::command::Command;
use minismtp::smtp::reply::{Reply, Severity};
use minismtp::{pop3, smtp};

fn is_one_line(octets: &[u8]) -> bool {
    let line = octets.strip_suffix(b"\r\n");
    line.is_some_and(|line| !line.iter().any(|octet| b"\r\n\0".contains(octet)))
}

fn check_reply(reply: &Reply) {
    let mut wire = Vec::new();
    reply.encode(&mut wire);
    assert!(is_one_line(&wire) && wire.len() <= 512);
    assert_eq!(reply.severity(), Severity::Permanent);
}

fuzz_target!(|line: &[u8]| {
    match Command::parse(line) {
        Ok(command) => {
            let mut wire = Vec::new();
            command.encode(&mut wire);
            assert!(is_one_line(&wire), "{command:?}");
            assert!(
                !command.to_string().contains(char::is_control),
                "{command:?}"
            );
            let again = Command::parse(&wire[..wire.len() - 2]);
            assert_eq!(again.as_ref(), Ok(&command));
            // White space at the end means nothing.
            assert_eq!(
                Command::parse(&[line, b" \t"].concat()),
                Ok(command.clone())
            );
            if let smtp::command::Command::Mail(path, parameters) = &command {
                let is_ascii = path.address().is_none_or(|address| address.is_ascii());
                assert!(is_ascii || parameters.smtp_utf8);
            }
        }
        Err(reply) => check_reply(&reply),
    }
    match pop3::command::Command::parse(line) {
        Ok(command) => {
            let mut wire = Vec::new();
            command.encode(&mut wire);
            assert!(is_one_line(&wire), "{command:?}");
            assert!(
                !command.to_string().contains(char::is_control),
                "{command:?}"
            );
            let again = pop3::command::Command::parse(&wire[..wire.len() - 2]);
            assert_eq!(again.as_ref(), Ok(&command));
        }
        Err(reply) => {
            let mut wire = Vec::new();
            reply.encode(&mut wire);
            assert!(is_one_line(&wire) && wire.starts_with(b"-ERR "));
        }
    }
});
