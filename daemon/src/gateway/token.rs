//! Tokens: bearer secrets of this box (design decision D16).
//!
//! A token is the text `edgeward_` and 256 random bits as 43 characters of URL-safe base64. Its
//! text exists once, in the answer to its creation; the store keeps one BLAKE3 hash of it, with
//! principal, groups, time of creation and expiry. A plain hash is enough, because nobody guesses 256 bits.
//! The request path reads an immutable map by an atomic pointer: no lock, no disk. The presented
//! token is compared as its hash, and hashes compare in constant time.
//!
//! The first token is made at the first start and stands in one file that only the owner of the
//! process reads. The file is written before the token counts, so that a power cut in between
//! leaves a file that is replaced at the next start, never a token that nobody knows.
//!
//! Must never log a token, nor put one into the store, an error or a row.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edgeward_base::clock::SharedClock;
use edgeward_base::digest::Digest;
use edgeward_base::durable::{self, DurableFs};
use edgeward_base::names::{ParseNameError, Principal};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::caller::{ADMINS, Caller, PrincipalKind};
use super::limit::{self, Minute};
use crate::store::{
    Change, ChangeError, CommitStoreError, DecodeRecordError, ReadStoreError, Record, Store,
};

#[cfg(test)]
mod tests;

/// What every token begins with, so that scanners for leaked secrets can find it.
pub const PREFIX: &str = "edgeward_";

/// Name of the file with the first token, within the directory of secrets.
pub const FIRST_TOKEN_FILE: &str = "first-token";

/// The principal of the first token.
pub const FIRST_PRINCIPAL: &str = "admin";

/// How many refused tokens of one minute are looked at and logged. Nobody guesses 256 bits: this keeps a
/// client that goes wrong from filling the log. A good token is let in however many were refused.
pub const MOST_REFUSALS: u64 = 120;

/// Names a token without telling it: 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenId(Arc<str>);

impl TokenId {
    fn random() -> Self {
        Self(format!("{:016x}", rand::random::<u64>()).into())
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that names no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token id is 16 lowercase hexadecimal digits, as `edgeward token list` shows it")]
pub struct ParseTokenIdError;

impl FromStr for TokenId {
    type Err = ParseTokenIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == 16 && digits {
            Ok(Self(text.into()))
        } else {
            Err(ParseTokenIdError)
        }
    }
}

/// What the store keeps of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The key.
    pub id: TokenId,
    /// BLAKE3 of the token's text.
    pub hash: Digest,
    /// Whose token it is.
    pub principal: Principal,
    /// Milliseconds since 1970, UTC.
    pub created: i64,
    /// Milliseconds since 1970, UTC; never when absent.
    pub expires: Option<i64>,
    /// What the principal is.
    pub kind: PrincipalKind,
    /// The groups that whoever sends the token is a member of.
    pub groups: Vec<Principal>,
}

impl Record for TokenRecord {
    const TABLE: &'static str = "tokens";
    const SCHEMA: u16 = 2;

    fn key(&self) -> String {
        self.id.to_string()
    }

    fn decode(schema: u16, payload: &[u8]) -> Result<Self, DecodeRecordError> {
        match schema {
            1 => postcard::from_bytes::<TokenRecord1>(payload)
                .map(Self::from)
                .map_err(DecodeRecordError::Payload),
            Self::SCHEMA => postcard::from_bytes(payload).map_err(DecodeRecordError::Payload),
            found => Err(DecodeRecordError::Schema {
                found,
                known: Self::SCHEMA,
            }),
        }
    }
}

/// Layout 1: every token could do everything.
#[derive(Deserialize)]
struct TokenRecord1 {
    id: TokenId,
    hash: Digest,
    principal: Principal,
    created: i64,
    expires: Option<i64>,
}

impl From<TokenRecord1> for TokenRecord {
    fn from(old: TokenRecord1) -> Self {
        Self {
            id: old.id,
            hash: old.hash,
            principal: old.principal,
            created: old.created,
            expires: old.expires,
            kind: PrincipalKind::User,
            groups: admins(),
        }
    }
}

/// The group whose members may do everything.
fn admins() -> Vec<Principal> {
    // `admins` is a valid name.
    ADMINS.parse().ok().into_iter().collect()
}

/// Whose a new token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOwner {
    /// The principal.
    pub principal: Principal,
    /// What it is.
    pub kind: PrincipalKind,
    /// The groups that whoever sends the token is a member of, beside [`USERS`](super::USERS).
    pub groups: Vec<Principal>,
}

/// Remembers that the first token was made: once it is revoked, no other takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstTokenRecord {
    /// The token that was made.
    pub id: TokenId,
}

impl FirstTokenRecord {
    /// The key of the only record of this kind.
    pub const KEY: &'static str = "first";
}

impl Record for FirstTokenRecord {
    const TABLE: &'static str = "first_token";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        Self::KEY.to_owned()
    }
}

/// A token as it is shown: everything but the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Its id, to revoke it by.
    pub id: TokenId,
    /// Whose token it is.
    pub principal: Principal,
    /// Milliseconds since 1970, UTC.
    pub created: i64,
    /// Milliseconds since 1970, UTC; never when absent.
    pub expires: Option<i64>,
    /// What the principal is.
    pub kind: PrincipalKind,
    /// The groups that it is a member of.
    pub groups: Vec<Principal>,
}

/// A token that was just made: the only time its text is known.
#[derive(Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The text to send as `Authorization: Bearer {token}`.
    pub token: String,
    /// What is shown of it from now on.
    pub view: TokenView,
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken")
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}

/// A token that is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// It is none of this box.
    #[error("the token is unknown, revoked or expired")]
    Refused,
    /// It is none either, and too many were none in this minute to look at more.
    #[error("too many tokens were refused in this minute: come again in {after_seconds} s")]
    TooMany {
        /// When the minute is over.
        after_seconds: u32,
    },
}

/// Why the stored tokens could not be read at start.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the stored tokens")]
pub struct LoadTokensError(#[source] ReadStoreError);

/// Why a token could not be made. None was.
#[derive(Debug, thiserror::Error)]
pub enum CreateTokenError {
    /// It would expire before it is made.
    #[error("the expiry is {expires} ms since 1970, which is not in the future")]
    Expired {
        /// The expiry that was asked for.
        expires: i64,
    },
    /// It cannot be written as a record.
    #[error("the token cannot be stored")]
    Record(#[from] ChangeError),
    /// The store did not take it.
    #[error("the token was not stored")]
    Store(#[source] CommitStoreError),
}

/// Why a token could not be revoked. It is still good.
#[derive(Debug, thiserror::Error)]
pub enum RevokeTokenError {
    /// There is no such token.
    #[error("there is no token {0}")]
    NotFound(TokenId),
    /// The store did not take the change.
    #[error("the revocation was not stored")]
    Store(#[source] CommitStoreError),
}

/// Why the first token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FirstTokenError {
    /// Its principal has no valid name.
    #[error("the first token's principal cannot be named")]
    Principal(#[from] ParseNameError),
    /// Whether it was made before cannot be read.
    #[error("cannot read whether the first token was made")]
    Read(#[source] ReadStoreError),
    /// Its file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },
    /// It cannot be written as a record.
    #[error("the first token cannot be stored")]
    Record(#[from] ChangeError),
    /// The store did not take it.
    #[error("the first token was not stored")]
    Store(#[source] CommitStoreError),
}

/// The tokens of this box. A clone is another handle to the same ones.
#[derive(Clone, Debug)]
pub struct Tokens(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: SharedClock,
    known: ArcSwap<Known>,
    /// Tokens that were refused in this minute.
    refused: Minute,
    /// One change at a time, so that the map is what the store holds.
    changing: Mutex<()>,
}

/// Tokens by the first eight bytes of their hash; the rest is compared in constant time.
type Known = HashMap<u64, Vec<KnownToken>>;

/// A token, and what it says of whoever sends it.
#[derive(Clone, Debug)]
struct KnownToken {
    record: TokenRecord,
    caller: Caller,
}

impl From<TokenRecord> for KnownToken {
    fn from(record: TokenRecord) -> Self {
        Self {
            caller: Caller {
                principal: record.principal.clone(),
                kind: record.kind,
                groups: record.groups.iter().cloned().collect(),
            },
            record,
        }
    }
}

impl Tokens {
    /// Reads the tokens from the store.
    ///
    /// # Errors
    /// [`LoadTokensError`].
    pub fn load(store: Store, clock: SharedClock) -> Result<Self, LoadTokensError> {
        let mut known = Known::new();
        let records: Vec<TokenRecord> = store.list().map_err(LoadTokensError)?;
        for record in records {
            let bucket = bucket(&record.hash);
            known.entry(bucket).or_default().push(record.into());
        }
        Ok(Self(Arc::new(Inner {
            store,
            clock,
            known: ArcSwap::from_pointee(known),
            refused: Minute::default(),
            changing: Mutex::new(()),
        })))
    }

    /// Who sends this token. Takes no lock. Refusals are logged, up to [`MOST_REFUSALS`] in a minute.
    ///
    /// # Errors
    /// [`LoginError`] when it is none, was revoked or has expired.
    pub fn authenticate(&self, token: &str) -> Result<Caller, LoginError> {
        self.caller(token).ok_or_else(|| self.refuse())
    }

    fn refuse(&self) -> LoginError {
        let now = self.0.clock.monotonic();
        let minute = now.as_secs() / limit::PERIOD.as_secs();
        if self.0.refused.take(minute, 1, MOST_REFUSALS) {
            tracing::warn!("a token was refused: it is unknown, revoked or expired");
            return LoginError::Refused;
        }
        LoginError::TooMany {
            after_seconds: limit::after(now),
        }
    }

    fn caller(&self, token: &str) -> Option<Caller> {
        let hash = blake3::hash(token.as_bytes());
        let known = self.0.known.load();
        let found = known
            .get(&bucket(&Digest::from_bytes(*hash.as_bytes())))?
            .iter()
            // `blake3::Hash` compares in constant time.
            .find(|known| blake3::Hash::from_bytes(*known.record.hash.as_bytes()) == hash)?;
        let live = |expires| self.0.clock.wall_millis() < expires;
        let expires = found.record.expires;
        expires.is_none_or(live).then(|| found.caller.clone())
    }

    /// Makes a token. `expires` is in milliseconds since 1970, UTC.
    ///
    /// # Errors
    /// [`CreateTokenError`].
    pub async fn create(
        &self,
        owner: TokenOwner,
        expires: Option<i64>,
    ) -> Result<NewToken, CreateTokenError> {
        let now = self.0.clock.wall_millis();
        if let Some(expires) = expires.filter(|expires| *expires <= now) {
            return Err(CreateTokenError::Expired { expires });
        }
        let (token, record) = fresh(owner, now, expires);
        let _changing = self.0.changing.lock().await;
        let change = Change::new().put(&record)?;
        self.0
            .store
            .commit(change)
            .await
            .map_err(CreateTokenError::Store)?;
        let view = view(&record);
        self.publish(record);
        Ok(NewToken { token, view })
    }

    /// All tokens, oldest first, expired ones included.
    #[must_use]
    pub fn list(&self) -> Vec<TokenView> {
        let known = self.0.known.load();
        let mut views: Vec<TokenView> = known
            .values()
            .flatten()
            .map(|known| view(&known.record))
            .collect();
        views.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        views
    }

    /// Ends a token, at once.
    ///
    /// # Errors
    /// [`RevokeTokenError`].
    pub async fn revoke(&self, id: &TokenId) -> Result<(), RevokeTokenError> {
        let _changing = self.0.changing.lock().await;
        let mut known = Known::clone(&self.0.known.load());
        let mut found = false;
        for records in known.values_mut() {
            records.retain(|known| {
                found |= known.record.id == *id;
                known.record.id != *id
            });
        }
        if !found {
            return Err(RevokeTokenError::NotFound(id.clone()));
        }
        known.retain(|_, records| !records.is_empty());
        let change = Change::new().delete::<TokenRecord>(&id.to_string());
        self.0
            .store
            .commit(change)
            .await
            .map_err(RevokeTokenError::Store)?;
        self.0.known.store(Arc::new(known));
        Ok(())
    }

    /// Makes the first token, if this box never had one, and writes it to
    /// `{secrets}/first-token`, mode 0600. Answers the file's path when it was made now.
    ///
    /// # Errors
    /// [`FirstTokenError`].
    pub async fn ensure_first(
        &self,
        fs: &dyn DurableFs,
        secrets: &Path,
    ) -> Result<Option<PathBuf>, FirstTokenError> {
        let _changing = self.0.changing.lock().await;
        let made = self.0.store.get::<FirstTokenRecord>(FirstTokenRecord::KEY);
        if made.map_err(FirstTokenError::Read)?.is_some() {
            return Ok(None);
        }
        let owner = TokenOwner {
            principal: FIRST_PRINCIPAL.parse()?,
            kind: PrincipalKind::User,
            groups: admins(),
        };
        let (token, record) = fresh(owner, self.0.clock.wall_millis(), None);
        let path = secrets.join(FIRST_TOKEN_FILE);
        write_secret(fs, &path, &token).map_err(|source| FirstTokenError::Write {
            path: path.clone(),
            source,
        })?;
        let made = FirstTokenRecord {
            id: record.id.clone(),
        };
        let change = Change::new().put(&record)?.put(&made)?;
        self.0
            .store
            .commit(change)
            .await
            .map_err(FirstTokenError::Store)?;
        self.publish(record);
        Ok(Some(path))
    }

    fn publish(&self, record: TokenRecord) {
        let mut known = Known::clone(&self.0.known.load());
        let bucket = bucket(&record.hash);
        known.entry(bucket).or_default().push(record.into());
        self.0.known.store(Arc::new(known));
    }
}

/// Draws a token and makes its record.
fn fresh(owner: TokenOwner, created: i64, expires: Option<i64>) -> (String, TokenRecord) {
    let secret: [u8; 32] = rand::random();
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
    let record = TokenRecord {
        id: TokenId::random(),
        hash: Digest::of(token.as_bytes()),
        principal: owner.principal,
        created,
        expires,
        kind: owner.kind,
        groups: owner.groups,
    };
    (token, record)
}

fn view(record: &TokenRecord) -> TokenView {
    TokenView {
        id: record.id.clone(),
        principal: record.principal.clone(),
        created: record.created,
        expires: record.expires,
        kind: record.kind,
        groups: record.groups.clone(),
    }
}

fn bucket(hash: &Digest) -> u64 {
    let (first, _) = hash.as_bytes().split_at(8);
    first
        .iter()
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// Writes a file that nobody but its owner reads; [`DurableFs::create_new`] makes files so.
fn write_secret(fs: &dyn DurableFs, path: &Path, secret: &str) -> io::Result<()> {
    fs.create_dir_all(durable::parent(path))?;
    durable::write_atomic(fs, path, format!("{secret}\n").as_bytes())
}
