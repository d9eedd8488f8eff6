//! What a PostgreSQL does with each order, as src/stores/postgres does it: in one transaction, or not at all.

use super::operator::Rules;
use super::world::{Ballot, Place, Server, World};

/// Why a store did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A later order is known: the claim is over.
    Superseded,
    /// It is a primary, or none.
    OtherRole,
}

/// What a store of the group is asked at one site.
pub struct Wire<'a> {
    pub world: &'a mut World,
    pub rules: &'a Rules,
    pub site: Place,
}

impl Wire<'_> {
    fn server(&mut self) -> &mut Server {
        &mut self.world.sites[self.site].server
    }

    fn refuses(&mut self, ballot: Ballot) -> bool {
        self.rules.rows && self.server().ballot > ballot
    }

    /// Closes a primary, or ends what was ordered at a standby. `Ok(true)`: a primary.
    pub fn fence(&mut self, ballot: Ballot, follows: Ballot) -> Result<bool, Refusal> {
        let Server { opened_at, lifted, primary, .. } = *self.server();
        if self.refuses(ballot) || self.rules.rows && opened_at > follows {
            return Err(Refusal::Superseded);
        }
        if primary && self.rules.rows && lifted >= ballot {
            return Err(Refusal::Superseded);
        }
        self.world.sites[self.site].end_sessions();
        if primary {
            let server = self.server();
            (server.ballot, server.open) = (ballot, false);
            self.world.sites[self.site].kept_still = false;
        }
        Ok(primary)
    }

    /// Opens again what that ballot closed.
    pub fn lift(&mut self, ballot: Ballot) -> Result<(), Refusal> {
        if !self.server().primary {
            return Err(Refusal::OtherRole);
        }
        self.world.sites[self.site].end_sessions();
        if self.refuses(ballot) {
            return Err(Refusal::Superseded);
        }
        let by_row = self.rules.rows;
        let server = self.server();
        server.lifted = server.lifted.max(ballot);
        if server.ballot == ballot || !by_row {
            server.open = true;
        }
        Ok(())
    }

    /// Opens a primary for an epoch.
    pub fn open(&mut self, epoch: Ballot) -> Result<(), Refusal> {
        if self.refuses(epoch) {
            return Err(Refusal::Superseded);
        }
        if !self.server().primary {
            return Err(Refusal::OtherRole);
        }
        self.world.sites[self.site].end_sessions();
        let drops = self.rules.drops_sync;
        let server = self.server();
        server.sync &= !drops;
        if server.opened_at < epoch || !server.open {
            (server.ballot, server.opened_at, server.open) = (epoch, epoch, true);
        }
        // Whoever ordered this answers for what is here now.
        self.world.sites[self.site].kept_still = false;
        Ok(())
    }

    /// Promotes over a session that was opened when the row was `row`.
    pub fn promote(&mut self, ballot: Ballot, row: Ballot, ended: bool) -> Result<(), Refusal> {
        if ended && self.rules.sessions {
            return Err(Refusal::OtherRole);
        }
        if self.refuses(ballot) {
            return Err(Refusal::Superseded);
        }
        if self.server().primary {
            return Ok(());
        }
        if self.rules.rows && self.server().ballot != row {
            return Err(Refusal::OtherRole);
        }
        let server = self.server();
        (server.primary, server.follows, server.frozen) = (true, false, false);
        Ok(())
    }

    /// Takes in no more.
    pub fn freeze(&mut self, ballot: Ballot) -> Result<(), Refusal> {
        if self.server().primary {
            return Err(Refusal::OtherRole);
        }
        if self.refuses(ballot) {
            return Err(Refusal::Superseded);
        }
        self.server().frozen = true;
        Ok(())
    }

    /// Takes in again.
    pub fn thaw(&mut self) {
        self.server().frozen = false;
    }

    /// Whether the fence of that ballot is replayed here.
    pub fn caught_up(&mut self, ballot: Ballot) -> Result<bool, Refusal> {
        if self.server().primary {
            return Err(Refusal::OtherRole);
        }
        if self.refuses(ballot) {
            return Err(Refusal::Superseded);
        }
        let server = *self.server();
        Ok(server.ballot == ballot && !server.open)
    }

    /// An old primary becomes a standby: whatever it has that the other has not is gone.
    pub fn follow(&mut self, epoch: Ballot) -> Result<(), Refusal> {
        if self.refuses(epoch) {
            return Err(Refusal::Superseded);
        }
        let there = self.world.sites[1 - self.site].server;
        if !self.world.reach() || !there.primary {
            return Err(Refusal::OtherRole);
        }
        self.world.sites[self.site].end_sessions();
        *self.server() = Server { primary: false, follows: true, frozen: false, ..there };
        self.world.sites[self.site].kept_still = false;
        Ok(())
    }
}

impl World {
    /// What a standby would have after the other server has sent all; `None` if it has it, or nothing is sent.
    pub fn replicated(&self, site: Place) -> Option<World> {
        let (here, there) = (self.sites[site].server, self.sites[1 - site].server);
        if here.primary || !here.follows || here.frozen || !there.primary || !self.reach() {
            return None;
        }
        let Server { primary, follows, frozen, sync, .. } = here;
        let now = Server { primary, follows, frozen, sync, ..there };
        let mut next = *self;
        next.sites[site].server = now;
        (now != here).then_some(next)
    }

    /// A site has authority, or takes writes, from here on: whatever was acknowledged and is not here is lost.
    pub fn settle_loss(&mut self, site: Place, promised: bool) {
        let log = self.sites[site].server.log;
        if self.acked & !log == 0 {
            return;
        }
        match promised {
            true => self.broken = Some("S2"),
            false => self.acked &= log,
        }
    }
}
