//! The terminals of the dialect, as they stand in this process.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use abide_model::{AgentId, DialectStatus, DialectTerminal, Exit, SessionId, Timestamp, WorkerId};
use tokio::sync::watch;

use super::Refusal;
use super::presence::{Absence, Presence};

/// Whose terminals are spoken of. An id means something only among those of one owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub(crate) agent: AgentId,
    /// Empty for none.
    pub(crate) tenant: String,
}

/// What those who look at a terminal are to hear.
#[derive(Debug, Clone, Default)]
pub(crate) struct News {
    /// Its name, once somebody has changed it.
    pub(crate) name: Option<String>,
    /// Somebody closed it.
    pub(crate) is_closed: bool,
    /// The connection that brought the news, which knows.
    pub(crate) from: Option<u64>,
}

/// How many there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quotas {
    pub(crate) per_owner: usize,
    pub(crate) total: usize,
    /// Of those of one owner whose programs have ended.
    pub(crate) exited: usize,
}

/// What is kept of one terminal.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) owner: Owner,
    /// None for one that belongs to a single connection.
    pub(super) client_id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) directory: String,
    pub(super) created_at: Timestamp,
    pub(super) active_at: Timestamp,
    /// None while it is being started.
    pub(super) worker: Option<WorkerId>,
    pub(super) presence: Presence,
    /// When it is to be ended for nobody's having come, and for which absence.
    pub(super) due: Option<(Instant, Absence)>,
    /// How its program ended, and when that was heard of.
    pub(super) exit: Option<(Exit, Instant)>,
    pub(super) news: watch::Sender<News>,
}

impl Entry {
    /// Nobody looks at it yet.
    pub(super) fn new(owner: Owner, client_id: Option<String>) -> Self {
        let now = Timestamp::now();
        Self {
            owner,
            client_id,
            name: None,
            directory: String::new(),
            created_at: now,
            active_at: now,
            worker: None,
            presence: Presence::default(),
            due: None,
            exit: None,
            news: watch::channel(News::default()).0,
        }
    }

    /// As a client sees it; `None` for what is not offered.
    fn listed(&self) -> Option<DialectTerminal> {
        self.worker?;
        Some(DialectTerminal {
            session_id: self.client_id.clone()?,
            name: self.name.clone(),
            status: match self.exit {
                None => DialectStatus::Running,
                Some(_) => DialectStatus::Exited,
            },
            working_directory: self.directory.clone(),
            created_at: self.created_at,
            last_activity_at: self.active_at,
        })
    }
}

/// See the module. Terminals are known by their sessions, which are never used twice.
#[derive(Debug, Default)]
pub(super) struct Registry {
    terminals: HashMap<SessionId, Entry>,
    ids: HashMap<(Owner, String), SessionId>,
}

impl Registry {
    /// Takes a terminal in.
    pub(super) fn insert(&mut self, session: SessionId, entry: Entry) {
        if let Some(id) = &entry.client_id {
            self.ids.insert((entry.owner.clone(), id.clone()), session);
        }
        self.terminals.insert(session, entry);
    }

    /// Takes in one that is about to be started, if there is room. Those that had to make room for it,
    /// and the one that had its id and has ended, are taken out and answered.
    pub(super) fn reserve(
        &mut self,
        session: SessionId,
        entry: Entry,
        quotas: Quotas,
    ) -> Result<Vec<SessionId>, Refusal> {
        let id = entry.client_id.clone();
        let same = id.and_then(|id| self.ids.get(&(entry.owner.clone(), id)).copied());
        if let Some(same) = same
            && self.get(same).is_none_or(|same| same.exit.is_none())
        {
            return Err(Refusal::Exists);
        }
        let mut removed: Vec<_> = same.into_iter().collect();
        if removed.is_empty() && self.of(&entry.owner).count() >= quotas.per_owner {
            let oldest = self.longest_ended(|known| known.owner == entry.owner);
            removed.push(oldest.ok_or(Refusal::OwnerFull(quotas.per_owner))?);
        }
        if removed.is_empty() && self.terminals.len() >= quotas.total {
            let oldest = self.longest_ended(|_| true);
            removed.push(oldest.ok_or(Refusal::Full(quotas.total))?);
        }
        for session in &removed {
            self.remove(*session);
        }
        self.insert(session, entry);
        Ok(removed)
    }

    /// The one whose program ended first, of those that nobody looks at.
    fn longest_ended(&self, of: impl Fn(&Entry) -> bool) -> Option<SessionId> {
        let ended = self.terminals.iter().filter_map(|(session, entry)| {
            let (_, at) = entry.exit.as_ref()?;
            (of(entry) && entry.presence.is_orphaned()).then_some((*at, *session))
        });
        ended.min_by_key(|(at, _)| *at).map(|(_, session)| session)
    }

    /// Takes a terminal out: its id is free from here on.
    pub(super) fn remove(&mut self, session: SessionId) -> Option<Entry> {
        let entry = self.terminals.remove(&session)?;
        if let Some(id) = &entry.client_id {
            self.ids.remove(&(entry.owner.clone(), id.clone()));
        }
        Some(entry)
    }

    pub(super) fn get(&self, session: SessionId) -> Option<&Entry> {
        self.terminals.get(&session)
    }

    pub(super) fn get_mut(&mut self, session: SessionId) -> Option<&mut Entry> {
        self.terminals.get_mut(&session)
    }

    /// What an owner calls by this id.
    pub(super) fn find(&self, owner: &Owner, id: &str) -> Result<SessionId, Refusal> {
        if let Some(session) = self.ids.get(&(owner.clone(), id.to_owned())) {
            let started = self
                .get(*session)
                .is_some_and(|entry| entry.worker.is_some());
            return started.then_some(*session).ok_or(Refusal::NotFound);
        }
        // Among the users of one tenant it is said that there is such a terminal; to others it is not.
        let is_anothers = self
            .ids
            .keys()
            .any(|(other, known)| known == id && other.tenant == owner.tenant);
        Err(if is_anothers {
            Refusal::NotAuthorized
        } else {
            Refusal::NotFound
        })
    }

    fn of<'a>(&'a self, owner: &'a Owner) -> impl Iterator<Item = (&'a SessionId, &'a Entry)> {
        let all = self.terminals.iter();
        all.filter(move |(_, entry)| entry.owner == *owner)
    }

    /// An owner's terminals, oldest first.
    pub(super) fn list(&self, owner: &Owner) -> Vec<DialectTerminal> {
        let mut listed: Vec<_> = self
            .of(owner)
            .filter_map(|(_, entry)| entry.listed())
            .collect();
        listed.sort_by(|one, other| {
            let key = |it: &DialectTerminal| (it.created_at, it.session_id.clone());
            key(one).cmp(&key(other))
        });
        listed
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (SessionId, &Entry)> {
        self.terminals
            .iter()
            .map(|(session, entry)| (*session, entry))
    }

    /// Notes that somebody came; what it will hear from here on. `None`: too late.
    pub(super) fn come(&mut self, session: SessionId) -> Option<watch::Receiver<News>> {
        let entry = self.get_mut(session)?;
        if !entry.presence.come() {
            return None;
        }
        entry.due = None;
        let mut news = entry.news.subscribe();
        news.mark_unchanged();
        Some(news)
    }

    /// Notes that somebody left.
    pub(super) fn leave(&mut self, session: SessionId, grace: Option<Duration>) {
        if let Some(entry) = self.get_mut(session) {
            entry.presence.leave();
            entry.wait_for_somebody(grace);
        }
    }

    /// Notes how a program ended. Who ended too long ago, if that makes too many, is taken out and
    /// answered.
    pub(super) fn exited(
        &mut self,
        session: SessionId,
        exit: Exit,
        quotas: Quotas,
    ) -> Vec<SessionId> {
        let mut removed = Vec::new();
        if let Some(entry) = self.get_mut(session) {
            entry.exit = Some((exit, Instant::now()));
            let owner = entry.owner.clone();
            while self.of(&owner).filter(|(_, it)| it.exit.is_some()).count() > quotas.exited
                && let Some(oldest) = self.longest_ended(|entry| entry.owner == owner)
            {
                self.remove(oldest);
                removed.push(oldest);
            }
        }
        removed
    }

    /// Takes out whatever is overdue, and answers when the next one will be. `kept`: how long one whose
    /// program has ended is kept.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        kept: Duration,
    ) -> (Vec<SessionId>, Option<Instant>) {
        let (mut overdue, mut next) = (Vec::new(), None::<Instant>);
        for (session, entry) in &mut self.terminals {
            if !entry.presence.is_orphaned() {
                continue;
            }
            let mut is_over = false;
            if let Some((at, absence)) = entry.due {
                if at <= now {
                    is_over = entry.presence.expire(absence);
                } else {
                    next = Some(next.map_or(at, |next| next.min(at)));
                }
            }
            if let Some(end) = entry.exit.as_ref().and_then(|(_, at)| at.checked_add(kept)) {
                is_over |= end <= now;
                if end > now {
                    next = Some(next.map_or(end, |next| next.min(end)));
                }
            }
            if is_over {
                overdue.push(*session);
            }
        }
        for session in &overdue {
            self.remove(*session);
        }
        (overdue, next)
    }
}

impl Entry {
    /// Sets the timer of the absence that goes on, if there is one. Nobody can come back to the terminal of
    /// a single connection.
    pub(super) fn wait_for_somebody(&mut self, grace: Option<Duration>) {
        let grace = match self.client_id {
            Some(_) => grace,
            None => Some(Duration::ZERO),
        };
        let at = grace.and_then(|grace| Instant::now().checked_add(grace));
        self.due = at.zip(self.presence.absence());
    }
}
