//! Session tokens at rest: sealed with a key that lies beside the database, not in it.
//!
//! XChaCha20-Poly1305 with a random nonce of 24 bytes, so that nonces need no counter and several
//! data planes can share one key. The session's id is bound in: a sealed token that was moved to
//! another session's row does not open.
//!
//! ```text
//! sealed = 1 (version, one byte) | nonce (24 bytes) | ciphertext | tag (16 bytes)
//! ```

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{Key, KeyInit as _, XChaCha20Poly1305, XNonce};

/// Length of a key in bytes.
pub const SEAL_KEY_BYTES: usize = 32;

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
/// Before the session's id in the associated data, so that the key may serve for other things too.
const PURPOSE: &[u8] = b"abide route token\0";

/// Seals and opens session tokens. Does not show its key.
pub struct Sealer {
    cipher: XChaCha20Poly1305,
}

/// Why a token could not be sealed or opened, or the key not be had.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be read or made.
    #[error("cannot read or make the key file {}", path.display())]
    KeyFile {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Somebody besides its owner may read or change the key file.
    #[error(
        "the key file {} has mode {mode:03o}: others may read it; make it 600, and a new one if they have",
        path.display()
    )]
    KeyExposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file is not [`SEAL_KEY_BYTES`] long.
    #[error("the key file {} has {found} bytes instead of {SEAL_KEY_BYTES}", path.display())]
    KeyLength {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        found: u64,
    },
    /// The system gives no random bytes.
    #[error("cannot get random bytes")]
    Random(#[source] getrandom::Error),
    /// The token is too long for the cipher: 256 GiB.
    #[error("cannot seal the token")]
    Seal,
    /// It was sealed with another key or for another session, or it was altered.
    #[error("cannot open the sealed token: it was sealed with another key or was altered")]
    Open,
}

impl Sealer {
    /// With a key that the caller has.
    pub fn new(key: [u8; SEAL_KEY_BYTES]) -> Self {
        Self {
            cipher: XChaCha20Poly1305::new(&Key::from(key)),
        }
    }

    /// With the key in a file of [`SEAL_KEY_BYTES`] bytes that only its owner may read. A missing
    /// one is made, with a random key; of several programs that do so at once all use the same.
    ///
    /// Blocks on the file system.
    ///
    /// # Errors
    /// Those of [`SealError`] that begin with `Key`, and [`SealError::Random`].
    pub fn from_key_file(path: &Path) -> Result<Self, SealError> {
        let failed = |source| SealError::KeyFile {
            path: path.to_owned(),
            source,
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_key_file(path)?;
                File::open(path).map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        read_key(file, path).map(Self::new)
    }

    /// Seals a session's token. The same token sealed twice looks different.
    ///
    /// # Errors
    /// [`SealError::Random`], [`SealError::Seal`].
    pub fn seal(&self, session: &str, token: &str) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(SealError::Random)?;
        let ciphertext = self
            .cipher
            .encrypt(
                &XNonce::from(nonce),
                Payload {
                    msg: token.as_bytes(),
                    aad: &associated(session),
                },
            )
            .map_err(|_| SealError::Seal)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_BYTES + ciphertext.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        Ok(sealed)
    }

    /// Opens what [`Self::seal`] made for the same session.
    ///
    /// # Errors
    /// [`SealError::Open`], which does not say what is wrong with it.
    pub fn open(&self, session: &str, sealed: &[u8]) -> Result<String, SealError> {
        let Some((&VERSION, sealed)) = sealed.split_first() else {
            return Err(SealError::Open);
        };
        let (nonce, ciphertext) = sealed
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(SealError::Open)?;
        let token = self
            .cipher
            .decrypt(
                &XNonce::from(*nonce),
                Payload {
                    msg: ciphertext,
                    aad: &associated(session),
                },
            )
            .map_err(|_| SealError::Open)?;
        String::from_utf8(token).map_err(|_| SealError::Open)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

fn associated(session: &str) -> Vec<u8> {
    [PURPOSE, session.as_bytes()].concat()
}

fn read_key(mut file: File, path: &Path) -> Result<[u8; SEAL_KEY_BYTES], SealError> {
    let failed = |source| SealError::KeyFile {
        path: path.to_owned(),
        source,
    };
    // Asked of the open file, so that what is checked is what is read.
    let about = file.metadata().map_err(failed)?;
    if about.mode() & 0o077 != 0 {
        return Err(SealError::KeyExposed {
            path: path.to_owned(),
            mode: about.mode() & 0o777,
        });
    }
    if about.len() != SEAL_KEY_BYTES as u64 {
        return Err(SealError::KeyLength {
            path: path.to_owned(),
            found: about.len(),
        });
    }
    let mut key = [0; SEAL_KEY_BYTES];
    file.read_exact(&mut key).map_err(failed)?;
    Ok(key)
}

/// Makes the file whole or not at all: it gets its name when its content is on disk, and a name
/// that is taken meanwhile stays with whoever took it.
fn make_key_file(path: &Path) -> Result<(), SealError> {
    let mut random = [0; SEAL_KEY_BYTES + 8];
    getrandom::fill(&mut random).map_err(SealError::Random)?;
    let (key, tag) = random.split_at(SEAL_KEY_BYTES);
    let tag = tag.iter().map(|byte| format!("{byte:02x}"));
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", tag.collect::<String>()));
    let make = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(key)?;
        file.sync_all()?;
        match std::fs::hard_link(&draft, path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    };
    let made = make();
    // Best effort: a draft that stays behind is of no use to anybody but its owner.
    let _ = std::fs::remove_file(&draft);
    made.map_err(|source| SealError::KeyFile {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const TOKEN: &str = "token of the session";

    #[test]
    fn what_was_sealed_opens_again() {
        let sealer = Sealer::new([7; 32]);
        for token in ["", "x", TOKEN, "ünïcödé", &"long".repeat(10_000)] {
            let sealed = sealer.seal("s1", token).unwrap();
            assert_eq!(sealer.open("s1", &sealed).unwrap(), token);
            assert_eq!(sealed.len(), 1 + 24 + token.len() + 16);
        }
        let sealed = sealer.seal("s1", TOKEN).unwrap();
        assert_ne!(sealed, sealer.seal("s1", TOKEN).unwrap());
        assert!(
            !sealed
                .windows(5)
                .any(|window| TOKEN.as_bytes().windows(5).any(|plain| plain == window))
        );
    }

    #[test]
    fn another_key_or_session_does_not_open_it() {
        let sealer = Sealer::new([7; 32]);
        let sealed = sealer.seal("s1", TOKEN).unwrap();
        for session in ["s2", "s", "s11", ""] {
            assert!(matches!(
                sealer.open(session, &sealed),
                Err(SealError::Open)
            ));
        }
        let mut key = [7; 32];
        key[31] ^= 1;
        let other = Sealer::new(key);
        assert!(matches!(other.open("s1", &sealed), Err(SealError::Open)));
    }

    #[test]
    fn no_altered_bit_goes_unnoticed() {
        let sealer = Sealer::new([7; 32]);
        let sealed = sealer.seal("s1", "abc").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open("s1", &altered).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(sealer.open("s1", &sealed[..length]).is_err(), "{length}");
        }
        let longer = [sealed.as_slice(), &[0]].concat();
        assert!(sealer.open("s1", &longer).is_err());
    }

    #[test]
    fn the_key_file_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("route.key");
        let sealers: Vec<Sealer> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| Sealer::from_key_file(&path).unwrap()))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let sealed = sealers[0].seal("s1", TOKEN).unwrap();
        for sealer in &sealers {
            assert_eq!(sealer.open("s1", &sealed).unwrap(), TOKEN);
        }
        let again = Sealer::from_key_file(&path).unwrap();
        assert_eq!(again.open("s1", &sealed).unwrap(), TOKEN);
        let about = fs::metadata(&path).unwrap();
        assert_eq!((about.mode() & 0o777, about.len()), (0o600, 32));
        let left = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 1, "no drafts stay behind");
        assert_ne!(fs::read(&path).unwrap(), [0; 32]);
    }

    #[test]
    fn an_unfit_key_file_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("route.key");
        let refused = || {
            let error = Sealer::from_key_file(&path).unwrap_err();
            assert!(error.to_string().contains("route.key"), "{error}");
            error
        };
        for length in [0, 31, 33] {
            fs::write(&path, vec![1; length]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = refused();
            assert!(
                matches!(error, SealError::KeyLength { found, .. } if found == length as u64),
                "{error}"
            );
        }
        fs::write(&path, [1; 32]).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = refused();
            assert!(
                matches!(error, SealError::KeyExposed { mode: found, .. } if found == mode),
                "{error}"
            );
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        refused();
        fs::remove_dir(&path).unwrap();
        fs::remove_dir(dir.path()).unwrap();
        assert!(matches!(refused(), SealError::KeyFile { .. }));
    }
}
