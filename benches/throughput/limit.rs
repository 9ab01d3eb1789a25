//! The limit: a loop that takes mail without understanding it, appends the octets to one file, and
//! syncs once for all that came together. A server that promises as much is hardly faster. Large
//! messages it syncs one after the other, which a server with threads may do better.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::{ReadWriteFlags, pwritev2};

/// Texts of this size and more go to a file for each mailbox, with a sync each: that is faster than
/// to write them twice.
const DIRECT_OCTETS_MIN: usize = 32 * 1024;
/// The file is written to its end, and then from the start again.
const JOURNAL_OCTETS: usize = 32 * 1024 * 1024;
const LISTENER: u64 = u64::MAX;

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    is_text: bool,
    recipient: String,
}

struct Disk<'a> {
    directory: &'a Path,
    journal: File,
    end: usize,
    mailboxes: HashMap<String, (File, u64)>,
    batch: Vec<u8>,
}

/// Takes mail until it is killed. Prints its address first.
pub(crate) fn serve(directory: &Path, out: &mut impl Write) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    rustix::net::listen(&listener, 1024)?;
    let journal = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(directory.join("journal"))?;
    journal.write_all_at(&vec![0; JOURNAL_OCTETS + 1024 * 1024], 0)?;
    journal.sync_all()?;
    let mut disk = Disk {
        directory,
        journal,
        end: 0,
        mailboxes: HashMap::new(),
        batch: Vec::new(),
    };
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let flags = epoll::EventFlags::IN;
    epoll::add(
        &epoll,
        &listener,
        epoll::EventData::new_u64(LISTENER),
        flags,
    )?;
    writeln!(out, "listening smtp {}", listener.local_addr()?)?;
    out.flush()?;
    let mut clients: HashMap<u64, Client> = HashMap::new();
    let mut events = Vec::with_capacity(256);
    let mut next = 0;
    loop {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        let mut waiting = Vec::new();
        for event in &events {
            let number = event.data.u64();
            if number == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    epoll::add(&epoll, &stream, epoll::EventData::new_u64(next), flags)?;
                    (&stream).write_all(b"220 limit\r\n")?;
                    let (input, recipient) = (Vec::new(), String::new());
                    clients.insert(
                        next,
                        Client {
                            stream,
                            input,
                            is_text: false,
                            recipient,
                        },
                    );
                    next += 1;
                }
                continue;
            }
            let Some(client) = clients.get_mut(&number) else {
                continue;
            };
            match take(client, &mut disk) {
                Ok(false) => {}
                Ok(true) => waiting.push(number),
                Err(_) => drop(clients.remove(&number)),
            }
        }
        disk.commit()?;
        for number in waiting {
            if let Some(client) = clients.get_mut(&number) {
                drop(client.stream.write_all(b"250 stored\r\n"));
            }
        }
    }
}

/// Takes what a client sent; whether a message is complete.
fn take(client: &mut Client, disk: &mut Disk<'_>) -> io::Result<bool> {
    let mut buffer = [0; 64 * 1024];
    let got = client.stream.read(&mut buffer)?;
    if got == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    client.input.extend_from_slice(&buffer[..got]);
    if client.is_text {
        if !client.input.ends_with(b"\r\n.\r\n") {
            return Ok(false);
        }
        client.is_text = false;
        let text = std::mem::take(&mut client.input);
        disk.append(&client.recipient, &text)?;
        return Ok(true);
    }
    let mut replies = Vec::new();
    while let Some(end) = client.input.iter().position(|&octet| octet == b'\n') {
        let line: Vec<u8> = client.input.drain(..=end).collect();
        match &line[..4] {
            b"QUIT" => {
                client.stream.write_all(b"221 bye\r\n")?;
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            b"DATA" => {
                client.is_text = true;
                replies.extend_from_slice(b"354 go on\r\n");
            }
            b"RCPT" => {
                client.recipient.clear();
                client
                    .recipient
                    .push_str(&String::from_utf8_lossy(&line[9..line.len() - 3]));
                replies.extend_from_slice(b"250 ok\r\n");
            }
            _ => replies.extend_from_slice(b"250 ok\r\n"),
        }
    }
    client.stream.write_all(&replies)?;
    Ok(false)
}

impl Disk<'_> {
    fn append(&mut self, recipient: &str, text: &[u8]) -> io::Result<()> {
        if text.len() < DIRECT_OCTETS_MIN {
            self.batch.extend_from_slice(text);
            return Ok(());
        }
        let name = recipient.split('@').next().unwrap_or_default();
        if !self.mailboxes.contains_key(name) {
            let file = File::create(self.directory.join(name))?;
            self.mailboxes.insert(name.to_owned(), (file, 0));
        }
        let Some((file, end)) = self.mailboxes.get_mut(name) else {
            return Ok(());
        };
        file.write_all_at(text, *end)?;
        *end += text.len() as u64;
        file.sync_data()
    }

    fn commit(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if self.end + self.batch.len() > JOURNAL_OCTETS {
            self.end = 0;
        }
        let pieces = [io::IoSlice::new(&self.batch)];
        let written = pwritev2(
            &self.journal,
            &pieces,
            self.end as u64,
            ReadWriteFlags::DSYNC,
        )?;
        assert_eq!(written, self.batch.len(), "a whole batch");
        self.end += written;
        self.batch.clear();
        Ok(())
    }
}
