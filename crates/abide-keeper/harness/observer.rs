//! A journal's reader, and a keeper's launcher, in processes of their own.

use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use abide_keeper::{
    JournalReader, KeeperClient, KeeperSpec, Launcher, ReadError, StreamFilter, Tag,
};

/// Reads a journal while it is written, and writes what it saw to standard output:
/// `R seq tag flags output_offset len bytes`, or `X from earliest_seq earliest_output_offset`,
/// all numbers 64-bit little-endian. Ends at a Lifecycle entry that says `end`.
pub(crate) fn observe(path: &Path) -> ExitCode {
    let Ok(reader) = JournalReader::open(path) else {
        return ExitCode::FAILURE;
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let word = |out: &mut BufWriter<_>, value: u64| out.write_all(&value.to_le_bytes()).is_ok();
    let (mut cursor, mut buf) = (0, Vec::new());
    loop {
        buf.clear();
        match reader.next(&mut cursor, &mut buf) {
            Ok(None) => std::thread::yield_now(),
            Ok(Some(record)) => {
                let _ = out.write_all(b"R");
                for value in [
                    record.seq,
                    record.tag as u64,
                    record.flags.into(),
                    record.output_offset,
                    buf.len() as u64,
                ] {
                    word(&mut out, value);
                }
                let _ = out.write_all(&buf);
                if record.tag == Tag::Lifecycle && buf == b"end" {
                    break;
                }
                // Now and then read by output offset too, from wherever the ring is by now.
                if record.seq % 7 == 0 {
                    let from = reader.earliest().output_offset + record.seq % 100;
                    buf.clear();
                    if let Ok(chunk) = reader.read_output(from, 3000, &mut buf, StreamFilter::Both)
                    {
                        let _ = out.write_all(b"O");
                        for value in [from, chunk.next, buf.len() as u64] {
                            word(&mut out, value);
                        }
                        let _ = out.write_all(&buf);
                    }
                }
            }
            Err(ReadError::Expired { earliest }) => {
                let _ = out.write_all(b"X");
                for value in [cursor, earliest.seq, earliest.output_offset] {
                    word(&mut out, value);
                }
                cursor = earliest.seq;
            }
            Err(ReadError::Damaged { .. }) => return ExitCode::FAILURE,
        }
    }
    if out.flush().is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Launches a keeper by the specification on standard input and attaches to it, says so, then
/// reads and records until it is killed. Every byte of output read is written to standard
/// output before it is recorded.
pub(crate) fn launch_and_stay(dir: &Path) -> ExitCode {
    let mut text = String::new();
    let _ = std::io::stdin().read_to_string(&mut text);
    let Ok(exe) = std::env::current_exe() else {
        return ExitCode::FAILURE;
    };
    if let Ok(spec) = serde_json::from_str::<KeeperSpec>(&text) {
        let launched = Launcher::new(exe, &["keeper"]).launch(dir, &spec);
        if launched.is_err() || launched.is_ok_and(|keeper| keeper.wait_ready().is_err()) {
            return ExitCode::FAILURE;
        }
    }
    let Ok(client) = KeeperClient::connect(dir) else {
        return ExitCode::FAILURE;
    };
    let journal = client.journal().clone();
    let mut cursor = journal.recorded();
    let (mut buf, mut stdout) = (Vec::new(), std::io::stdout().lock());
    loop {
        buf.clear();
        match journal.next(&mut cursor, &mut buf) {
            Ok(Some(record)) => {
                // Piece and record are not one step: whoever reads this expects a doubled last
                // piece, and tells it by the sequence number.
                let mut piece = record.seq.to_le_bytes().to_vec();
                piece.push(record.tag as u8);
                piece.extend_from_slice(&(buf.len() as u32).to_le_bytes());
                piece.extend_from_slice(&buf);
                if stdout
                    .write_all(&piece)
                    .and_then(|()| stdout.flush())
                    .is_err()
                {
                    return ExitCode::FAILURE;
                }
                journal.set_recorded(cursor);
                journal.set_cursor(cursor);
            }
            Ok(None) if client.has_ended() => return ExitCode::SUCCESS,
            Ok(None) => {
                let _ = client.wait(cursor);
            }
            Err(_) => return ExitCode::FAILURE,
        }
    }
}
