//! What a PostgreSQL does with each order, as `src/stores/postgres` has it do: all of it, or nothing. Pure.

use std::ops::Range;

use crate::authority::known::StoreShows;
use crate::stores::reading::Row;
use crate::stores::{CaughtUp, Fence, Fenced, Position, Promotion, StoreError};

/// Where the log of a server begins, and how long a write is in it: only differences of positions mean anything.
const FIRST: u64 = 0x300_0000;
const WRITE: u64 = 0x60;

/// Writes, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Log(Vec<Range<u64>>);

impl Log {
    pub(super) fn push(&mut self, write: u64) {
        match self.0.last_mut() {
            Some(last) if last.end == write => last.end += 1,
            _ => self.0.push(write..write + 1),
        }
    }

    pub(super) fn has(&self, write: u64) -> bool {
        self.0.iter().any(|range| range.contains(&write))
    }

    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }
}

/// One server of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) primary: bool,
    /// At a standby: the place of the site whose server it follows.
    pub(super) follows: usize,
    pub(super) frozen: bool,
    /// Whether its commits wait for those that follow.
    pub(super) waits: bool,
    pub(super) row: Option<Row>,
    /// The greatest ballot that was lifted here.
    lifted: i64,
    pub(super) log: Log,
    /// When the last sign of life was written that is here, in tenths of a second.
    pub(super) beat: u64,
    /// Whether it can be promoted and opened.
    pub(super) promotes: bool,
}

impl Server {
    /// One of the beginning: the primary, or one that follows the first.
    pub(super) fn new(primary: bool, waits: bool) -> Self {
        let (follows, frozen, row, lifted, log, beat) = (0, false, None, 0, Log::default(), 0);
        Self { primary, follows, frozen, waits, row, lifted, log, beat, promotes: true }
    }

    pub(super) fn is_open(&self) -> bool {
        self.row.is_none_or(|row| row.open)
    }

    /// All that a reader sees.
    pub(super) fn shows(&self) -> StoreShows {
        StoreShows {
            primary: self.primary,
            open: self.is_open(),
            opened_at: self.row.map(|row| row.opened_at).filter(|epoch| *epoch > 0),
            ballot: self.row.map(|row| row.ballot),
            frozen: self.frozen,
            closing: false,
        }
    }

    pub(super) fn position(&self) -> Position {
        Position(FIRST + WRITE * self.log.len())
    }

    fn ballot(&self) -> i64 {
        self.row.map_or(0, |row| row.ballot)
    }

    /// Whether a later order is known.
    fn refuses(&self, asked: i64) -> Result<(), StoreError> {
        match self.ballot() {
            known if known > asked => Err(StoreError::Refused { asked, known }),
            _ => Ok(()),
        }
    }

    fn opened_since(&self, fence: Fence) -> Result<(), StoreError> {
        let opened = self.row.map_or(0, |row| row.opened_at);
        let (asked, follows) = (fence.ballot, fence.follows);
        if opened > follows { Err(StoreError::OpenedSince { asked, follows, opened }) } else { Ok(()) }
    }

    /// Closes a primary; at a standby older orders are ended, of which there are none here.
    pub(super) fn fence(&mut self, fence: Fence) -> Result<Fenced, StoreError> {
        self.refuses(fence.ballot)?;
        self.opened_since(fence)?;
        let ballot = fence.ballot;
        if !self.primary {
            return Ok(Fenced::by(ballot));
        }
        if self.lifted >= ballot {
            return Err(StoreError::Refused { asked: ballot, known: self.lifted });
        }
        let opened_at = self.row.map_or(0, |row| row.opened_at);
        let found = self.row.filter(|row| !row.open && row.sealed.is_some());
        // Its row is in the log as well.
        let sealed = Some(Position(self.position().0 + WRITE));
        let ended = u32::from(self.is_open());
        self.row = Some(Row { ballot, opened_at, open: false, closing: false, sealed });
        Ok(Fenced { position: sealed, ended, found, ..Fenced::by(ballot) })
    }

    /// Opens again what that ballot closed.
    pub(super) fn lift(&mut self, ballot: i64) -> Result<(), StoreError> {
        if !self.primary {
            return Err(StoreError::IsStandby);
        }
        self.refuses(ballot)?;
        self.lifted = self.lifted.max(ballot);
        if let Some(row) = self.row.as_mut().filter(|row| row.ballot == ballot) {
            row.open = true;
        }
        Ok(())
    }

    /// Opens a primary for an epoch. No commit waits for anybody from then on.
    pub(super) fn open(&mut self, epoch: i64) -> Result<(), StoreError> {
        self.refuses(epoch)?;
        if !self.promotes {
            return Err(StoreError::Starting);
        }
        if !self.primary {
            return Err(StoreError::IsStandby);
        }
        self.waits = false;
        self.row = Some(Row { ballot: epoch, opened_at: epoch, open: true, closing: false, sealed: None });
        Ok(())
    }

    pub(super) fn promote(&mut self, promotion: Promotion) -> Result<(), StoreError> {
        self.refuses(promotion.ballot)?;
        if self.primary {
            return Ok(());
        }
        if !self.promotes {
            return Err(StoreError::Starting);
        }
        let found = self.row.map(|row| row.ballot);
        if found != promotion.row {
            return Err(StoreError::OtherRow { expected: promotion.row, found });
        }
        (self.primary, self.frozen) = (true, false);
        Ok(())
    }

    pub(super) fn freeze(&mut self, ballot: i64) -> Result<Position, StoreError> {
        if self.primary {
            return Err(StoreError::IsPrimary);
        }
        self.refuses(ballot)?;
        self.frozen = true;
        Ok(self.position())
    }

    pub(super) fn caught_up(&self, ballot: i64) -> Result<CaughtUp, StoreError> {
        if self.primary {
            return Err(StoreError::IsPrimary);
        }
        self.refuses(ballot)?;
        let closed = self.row.is_some_and(|row| row.ballot == ballot && !row.open);
        Ok(if closed { CaughtUp::Yes } else { CaughtUp::No { replayed: Some(self.position()) } })
    }

    /// Takes in all that its primary has.
    pub(super) fn replay(&mut self, of: &Self) {
        (self.row, self.lifted, self.beat) = (of.row, of.lifted, of.beat);
        self.log.clone_from(&of.log);
    }

    /// An old primary is made to follow: whatever it has that the other has not is gone.
    pub(super) fn follow(&mut self, place: usize, of: &Self, epoch: i64) -> Result<(), StoreError> {
        self.refuses(epoch)?;
        (self.primary, self.frozen, self.follows, self.waits) = (false, false, place, false);
        self.replay(of);
        Ok(())
    }
}
